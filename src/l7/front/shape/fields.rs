//! What is changed in the fields of messages, behind all that HTTP asks for: the last word is the configuration's, and it
//! cannot touch what frames a message or is about one connection.

use http::HeaderMap;

use crate::l7::spec::FieldChanges;

/// Takes away, sets and adds.
pub(in crate::l7::front) fn change(headers: &mut HeaderMap, changes: &FieldChanges) {
    for name in &changes.remove {
        headers.remove(name);
    }
    for (name, value) in &changes.set {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in &changes.add {
        headers.append(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn fields_are_taken_away_then_set_then_added() {
        let line = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let mut headers: HeaderMap =
            [line("x-a", "1"), line("x-a", "2"), line("x-b", "1"), line("x-c", "1")].into_iter().collect();
        let changes = FieldChanges {
            remove: vec![HeaderName::from_static("x-b"), HeaderName::from_static("x-none")],
            set: vec![line("x-a", "3"), line("x-b", "4")],
            add: vec![line("x-c", "5"), line("x-d", "6")],
        };
        change(&mut headers, &changes);
        let all = |name| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("x-a"), ["3"]);
        assert_eq!(all("x-b"), ["4"]);
        assert_eq!(all("x-c"), ["1", "5"]);
        assert_eq!(all("x-d"), ["6"]);
    }
}
