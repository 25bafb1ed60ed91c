//! What a request asks for: the host, out of its target or its Host field, and the path.
//!
//! HTTP says in three places which host is meant (the target, `Host`, `:authority`), and who reads another one
//! than the backend does can be led around its routes. So they must agree, and there must be one at most.

use std::rc::Rc;

use http::header::{HOST, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::ext::Protocol;
use hyper::{Method, Version};

use super::refusal::Refusal;
use crate::packet::Endpoint;

/// A host that a client has asked for, in the forms that it is needed in.
#[derive(Debug)]
pub(super) struct Named {
    /// As the client wrote it, with the port.
    pub(super) authority: Authority,
    /// The same, as a field.
    pub(super) field: HeaderValue,
    /// In lower case, without the port and without the root's dot; empty where none was named.
    pub(super) host: Box<str>,
    /// What RFC 7239 calls an element: who asked, how, and for this host.
    pub(super) forwarded: HeaderValue,
}

impl Named {
    /// Checks a host, with or without a port. `element` is the beginning of what is said in `Forwarded`.
    pub(super) fn new(text: &str, element: &str) -> Result<Self, Refusal> {
        let host = host_of(text).ok_or(Refusal::BadHost)?;
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase().into();
        Self::with(text, host, element).ok_or(Refusal::BadHost)
    }

    /// What a request is for that names no host.
    pub(super) fn nobody(vip: Endpoint, element: &str) -> Result<Self, Refusal> {
        Self::with(&vip.to_string(), Box::default(), element).ok_or(Refusal::BadHost)
    }

    fn with(text: &str, host: Box<str>, element: &str) -> Option<Self> {
        // RFC 7239 §4: what is no token is quoted, and a colon is in none.
        let quote = if text.contains([':', '[']) { "\"" } else { "" };
        Some(Self {
            authority: Authority::try_from(text).ok()?,
            field: HeaderValue::try_from(text).ok()?,
            host,
            forwarded: HeaderValue::try_from(format!("{element}host={quote}{text}{quote}")).ok()?,
        })
    }
}

/// The host of `host [":" port]` (RFC 9110 §7.2), if that is what it is. Of what RFC 3986 §3.2.2 allows in a name, sub-delimiters and
/// percent-encoding are left out: no host has them, and backends disagree on them.
fn host_of(text: &str) -> Option<&str> {
    let (host, rest) = if text.starts_with('[') {
        let (host, rest) = text.split_at_checked(text.find(']')? + 1)?;
        host.strip_prefix('[')?.strip_suffix(']')?.parse::<std::net::Ipv6Addr>().ok()?;
        (host, rest)
    } else {
        let (host, rest) = text.split_at_checked(text.find(':').unwrap_or(text.len()))?;
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if host.is_empty() || host.len() > 255 || !host.bytes().all(fine) {
            return None;
        }
        (host, rest)
    };
    if let Some(port) = rest.strip_prefix(':') {
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        port.parse::<u16>().ok().filter(|_| digits)?;
    } else if !rest.is_empty() {
        return None;
    }
    Some(host)
}

/// The host that a request names, checked against every place that it may be named in; `None` where it names none.
pub(super) fn host(parts: &Parts) -> Result<Option<&str>, Refusal> {
    let mut fields = parts.headers.get_all(HOST).iter();
    let field = match fields.next().map(HeaderValue::to_str) {
        Some(Err(_)) => return Err(Refusal::BadHost),
        Some(Ok(text)) => Some(text),
        None => None,
    };
    if fields.next().is_some() {
        return Err(Refusal::DoubledHost);
    }
    let Some(authority) = parts.uri.authority() else {
        return match field {
            // RFC 9113 §8.3.1 asks for one of the two, RFC 9112 §3.2 for a Host that may be empty.
            None if parts.version == Version::HTTP_2 => Err(Refusal::NoHost),
            field => Ok(field.filter(|text| !text.is_empty())),
        };
    };
    match field {
        Some(field) if !same(field, authority.as_str(), parts.uri.scheme()) => Err(Refusal::DifferingHosts),
        _ => Ok(Some(authority.as_str())),
    }
}

/// Whether both name the same; the scheme's own port need not be written.
fn same(one: &str, other: &str, scheme: Option<&Scheme>) -> bool {
    let port = if scheme == Some(&Scheme::HTTPS) { ":443" } else { ":80" };
    let bare = |text| str::strip_suffix(text, port).unwrap_or(text);
    bare(one).eq_ignore_ascii_case(bare(other))
}

/// The path and query that a request asks for. Its target must have the form that its method asks for
/// (RFC 9112 §3.2, RFC 9113 §8.3.1).
pub(super) fn path(parts: &Parts) -> Result<PathAndQuery, Refusal> {
    if parts.method == Method::TRACE
        || (parts.method == Method::CONNECT && parts.extensions.get::<Protocol>().is_none())
    {
        // RFC 9113 §8.5: a CONNECT has an authority.
        let malformed = parts.method == Method::CONNECT && parts.uri.authority().is_none();
        return Err(if malformed { Refusal::BadTarget } else { Refusal::BadMethod });
    }
    let uri: &Uri = &parts.uri;
    match (uri.scheme_str(), uri.authority()) {
        (Some("http" | "https"), _) | (None, None) => {}
        _ => return Err(Refusal::BadTarget),
    }
    let path = uri.path_and_query().ok_or(Refusal::BadTarget)?;
    let text = path.as_str();
    let form = match text {
        "*" => parts.method == Method::OPTIONS,
        text => text.starts_with('/'),
    };
    // Over HTTP/1 the bytes have been looked at.
    let bytes = parts.version != Version::HTTP_2 || text.bytes().all(|byte| (0x21..=0x7e).contains(&byte));
    if form && bytes { Ok(path.clone()) } else { Err(Refusal::BadTarget) }
}

/// A URI with its host in lower case, without the root's dot, and without the scheme's own port (RFC 9110 §4.2.3). The path stays
/// as it is: what an escape means is the backend's business.
pub(super) fn normal(uri: &Uri) -> Option<Uri> {
    let text = uri.authority()?.as_str();
    let port = if uri.scheme() == Some(&Scheme::HTTPS) { ":443" } else { ":80" };
    let bare = text.strip_suffix(port).unwrap_or(text);
    // An address in brackets has colons of its own, and no dot at its end.
    let (host, port) = match bare.rfind(':') {
        Some(colon) if !bare.ends_with(']') => bare.split_at_checked(colon)?,
        _ => (bare, ""),
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.len() + port.len() == text.len() && !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(uri.clone());
    }
    let mut parts = uri.clone().into_parts();
    parts.authority = Some(Authority::try_from(format!("{}{port}", host.to_ascii_lowercase())).ok()?);
    Uri::from_parts(parts).ok()
}

/// The host that was asked for last. Clients ask for the same one over and over.
#[derive(Debug, Default)]
pub(super) struct Last(Option<Rc<Named>>);

impl Last {
    /// The host in the forms that it is needed in.
    pub(super) fn name(
        &mut self,
        host: Option<&str>,
        vip: Endpoint,
        element: &str,
    ) -> Result<Rc<Named>, Refusal> {
        if let (Some(last), Some(host)) = (&self.0, host)
            && last.authority.as_str() == host
            && !last.host.is_empty()
        {
            return Ok(Rc::clone(last));
        }
        let named = Rc::new(match host {
            Some(host) => Named::new(host, element)?,
            None => Named::nobody(vip, element)?,
        });
        self.0 = Some(Rc::clone(&named));
        Ok(named)
    }
}

/// Joins what HTTP/2 clients may send of cookies in pieces (RFC 9113 §8.2.3).
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    use http::header::COOKIE;
    let mut pieces = headers.get_all(COOKIE).iter();
    let Some(first) = pieces.next() else { return };
    let Some(second) = pieces.next() else { return };
    let mut whole = first.as_bytes().to_vec();
    for piece in std::iter::once(second).chain(pieces) {
        whole.extend_from_slice(b"; ");
        whole.extend_from_slice(piece.as_bytes());
    }
    if let Ok(value) = HeaderValue::from_bytes(&whole) {
        headers.insert(COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        let cases = [
            ("example.com", Some("example.com")),
            ("EXAMPLE.com:8080", Some("EXAMPLE.com")),
            ("203.0.113.1:80", Some("203.0.113.1")),
            ("[2001:db8::1]:443", Some("[2001:db8::1]")),
            ("[2001:db8::1]", Some("[2001:db8::1]")),
            ("a_b.example.com.", Some("a_b.example.com.")),
            ("", None),
            (":80", None),
            ("a:", None),
            ("a:99999", None),
            ("a:+80", None),
            ("a:80:80", None),
            ("user@a", None),
            ("a/b", None),
            ("a b", None),
            ("a,b", None),
            ("a%00", None),
            ("[::1", None),
            ("[::1]x", None),
            ("[a]", None),
        ];
        for (text, host) in cases {
            assert_eq!(host_of(text), host, "{text}");
        }
    }

    #[test]
    fn two_ways_to_write_a_host_are_one() {
        let cases = [
            ("http://Example.COM/A?b", "http://example.com/A?b"),
            ("http://example.com.:80/", "http://example.com/"),
            ("https://example.com:80/", "https://example.com:80/"),
            ("https://EXAMPLE.com.:443/", "https://example.com/"),
            ("http://[2001:DB8::1]:80/%7e", "http://[2001:db8::1]/%7e"),
            ("http://[2001:db8::1]/", "http://[2001:db8::1]/"),
        ];
        for (written, want) in cases {
            assert_eq!(normal(&written.parse().unwrap()).unwrap().to_string(), want, "{written}");
        }
    }

    #[test]
    fn a_name_that_is_no_token_is_quoted() {
        let element = |text| Named::new(text, "for=192.0.2.1;").unwrap().forwarded;
        assert_eq!(element("Example.com"), "for=192.0.2.1;host=Example.com");
        assert_eq!(element("a:81"), "for=192.0.2.1;host=\"a:81\"");
        assert_eq!(&*Named::new("Example.COM.:81", "").unwrap().host, "example.com");
    }
}
