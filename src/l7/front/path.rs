//! Paths, as routes see them.
//!
//! A route is found by what a path *means*: percent-encoded characters that need no encoding are decoded (RFC 3986
//! §6.2.2.2), and `.` and `..` are resolved (§5.2.4). Without that, `/%61dmin` and `/public/../admin` would pass by the route
//! for `/admin`, and reach a backend that reads both as `/admin`. The request itself is sent as it came, since
//! signatures and caches depend on its spelling. `%2F` is not a slash (RFC 3986 §2.2), and an empty segment is one.

use std::borrow::Cow;

/// `..` leads above the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AboveRoot;

/// The path in the form that routes are compared in.
pub(super) fn normal(path: &str) -> Result<Cow<'_, str>, AboveRoot> {
    let bytes = path.as_bytes();
    let encoded = memchr::memchr(b'%', bytes).is_some();
    let dotted = bytes.windows(2).any(|pair| pair == b"/.");
    if !encoded && !dotted {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path);
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded.strip_prefix('/').unwrap_or(&decoded).split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." => {}
            ".." => {
                segments.pop().ok_or(AboveRoot)?;
            }
            part => {
                segments.push(part);
                continue;
            }
        }
        // What a dot segment leaves at the end is a directory.
        if last {
            segments.push("");
        }
    }
    let mut normal = String::with_capacity(decoded.len());
    for segment in segments {
        normal.push('/');
        normal.push_str(segment);
    }
    Ok(Cow::Owned(normal))
}

/// Decodes what is unreserved (RFC 3986 §2.3), and leaves all else as it is.
fn decode(path: &str) -> String {
    let mut decoded = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        let character =
            after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).map(char::from).filter(
                |character| character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '~'),
            );
        match character {
            Some(character) => {
                decoded.push(character);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_what_it_means() {
        let cases = [
            ("/", Some("/")),
            ("/a/b", Some("/a/b")),
            ("/a/./b", Some("/a/b")),
            ("/a/../b", Some("/b")),
            ("/a/b/..", Some("/a/")),
            ("/a/.", Some("/a/")),
            ("/a/.b/..c", Some("/a/.b/..c")),
            ("/%61dmin", Some("/admin")),
            ("/a/%2e%2E/admin", Some("/admin")),
            ("/a%2Fb", Some("/a%2Fb")),
            ("/a%", Some("/a%")),
            ("/a%4", Some("/a%4")),
            ("/a%+1", Some("/a%+1")),
            ("/%é1", Some("/%é1")),
            ("/a//b", Some("/a//b")),
            ("/a//../b", Some("/a/b")),
            ("/..", None),
            ("/a/../..", None),
            ("/%2e%2e/a", None),
        ];
        for (path, wanted) in cases {
            assert_eq!(normal(path).ok().as_deref(), wanted, "{path}");
        }
    }
}
