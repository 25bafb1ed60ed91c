//! Framing attacks: messages that two readers could take for different ones, through the whole of layer 7, to a strict origin.
//!
//! A client's bytes go to the front over a stream in memory, and what is forwarded goes to an origin that writes down each
//! byte and reads it by rules of its own (`origin`): nothing but requests in the one form that leaves no doubt. Each row says
//! which requests are the client's own. The origin must see those and no others, with their own bodies; that is what a
//! smuggled request would break. The clock is paused, so that what waits for more comes to its end at once.

#[path = "framing/chain.rs"]
mod chain;
#[path = "framing/http1.rs"]
mod http1;
#[path = "framing/http2.rs"]
mod http2;
#[path = "framing/origin.rs"]
mod origin;

use std::collections::HashSet;

use chain::Chain;
use origin::Seen;

/// What the origin must have seen.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// Nothing: it is not certain what is meant.
    Nothing,
    /// These requests, each as `METHOD target` and its body.
    These(&'static [(&'static str, &'static str)]),
    /// These, or only the first so many of them: what is behind a refusal may be lost.
    AtMost(&'static [(&'static str, &'static str)]),
}

/// What is wrong with what the origin saw, if anything.
fn wrong(name: &str, want: Want, seen: &[Seen], told: &str) -> Option<String> {
    let got: Vec<(&str, &str)> = seen.iter().map(|seen| (&*seen.line, &*seen.body)).collect();
    let fine = match want {
        Want::Nothing => got.is_empty(),
        Want::These(rows) => got == rows,
        Want::AtMost(rows) => rows.starts_with(&got),
    };
    (!fine).then(|| format!("{name}: {got:?}, and not {want:?}: {told:?}\n"))
}

#[test]
fn no_message_of_http_1_becomes_another_than_the_client_s_own() {
    let (mut names, mut all) = (HashSet::new(), Vec::new());
    for (name, bytes, want) in http1::CASES {
        assert!(names.insert(name), "{name} is there twice");
        let bytes = bytes.replace('|', "\r\n").into_bytes();
        // Whole, and byte by byte: the same.
        for piece in [usize::MAX, 1] {
            let (seen, told) = Chain::cleartext(&bytes, piece);
            all.extend(wrong(&format!("{name}, by {piece}"), *want, &seen, &told));
        }
    }
    assert!(all.is_empty(), "{}", all.concat());
    assert!(names.len() >= 100, "{}", names.len());
}

#[test]
fn no_message_of_http_2_becomes_another_than_the_client_s_own() {
    let (mut names, mut all) = (HashSet::new(), Vec::new());
    for (name, message, want) in http2::CASES {
        assert!(names.insert(name), "{name} is there twice");
        let (seen, told) = Chain::http2(&message.bytes());
        all.extend(wrong(name, *want, &seen, &told));
    }
    assert!(all.is_empty(), "{}", all.concat());
    assert!(names.len() >= 60, "{}", names.len());
}

#[test]
fn the_origin_knows_a_smuggled_request_when_it_sees_one() {
    let clean =
        "GET /a HTTP/1.1\r\nhost: a\r\n\r\nPOST /b HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    let lines: Vec<_> = origin::read(clean.as_bytes()).unwrap().into_iter().map(|seen| seen.line).collect();
    assert_eq!(lines, ["GET /a", "POST /b"]);
    for (name, bytes) in [
        (
            "both lengths",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("bare LF", "GET / HTTP/1.1\nhost: a\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("odd coding", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ("a rest", "GET / HTTP/1.1\r\nhost: a\r\n\r\nGET"),
        ("obs-fold", "GET / HTTP/1.1\r\nhost: a\r\na: b\r\n c\r\n\r\n"),
        ("space before colon", "GET / HTTP/1.1\r\nhost: a\r\na : b\r\n\r\n"),
        ("NUL", "GET / HTTP/1.1\r\nhost: a\r\na: \0\r\n\r\n"),
        ("hop by hop", "GET / HTTP/1.1\r\nhost: a\r\nproxy-connection: close\r\n\r\n"),
        (
            "chunk without CR",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
        ),
        (
            "chunk extension",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;a=b\r\na\r\n0\r\n\r\n",
        ),
    ] {
        assert!(origin::read(bytes.as_bytes()).is_err(), "{name}");
    }
}
