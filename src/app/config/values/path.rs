//! Paths: of URLs, and of files.

use std::path::{Path, PathBuf};

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;

/// What the path of a request begins with: as it is sent, from `/` on, without a query.
pub fn url_path(text: &str) -> Result<String, Wrong> {
    let shown = quoted(text);
    let wrong = |message: String, help: String| Err(Wrong::new(message).help(help));
    if text.is_empty() {
        return Err(Wrong::new("a path is missing here").help("for every path write /, or leave it out"));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let path = rest.find('/').and_then(|at| rest.get(at..)).unwrap_or("/");
        return wrong(format!("{shown} is a URL"), format!("write its path alone: {path}"));
    }
    if !text.starts_with('/') {
        return wrong(format!("{shown} does not begin with `/`"), format!("write /{}", text.trim_start()));
    }
    for (mark, what) in [('?', "a query"), ('#', "a fragment")] {
        if let Some((path, _)) = text.split_once(mark) {
            return wrong(format!("{shown} has {what}, and routes go by the path"), format!("write {path}"));
        }
    }
    if let Some(c) = text.chars().find(|c| !is_of_a_path(*c)) {
        let sent: Vec<_> = c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect();
        let message =
            format!("{shown} has a character that no path has on the wire: {}", quoted(&c.to_string()));
        return wrong(message, format!("write it as it is sent: {}", sent.concat()));
    }
    if let Some(at) = text.match_indices('%').map(|(at, _)| at).find(|at| byte_behind(text, *at).is_none()) {
        let message = format!("{shown} has a `%` without two hex digits behind it, at byte {}", at + 1);
        return wrong(message, "for a percent sign write %25".to_owned());
    }
    for segment in text.split('/') {
        let dots = segment.replace("%2e", ".").replace("%2E", ".");
        if dots == "." || dots == ".." {
            let message = format!("{shown} has the dot segment {}", quoted(segment));
            return wrong(
                message,
                "no request has it by the time it is routed: write the path without it".to_owned(),
            );
        }
        if segment == "*" || segment == "**" {
            let before = text.split('*').next().unwrap_or("/");
            let help = format!("a path takes all that is below it: write {before}");
            return wrong(format!("{shown} has a `*`, and there are no wildcards in paths"), help);
        }
    }
    Ok(text.to_owned())
}

/// `pchar`, `/` and the start of an escape (RFC 3986 §3.3).
fn is_of_a_path(c: char) -> bool {
    c.is_ascii_alphanumeric() || "/-._~!$&'()*+,;=:@%".contains(c)
}

/// The byte that an escape at this place stands for.
fn byte_behind(text: &str, at: usize) -> Option<u8> {
    let digits = text.get(at + 1..at + 3)?;
    digits.bytes().all(|digit| digit.is_ascii_hexdigit()).then(|| u8::from_str_radix(digits, 16).ok())?
}

/// The name of a file; a relative one is in `folder`.
pub fn file_name(text: &str, folder: &Path) -> Result<PathBuf, Wrong> {
    let example = "write the name of a PEM file; a relative one is looked for beside the configuration";
    if text.is_empty() {
        return Err(Wrong::new("the name of a file is missing here").help(example));
    }
    if text.starts_with("-----BEGIN") {
        return Err(Wrong::new("this is a PEM text, and not the name of a file")
            .help("put it into a file of its own, and write its name here"));
    }
    if text.chars().any(char::is_control) {
        let message = format!("{} has control characters in it", quoted(text));
        return Err(Wrong::new(message).help(example));
    }
    if text.ends_with('/') {
        return Err(Wrong::new(format!("{} is a directory", quoted(text))).help("name the file in it"));
    }
    Ok(folder.join(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_way_to_write_a_path_wrong_has_its_own_advice() {
        for (text, message, help) in [
            ("", "missing", "write /"),
            ("v1/", "begin with `/`", "write /v1/"),
            ("https://a.example/v1", "is a URL", "alone: /v1"),
            ("https://a.example", "is a URL", "alone: /"),
            ("/v1?x=1", "a query", "write /v1"),
            ("/v1#top", "a fragment", "write /v1"),
            ("/a b", "` `", "%20"),
            ("/ü", "`ü`", "%C3%BC"),
            ("/a\"b", "`\"`", "%22"),
            ("/100%", "at byte 5", "%25"),
            ("/%zz", "at byte 2", "%25"),
            ("/%+1", "at byte 2", "%25"),
            ("/a/../b", "dot segment `..`", "without it"),
            ("/a/.", "dot segment `.`", "without it"),
            ("/%2e%2E/b", "dot segment `%2e%2E`", "without it"),
            ("/v1/*", "no wildcards", "write /v1/"),
            ("/*/x", "no wildcards", "write /"),
        ] {
            let wrong = url_path(text).unwrap_err();
            assert!(wrong.message.contains(message), "{text}: {wrong:?}");
            assert!(wrong.help.as_deref().unwrap_or_default().contains(help), "{text}: {wrong:?}");
        }
    }

    #[test]
    fn what_is_right_is_taken_as_it_is() {
        for text in ["/", "/v1", "/v1/", "/a//b", "/%20x", "/a.b/..c/~x;p=1,2:@!$&'()*+=", "/a/...", "/x*y"] {
            assert_eq!(url_path(text), Ok(text.to_owned()));
        }
    }

    #[test]
    fn relative_files_are_in_the_folder_and_others_where_they_say() {
        let folder = Path::new("/etc/fourseven");
        assert_eq!(file_name("site.pem", folder), Ok("/etc/fourseven/site.pem".into()));
        assert_eq!(file_name("/a/b.pem", folder), Ok("/a/b.pem".into()));
        for text in ["", "a\0b", "tls/", "-----BEGIN PRIVATE KEY-----"] {
            assert!(file_name(text, folder).unwrap_err().help.is_some(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|/[a-z%0-9./*?#é]{0,20}") {
            if let Ok(path) = url_path(&text) {
                prop_assert!(path.starts_with('/') && path.is_ascii());
            }
            let _ = file_name(&text, Path::new(""));
        }
    }
}
