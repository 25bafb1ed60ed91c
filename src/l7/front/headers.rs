//! What is written into heads, and taken out of them, on their way through (RFC 9110 §7.6, RFC 7239).
//!
//! What a client says about those before it is passed on where it is a list, and ours is put behind it: of
//! `X-Forwarded-For` and `Forwarded` only the last entry is ours, and whoever believes another one believes the client.
//! `X-Forwarded-Proto`, `-Host` and `-Port` are no lists; what a client sends there is replaced.
//!
//! | field | request | response |
//! |---|---|---|
//! | `Connection` and what it names, `Keep-Alive`, `Proxy-Connection`, `Transfer-Encoding` | removed | removed |
//! | `Upgrade` | kept where the connection may change | with 101 only |
//! | `TE` | `trailers`, if it was there | removed |
//! | `Trailer`, `Expect`, `Date`, `Server` | as they are | as they are |
//! | `Via` | appended | appended |

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, Entry, FORWARDED, HOST, HeaderName, HeaderValue, TE, TRANSFER_ENCODING,
    UPGRADE, VIA,
};
use hyper::Version;

use super::refusal::Refusal;
use super::target::Named;
use crate::packet::{Endpoint, Family};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");

/// Whether a connection is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// It is not.
    Clear,
    /// By TLS.
    Tls,
}

/// What backends are told about a connection; the same for all its requests.
#[derive(Debug)]
pub(super) struct Told {
    client: HeaderValue,
    scheme: HeaderValue,
    port: HeaderValue,
    /// The beginning of an element of `Forwarded`.
    pub(super) element: String,
}

impl Told {
    pub(super) fn new(client: Endpoint, vip: Endpoint, security: Security) -> Self {
        let scheme = match security {
            Security::Clear => "http",
            Security::Tls => "https",
        };
        let address = client.address.to_string();
        // RFC 7239 §6: an IPv6 address stands in brackets, and those in quotes.
        let node = match client.address.family() {
            Family::V4 => Cow::Borrowed(&address),
            Family::V6 => Cow::Owned(format!("\"[{address}]\"")),
        };
        Self {
            element: format!("for={node};proto={scheme};"),
            client: HeaderValue::try_from(address).expect("an address is ASCII"),
            scheme: HeaderValue::from_static(scheme),
            port: HeaderValue::from(vip.port),
        }
    }
}

/// Whether values are what they may be in HTTP/2 (RFC 9113 §8.2.1): no whitespace around them. h2 has looked for what may be
/// in none. HTTP/1 has no such rule, as whitespace there belongs to no value.
pub(super) fn check_values(headers: &HeaderMap) -> Result<(), Refusal> {
    let is_bare = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        ![bytes.first(), bytes.last()].iter().any(|byte| matches!(byte, Some(b' ' | b'\t')))
    };
    if headers.values().all(is_bare) { Ok(()) } else { Err(Refusal::BadFieldValue) }
}

/// Whether a connection is to change its protocol behind the head.
#[derive(Clone, Debug)]
pub(super) enum Change {
    None,
    /// To this one.
    To(HeaderValue),
}

/// The protocol that an HTTP/1.1 request asks to change to.
///
/// Not HTTP/2: a backend that took it would be spoken to past all that is checked here (and RFC 9113 §3.1 has
/// done away with it).
pub(super) fn change(headers: &HeaderMap, version: Version) -> Change {
    let Some(protocol) = headers.get(UPGRADE) else { return Change::None };
    let h2c = |token: &str| token.eq_ignore_ascii_case("h2c");
    if version != Version::HTTP_11
        || !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        || tokens(headers, &UPGRADE).any(h2c)
    {
        return Change::None;
    }
    Change::To(protocol.clone())
}

fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

/// Makes a client's fields those that the backend is to get.
pub(super) fn outgoing(
    headers: &mut HeaderMap,
    version: Version,
    change: Change,
    named: &Named,
    told: &Told,
) {
    let trailers = headers.contains_key(TE) && tokens(headers, &TE).any(|coding| coding == "trailers");
    headers.reserve(7);
    strip(headers);
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Change::To(protocol) = change {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    headers.insert(HOST, named.field.clone());
    append(headers, X_FORWARDED_FOR, &told.client);
    append(headers, FORWARDED, &named.forwarded);
    headers.insert(X_FORWARDED_HOST, named.field.clone());
    headers.insert(X_FORWARDED_PROTO, told.scheme.clone());
    headers.insert(X_FORWARDED_PORT, told.port.clone());
    append(headers, VIA, &via(version));
}

/// Makes a backend's fields those that the client is to get.
pub(super) fn incoming(headers: &mut HeaderMap, version: Version, change: Change) {
    headers.reserve(1);
    strip(headers);
    if let Change::To(protocol) = change {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    append(headers, VIA, &via(version));
}

/// A body without a length goes in chunks, also with a method that seldom has one: hyper would leave it out.
pub(super) fn chunked(headers: &mut HeaderMap) {
    headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
}

/// Removes what is meant for one connection only (RFC 9110 §7.6.1).
fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let usual = ["close", "keep-alive", "upgrade", "te"];
        let named: Vec<HeaderName> = tokens(headers, &CONNECTION)
            .filter(|token| !usual.iter().any(|usual| token.eq_ignore_ascii_case(usual)))
            .filter_map(|token| HeaderName::from_bytes(token.as_bytes()).ok())
            // These are for all on the way, whatever is said of them; without them the message is another one.
            .filter(|name| ![HOST, CONTENT_LENGTH, VIA].contains(name))
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TRANSFER_ENCODING, &TE] {
        headers.remove(name);
    }
    if headers.remove(UPGRADE).is_some() {
        headers.remove(HTTP2_SETTINGS);
    }
}

/// Appends to a list, which stays one line: there are those who read the first line only.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    match headers.entry(name) {
        Entry::Vacant(vacant) => {
            vacant.insert(value.clone());
        }
        Entry::Occupied(mut occupied) => {
            let mut list = Vec::new();
            for line in occupied.iter() {
                list.extend_from_slice(line.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(value.as_bytes());
            if let Ok(list) = HeaderValue::from_bytes(&list) {
                occupied.insert(list);
            }
        }
    }
}

/// RFC 9110 §7.6.3: the version that the message came in, and who we are.
fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_2 => "2 fourseven",
        Version::HTTP_10 => "1.0 fourseven",
        _ => "1.1 fourseven",
    })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    fn sent(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let endpoint = |text: &str| text.parse::<SocketAddr>().unwrap().into();
        let told = Told::new(endpoint("[2001:db8::7]:4711"), endpoint("[2001:db8::1]:443"), Security::Tls);
        let mut headers = fields(lines);
        let change = change(&headers, Version::HTTP_11);
        outgoing(&mut headers, Version::HTTP_11, change, &Named::new("a", &told.element).unwrap(), &told);
        headers
    }

    #[test]
    fn a_backend_is_told_who_asked_for_what_and_how() {
        let headers = sent(&[]);
        assert_eq!(headers["x-forwarded-for"], "2001:db8::7");
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "a");
        assert_eq!(headers["x-forwarded-port"], "443");
        assert_eq!(headers["forwarded"], "for=\"[2001:db8::7]\";proto=https;host=a");
        assert_eq!(headers["via"], "1.1 fourseven");
        assert_eq!(headers["host"], "a");
    }

    #[test]
    fn what_a_client_says_of_itself_is_not_believed() {
        let headers = sent(&[
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-for", "10.0.0.2"),
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-proto", "gopher"),
            ("x-forwarded-host", "evil.example.com"),
            ("via", "1.0 fred"),
        ]);
        let all = |name| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("x-forwarded-for"), ["10.0.0.1, 10.0.0.2, 2001:db8::7"]);
        assert_eq!(all("forwarded"), ["for=10.0.0.1, for=\"[2001:db8::7]\";proto=https;host=a"]);
        assert_eq!(all("x-forwarded-proto"), ["https"]);
        assert_eq!(all("x-forwarded-host"), ["a"]);
        assert_eq!(all("via"), ["1.0 fred, 1.1 fourseven"]);
    }

    #[test]
    fn what_is_for_one_connection_goes_no_further() {
        let headers = sent(&[
            ("connection", "close, X-Hop, host, content-length"),
            ("connection", "x-other"),
            ("x-hop", "1"),
            ("x-other", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip, trailers"),
            ("content-length", "3"),
            ("trailer", "x-sum"),
            ("upgrade", "websocket"),
        ]);
        for gone in ["connection", "x-hop", "x-other", "keep-alive", "proxy-connection", "upgrade"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["te"], "trailers");
        assert_eq!(headers["content-length"], "3");
        assert_eq!(headers["trailer"], "x-sum");
    }

    #[test]
    fn a_connection_may_change_to_anything_but_http_2() {
        let headers = sent(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(
            (&headers["connection"], &headers["upgrade"]),
            (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
        );
        let headers = sent(&[
            ("connection", "upgrade, http2-settings"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABk"),
        ]);
        assert!(["connection", "upgrade", "http2-settings"].iter().all(|name| !headers.contains_key(*name)));
    }
}
