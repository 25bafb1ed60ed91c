//! Validation, both ways: whether a client has what is stored, and whether a backend still has it (RFC 9111 §4.3).

use http::header::{
    ACCEPT_RANGES, AGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE,
    DATE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE,
    IF_UNMODIFIED_SINCE, LAST_MODIFIED, RANGE,
};

use super::clock::{Moment, date, field};
use super::directives::{OfAnswer, element};
use super::entry::strip;

/// Preconditions that are not for a cache (RFC 9111 §4.3.2).
pub(super) fn is_for_origin(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Whether a request has any precondition that a cache may look at.
pub(super) fn is_conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

/// Whether a request asks for something only if it is new, and it is not.
pub(super) fn has_it_if_asked(request: &HeaderMap, stored: &HeaderMap) -> bool {
    is_conditional(request) && has_it(request, stored)
}

/// Whether the client has what is stored: 304 will do (RFC 9111 §4.3.2, RFC 9110 §13.2.2).
pub(super) fn has_it(request: &HeaderMap, stored: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        return request.get_all(IF_NONE_MATCH).iter().any(|line| names(line, stored.get(ETAG)));
    }
    let mut lines = request.get_all(IF_MODIFIED_SINCE).iter();
    let (Some(since), None) = (lines.next().and_then(date), lines.next()) else { return false };
    // Where nothing tells when it was modified, it was not modified after it was sent.
    let modified = stored.get(LAST_MODIFIED).or_else(|| stored.get(DATE)).and_then(date);
    modified.is_some_and(|modified| modified <= since)
}

/// Whether a list of entity tags names this one, by the weak comparison (RFC 9110 §8.8.3.2).
fn names(list: &HeaderValue, tag: Option<&HeaderValue>) -> bool {
    let mut rest = list.as_bytes();
    if rest.trim_ascii() == b"*" {
        return true;
    }
    let Some(tag) = tag else { return false };
    while let Some((member, behind)) = element(rest) {
        if opaque(member.trim_ascii()) == opaque(tag.as_bytes()) {
            return true;
        }
        rest = behind;
    }
    false
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether `If-Range` lets a `Range` count (RFC 9110 §13.1.5), by the strong comparison.
pub(super) fn range_counts(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => true,
        (Some(_), Some(_)) => false,
        (Some(line), None) if line.as_bytes().starts_with(b"\"") => {
            stored.get(ETAG).is_some_and(|tag| tag.as_bytes() == line.as_bytes())
        }
        // §8.8.2.2: a date is strong when it lies well before the answer's own.
        (Some(line), None) => {
            let modified = stored.get(LAST_MODIFIED);
            let strong = match (modified.and_then(date), stored.get(DATE).and_then(date)) {
                (Some(modified), Some(sent)) => sent.saturating_sub(modified).as_secs() >= 1,
                _ => false,
            };
            strong && modified.is_some_and(|modified| modified.as_bytes() == line.as_bytes())
        }
    }
}

/// Makes a head of 200 one of 304: what describes a body that is not sent goes (RFC 9110 §15.4.5).
pub(super) fn not_modified(headers: &mut HeaderMap) {
    for name in
        [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE, ACCEPT_RANGES]
    {
        headers.remove(name);
    }
    if headers.contains_key(ETAG) {
        headers.remove(LAST_MODIFIED);
    }
}

/// Makes a request ask whether what is stored is still right, for the whole of it. `false` where there is nothing to ask by.
pub(super) fn ask(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    forget(request);
    let tag = stored.get(ETAG);
    let modified = stored.get(LAST_MODIFIED);
    if let Some(tag) = tag {
        request.insert(IF_NONE_MATCH, tag.clone());
    }
    if let Some(modified) = modified.filter(|value| date(value).is_some()) {
        request.insert(IF_MODIFIED_SINCE, modified.clone());
    }
    tag.is_some() || modified.is_some()
}

/// Takes the client's own conditions out of a request.
pub(super) fn forget(request: &mut HeaderMap) {
    for name in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE] {
        request.remove(name);
    }
}

/// Whether a 304 is about what is stored (RFC 9111 §4.3.4). One without a validator answers what was asked.
pub(super) fn is_about(stored: &HeaderMap, update: &HeaderMap) -> bool {
    match (update.get(ETAG), stored.get(ETAG)) {
        (Some(new), Some(old)) => {
            let weak = new.as_bytes().starts_with(b"W/");
            if weak { opaque(new.as_bytes()) == opaque(old.as_bytes()) } else { new == old }
        }
        (Some(_), None) => false,
        (None, _) => match (update.get(LAST_MODIFIED), stored.get(LAST_MODIFIED)) {
            (Some(new), Some(old)) => new == old,
            (Some(_), None) => false,
            (None, _) => true,
        },
    }
}

/// Fields that describe the stored body, and so stay as they were stored with it (RFC 9111 §3.2).
const STAYS: [HeaderName; 5] =
    [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, HeaderName::from_static("content-md5"), ETAG];

/// A stored head with what an update says (RFC 9111 §3.2).
pub(super) fn freshened(stored: &HeaderMap, update: &HeaderMap, received: Moment) -> HeaderMap {
    let mut update = update.clone();
    strip(&mut update, &OfAnswer::default());
    for name in &STAYS {
        update.remove(name);
    }
    if !update.contains_key(DATE) {
        update.insert(DATE, field(received));
    }
    let mut fresh = stored.clone();
    // Its age was that of the other answer.
    fresh.remove(AGE);
    for name in update.keys() {
        fresh.remove(name);
    }
    for (name, value) in &update {
        fresh.append(name, value.clone());
    }
    fresh
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        lines.iter().map(pair).collect()
    }

    const DAY: &str = "Thu, 01 Jan 1970 00:00:00 GMT";
    const NEXT: &str = "Fri, 02 Jan 1970 00:00:00 GMT";

    #[test]
    fn a_client_that_has_it_is_told_so() {
        let tagged = &[("etag", "\"a\""), ("last-modified", NEXT)] as &[_];
        let weak = &[("etag", "W/\"a\"")] as &[_];
        let cases: [(&[_], &[_], bool); 11] = [
            (&[("if-none-match", "\"a\"")], tagged, true),
            (&[("if-none-match", "W/\"a\"")], tagged, true),
            (&[("if-none-match", "\"x,y\", \"a\"")], weak, true),
            (&[("if-none-match", "*")], &[], true),
            (&[("if-none-match", "\"b\"")], tagged, false),
            (&[("if-none-match", "a")], tagged, false),
            // RFC 9110 §13.1.3: the other one does not count then.
            (&[("if-none-match", "\"b\""), ("if-modified-since", NEXT)], tagged, false),
            (&[("if-modified-since", NEXT)], tagged, true),
            (&[("if-modified-since", DAY)], tagged, false),
            (&[("if-modified-since", "yesterday")], tagged, false),
            (&[("if-modified-since", DAY)], &[("date", NEXT)], false),
        ];
        for (request, stored, want) in cases {
            assert_eq!(has_it(&fields(request), &fields(stored)), want, "{request:?} {stored:?}");
        }
    }

    #[test]
    fn a_part_is_of_what_the_client_has() {
        let stored = fields(&[("etag", "\"a\""), ("last-modified", DAY), ("date", NEXT)]);
        for (line, want) in
            [("\"a\"", true), ("\"b\"", false), ("W/\"a\"", false), (DAY, true), (NEXT, false)]
        {
            assert_eq!(range_counts(&fields(&[("if-range", line)]), &stored), want, "{line}");
        }
        assert!(!range_counts(
            &fields(&[("if-range", DAY)]),
            &fields(&[("last-modified", DAY), ("date", DAY)])
        ));
    }

    #[test]
    fn an_update_is_about_what_has_its_validator() {
        let both = &[("etag", "\"a\""), ("last-modified", DAY)] as &[_];
        let cases: [(&[_], &[_], bool); 8] = [
            (both, &[("etag", "\"a\"")], true),
            (both, &[("etag", "\"b\"")], false),
            (&[("etag", "W/\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("etag", "W/\"a\"")], &[("etag", "\"a\"")], false),
            (both, &[("last-modified", DAY)], true),
            (both, &[("last-modified", NEXT)], false),
            (both, &[], true),
            (&[("last-modified", DAY)], &[("etag", "\"a\"")], false),
        ];
        for (stored, update, want) in cases {
            assert_eq!(is_about(&fields(stored), &fields(update)), want, "{stored:?} {update:?}");
        }
    }

    #[test]
    fn what_describes_the_body_is_not_updated() {
        let stored =
            fields(&[("etag", "\"a\""), ("content-length", "3"), ("x", "1"), ("y", "1"), ("age", "9")]);
        let update =
            fields(&[("content-length", "4"), ("x", "2"), ("connection", "z"), ("z", "1"), ("date", DAY)]);
        let fresh = freshened(&stored, &update, Moment::ZERO);
        let want =
            fields(&[("etag", "\"a\""), ("content-length", "3"), ("x", "2"), ("y", "1"), ("date", DAY)]);
        assert_eq!(fresh, want);
    }
}
