//! The load generator against servers whose behaviour is known: right ones, slow ones, wrong ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};

use super::*;
use crate::lab::serve::{Serve, Serving};

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

struct Backend {
    _serving: Serving,
    http: SocketAddr,
    h2c: SocketAddr,
    https: SocketAddr,
    echo: SocketAddr,
}

fn backend() -> Backend {
    let (http, h2c, https, echo) = (free(), free(), free(), free());
    let what = Serve {
        name: "t".into(),
        http: vec![http],
        h2c: vec![h2c],
        https: vec![https],
        tcp_echo: vec![echo],
        ..Serve::default()
    };
    Backend { _serving: Serving::start(what).unwrap(), http, h2c, https, echo }
}

fn to(target: &str) -> Load {
    Load {
        connections: NonZeroUsize::new(3).unwrap(),
        duration: Duration::from_millis(300),
        ..Load::to(target.parse().unwrap())
    }
}

#[test]
fn every_kind_completes_exchanges_without_errors() {
    let Backend { http, h2c, https, echo, .. } = &backend();
    let over_http2 =
        |load: Load| Load { version: Version::Http2, streams: NonZeroUsize::new(4).unwrap(), ..load };
    let kind = |kind, load: Load| Load { kind, ..load };
    for (name, load) in [
        ("kept", to(&format!("http://{http}/x"))),
        ("kept, a known body", to(&format!("http://{http}/bytes/1000"))),
        ("trailers behind chunks", to(&format!("http://{http}/trailers"))),
        ("new", kind(Kind::HttpNew, to(&format!("http://{http}/")))),
        ("at a rate", Load { rate: Some(200.0), ..to(&format!("http://{http}/")) }),
        ("by two threads", Load { threads: NonZeroUsize::new(2), ..to(&format!("http://{http}/")) }),
        ("HTTP/2 without TLS", over_http2(to(&format!("http://{h2c}/bytes/1000")))),
        ("TLS", to(&format!("https://{https}/bytes/100000"))),
        ("TLS, new", kind(Kind::HttpNew, to(&format!("https://{https}/")))),
        ("HTTP/2", over_http2(to(&format!("https://{https}/bytes/1000")))),
        ("bulk", kind(Kind::Bulk, to(&format!("https://{https}/bytes/1000000")))),
        ("bulk over HTTP/2", over_http2(kind(Kind::Bulk, to(&format!("https://{https}/bytes/100000"))))),
        ("handshakes", kind(Kind::Handshake, to(&format!("https://{https}/")))),
        ("sessions taken up", kind(Kind::HandshakeResumed, to(&format!("https://{https}/")))),
        ("ping-pong", to(&format!("tcp/{echo}"))),
    ] {
        let outcome = load.run().unwrap();
        assert!(outcome.done > 3 && outcome.errors == 0 && outcome.wrong == 0, "{name}: {outcome}");
        assert!(outcome.p50_us > 0.0 && outcome.p50_us <= outcome.p999_us, "{name}: {outcome}");
    }
}

#[test]
fn idle_connections_are_opened_and_still_there_at_the_end() {
    let backend = backend();
    let load = Load {
        kind: Kind::Idle,
        connections: NonZeroUsize::new(100).unwrap(),
        ..to(&format!("https://{}/", backend.https))
    };
    let outcome = load.run().unwrap();
    assert_eq!((outcome.done, outcome.errors, outcome.wrong), (100, 0, 0), "{outcome}");
}

#[test]
fn times_are_those_that_the_server_takes() {
    let backend = backend();
    let outcome = to(&format!("http://{}/slow/20", backend.http)).run().unwrap();
    assert!(outcome.done > 0 && outcome.p50_us >= 20_000.0 && outcome.p50_us < 60_000.0, "{outcome}");
}

/// One connection, 20 ms an answer: 50 a second. Of 100 that are due each second, half are answered in time; the
/// others wait, and longer all the time.
#[test]
fn at_a_rate_that_is_too_high_waiting_counts() {
    let backend = backend();
    let load = Load {
        connections: NonZeroUsize::MIN,
        rate: Some(100.0),
        duration: Duration::from_secs(1),
        ..to(&format!("http://{}/slow/20", backend.http))
    };
    let outcome = load.run().unwrap();
    assert_eq!((outcome.done, outcome.errors), (100, 0), "{outcome}");
    assert!(outcome.p50_us > 400_000.0 && outcome.p99_us > 900_000.0, "{outcome}");
}

#[test]
fn at_a_rate_that_is_low_the_generator_adds_little() {
    let backend = backend();
    let load = Load { rate: Some(100.0), ..to(&format!("http://{}/", backend.http)) };
    let outcome = load.run().unwrap();
    assert!((28..=30).contains(&outcome.done) && outcome.errors == 0, "{outcome}");
    // Even where others have the processors: what it must not do is add up.
    assert!(outcome.p50_us < 100_000.0, "{outcome}");
}

/// A server that gives everybody these bytes, and closes if it is told to.
fn says(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().take(100_000).map_while(Result::ok) {
            thread::spawn(move || {
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {
                    let _ = stream.write_all(answer);
                    if answer.starts_with(b"HTTP/1.0") {
                        break;
                    }
                }
            });
        }
    });
    at
}

#[test]
fn wrong_answers_are_counted_by_themselves() {
    for (name, answer, why) in [
        ("status", &b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 3\r\n\r\nabc"[..], "status 502"),
        ("short", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n\x00\x9e", "a body of 2 bytes, not 3"),
        ("long", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n\x00\x9e\x3c\xda", "more than 3"),
        ("other bytes", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "wrong bytes"),
        (
            "more behind",
            b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\x00\x9e\x3cHTTP/1.1",
            "behind the answer",
        ),
        ("no head", b"SSH-2.0-x\r\n\r\n", "no head"),
        ("chunks", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nx\r\n", "broken chunks"),
    ] {
        let load = Load { connections: NonZeroUsize::MIN, ..to(&format!("http://{}/bytes/3", says(answer))) };
        let outcome = load.run().unwrap();
        assert!(outcome.wrong > 0 && outcome.done == 0 && outcome.errors == 0, "{name}: {outcome}");
        let first = outcome.first_wrong.unwrap();
        assert!(first.contains(why), "{name}: {first}");
    }
}

#[test]
fn right_answers_of_every_framing_are_understood() {
    for (name, answer) in [
        ("length", &b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\x00\x9e\x3c"[..]),
        ("chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\x00\r\n2;x=y\r\n\x9e\x3c\r\n0\r\nA: b\r\n\r\n"),
        ("close", b"HTTP/1.0 200 OK\r\n\r\n\x00\x9e\x3c"),
        ("interim", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\x00\x9e\x3c"),
    ] {
        let load = Load { connections: NonZeroUsize::MIN, ..to(&format!("http://{}/bytes/3", says(answer))) };
        let outcome = load.run().unwrap();
        assert!(outcome.done > 0 && outcome.wrong == 0 && outcome.errors == 0, "{name}: {outcome}");
    }
}

#[test]
fn half_an_answer_is_an_error() {
    let at = says(b"HTTP/1.0 200 OK\r\ncontent-length: 30\r\n\r\nabc");
    let outcome = to(&format!("http://{at}/")).run().unwrap();
    assert!(outcome.errors > 0 && outcome.done == 0 && outcome.wrong == 0, "{outcome}");
}

#[test]
fn a_full_handshake_where_a_session_should_be_taken_up_is_wrong() {
    // Two servers behind one port, which do not share their tickets' keys, would do it; so does one that has none.
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    config.send_tls13_tickets = 0;
    let config = std::sync::Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    thread::spawn(move || {
        for mut stream in listener.incoming().take(1000).map_while(Result::ok) {
            let config = config.clone();
            thread::spawn(move || {
                let mut session = rustls::ServerConnection::new(config).unwrap();
                while session.complete_io(&mut stream).is_ok_and(|(read, _)| read > 0) {}
            });
        }
    });
    for (kind, right) in [(Kind::Handshake, true), (Kind::HandshakeResumed, false)] {
        let outcome = Load { kind, ..to(&format!("https://{at}/")) }.run().unwrap();
        assert_eq!((outcome.done > 0, outcome.wrong > 0), (right, !right), "{outcome}");
    }
}

#[test]
fn a_certificate_must_be_signed_by_whom_is_trusted() {
    let folder = std::env::temp_dir().join(format!("fourseven-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let made =
        || rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned(), "a.example".to_owned()]).unwrap();
    let (ours, others) = (made(), made());
    for (name, pem) in
        [("chain", ours.cert.pem()), ("key", ours.signing_key.serialize_pem()), ("other", others.cert.pem())]
    {
        std::fs::write(folder.join(name), pem).unwrap();
    }
    let https = free();
    let certificate =
        crate::lab::serve::Certificate::Files { chain: folder.join("chain"), key: folder.join("key") };
    let what = Serve { https: vec![https], certificate: Some(certificate), ..Serve::default() };
    let _serving = Serving::start(what).unwrap();
    for (ca, host, fine) in [
        ("chain", None, true),
        ("chain", Some("a.example:443"), true),
        ("chain", Some("b.example"), false),
        ("other", None, false),
    ] {
        let trust = Trust::Ca(folder.join(ca));
        let load = Load { trust, host: host.map(str::to_owned), ..to(&format!("https://{https}/")) };
        let outcome = load.run();
        assert_eq!(outcome.is_ok_and(|outcome| outcome.done > 0), fine, "{ca} {host:?}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_target_that_is_not_there_is_an_error_at_once() {
    let load = Load { duration: Duration::from_mins(1), ..to(&format!("http://{}/", free())) };
    assert!(load.run().unwrap_err().to_string().contains("refused"));
}

#[test]
fn loads_that_make_no_sense_are_refused() {
    let https = || to("https://127.0.0.1:1/");
    for (load, why) in [
        (Load { kind: Kind::PingPong, ..https() }, LoadError::Scheme),
        (Load { kind: Kind::Http, ..to("tcp/127.0.0.1:1") }, LoadError::Scheme),
        (Load { kind: Kind::Handshake, ..to("http://127.0.0.1:1/") }, LoadError::NoTls),
        (Load { streams: NonZeroUsize::new(2).unwrap(), ..https() }, LoadError::Streams),
        (Load { kind: Kind::HttpNew, version: Version::Http2, ..https() }, LoadError::Http2),
        (Load { rate: Some(0.0), ..https() }, LoadError::Rate),
        (Load { rate: Some(f64::NAN), ..https() }, LoadError::Rate),
        (Load { kind: Kind::Idle, rate: Some(1.0), ..https() }, LoadError::Rate),
    ] {
        assert_eq!(load.check(), Err(why), "{load:?}");
    }
}
