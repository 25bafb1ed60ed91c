//! Messages of HTTP/1; `|` is CR LF. `/own` is what the client means, `/smuggled` what nobody may see.

use super::Want::{self, AtMost, Nothing, These};

const OWN: &[(&str, &str)] = &[("POST /own", "")];
const ABC: &[(&str, &str)] = &[("POST /own", "abc")];
const GET: &[(&str, &str)] = &[("GET /own", "")];
const TWO: &[(&str, &str)] = &[("POST /own", "abc"), ("GET /next", "")];
const LOOKS: &[(&str, &str)] = &[("POST /own", "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")];

pub const CASES: &[(&str, &str, Want)] = &[
    // What is clean passes, so that the rest means something.
    ("a GET", "GET /own HTTP/1.1|Host: a||", These(GET)),
    (
        "a length, and one behind it",
        "POST /own HTTP/1.1|Host: a|Content-Length: 3||abcGET /next HTTP/1.1|Host: a||",
        These(TWO),
    ),
    (
        "chunks, and one behind them",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0||GET /next HTTP/1.1|Host: a||",
        These(TWO),
    ),
    (
        "chunks in two",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||1|a|2|bc|0||GET /next HTTP/1.1|Host: a||",
        These(TWO),
    ),
    (
        "a body that looks like a request",
        "POST /own HTTP/1.1|Host: a|Content-Length: 35||GET /smuggled HTTP/1.1|Host: a||",
        These(LOOKS),
    ),
    (
        "a chunk that looks like a request",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||23|GET /smuggled HTTP/1.1|Host: a|||0||",
        These(LOOKS),
    ),
    ("a length of nothing", "POST /own HTTP/1.1|Host: a|Content-Length: 0||", These(OWN)),
    (
        "the same length twice",
        "POST /own HTTP/1.1|Host: a|Content-Length: 3|Content-Length: 3||abc",
        AtMost(ABC),
    ),
    ("zeros before a length", "POST /own HTTP/1.1|Host: a|Content-Length: 003||abc", AtMost(ABC)),
    ("empty lines first", "||GET /own HTTP/1.1|Host: a||", AtMost(GET)),
    (
        "a chunk extension",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;a=b|abc|0||",
        AtMost(ABC),
    ),
    ("a trailer", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0|X: y||", AtMost(ABC)),
    (
        "sizes in capitals",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||A|0123456789|0||",
        These(&[("POST /own", "0123456789")]),
    ),
    (
        "zeros before a size",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||0003|abc|000||",
        AtMost(ABC),
    ),
    ("CHUNKED", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: CHUNKED||3|abc|0||", AtMost(ABC)),
    // Two lengths.
    (
        "CL.TE",
        "POST /own HTTP/1.1|Host: a|Content-Length: 41|Transfer-Encoding: chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "TE.CL",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked|Content-Length: 4||24|GET /smuggled HTTP/1.1|Host: a|||0||",
        Nothing,
    ),
    (
        "CL.CL",
        "POST /own HTTP/1.1|Host: a|Content-Length: 0|Content-Length: 36||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "CL.CL the other way",
        "POST /own HTTP/1.1|Host: a|Content-Length: 36|Content-Length: 0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a list of lengths",
        "POST /own HTTP/1.1|Host: a|Content-Length: 0, 36||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    ("a list of one length", "POST /own HTTP/1.1|Host: a|Content-Length: 3, 3||abc", AtMost(ABC)),
    (
        "a length with a sign",
        "POST /own HTTP/1.1|Host: a|Content-Length: +0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a negative length",
        "POST /own HTTP/1.1|Host: a|Content-Length: -1||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a length in hex",
        "POST /own HTTP/1.1|Host: a|Content-Length: 0x0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a length with a space in it",
        "POST /own HTTP/1.1|Host: a|Content-Length: 0 0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a length of nothing at all",
        "POST /own HTTP/1.1|Host: a|Content-Length:||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a length that wraps",
        "POST /own HTTP/1.1|Host: a|Content-Length: 18446744073709551616||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a length with a fraction",
        "POST /own HTTP/1.1|Host: a|Content-Length: 0.0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    ("a length with an underscore", "POST /own HTTP/1.1|Host: a|Content-Length: 1_0||0123456789", Nothing),
    ("a length in other digits", "POST /own HTTP/1.1|Host: a|Content-Length: \u{0663}||abc", Nothing),
    (
        "a GET with a body",
        "GET /own HTTP/1.1|Host: a|Content-Length: 3||abcGET /next HTTP/1.1|Host: a||",
        AtMost(&[("GET /own", "abc"), ("GET /next", "")]),
    ),
    // Codings.
    (
        "gzip under chunked",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "chunked under gzip",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked, gzip||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "chunked twice",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked, chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "chunked in two lines",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked|Transfer-Encoding: chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "identity",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: identity||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "identity and a length",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: identity|Content-Length: 3||abc",
        Nothing,
    ),
    (
        "xchunked",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: xchunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "chunked in quotes",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: \"chunked\"||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "chunked with a parameter",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked;a=b||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a comma before chunked",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: ,chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a vertical tab before chunked",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: \u{b}chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "no coding",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding:||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a space before the colon",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding : chunked|Content-Length: 3||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a tab before the colon",
        "POST /own HTTP/1.1|Host: a|Content-Length\t: 0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a space before the name",
        "POST /own HTTP/1.1|Host: a| Transfer-Encoding: chunked|Content-Length: 3||abc",
        Nothing,
    ),
    (
        "an underscore for a dash",
        "POST /own HTTP/1.1|Host: a|Content_Length: 36||GET /next HTTP/1.1|Host: a||",
        AtMost(&[("POST /own", ""), ("GET /next", "")]),
    ),
    (
        "a coding in HTTP/1.0",
        "POST /own HTTP/1.0|Host: a|Transfer-Encoding: chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a folded coding",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding:| chunked||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    ("a folded field", "POST /own HTTP/1.1|Host: a|X: y|\tTransfer-Encoding: chunked||", Nothing),
    ("a name with NUL", "POST /own HTTP/1.1|Host: a|Transfer-Encoding\0: chunked||0||", Nothing),
    (
        "a coding with NUL",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked\0||0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    // Chunks.
    ("a size with a sign", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||+3|abc|0||", Nothing),
    ("a size with 0x", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||0x3|abc|0||", Nothing),
    (
        "a size that wraps",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||10000000000000003|abc|0||",
        Nothing,
    ),
    ("no size", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked|||abc|0||", Nothing),
    (
        "a size with a space before it",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked|| 3|abc|0||",
        Nothing,
    ),
    (
        "a chunk that is longer than its size",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||2|abc|0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    (
        "a chunk that is shorter than its size",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||4|abc|0||GET /smuggled HTTP/1.1|Host: a||",
        Nothing,
    ),
    ("a size that ends in LF", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3\nabc|0||", Nothing),
    ("a chunk that ends in LF", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc\n0||", Nothing),
    (
        "a last chunk that ends in LF",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0\n|",
        Nothing,
    ),
    (
        "an extension with LF in it",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;a\nabc|0||",
        Nothing,
    ),
    (
        "an extension with CR in it",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3;a\rb|abc|0||",
        Nothing,
    ),
    (
        "a length in a trailer",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0|Content-Length: 36||GET /next HTTP/1.1|Host: a||",
        AtMost(TWO),
    ),
    (
        "a coding in a trailer",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0|Transfer-Encoding: chunked||GET /next HTTP/1.1|Host: a||",
        AtMost(TWO),
    ),
    (
        "a trailer that ends in LF",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0|X: y\n|",
        Nothing,
    ),
    (
        "a trailer that is folded",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|0|X: y| z||",
        Nothing,
    ),
    ("half a body", "POST /own HTTP/1.1|Host: a|Content-Length: 9||abc", Nothing),
    ("chunks that do not end", "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked||3|abc|", Nothing),
    // Lines.
    ("LF alone in the head", "GET /own HTTP/1.1\nHost: a\n\n", Nothing),
    ("LF alone in one line", "GET /own HTTP/1.1|Host: a\nX: y||", Nothing),
    ("LF alone at the end", "GET /own HTTP/1.1|Host: a|\nGET /smuggled HTTP/1.1|Host: a||", Nothing),
    ("CR alone in a value", "GET /own HTTP/1.1|Host: a|X: y\rZ: z||", Nothing),
    ("CR CR LF", "GET /own HTTP/1.1|Host: a\r||", Nothing),
    (
        "a value with a request in it",
        "GET /own HTTP/1.1|Host: a|X: y\r\n\r\nGET /next HTTP/1.1|Host: a||",
        These(&[("GET /own", ""), ("GET /next", "")]),
    ),
    ("NUL in a value", "GET /own HTTP/1.1|Host: a|X: y\0z||", Nothing),
    ("a field without a colon", "GET /own HTTP/1.1|Host: a|X||", Nothing),
    ("a field without a name", "GET /own HTTP/1.1|Host: a|: y||", Nothing),
    // Request lines.
    ("two spaces", "GET  /own HTTP/1.1|Host: a||", Nothing),
    ("a tab for a space", "GET\t/own HTTP/1.1|Host: a||", Nothing),
    ("a space in the target", "GET /own /smuggled HTTP/1.1|Host: a||", Nothing),
    ("a space behind the version", "GET /own HTTP/1.1 |Host: a||", Nothing),
    ("HTTP/0.9", "GET /own|", Nothing),
    ("HTTP/1.2", "GET /own HTTP/1.2|Host: a||", Nothing),
    ("HTTP/2.0", "GET /own HTTP/2.0|Host: a||", Nothing),
    ("http/1.1", "GET /own http/1.1|Host: a||", Nothing),
    ("a method with a colon", "GET: /own HTTP/1.1|Host: a||", Nothing),
    ("a fragment", "GET /own#x HTTP/1.1|Host: a||", Nothing),
    ("a target without a slash", "GET own HTTP/1.1|Host: a||", Nothing),
    ("another scheme", "GET ftp://a/own HTTP/1.1|Host: a||", Nothing),
    (
        "a target with LF escaped",
        "GET /own%0d%0aX:%20y HTTP/1.1|Host: a||",
        AtMost(&[("GET /own%0d%0aX:%20y", "")]),
    ),
    // Hosts.
    ("no host", "GET /own HTTP/1.1||", Nothing),
    ("two hosts", "GET /own HTTP/1.1|Host: a|Host: b||", Nothing),
    ("the same host twice", "GET /own HTTP/1.1|Host: a|Host: a||", Nothing),
    ("a host that differs from the target", "GET http://b/own HTTP/1.1|Host: a||", Nothing),
    ("a host that is the target's", "GET http://a/own HTTP/1.1|Host: a||", These(GET)),
    ("a host with a user", "GET /own HTTP/1.1|Host: x@a||", Nothing),
    ("a host with a path", "GET /own HTTP/1.1|Host: a/b||", Nothing),
    ("a host with a comma", "GET /own HTTP/1.1|Host: a, b||", Nothing),
    ("a host with a space", "GET /own HTTP/1.1|Host: a b||", Nothing),
    // Other hops.
    (
        "Connection names a field of ours",
        "GET /own HTTP/1.1|Host: a|Connection: close, X-Forwarded-For, Host||",
        AtMost(GET),
    ),
    (
        "Connection names the length",
        "POST /own HTTP/1.1|Host: a|Content-Length: 3|Connection: Content-Length||abc",
        AtMost(ABC),
    ),
    (
        "Connection names the coding",
        "POST /own HTTP/1.1|Host: a|Transfer-Encoding: chunked|Connection: Transfer-Encoding||3|abc|0||",
        AtMost(ABC),
    ),
    (
        "fields of one hop",
        "GET /own HTTP/1.1|Host: a|Proxy-Connection: keep-alive|Keep-Alive: 5|TE: gzip|Connection: X|X: y||",
        These(GET),
    ),
    (
        "HTTP2-Settings",
        "GET /own HTTP/1.1|Host: a|Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA||",
        AtMost(GET),
    ),
    // CONNECT and upgrades.
    ("CONNECT", "CONNECT a:80 HTTP/1.1|Host: a:80||GET /smuggled HTTP/1.1|Host: a||", Nothing),
    ("CONNECT with a path", "CONNECT /own HTTP/1.1|Host: a||GET /smuggled HTTP/1.1|Host: a||", Nothing),
    ("TRACE", "TRACE /own HTTP/1.1|Host: a||", Nothing),
    (
        "an upgrade that is not taken, and one behind it",
        "GET /own HTTP/1.1|Host: a|Connection: Upgrade|Upgrade: websocket||GET /next HTTP/1.1|Host: a||",
        AtMost(&[("GET /own", ""), ("GET /next", "")]),
    ),
    ("Upgrade without Connection", "GET /own HTTP/1.1|Host: a|Upgrade: websocket||", These(GET)),
    (
        "the preface of HTTP/2 behind a request",
        "GET /own HTTP/1.1|Host: a||PRI * HTTP/2.0||SM||",
        AtMost(GET),
    ),
    (
        "the head that stands for a refused one",
        "FOURSEVEN-REFUSED /own HTTP/1.1|Host: a||",
        AtMost(&[("FOURSEVEN-REFUSED /own", "")]),
    ),
    (
        "100-continue with a body behind it",
        "POST /own HTTP/1.1|Host: a|Expect: 100-continue|Content-Length: 3||abcGET /next HTTP/1.1|Host: a||",
        AtMost(TWO),
    ),
    ("another expectation", "POST /own HTTP/1.1|Host: a|Expect: 200-ok|Content-Length: 3||abc", AtMost(ABC)),
];
