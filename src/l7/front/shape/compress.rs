//! Which answers are compressed, and what their heads say then.
//!
//! | an answer stays as it is | because |
//! |---|---|
//! | 1xx, 204, 206, 304, or to a request with `Range` | a part of it is meant, or nothing |
//! | `Content-Encoding` | somebody has compressed it |
//! | `Cache-Control: no-transform`, of either side | somebody forbids it (RFC 9111 §5.2.1.6, §5.2.2.6) |
//! | a digest | it would be of other bytes (RFC 9530) |
//! | a type that is not known to shrink | it would cost time for nothing |
//! | a length that is known and small | likewise |
//!
//! Any other one is not the same for all clients, and says so in `Vary`, also where this client gets it as it is. Where it is
//! compressed, its `ETag` becomes weak (RFC 9110 §8.8.1): the bytes are others, what they mean is the same. So clients can
//! revalidate, and ranges of it are not offered.

use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderValue, RANGE, VARY,
};
use http::request::Parts;
use hyper::{Method, StatusCode};

use super::accept::choose;
use crate::l7::spec::{Coding, CompressSpec};

/// What a client would take of a route's answers.
#[derive(Clone, Copy, Debug)]
pub(in crate::l7::front) struct Offer<'a> {
    spec: &'a CompressSpec,
    coding: Option<Coding>,
    /// Whether only the head is asked for.
    pub head: bool,
}

impl<'a> Offer<'a> {
    /// What a request says of it.
    pub(in crate::l7::front) fn of(spec: &'a CompressSpec, parts: &Parts) -> Self {
        let whole = !parts.headers.contains_key(RANGE) && !forbids(&parts.headers);
        let coding = if whole { choose(&spec.codings, &parts.headers) } else { None };
        Self { spec, coding, head: parts.method == Method::HEAD }
    }

    /// Writes the head of an answer, and says how its body is to be compressed, if it is. `room` is asked whether there is room
    /// for one more.
    pub(in crate::l7::front) fn take<S>(
        self,
        status: StatusCode,
        headers: &mut HeaderMap,
        room: impl FnOnce() -> Option<S>,
    ) -> Option<(Coding, S)> {
        if !may_shrink(status, headers, self.spec.min_bytes) {
            return None;
        }
        vary(headers);
        let coding = self.coding?;
        let place = room()?;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.word()));
        headers.remove(CONTENT_LENGTH);
        headers.remove(ACCEPT_RANGES);
        let strong = headers.get(ETAG).map(HeaderValue::as_bytes).filter(|tag| tag.starts_with(b"\""));
        if let Some(weak) = strong.map(|tag| [b"W/", tag].concat())
            && let Ok(weak) = HeaderValue::from_bytes(&weak)
        {
            headers.insert(ETAG, weak);
        }
        Some((coding, place))
    }
}

fn may_shrink(status: StatusCode, headers: &HeaderMap, min_bytes: u64) -> bool {
    let bare = [StatusCode::NO_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
    if status.is_informational() || bare.contains(&status) || forbids(headers) {
        return false;
    }
    let digests = ["content-md5", "content-digest", "repr-digest", "digest"];
    if headers.contains_key(CONTENT_ENCODING) || digests.iter().any(|name| headers.contains_key(*name)) {
        return false;
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length < min_bytes) {
        return false;
    }
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(shrinks)
}

fn forbids(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    lines
        .flat_map(|line| line.split(','))
        .any(|directive| directive.trim().eq_ignore_ascii_case("no-transform"))
}

/// Whether a media type is one whose bodies shrink.
fn shrinks(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (kind, name) = essence.split_once('/').unwrap_or_default();
    let known = [
        "json",
        "javascript",
        "xml",
        "manifest+json",
        "wasm",
        "x-javascript",
        "x-ndjson",
        "graphql",
        "sql",
        "rtf",
        "x-sh",
        "x-yaml",
        "yaml",
        "toml",
        "vnd.ms-fontobject",
        "x-font-ttf",
        "msword",
    ];
    match kind {
        "text" => true,
        "application" => known.contains(&name) || name.ends_with("+json") || name.ends_with("+xml"),
        "image" => ["svg+xml", "bmp", "x-icon", "vnd.microsoft.icon"].contains(&name),
        "font" => ["ttf", "otf", "collection", "sfnt"].contains(&name),
        "model" => name == "gltf+json",
        _ => false,
    }
}

/// Says that the answer depends on what codings were asked for.
fn vary(headers: &mut HeaderMap) {
    let lines = headers.get_all(VARY).iter().filter_map(|line| line.to_str().ok());
    let mut names = lines.flat_map(|line| line.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case("accept-encoding")) {
        headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn answer(request: &[(&str, &str)], status: u16, answer: &[(&str, &str)]) -> (Option<Coding>, HeaderMap) {
        let mut builder = Request::get("/");
        for (name, value) in request {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).unwrap().into_parts();
        let spec = CompressSpec::default();
        let line = |(name, value): &(&str, &str)| {
            (name.parse::<http::HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap())
        };
        let mut headers: HeaderMap = answer.iter().map(line).collect();
        let status = StatusCode::from_u16(status).unwrap();
        let taken = Offer::of(&spec, &parts).take(status, &mut headers, || Some(()));
        (taken.map(|(coding, ())| coding), headers)
    }

    const GZIP: (&str, &str) = ("accept-encoding", "gzip");
    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[test]
    fn a_head_says_what_the_body_has_become() {
        let fields = [
            HTML,
            ("content-length", "5000"),
            ("etag", "\"a\""),
            ("vary", "cookie"),
            ("accept-ranges", "bytes"),
        ];
        let (coding, headers) = answer(&[GZIP], 200, &fields);
        assert_eq!(coding, Some(Coding::Gzip));
        assert_eq!(headers["content-encoding"], "gzip");
        assert_eq!(headers["etag"], "W/\"a\"");
        assert_eq!(headers.get_all("vary").iter().collect::<Vec<_>>(), ["cookie", "accept-encoding"]);
        assert!(!headers.contains_key("content-length") && !headers.contains_key("accept-ranges"));
        let (_, headers) = answer(&[GZIP], 200, &[HTML, ("etag", "W/\"a\""), ("vary", "Accept-Encoding, x")]);
        assert_eq!(headers["etag"], "W/\"a\"");
        assert_eq!(headers.get_all("vary").iter().count(), 1);
    }

    #[test]
    fn who_gets_it_plain_is_told_that_others_do_not() {
        let (coding, headers) = answer(&[], 200, &[HTML, ("content-length", "5000"), ("etag", "\"a\"")]);
        assert_eq!(coding, None);
        assert_eq!(
            (&headers["vary"], &headers["etag"]),
            (&"accept-encoding".parse().unwrap(), &"\"a\"".parse().unwrap())
        );
        assert_eq!(headers["content-length"], "5000");
    }

    /// What it is, and the request's fields, the status, the answer's fields.
    type Case = (&'static str, Fields, u16, Fields);
    type Fields = &'static [(&'static str, &'static str)];

    #[test]
    fn what_may_not_be_compressed_stays_as_it_is() {
        let cases: [Case; 15] = [
            ("a part", &[GZIP], 206, &[HTML]),
            ("nothing new", &[GZIP], 304, &[HTML]),
            ("nothing", &[GZIP], 204, &[HTML]),
            ("compressed already", &[GZIP], 200, &[HTML, ("content-encoding", "br")]),
            ("plain, and said so", &[GZIP], 200, &[HTML, ("content-encoding", "identity")]),
            ("forbidden", &[GZIP], 200, &[HTML, ("cache-control", "public, No-Transform")]),
            ("small", &[GZIP], 200, &[HTML, ("content-length", "1023")]),
            ("a digest", &[GZIP], 200, &[HTML, ("content-digest", "sha-256=:x:")]),
            ("an image", &[GZIP], 200, &[("content-type", "image/png")]),
            ("an archive", &[GZIP], 200, &[("content-type", "application/zip")]),
            ("a call", &[GZIP], 200, &[("content-type", "application/grpc")]),
            ("no type", &[GZIP], 200, &[]),
            ("no text", &[GZIP], 200, &[("content-type", "text")]),
            ("asked for a part", &[GZIP, ("range", "bytes=0-9")], 200, &[HTML]),
            ("the client forbids it", &[GZIP, ("cache-control", "no-transform")], 200, &[HTML]),
        ];
        for (name, request, status, fields) in cases {
            let (coding, headers) = answer(request, status, fields);
            assert_eq!(coding, None, "{name}");
            assert!(fields.iter().all(|(name, value)| headers[*name] == *value), "{name}");
        }
        for fine in
            ["application/json", "application/problem+json", "image/svg+xml", "TEXT/CSS", "text/event-stream"]
        {
            assert_eq!(answer(&[GZIP], 404, &[("content-type", fine)]).0, Some(Coding::Gzip), "{fine}");
        }
    }

    #[test]
    fn where_there_is_no_room_it_stays_plain() {
        let (parts, ()) = Request::get("/").header("accept-encoding", "br").body(()).unwrap().into_parts();
        let spec = CompressSpec::default();
        let mut headers: HeaderMap = [(CONTENT_TYPE, "text/css".parse().unwrap())].into_iter().collect();
        assert!(Offer::of(&spec, &parts).take(StatusCode::OK, &mut headers, || None::<()>).is_none());
        assert!(headers.contains_key(VARY) && !headers.contains_key(CONTENT_ENCODING));
    }
}
