//! Which requests an answer is for, by `Vary` (RFC 9111 §4.1).
//!
//! Two requests agree on a field when they say the same in it, apart from how its lines are joined and from whitespace around
//! commas; in the fields of content negotiation case makes no difference either. What stands in quotes is compared as it is.

use http::header::{
    ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderMap, HeaderName, HeaderValue, VARY,
};

use super::directives::element;

/// The fields by which an answer was selected, as its request had them; `None` for one that was not there.
pub(super) type Selecting = Vec<(HeaderName, Option<HeaderValue>)>;

/// The names in an answer's `Vary`.
pub(super) fn names(headers: &HeaderMap) -> impl Iterator<Item = HeaderName> {
    headers
        .get_all(VARY)
        .iter()
        .flat_map(Elements::of)
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

/// What a request says in the fields that its answer varies by.
pub(super) fn selecting(request: &HeaderMap, answer: &HeaderMap) -> Selecting {
    let mut selecting = Selecting::new();
    for name in names(answer) {
        if !selecting.iter().any(|(known, _)| *known == name) {
            let value = joined(request, &name);
            selecting.push((name, value));
        }
    }
    selecting
}

/// Whether a request would have been given the same answer.
pub(super) fn agrees(selecting: &Selecting, request: &HeaderMap) -> bool {
    selecting.iter().all(|(name, value)| {
        let folds = [ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_CHARSET].contains(name);
        match value {
            None => !request.contains_key(name),
            Some(value) => {
                request.contains_key(name)
                    && same(Elements::of(value), request.get_all(name).iter().flat_map(Elements::of), folds)
            }
        }
    })
}

/// Whether two requests say the same in the fields that something else was selected by.
pub(super) fn agree(one: &HeaderMap, other: &HeaderMap, fields: &Selecting) -> bool {
    fields.iter().all(|(name, _)| {
        let of = |headers: &HeaderMap| joined(headers, name);
        match (of(one), of(other)) {
            (None, None) => true,
            (Some(one), Some(other)) => same(Elements::of(&one), Elements::of(&other), false),
            _ => false,
        }
    })
}

fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let mut joined = first.as_bytes().to_vec();
    for line in lines {
        joined.extend_from_slice(b", ");
        joined.extend_from_slice(line.as_bytes());
    }
    HeaderValue::from_bytes(&joined).ok()
}

fn same<'a>(one: impl Iterator<Item = &'a [u8]>, other: impl Iterator<Item = &'a [u8]>, folds: bool) -> bool {
    let equal = |one: &[u8], other: &[u8]| if folds { one.eq_ignore_ascii_case(other) } else { one == other };
    let (mut one, mut other) = (one.map(<[u8]>::trim_ascii), other.map(<[u8]>::trim_ascii));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (Some(one), Some(other)) if equal(one, other) => {}
            _ => return false,
        }
    }
}

/// The elements of a line, as they stand between its commas.
struct Elements<'a>(Option<&'a [u8]>);

impl<'a> Elements<'a> {
    fn of(value: &'a HeaderValue) -> Self {
        Self(Some(value.as_bytes()))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let list = self.0?;
        let (first, rest) = element(list).unwrap_or_default();
        // Behind a comma at the end stands an empty one.
        self.0 = (first.len() < list.len()).then_some(rest);
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn requests_agree_when_they_say_the_same() {
        let cases: [(&str, &[(_, _)], &[(_, _)], bool); 15] = [
            ("the same", &[("foo", "1")], &[("foo", "1")], true),
            ("another value", &[("foo", "1")], &[("foo", "2")], false),
            ("not there then", &[], &[("foo", "1")], false),
            ("not there now", &[("foo", "1")], &[], false),
            ("never there", &[("other", "1")], &[("other", "2")], true),
            ("empty is not absent", &[("foo", "")], &[], false),
            ("empty is empty", &[("foo", "")], &[("foo", "")], true),
            ("whitespace", &[("foo", "1,2")], &[("foo", " 1, 2 ")], true),
            ("lines", &[("foo", "1, 2")], &[("foo", "1"), ("foo", "2")], true),
            ("order", &[("foo", "1, 2")], &[("foo", "2, 1")], false),
            ("quotes", &[("foo", "\"1, 2\"")], &[("foo", "\"1,2\"")], false),
            ("case", &[("foo", "a")], &[("foo", "A")], false),
            ("case of languages", &[("accept-language", "en, de")], &[("accept-language", "eN,De")], true),
            ("an element less", &[("foo", "1,")], &[("foo", "1")], false),
            ("both names count", &[("foo", "1"), ("accept-language", "en")], &[("foo", "1")], false),
        ];
        let answer = fields(&[("vary", "Foo, , accept-language"), ("vary", "foo")]);
        for (name, stored, asked, want) in cases {
            let selecting = selecting(&fields(stored), &answer);
            assert_eq!(agrees(&selecting, &fields(asked)), want, "{name}");
        }
    }
}
