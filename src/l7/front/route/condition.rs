//! What a request shows of itself to routes, and whether a condition holds of it.

use http::header::COOKIE;
use http::{HeaderMap, Method};

use crate::l7::spec::Condition;

/// A request, as routes see it.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The host, in lower case and without a port; empty where none was named.
    pub host: &'a str,
    /// The path, in its normal form.
    pub path: &'a str,
    /// What stands behind the question mark, as it was sent.
    pub query: Option<&'a str>,
    /// The method. An extended CONNECT is the GET that it stands for.
    pub method: &'a Method,
    /// The fields, as the client sent them.
    pub headers: &'a HeaderMap,
}

impl Asked<'_> {
    /// Whether a condition holds.
    pub(super) fn fits(&self, condition: &Condition) -> bool {
        match condition {
            Condition::Method(methods) => {
                let takes = |method| methods.contains(method);
                takes(self.method) || (*self.method == Method::HEAD && takes(&Method::GET))
            }
            Condition::Header(name, value) => {
                self.headers.get_all(name).iter().any(|line| value.fits(line.as_bytes()))
            }
            // Decoded, so that no spelling of a value passes by the route that it is meant for.
            Condition::Query(name, value) => {
                form_urlencoded::parse(self.query.unwrap_or_default().as_bytes())
                    .any(|(key, given)| key == name.as_str() && value.fits(given.as_bytes()))
            }
            Condition::Cookie(name, value) => {
                cookies(self.headers).any(|(key, given)| key == name.as_bytes() && value.fits(given))
            }
        }
    }
}

/// All cookies of a request (RFC 6265 §5.4), in whatever number of lines.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = headers.get_all(COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let equals = memchr::memchr(b'=', pair)?;
        let (name, value) = pair.split_at_checked(equals)?;
        Some((name.trim_ascii(), value.get(1..)?.trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use http::header::HeaderName;

    use super::*;
    use crate::l7::spec::ValuePattern::{self, Exact, Prefix, Present};

    #[test]
    fn a_condition_holds_where_one_of_the_values_fits() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("x-a", "one"), ("x-a", "two"), ("cookie", "a=1; b = 2"), ("cookie", "c=x=y;d"), ("x-e", "")]
        {
            headers.append(name, value.parse().unwrap());
        }
        let asked = Asked {
            host: "",
            path: "/",
            query: Some("q=1&lang=de%2Dch&q=a+b&bare&%6eame=%C3%A9"),
            method: &Method::HEAD,
            headers: &headers,
        };
        let header = |name, value| Condition::Header(HeaderName::from_static(name), value);
        let query = |name: &str, value| Condition::Query(name.to_owned(), value);
        let cookie = |name: &str, value| Condition::Cookie(name.to_owned(), value);
        let exact = |text: &str| -> ValuePattern { Exact(text.to_owned()) };
        let prefix = |text: &str| -> ValuePattern { Prefix(text.to_owned()) };
        let cases = [
            (Condition::Method(vec![Method::POST, Method::HEAD]), true),
            (Condition::Method(vec![Method::GET]), true),
            (Condition::Method(vec![Method::POST]), false),
            (header("x-a", Present), true),
            (header("x-a", exact("two")), true),
            (header("x-a", exact("one, two")), false),
            (header("x-a", exact("tw")), false),
            (header("x-a", prefix("tw")), true),
            (header("x-b", Present), false),
            (header("x-e", Present), true),
            (header("x-e", exact("")), true),
            (query("q", exact("a b")), true),
            (query("q", prefix("2")), false),
            (query("lang", prefix("de-")), true),
            (query("bare", Present), true),
            (query("bare", exact("")), true),
            (query("name", exact("é")), true),
            (query("nam", Present), false),
            (cookie("b", exact("2")), true),
            (cookie("c", exact("x=y")), true),
            (cookie("d", Present), false),
            (cookie("a", prefix("2")), false),
        ];
        for (condition, holds) in cases {
            assert_eq!(asked.fits(&condition), holds, "{condition:?}");
        }
    }
}
