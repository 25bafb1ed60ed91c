//! HTTP/2, with prior knowledge and by ALPN.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::error::Error;

use super::*;
use crate::l7::exchange::Failure;
use crate::l7::front::Spoken;

#[derive(Clone, Copy)]
pub(super) struct Local;

impl<T: Future + 'static> hyper::rt::Executor<T> for Local {
    fn execute(&self, task: T) {
        tokio::task::spawn_local(async move { drop(task.await) });
    }
}

type Sender = http2::SendRequest<http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>>;

/// A client of HTTP/2 on a bench.
pub(super) async fn client(bench: &mut Bench) -> Sender {
    let stream = std::mem::replace(&mut bench.client, tokio::io::duplex(1).0);
    let (sender, connection) = http2::handshake(Local, TokioIo::new(stream)).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    sender
}

fn request(method: &str, uri: &str) -> http::request::Builder {
    Request::builder().method(method).uri(uri)
}

fn body(text: &'static str) -> http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error> {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

#[test]
fn http_2_is_known_by_its_first_bytes_and_by_alpn() {
    for (alpn, security) in [(None, Security::Clear), (Some(Alpn::H2), Security::Tls)] {
        run(async {
            let mut bench = Bench::serve(Does::Echo, alpn, security);
            let mut sender = client(&mut bench).await;
            for _ in 0..3 {
                let request = request("POST", "http://a/x").body(body("abc")).unwrap();
                let response = sender.send_request(request).await.unwrap();
                assert_eq!(response.status(), StatusCode::OK);
                assert_eq!(response.headers()["via"], "1.1 fourseven");
                assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "abc");
            }
            let seen = bench.backend.last();
            assert_eq!(seen.headers["host"], "a");
            assert_eq!(seen.headers["via"], "2 fourseven");
            let scheme = if security == Security::Tls { "https" } else { "http" };
            assert_eq!(
                (&*seen.uri, &seen.headers["x-forwarded-proto"]),
                (&*format!("{scheme}://a/x"), &HeaderValue::from_static(scheme))
            );
            assert_eq!(bench.site.counters.requests(Spoken::Http2), 3);
        });
    }
}

#[test]
fn grpc_passes_whole() {
    run(async {
        let mut bench = Bench::serve(Does::Echo, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("7"));
        let frames = [Ok(Frame::data(Bytes::from("abc"))), Ok(Frame::trailers(trailers))];
        let body = BodyExt::boxed_unsync(StreamBody::new(futures_util::stream::iter(frames)));
        let request = request("POST", "http://a/x")
            .header("te", "trailers")
            .header("trailer", "x-sum")
            .header("content-type", "application/grpc")
            .body(body)
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
        let seen = bench.backend.last();
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.trailers.unwrap()["x-sum"], "7");
    });
}

#[test]
fn cookies_that_come_in_pieces_are_joined() {
    run(async {
        let mut bench = Bench::serve(Does::Echo, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let request = request("GET", "http://a/")
            .header("cookie", "a=b")
            .header("cookie", "c=d")
            .header("cookie", "e=f")
            .body(body(""))
            .unwrap();
        sender.send_request(request).await.unwrap();
        let seen = bench.backend.last();
        assert_eq!(seen.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=b; c=d; e=f"]);
    });
}

#[test]
fn what_is_wrong_in_one_stream_is_refused_there_and_the_others_go_on() {
    run(async {
        let mut bench = Bench::serve(Does::Echo, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let cases = [
            (request("GET", "http://a/").header("host", "b"), 400, Refusal::DifferingHosts),
            (request("GET", "http://a/").header("host", "a").header("host", "a"), 400, Refusal::DoubledHost),
            (request("GET", "http://u@a/"), 400, Refusal::BadHost),
            (request("GET", "http://a/").header("b", " c"), 400, Refusal::BadFieldValue),
            (request("GET", "http://a/").header("b", "c\t"), 400, Refusal::BadFieldValue),
            (request("GET", "http://a/../x"), 400, Refusal::PathAboveRoot),
            (request("TRACE", "http://a/"), 501, Refusal::BadMethod),
            (request("CONNECT", "a:443"), 501, Refusal::BadMethod),
        ];
        for (request, status, refusal) in cases {
            let response = sender.send_request(request.body(body("")).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{refusal}");
            let said = response.headers()["proxy-status"].to_str().unwrap().to_owned();
            assert!(said.ends_with(&format!("\"{refusal}\"")), "{said}");
            // What is malformed is a stream error (RFC 9113 §8.1.1), behind what is said of it.
            let mut body = response.into_body();
            let text = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert!(text.ends_with(format!(": {refusal}\n").as_bytes()), "{text:?}");
            let reset = body.frame().await.map(|end| {
                let error = end.unwrap_err();
                error.source().and_then(|source| source.downcast_ref::<h2::Error>()?.reason())
            });
            let malformed = refusal.is_malformed().then_some(Some(h2::Reason::PROTOCOL_ERROR));
            assert_eq!(reset, malformed, "{refusal}");
        }
        assert_eq!(bench.backend.heads(), [""; 0]);
        let response =
            sender.send_request(request("GET", "http://a/").body(body("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    });
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream() {
    run(async {
        let mut bench = Bench::serve(Does::BreakOff, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let response =
            sender.send_request(request("GET", "http://a/").body(body("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.into_body().collect().await.unwrap_err();
    });
}

#[test]
fn a_stream_that_is_reset_gives_up_its_request() {
    run(async {
        let mut bench = Bench::serve(Does::Nothing, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let response = sender.send_request(request("GET", "http://a/").body(body("")).unwrap());
        let given_up = tokio::time::timeout(Duration::from_secs(1), response).await;
        assert!(given_up.is_err());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*bench.backend.dropped.borrow(), 1);
    });
}

#[test]
fn failures_are_the_same_over_http_2() {
    run(async {
        let mut bench = Bench::serve(Does::Fail(Failure::ConnectTimeout), Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        let response =
            sender.send_request(request("GET", "http://a/").body(body("")).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(!response.headers().contains_key("connection"));
    });
}

#[test]
fn a_connection_without_streams_is_ended_in_time() {
    run(async {
        let mut bench = Bench::serve(Does::Ignore, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        for _ in 0..3 {
            sender.send_request(request("GET", "http://a/").body(body("")).unwrap()).await.unwrap();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert!(!bench.session.is_finished());
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(bench.session.is_finished());
    });
}

#[test]
fn a_connection_that_drains_finishes_its_streams() {
    run(async {
        let mut bench = Bench::serve(Does::Echo, Some(Alpn::H2), Security::Clear);
        let mut sender = client(&mut bench).await;
        sender.send_request(request("GET", "http://a/").body(body("")).unwrap()).await.unwrap();
        let slow = futures_util::stream::once(async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            Ok(Frame::data(Bytes::from("abc")))
        });
        let slow = request("POST", "http://a/").body(BodyExt::boxed_unsync(StreamBody::new(slow))).unwrap();
        let response = sender.send_request(slow);
        let drain = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            bench.drain.send_replace(true);
        };
        let (response, ()) = futures_util::future::join(response, drain).await;
        assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "abc");
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(bench.session.is_finished());
    });
}

#[test]
fn a_preface_that_comes_byte_by_byte_is_one_and_one_that_does_not_end_is_not() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
            bench.client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut frame = [0; 9];
        bench.client.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[3], 4, "SETTINGS");
    });
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let answer = bench.exchange(b"PRI * HTTP/2.0\r\n\r\nSMx").await;
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    });
}
