//! `Cache-Control`, of both directions (RFC 9111 §5.2).
//!
//! What is wrong with a directive makes an answer less reusable, never more: a lifetime that cannot be read is none,
//! of two the shorter one counts (§4.2.1 encourages both), and a name counts whatever stands behind it.

use http::HeaderMap;
use http::header::{CACHE_CONTROL, HeaderName, HeaderValue, PRAGMA};

/// Seconds, as far as they can be told: RFC 9111 §1.2.2 lets what is larger be 2³¹.
pub(super) type Seconds = u64;

const MOST_SECONDS: Seconds = 1 << 31;

/// What a directive can say of fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Scope {
    /// It is not there.
    #[default]
    Nothing,
    /// It is about these.
    Fields(Vec<HeaderName>),
    /// It is about the whole answer.
    All,
}

impl Scope {
    fn widen(&mut self, argument: Argument<'_>) {
        match (argument, &mut *self) {
            (Argument::Quoted(list), Self::Nothing | Self::Fields(_)) => {
                // A list in which something is wrong is about everything.
                let names: Option<Vec<_>> = list
                    .split(|byte| *byte == b',')
                    .map(<[u8]>::trim_ascii)
                    .filter(|name| !name.is_empty())
                    .map(|name| HeaderName::from_bytes(name).ok())
                    .collect();
                match (names, &mut *self) {
                    (Some(names), Self::Fields(fields)) => fields.extend(names),
                    (Some(names), _) => *self = Self::Fields(names),
                    (None, _) => *self = Self::All,
                }
            }
            (_, Self::All) => {}
            (Argument::None | Argument::Token(_) | Argument::Wrong, _) => *self = Self::All,
        }
    }
}

/// What an answer's `Cache-Control` says.
#[expect(clippy::struct_excessive_bools, reason = "each is a directive that is there or not")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct OfAnswer {
    pub max_age: Option<Seconds>,
    pub s_maxage: Option<Seconds>,
    pub no_store: bool,
    pub no_cache: Scope,
    pub private: Scope,
    pub public: bool,
    pub must_revalidate: bool,
    pub proxy_revalidate: bool,
    pub must_understand: bool,
    /// RFC 5861 §3.
    pub stale_while_revalidate: Seconds,
    /// RFC 5861 §4.
    pub stale_if_error: Seconds,
}

impl OfAnswer {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        for (name, argument) in headers.get_all(CACHE_CONTROL).iter().flat_map(Directives::of) {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("max-age") {
                shorten(&mut said.max_age, argument);
            } else if is("s-maxage") {
                shorten(&mut said.s_maxage, argument);
            } else if is("no-store") {
                said.no_store = true;
            } else if is("no-cache") {
                said.no_cache.widen(argument);
            } else if is("private") {
                said.private.widen(argument);
            } else if is("public") {
                said.public = true;
            } else if is("must-revalidate") {
                said.must_revalidate = true;
            } else if is("proxy-revalidate") {
                said.proxy_revalidate = true;
            } else if is("must-understand") {
                said.must_understand = true;
            } else if is("stale-while-revalidate") {
                said.stale_while_revalidate = argument.seconds().unwrap_or(0);
            } else if is("stale-if-error") {
                said.stale_if_error = argument.seconds().unwrap_or(0);
            }
        }
        said
    }

    /// Whether it may be given only as long as it is fresh (RFC 9111 §4.2.4). `s-maxage` says so too (§5.2.2.10).
    pub(super) fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage.is_some()
            || self.no_cache == Scope::All
    }
}

/// What a request's `Cache-Control` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OfRequest {
    pub no_store: bool,
    pub no_cache: bool,
    pub only_if_cached: bool,
    pub max_age: Option<Seconds>,
    pub min_fresh: Seconds,
    /// How stale an answer may be; however stale, where no number is given.
    pub max_stale: Option<Seconds>,
    pub stale_if_error: Seconds,
}

impl OfRequest {
    pub(super) fn read(headers: &HeaderMap) -> Self {
        let mut said = Self::default();
        if !headers.contains_key(CACHE_CONTROL) {
            // RFC 9111 §5.4: it counts where the other is not there.
            let pragma = headers.get_all(PRAGMA).iter().flat_map(Directives::of);
            said.no_cache = pragma.into_iter().any(|(name, _)| name.eq_ignore_ascii_case(b"no-cache"));
            return said;
        }
        for (name, argument) in headers.get_all(CACHE_CONTROL).iter().flat_map(Directives::of) {
            let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
            if is("no-store") {
                said.no_store = true;
            } else if is("no-cache") {
                said.no_cache = true;
            } else if is("only-if-cached") {
                said.only_if_cached = true;
            } else if is("max-age") {
                shorten(&mut said.max_age, argument);
            } else if is("min-fresh") {
                said.min_fresh = said.min_fresh.max(argument.seconds().unwrap_or(0));
            } else if is("max-stale") {
                said.max_stale = match argument {
                    Argument::None => Some(said.max_stale.unwrap_or(Seconds::MAX)),
                    argument => {
                        Some(argument.seconds().unwrap_or(0)).min(said.max_stale.or(Some(Seconds::MAX)))
                    }
                };
            } else if is("stale-if-error") {
                said.stale_if_error = argument.seconds().unwrap_or(0);
            }
        }
        said
    }
}

fn shorten(lifetime: &mut Option<Seconds>, argument: Argument<'_>) {
    let read = argument.seconds().unwrap_or(0);
    *lifetime = Some(lifetime.map_or(read, |known| known.min(read)));
}

/// What stands behind a directive's `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument<'a> {
    None,
    Token(&'a [u8]),
    /// What is between the quotes, as it stands there.
    Quoted(&'a [u8]),
    /// It has no form that it may have.
    Wrong,
}

impl Argument<'_> {
    /// RFC 9111 §5.2: a number may come in quotes from senders that do not know better.
    fn seconds(self) -> Option<Seconds> {
        let (Self::Token(digits) | Self::Quoted(digits)) = self else { return None };
        seconds(digits)
    }
}

/// `delta-seconds` (RFC 9111 §1.2.2).
pub(super) fn seconds(digits: &[u8]) -> Option<Seconds> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let add = |sum: Seconds, digit: &u8| (sum * 10 + Seconds::from(digit - b'0')).min(MOST_SECONDS);
    Some(digits.iter().fold(0, add))
}

/// The directives of one line.
struct Directives<'a>(&'a [u8]);

impl<'a> Directives<'a> {
    fn of(value: &'a HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = (&'a [u8], Argument<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let (element, rest) = element(self.0)?;
            self.0 = rest;
            let element = element.trim_ascii();
            if element.is_empty() {
                continue;
            }
            let end = element.iter().position(|byte| !is_token(*byte)).unwrap_or(element.len());
            let (name, rest) = element.split_at_checked(end)?;
            let argument = match rest.split_first() {
                None => Argument::None,
                Some((b'=', rest)) => argument(rest),
                Some(_) => Argument::Wrong,
            };
            return Some((name, argument));
        }
    }
}

fn argument(text: &[u8]) -> Argument<'_> {
    if !text.is_empty() && text.iter().all(|byte| is_token(*byte) && *byte != b'\'') {
        return Argument::Token(text);
    }
    let quoted = text.strip_prefix(b"\"").and_then(|text| text.strip_suffix(b"\""));
    match quoted {
        Some(inner) if !inner.contains(&b'"') => Argument::Quoted(inner),
        _ => Argument::Wrong,
    }
}

/// The first element of a list (RFC 9110 §5.6.1), and what comes behind its comma; commas in quotes are none.
pub(super) fn element(list: &[u8]) -> Option<(&[u8], &[u8])> {
    if list.is_empty() {
        return None;
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in list.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return Some((list.get(..at)?, list.get(at + 1..)?)),
            _ => {}
        }
    }
    Some((list, &[]))
}

/// RFC 9110 §5.6.2.
const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(lines: &[&str]) -> OfAnswer {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        OfAnswer::read(&headers)
    }

    #[test]
    fn a_lifetime_is_read_as_carefully_as_it_can_be() {
        let cases: [(&[&str], Option<Seconds>); 18] = [
            (&["max-age=3600"], Some(3600)),
            (&["MaX-aGe=3600, foo"], Some(3600)),
            (&["max-age=003600"], Some(3600)),
            (&["max-age=\"3600\""], Some(3600)),
            (&["max-age='3600'"], Some(0)),
            (&["max-age=-1"], Some(0)),
            (&["max-age=3600.0"], Some(0)),
            (&["max-age =3600"], Some(0)),
            (&["max-age= 3600"], Some(0)),
            (&["max-age"], Some(0)),
            (&["max-age=99999999999999999999999"], Some(1 << 31)),
            (&["extension=\"max-age=3600\", max-age=1"], Some(1)),
            (&["max-age=\"1\", extension=\"a\\\", max-age=3600\""], Some(1)),
            (&["max-age=3600, max-age=1800"], Some(1800)),
            (&["max-age=1", "max-age=1800"], Some(1)),
            (&["max-age=1;foo=3600"], Some(0)),
            (&["extension=\"unended, max-age=3600"], None),
            (&["s-maxage=5"], None),
        ];
        for (lines, want) in cases {
            assert_eq!(answer(lines).max_age, want, "{lines:?}");
        }
    }

    #[test]
    fn what_is_about_some_fields_is_told_from_what_is_about_all() {
        let a_and_b = Scope::Fields(vec![HeaderName::from_static("a"), HeaderName::from_static("b")]);
        for (lines, want) in [
            (&["no-cache=\"a, B\""] as &[_], a_and_b.clone()),
            (&["no-cache=\"a\"", "no-cache=\"b\""], a_and_b),
            (&["no-cache=\"a\", no-cache"], Scope::All),
            (&["No-CaChE"], Scope::All),
            (&["no-cache=a"], Scope::All),
            (&["no-cache=\"a b\""], Scope::All),
            (&["no-cached"], Scope::Nothing),
        ] {
            assert_eq!(answer(lines).no_cache, want, "{lines:?}");
        }
    }

    #[test]
    fn pragma_counts_where_nothing_else_is_said() {
        let read = |name: &'static str, value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            OfRequest::read(&headers)
        };
        assert!(read("pragma", "no-cache").no_cache);
        assert!(!read("pragma", "foo").no_cache);
        assert_eq!(read("cache-control", "max-stale").max_stale, Some(Seconds::MAX));
        assert_eq!(read("cache-control", "max-stale, max-stale=7").max_stale, Some(7));
        assert_eq!(read("cache-control", "max-stale=x").max_stale, Some(0));
    }
}
