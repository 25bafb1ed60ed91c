//! What `Location` and `Content-Location` name (RFC 3986 §5.2), as far as the cache needs it: of the same origin, as something that was asked for.

use http::HeaderValue;
use http::uri::{PathAndQuery, Uri};

/// The name that a reference comes to, seen from what was asked for; `None` where it is of another origin, which an answer may
/// not invalidate (RFC 9111 §4.4), or is none.
pub(super) fn resolve(base: &Uri, reference: &HeaderValue) -> Option<Uri> {
    let text = reference.to_str().ok()?.trim();
    let text = text.split('#').next().unwrap_or_default();
    let path = if let Some(rest) = text.strip_prefix("//") {
        of_origin(base, rest)?
    } else if let Some((scheme, rest)) = text.split_once("://") {
        let same = base.scheme_str().is_some_and(|own| own.eq_ignore_ascii_case(scheme));
        same.then(|| of_origin(base, rest)).flatten()?
    } else if text.starts_with('/') {
        text.to_owned()
    } else if text.is_empty() {
        base.path_and_query()?.as_str().to_owned()
    } else if text.starts_with('?') {
        format!("{}{text}", base.path())
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{folder}/{text}")
    };
    let mut parts = base.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(without_dots(&path)).ok()?);
    Uri::from_parts(parts).ok()
}

/// The path of `authority/path`, where the authority is the base's.
fn of_origin(base: &Uri, text: &str) -> Option<String> {
    let end = text.find(['/', '?']).unwrap_or(text.len());
    let (authority, path) = text.split_at_checked(end)?;
    let port = if base.scheme_str() == Some("https") { ":443" } else { ":80" };
    let authority = authority.strip_suffix(port).unwrap_or(authority);
    let same = base.authority()?.as_str().eq_ignore_ascii_case(authority);
    same.then(|| if path.starts_with('/') { path.to_owned() } else { format!("/{path}") })
}

/// RFC 3986 §5.2.4.
fn without_dots(target: &str) -> String {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let mut kept: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
        if last && matches!(segment, "." | "..") {
            kept.push("");
        }
    }
    format!("/{}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_read_as_rfc_3986_says_and_stays_in_its_origin() {
        let base: Uri = "https://example.com/b/c?q".parse().unwrap();
        let cases = [
            ("/x", Some("https://example.com/x")),
            ("x?y#z", Some("https://example.com/b/x?y")),
            ("../x", Some("https://example.com/x")),
            ("../../../x", Some("https://example.com/x")),
            ("./", Some("https://example.com/b/")),
            ("", Some("https://example.com/b/c?q")),
            ("?r", Some("https://example.com/b/c?r")),
            ("//EXAMPLE.com/x", Some("https://example.com/x")),
            ("https://example.com:443", Some("https://example.com/")),
            ("HTTPS://example.com/x/./y", Some("https://example.com/x/y")),
            ("http://example.com/x", None),
            ("https://example.com:444/x", None),
            ("//example.org/x", None),
        ];
        for (reference, want) in cases {
            let name = resolve(&base, &HeaderValue::from_static(reference));
            assert_eq!(name.map(|name| name.to_string()).as_deref(), want, "{reference}");
        }
    }
}
