//! Raw heads: what is refused, by which word, and that a backend sees nothing of it.

use super::*;

/// A head that is fine up to where it is not; `|` is CR LF.
fn raw(text: &str) -> Vec<u8> {
    text.replace('|', "\r\n").into_bytes()
}

/// What is said to a client with its status, and by which word.
const REFUSED: &[(&str, &str, u16, Refusal)] = &[
    // Lengths.
    (
        "length, then coding",
        "POST / HTTP/1.1|Host: a|Content-Length: 3|Transfer-Encoding: chunked||0||",
        400,
        Refusal::BothLengths,
    ),
    (
        "coding, then length",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 3||0||",
        400,
        Refusal::BothLengths,
    ),
    (
        "both in odd case",
        "POST / HTTP/1.1|Host: a|tRANSFER-eNCODING: CHUNKED|cONTENT-lENGTH: 0||0||",
        400,
        Refusal::BothLengths,
    ),
    (
        "two lengths",
        "POST / HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 4||abc",
        400,
        Refusal::DifferingLengths,
    ),
    (
        "lengths 0 and 3",
        "POST / HTTP/1.1|Host: a|Content-Length: 0|Content-Length: 3||abc",
        400,
        Refusal::DifferingLengths,
    ),
    ("list of lengths", "POST / HTTP/1.1|Host: a|Content-Length: 3, 3||abc", 400, Refusal::BadContentLength),
    ("plus", "POST / HTTP/1.1|Host: a|Content-Length: +3||abc", 400, Refusal::BadContentLength),
    ("minus", "POST / HTTP/1.1|Host: a|Content-Length: -3||abc", 400, Refusal::BadContentLength),
    ("empty length", "POST / HTTP/1.1|Host: a|Content-Length:||abc", 400, Refusal::BadContentLength),
    ("hex length", "POST / HTTP/1.1|Host: a|Content-Length: 0x3||abc", 400, Refusal::BadContentLength),
    ("inner space", "POST / HTTP/1.1|Host: a|Content-Length: 3 3||abc", 400, Refusal::BadContentLength),
    (
        "too long a length",
        "POST / HTTP/1.1|Host: a|Content-Length: 99999999999999999999||abc",
        400,
        Refusal::BadContentLength,
    ),
    (
        "length near the edge",
        "POST / HTTP/1.1|Host: a|Content-Length: 18446744073709551615||abc",
        400,
        Refusal::BadContentLength,
    ),
    ("fraction", "POST / HTTP/1.1|Host: a|Content-Length: 3.0||abc", 400, Refusal::BadContentLength),
    ("quoted length", "POST / HTTP/1.1|Host: a|Content-Length: \"3\"||abc", 400, Refusal::BadContentLength),
    // Codings.
    (
        "gzip under chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||",
        501,
        Refusal::UnknownCoding,
    ),
    (
        "unknown under chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: x, chunked||0||",
        501,
        Refusal::UnknownCoding,
    ),
    (
        "identity under chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: identity, chunked||0||",
        501,
        Refusal::UnknownCoding,
    ),
    (
        "chunked under gzip",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, gzip||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    ("gzip alone", "POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip||0||", 400, Refusal::BadTransferEncoding),
    (
        "identity",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: identity||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "chunked twice",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "chunked in two lines",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "identity in a second line",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: identity||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "xchunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "chunked with a parameter",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked;a=b||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "quoted chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    ("no coding", "POST / HTTP/1.1|Host: a|Transfer-Encoding:||0||", 400, Refusal::BadTransferEncoding),
    (
        "empty coding",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: , chunked||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "comma behind chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked,||0||",
        400,
        Refusal::BadTransferEncoding,
    ),
    (
        "VT before chunked",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding: \x0bchunked||0||",
        400,
        Refusal::BadFieldValue,
    ),
    (
        "coding in 1.0",
        "POST / HTTP/1.0|Host: a|Transfer-Encoding: chunked||0||",
        400,
        Refusal::CodingInHttp10,
    ),
    (
        "bad coding in 1.0",
        "POST / HTTP/1.0|Host: a|Transfer-Encoding: gzip||0||",
        400,
        Refusal::CodingInHttp10,
    ),
    // Hosts.
    ("no host", "GET / HTTP/1.1||", 400, Refusal::NoHost),
    ("no host, absolute", "GET http://a/ HTTP/1.1||", 400, Refusal::NoHost),
    ("two hosts", "GET / HTTP/1.1|Host: a|Host: b||", 400, Refusal::DoubledHost),
    ("the same host twice", "GET / HTTP/1.1|Host: a|Host: a||", 400, Refusal::DoubledHost),
    ("two hosts in 1.0", "GET / HTTP/1.0|Host: a|Host: b||", 400, Refusal::DoubledHost),
    ("another host than the target's", "GET http://a/ HTTP/1.1|Host: b||", 400, Refusal::DifferingHosts),
    ("another port", "GET http://a/ HTTP/1.1|Host: a:81||", 400, Refusal::DifferingHosts),
    ("empty host beside a target's", "GET http://a/ HTTP/1.1|Host:||", 400, Refusal::DifferingHosts),
    ("user in the host", "GET / HTTP/1.1|Host: u@a||", 400, Refusal::BadHost),
    ("user in the target", "GET http://u@a/ HTTP/1.1|Host: u@a||", 400, Refusal::BadHost),
    ("path in the host", "GET / HTTP/1.1|Host: a/b||", 400, Refusal::BadHost),
    ("list of hosts", "GET / HTTP/1.1|Host: a, b||", 400, Refusal::BadHost),
    ("space in the host", "GET / HTTP/1.1|Host: a b||", 400, Refusal::BadHost),
    ("bytes above 0x7f in the host", "GET / HTTP/1.1|Host: \u{e9}||", 400, Refusal::BadHost),
    ("port that is none", "GET / HTTP/1.1|Host: a:b||", 400, Refusal::BadHost),
    ("port too large", "GET / HTTP/1.1|Host: a:65536||", 400, Refusal::BadHost),
    ("bracket that stays open", "GET / HTTP/1.1|Host: [::1||", 400, Refusal::BadHost),
    // Lines.
    ("LF behind the request line", "GET / HTTP/1.1\nHost: a||", 400, Refusal::BareLf),
    ("LF behind a field", "GET / HTTP/1.1|Host: a\nX: b||", 400, Refusal::BareLf),
    ("LF as the empty line", "GET / HTTP/1.1|Host: a|\n", 400, Refusal::BareLf),
    ("LF before the request", "\nGET / HTTP/1.1|Host: a||", 400, Refusal::BareLf),
    ("CR in a value", "GET / HTTP/1.1|Host: a|X: b\rc||", 400, Refusal::BareCr),
    ("CR CR LF", "GET / HTTP/1.1|Host: a\r|X: b||", 400, Refusal::BareCr),
    ("CR in the request line", "GET /\r HTTP/1.1|Host: a||", 400, Refusal::BareCr),
    ("fold", "GET / HTTP/1.1|Host: a|X: b| c||", 400, Refusal::ObsFold),
    ("fold by a tab", "GET / HTTP/1.1|Host: a|X: b|\tc||", 400, Refusal::ObsFold),
    ("fold before the first field", "GET / HTTP/1.1| Host: a||", 400, Refusal::ObsFold),
    ("folded length", "POST / HTTP/1.1|Host: a|Content-Length:| 3||abc", 400, Refusal::BadContentLength),
    ("space before the colon", "GET / HTTP/1.1|Host: a|X : b||", 400, Refusal::SpaceBeforeColon),
    (
        "space behind a length's name",
        "POST / HTTP/1.1|Host: a|Content-Length : 3||abc",
        400,
        Refusal::SpaceBeforeColon,
    ),
    (
        "tab behind a coding's name",
        "POST / HTTP/1.1|Host: a|Transfer-Encoding\t: chunked||0||",
        400,
        Refusal::SpaceBeforeColon,
    ),
    ("no name", "GET / HTTP/1.1|Host: a|: b||", 400, Refusal::BadFieldName),
    ("no colon", "GET / HTTP/1.1|Host: a|X||", 400, Refusal::BadFieldName),
    ("space in a name", "GET / HTTP/1.1|Host: a|X Y: b||", 400, Refusal::BadFieldName),
    ("bytes above 0x7f in a name", "GET / HTTP/1.1|Host: a|\u{e9}: b||", 400, Refusal::BadFieldName),
    ("bracket in a name", "GET / HTTP/1.1|Host: a|X[0]: b||", 400, Refusal::BadFieldName),
    ("NUL in a name", "GET / HTTP/1.1|Host: a|X\0: b||", 400, Refusal::BadFieldName),
    ("NUL in a value", "GET / HTTP/1.1|Host: a|X: b\0c||", 400, Refusal::BadFieldValue),
    ("ESC in a value", "GET / HTTP/1.1|Host: a|X: \x1b||", 400, Refusal::BadFieldValue),
    ("DEL in a value", "GET / HTTP/1.1|Host: a|X: \x7f||", 400, Refusal::BadFieldValue),
    // Request lines.
    ("two spaces", "GET  / HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("two spaces before the version", "GET /  HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("space at the start", " GET / HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("space at the end", "GET / HTTP/1.1 |Host: a||", 400, Refusal::BadRequestLine),
    ("tab", "GET\t/ HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("space in the target", "GET /a b HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("HTTP/0.9", "GET /|", 400, Refusal::BadRequestLine),
    ("bad method", "G@T / HTTP/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("version in lower case", "GET / http/1.1|Host: a||", 400, Refusal::BadRequestLine),
    ("version with a tail", "GET / HTTP/1.1x|Host: a||", 400, Refusal::BadRequestLine),
    ("version 1.2", "GET / HTTP/1.2|Host: a||", 505, Refusal::BadVersion),
    ("version 2.0", "GET / HTTP/2.0|Host: a||", 505, Refusal::BadVersion),
    ("version 0.9", "GET / HTTP/0.9|Host: a||", 505, Refusal::BadVersion),
    ("TLS", "\x16\x03\x01\x02\0\x01", 400, Refusal::BadRequestLine),
    // Targets.
    ("bytes above 0x7f", "GET /\u{e9} HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("NUL", "GET /\0 HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("fragment", "GET /#a HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("no slash", "GET a HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("authority form", "GET a:80 HTTP/1.1|Host: a:80||", 400, Refusal::BadTarget),
    ("asterisk form", "GET * HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("another scheme", "GET ftp://a/ HTTP/1.1|Host: a||", 400, Refusal::BadTarget),
    ("above the root", "GET /../a HTTP/1.1|Host: a||", 400, Refusal::PathAboveRoot),
    ("above the root, encoded", "GET /a/%2e%2e/.%2E/b HTTP/1.1|Host: a||", 400, Refusal::PathAboveRoot),
    ("CONNECT", "CONNECT a:443 HTTP/1.1|Host: a:443||", 501, Refusal::BadMethod),
    ("TRACE", "TRACE / HTTP/1.1|Host: a||", 501, Refusal::BadMethod),
];

#[test]
fn what_can_be_read_in_two_ways_is_refused_before_anything_is_forwarded() {
    assert!(REFUSED.len() >= 60);
    for (name, text, status, refusal) in REFUSED {
        let bytes = raw(text);
        for step in [bytes.len(), 1, 7] {
            run(async {
                let mut bench = Bench::clear(Does::Echo);
                for part in bytes.chunks(step) {
                    // A refusal need not wait for the rest.
                    if bench.client.write_all(part).await.is_err() {
                        break;
                    }
                    tokio::task::yield_now().await;
                }
                let answer = bench.rest().await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
                assert!(answer.contains(&format!(": {refusal}\n")), "{name}: {answer}");
                assert!(answer.contains("\r\nconnection: close\r\n"), "{name}: {answer}");
                assert!(
                    answer.contains(&format!(
                        "\r\nproxy-status: fourseven; error=http_request_error; details=\"{refusal}\""
                    )),
                    "{name}: {answer}"
                );
                assert_eq!(bench.refused(), [*refusal], "{name}");
                assert_eq!(bench.backend.heads(), [""; 0], "{name}");
            });
        }
    }
}

#[test]
fn what_can_be_read_in_one_way_only_passes() {
    let cases: &[(&str, &str, &str)] = &[
        ("plain", "GET /a?b=c HTTP/1.1|Host: a||", "GET /a?b=c"),
        ("empty line before", "|GET / HTTP/1.1|Host: a||", "GET /"),
        ("1.0 without a host", "GET / HTTP/1.0||", "GET /"),
        ("empty host", "GET / HTTP/1.1|Host:||", "GET /"),
        ("absolute form", "GET http://A:80/x HTTP/1.1|Host: a||", "GET /x"),
        ("asterisk form", "OPTIONS * HTTP/1.1|Host: a||", "OPTIONS *"),
        (
            "the same length twice",
            "POST / HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 3||abc",
            "POST /",
        ),
        ("value above 0x7f", "GET / HTTP/1.1|Host: a|X: \u{e9}||", "GET /"),
        ("no space behind the colon", "GET / HTTP/1.1|Host:a||", "GET /"),
        ("IPv6 host", "GET / HTTP/1.1|Host: [2001:db8::1]:80||", "GET /"),
        ("not normal", "GET /a/../b/%7Ec HTTP/1.1|Host: a||", "GET /a/../b/%7Ec"),
        ("method of its own", "BREW /pot HTTP/1.1|Host: a||", "BREW /pot"),
        ("chunked in odd case", "POST / HTTP/1.1|Host: a|Transfer-Encoding:\t Chunked ||3|abc|0||", "POST /"),
        ("the method for refusals", "FOURSEVEN-REFUSED / HTTP/1.1|Host: a||", "FOURSEVEN-REFUSED /"),
    ];
    for (name, text, head) in cases {
        run(async {
            let mut bench = Bench::clear(Does::Echo);
            let answer = bench.exchange(&raw(text)).await;
            assert!(
                answer.starts_with("HTTP/1.1 200 ") || answer.starts_with("HTTP/1.0 200 "),
                "{name}: {answer}"
            );
            assert_eq!(bench.backend.heads(), [*head], "{name}");
            assert_eq!(bench.refused(), [], "{name}");
        });
    }
}

#[test]
fn a_bad_request_behind_good_ones_is_refused_in_its_turn() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let three = "GET /1 HTTP/1.1|Host: a||POST /2 HTTP/1.1|Host: a|Content-Length: 3||abc\
                     GET /3 HTTP/1.1|Host: a|Host: b||GET /4 HTTP/1.1|Host: a||";
        let answer = bench.exchange(&raw(three)).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 400 ").count(), 1, "{answer}");
        assert_eq!(bench.backend.heads(), ["GET /1", "POST /2"]);
    });
}

#[test]
fn a_chunked_body_that_is_framed_wrongly_ends_the_exchange() {
    for body in ["3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "x\r\n", "3\r\nabc\r\n0\r\nHost: b\r\n\r\n"]
    {
        run(async {
            let mut bench = Bench::clear(Does::Echo);
            let bytes = [raw("POST / HTTP/1.1|Host: a|Transfer-Encoding: chunked||"), body.into()].concat();
            let answer = bench.exchange(&bytes).await;
            assert!(!answer.contains(" 200 "), "{body:?}: {answer}");
            assert!(bench.backend.seen.borrow().iter().all(|seen| seen.body.is_err()), "{body:?}");
        });
    }
}

#[test]
fn too_much_is_too_much() {
    let long = "a".repeat(40_000);
    let cases = [
        (format!("GET /{} HTTP/1.1|Host: a||", &long[..17_000]), 414, Refusal::TargetTooLong),
        (format!("GET / HTTP/1.1|Host: a|X: {long}||"), 431, Refusal::HeadTooLarge),
        (format!("GET / HTTP/1.1|Host: a|{}|", "X: a|".repeat(100)), 431, Refusal::HeadTooLarge),
    ];
    for (text, status, refusal) in cases {
        run(async {
            let mut bench = Bench::clear(Does::Echo);
            bench.client.write_all(&raw(&text)).await.unwrap();
            let answer = bench.rest().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert_eq!(bench.refused(), [refusal]);
        });
    }
}
