//! Connections and streams that change their protocol.

use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;

use super::protocols::Local;
use super::*;

const ASK: &[u8] =
    b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Key: x\r\n\r\n";

#[test]
fn a_connection_that_changes_carries_bytes_both_ways_and_ends_half_by_half() {
    for eager in [false, true] {
        run(async {
            let mut bench = Bench::clear(Does::Upgrade);
            bench.client.write_all(ASK).await.unwrap();
            if eager {
                // Not HTTP, and there before the answer.
                bench.client.write_all(b"\x01\x02").await.unwrap();
            }
            let head = bench.until("\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{head}");
            for line in ["connection: upgrade", "upgrade: websocket", "via: 1.1 fourseven"] {
                assert!(head.contains(&format!("\r\n{line}\r\n")), "{head}");
            }
            if !eager {
                bench.client.write_all(b"\x01\x02").await.unwrap();
            }
            assert_eq!(bench.until("\x01\x02").await, "\x01\x02");
            bench.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n").await.unwrap();
            bench.until("\r\n\r\n").await;
            bench.client.shutdown().await.unwrap();
            assert_eq!(bench.rest().await, "bye");
            (&mut bench.session).await.unwrap();
            let seen = bench.backend.last();
            assert_eq!(
                (&seen.headers["connection"], &seen.headers["upgrade"]),
                (&"upgrade".parse().unwrap(), &"websocket".parse().unwrap())
            );
            assert_eq!(bench.site.counters.upgrades.value(), 1);
            assert_eq!(bench.refused(), []);
        });
    }
}

#[test]
fn a_backend_that_does_not_change_answers_and_the_connection_goes_on() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let both = [ASK, b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        let answer = bench.exchange(&both).await;
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
        assert_eq!(bench.backend.heads(), ["GET /chat", "GET /next"]);
    });
}

#[test]
fn http_2_by_upgrade_is_not_passed_on() {
    run(async {
        let mut bench = Bench::clear(Does::Upgrade);
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n";
        let answer = bench.exchange(ask).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let seen = bench.backend.last();
        assert!(
            ["connection", "upgrade", "http2-settings"].iter().all(|name| !seen.headers.contains_key(*name))
        );
    });
}

#[test]
fn a_change_that_nobody_asked_for_is_a_bad_answer() {
    run(async {
        let mut bench = Bench::clear(Does::Status(101));
        let answer = bench.exchange(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    });
}

async fn stream_for(bench: &mut Bench, protocol: &'static str) -> hyper::Response<hyper::body::Incoming> {
    let stream = std::mem::replace(&mut bench.client, tokio::io::duplex(1).0);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    // The server's settings must have come before the client may ask.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let request = Request::connect("http://a/chat")
        .extension(hyper::ext::Protocol::from_static(protocol))
        .header("sec-websocket-version", "13")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    // The connection lives as long as there is somebody who may send on it.
    tokio::task::spawn_local(async move {
        tokio::time::sleep(Duration::from_hours(1)).await;
        drop(sender);
    });
    response
}

#[test]
fn a_stream_that_is_asked_for_by_extended_connect_is_an_upgrade_to_the_backend() {
    run(async {
        let mut bench = Bench::serve(Does::Upgrade, Some(Alpn::H2), Security::Tls);
        let response = stream_for(&mut bench, "websocket").await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(!response.headers().contains_key("sec-websocket-accept"));
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        stream.write_all(b"hello").await.unwrap();
        let mut echo = [0; 5];
        stream.read_exact(&mut echo).await.unwrap();
        assert_eq!(&echo, b"hello");
        stream.shutdown().await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "bye");
        let seen = bench.backend.last();
        assert_eq!(seen.head, "GET /chat");
        assert_eq!(seen.headers["upgrade"], "websocket");
        assert_eq!(seen.headers["via"], "2 fourseven");
        assert!(seen.headers.contains_key("sec-websocket-key"));
    });
}

#[test]
fn a_stream_whose_backend_does_not_change_is_a_bad_answer() {
    run(async {
        let mut bench = Bench::serve(Does::Echo, Some(Alpn::H2), Security::Tls);
        let response = stream_for(&mut bench, "websocket").await;
        assert_eq!(response.status(), StatusCode::BAD_GATEWAY);
    });
}
