//! Messages of HTTP/2 that become requests of HTTP/1.1 behind here. `/own` is what the client means, `/smuggled` what nobody
//! may see.

use super::Want::{self, AtMost, Nothing, These};

/// A request on a stream of its own: its fields as they are, what follows as DATA, and trailers.
pub struct Message {
    pub fields: &'static [(&'static str, &'static str)],
    pub data: &'static [&'static str],
    pub trailers: &'static [(&'static str, &'static str)],
}

const fn of(fields: &'static [(&'static str, &'static str)]) -> Message {
    Message { fields, data: &[], trailers: &[] }
}

const fn with(fields: &'static [(&'static str, &'static str)], data: &'static [&'static str]) -> Message {
    Message { fields, data, trailers: &[] }
}

impl Message {
    /// A connection with this request alone.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, 0, &[]));
        let end = |last: bool| u8::from(last);
        let (no_data, no_trailers) = (self.data.is_empty(), self.trailers.is_empty());
        bytes.extend(frame(1, 4 | end(no_data && no_trailers), 1, &block(self.fields)));
        for (place, data) in self.data.iter().enumerate() {
            let last = place + 1 == self.data.len() && no_trailers;
            bytes.extend(frame(0, end(last), 1, data.as_bytes()));
        }
        if !no_trailers {
            bytes.extend(frame(1, 5, 1, &block(self.trailers)));
        }
        bytes
    }
}

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(content);
    bytes
}

/// Literal fields without indexing and without Huffman's code (RFC 7541 §6.2.2): their bytes as they are.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

const GET: &[(&str, &str)] = &[("GET /own", "")];
const ABC: &[(&str, &str)] = &[("POST /own", "abc")];

macro_rules! get {
    ($($field:expr),*) => {
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/own"), $($field),*])
    };
}

macro_rules! post {
    ($data:expr $(, $field:expr)*) => {
        with(&[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own"), $($field),*], $data)
    };
}

pub const CASES: &[(&str, Message, Want)] = &[
    ("a GET", get!(), These(GET)),
    ("a body", post!(&["abc"]), These(ABC)),
    ("a body in pieces", post!(&["a", "", "bc"]), These(ABC)),
    ("a body with its length", post!(&["abc"], ("content-length", "3")), These(ABC)),
    (
        "a body that looks like a request",
        post!(&["0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"]),
        These(&[("POST /own", "0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")]),
    ),
    // Lengths.
    (
        "a length that is too short",
        post!(&["abcGET /smuggled HTTP/1.1\r\n\r\n"], ("content-length", "3")),
        Nothing,
    ),
    ("a length that is too long", post!(&["abc"], ("content-length", "30")), Nothing),
    (
        "a length of nothing, and a body",
        post!(&["GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"], ("content-length", "0")),
        AtMost(&[("POST /own", "")]),
    ),
    ("two lengths", post!(&["abc"], ("content-length", "3"), ("content-length", "4")), Nothing),
    ("a length with a sign", post!(&["abc"], ("content-length", "+3")), Nothing),
    ("a length that is none", post!(&["abc"], ("content-length", "abc")), Nothing),
    ("a list of lengths", post!(&["abc"], ("content-length", "3, 3")), AtMost(ABC)),
    ("a GET with a length and no body", get!(("content-length", "36")), Nothing),
    // Fields of HTTP/1.
    (
        "a coding",
        post!(&["0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"], ("transfer-encoding", "chunked")),
        Nothing,
    ),
    ("a connection field", get!(("connection", "x")), Nothing),
    ("proxy-connection", get!(("proxy-connection", "close")), Nothing),
    ("keep-alive", get!(("keep-alive", "5")), Nothing),
    ("upgrade", get!(("upgrade", "websocket")), Nothing),
    ("te other than trailers", get!(("te", "gzip")), Nothing),
    ("te: trailers", get!(("te", "trailers")), These(GET)),
    // Bytes that end a line of HTTP/1.
    ("CR LF in a value", get!(("x", "y\r\nhost: b")), Nothing),
    (
        "CR LF in a value, and a request",
        get!(("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")),
        Nothing,
    ),
    ("LF in a value", get!(("x", "y\nz")), Nothing),
    ("CR in a value", get!(("x", "y\rz")), Nothing),
    ("NUL in a value", get!(("x", "y\0z")), Nothing),
    ("a space before a value", get!(("x", " y")), Nothing),
    ("a tab behind a value", get!(("x", "y\t")), Nothing),
    ("CR LF in a name", get!(("x: y\r\nz", "1")), Nothing),
    ("a colon in a name", get!(("x:y", "1")), Nothing),
    ("a space in a name", get!(("transfer-encoding ", "chunked")), Nothing),
    ("capitals in a name", get!(("X", "y")), Nothing),
    ("no name", get!(("", "y")), Nothing),
    // Pseudo-fields.
    (
        "CR LF in the path",
        of(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own HTTP/1.1\r\nhost: b\r\n\r\n"),
        ]),
        Nothing,
    ),
    (
        "a space in the path",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/own HTTP/1.1")]),
        Nothing,
    ),
    (
        "a path without a slash",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "own")]),
        Nothing,
    ),
    (
        "an empty path",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "")]),
        Nothing,
    ),
    (
        "a path with a fragment",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/own#x")]),
        AtMost(GET),
    ),
    (
        "a path that is a URL",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "http://b/own")]),
        Nothing,
    ),
    (
        "two paths",
        of(&[
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own"),
            (":path", "/smuggled"),
        ]),
        Nothing,
    ),
    ("no path", of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a")]), Nothing),
    (
        "CR LF in the method",
        of(&[
            (":method", "GET /smuggled HTTP/1.1\r\nx: y"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own"),
        ]),
        Nothing,
    ),
    (
        "a space in the method",
        of(&[(":method", "GET /smuggled"), (":scheme", "http"), (":authority", "a"), (":path", "/own")]),
        Nothing,
    ),
    (
        "an empty method",
        of(&[(":method", ""), (":scheme", "http"), (":authority", "a"), (":path", "/own")]),
        Nothing,
    ),
    (
        "two methods",
        of(&[
            (":method", "GET"),
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own"),
        ]),
        Nothing,
    ),
    ("no method", of(&[(":scheme", "http"), (":authority", "a"), (":path", "/own")]), Nothing),
    ("no scheme", of(&[(":method", "GET"), (":authority", "a"), (":path", "/own")]), AtMost(GET)),
    (
        "a scheme with a request in it",
        of(&[
            (":method", "GET"),
            (":scheme", "http://b/smuggled HTTP/1.1\r\n"),
            (":authority", "a"),
            (":path", "/own"),
        ]),
        Nothing,
    ),
    (
        "CR LF in the authority",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a\r\nx: y"), (":path", "/own")]),
        Nothing,
    ),
    (
        "a user in the authority",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "x@a"), (":path", "/own")]),
        Nothing,
    ),
    (
        "a path in the authority",
        of(&[(":method", "GET"), (":scheme", "http"), (":authority", "a/smuggled"), (":path", "/own")]),
        Nothing,
    ),
    ("a host that differs from the authority", get!(("host", "b")), Nothing),
    ("a host that is the authority's", get!(("host", "a")), These(GET)),
    (
        "two hosts",
        of(&[(":method", "GET"), (":scheme", "http"), (":path", "/own"), ("host", "a"), ("host", "b")]),
        Nothing,
    ),
    ("no authority and no host", of(&[(":method", "GET"), (":scheme", "http"), (":path", "/own")]), Nothing),
    (
        "a pseudo-field behind the others",
        of(&[(":method", "GET"), (":scheme", "http"), ("x", "y"), (":authority", "a"), (":path", "/own")]),
        Nothing,
    ),
    ("an unknown pseudo-field", get!((":own", "y")), Nothing),
    ("a pseudo-field of answers", get!((":status", "200")), Nothing),
    // Trailers.
    (
        "a trailer",
        Message {
            fields: &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own")],
            data: &["abc"],
            trailers: &[("x", "y")],
        },
        AtMost(ABC),
    ),
    (
        "a length in a trailer",
        Message {
            fields: &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own")],
            data: &["abc"],
            trailers: &[("content-length", "36")],
        },
        AtMost(ABC),
    ),
    (
        "a coding in a trailer",
        Message {
            fields: &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own")],
            data: &["abc"],
            trailers: &[("transfer-encoding", "chunked")],
        },
        AtMost(ABC),
    ),
    // h2 leaves it out.
    (
        "a pseudo-field in a trailer",
        Message {
            fields: &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own")],
            data: &["abc"],
            trailers: &[(":path", "/smuggled")],
        },
        AtMost(ABC),
    ),
    (
        "CR LF in a trailer",
        Message {
            fields: &[(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/own")],
            data: &["abc"],
            trailers: &[("x", "y\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n")],
        },
        Nothing,
    ),
    // CONNECT.
    ("CONNECT", of(&[(":method", "CONNECT"), (":authority", "a:80")]), Nothing),
    (
        "CONNECT with a path",
        of(&[(":method", "CONNECT"), (":scheme", "http"), (":authority", "a"), (":path", "/own")]),
        Nothing,
    ),
    (
        "an extended CONNECT that is not taken",
        of(&[
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own"),
        ]),
        AtMost(GET),
    ),
    (
        "an extended CONNECT with CR LF",
        of(&[
            (":method", "CONNECT"),
            (":protocol", "x\r\nhost: b"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/own"),
        ]),
        Nothing,
    ),
    (":protocol without CONNECT", get!((":protocol", "websocket")), Nothing),
    ("cookies in pieces", get!(("cookie", "a=b"), ("cookie", "c=d")), These(GET)),
    (
        "TRACE",
        of(&[(":method", "TRACE"), (":scheme", "http"), (":authority", "a"), (":path", "/own")]),
        Nothing,
    ),
];
