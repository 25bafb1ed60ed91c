//! Answers on their way through: whole, cut off, empty, early, upgraded.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::world::{Body, World, empty, group, settle, story};
use crate::l7::exchange::Failure;
use crate::l7::upstream::DropReason;

/// A backend that says this to each request.
fn says(answer: &'static str) -> World {
    let world = World::new(vec![group(1)], None);
    world.wires.script(0, move |_, mut end| async move {
        while end.head().await.is_some() {
            end.say(answer).await;
            if answer.ends_with("cut") {
                return;
            }
        }
    });
    world
}

#[test]
fn answers_of_every_shape_give_their_upstream_back() {
    for (name, method, answer, body) in [
        ("a length", Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", "abc"),
        (
            "chunks",
            Method::GET,
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "abc",
        ),
        ("nothing", Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", ""),
        ("a head alone", Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", ""),
        (
            "hints before it",
            Method::GET,
            "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nz",
            "z",
        ),
    ] {
        story(async move {
            let world = says(answer);
            let mut client = world.client(0);
            for _ in 0..3 {
                let told = client.ask(method.clone(), "/", empty()).await;
                assert_eq!(told.assert_ok().text(), body, "{name}");
                settle().await;
            }
            assert_eq!((world.counts(0).opened(), world.counts(0).idle), (1, 1), "{name}");
            world.assert_at_rest();
        });
    }
}

#[test]
fn an_answer_that_is_cut_off_is_not_taken_for_whole() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\ncut",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\ncut",
    ] {
        story(async move {
            let world = says(answer);
            let told = world.client(0).get("/").await;
            assert_eq!((told.status, told.body), (200, None));
            settle().await;
            assert_eq!(world.dropped(DropReason::ClosedByBackend), 1);
            world.assert_at_rest();
        });
    }
    story(async {
        // In the middle of its head it is none, and must not be asked for again.
        let world = says("HTTP/1.1 200 OK\r\nx: cut");
        let told = world.client(0).get("/").await;
        assert_eq!((told.failure.as_str(), world.wires.connected.get()), ("closed_early", 1));
    });
}

#[test] // RFC 9112 §6.3
fn an_answer_with_both_lengths_is_none() {
    story(async {
        let world = says(
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        );
        let told = world.client(0).get("/").await;
        told.assert_failed(Failure::BadAnswer);
        settle().await;
        assert_eq!(world.counts(0).idle, 0);
        world.assert_at_rest();
    });
}

#[test]
fn trailers_pass_both_ways() {
    story(async {
        let world = World::simple();
        world.wires.script(0, |_, end| async move {
            let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
                let body = request.into_body();
                Ok::<_, std::convert::Infallible>(
                    hyper::Response::builder().header("trailer", "x-sum").body(body).unwrap(),
                )
            });
            let _ =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(end), service).await;
        });
        let frames = vec![
            Ok::<_, std::io::Error>(Frame::data(Bytes::from("abc"))),
            Ok(Frame::trailers(
                [(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("6"))]
                    .into_iter()
                    .collect(),
            )),
        ];
        let body: Body = BoxBody::new(http_body_util::StreamBody::new(futures_util::stream::iter(frames)));
        let request =
            Request::builder().method("PUT").uri("/").header("te", "trailers").header("trailer", "x-sum");
        let response = world.client(0).send(request.body(body).unwrap()).await.unwrap();
        let whole = response.into_body().collect().await.unwrap();
        assert_eq!(
            whole.trailers().map(|trailers| trailers["x-sum"].as_bytes().to_vec()),
            Some(b"6".to_vec())
        );
        assert_eq!(whole.to_bytes(), "abc");
    });
}

/// A body that comes as it is sent.
fn streamed() -> (mpsc::UnboundedSender<Bytes>, Body) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Bytes>();
    let stream = futures_util::stream::poll_fn(move |context| {
        receiver
            .poll_recv(context)
            .map(|bytes| bytes.map(|bytes| Ok::<_, std::io::Error>(Frame::data(bytes))))
    });
    (sender, BoxBody::new(http_body_util::StreamBody::new(stream)))
}

#[test]
fn a_long_upload_that_goes_on_is_no_slow_answer_and_one_that_stops_is_the_clients_doing() {
    for (name, steps, failure) in [("goes on", 10, ""), ("stops", 2, "client_gone")] {
        story(async move {
            let world = World::simple();
            let (sender, body) = streamed();
            let mut client = world.client(0);
            let told = tokio::task::spawn_local(async move { client.ask(Method::POST, "/", body).await });
            for _ in 0..steps {
                tokio::time::sleep(Duration::from_secs(30)).await;
                sender.send(Bytes::from("0123456789")).unwrap();
            }
            let kept = (!failure.is_empty()).then(|| sender.clone());
            drop(sender);
            let told = told.await.unwrap();
            drop(kept);
            assert_eq!(told.failure, failure, "{name}");
            if failure.is_empty() {
                assert_eq!(told.text().len(), 100, "{name}");
            }
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn an_upgraded_connection_is_in_flight_until_it_is_over() {
    story(async {
        let world = World::new(vec![group(1)], None);
        world.wires.script(0, |_, mut end| async move {
            end.head().await;
            end.say("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
            let mut bytes = [0; 4];
            while end.read_exact(&mut bytes).await.is_ok() {
                end.write_all(&bytes).await.unwrap();
            }
        });
        let mut client = world.client(0);
        let request = Request::builder().uri("/").header("connection", "upgrade").header("upgrade", "echo");
        let response = client.send(request.body(empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 101);
        let mut bytes = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        for text in [b"ping", b"pong"] {
            bytes.write_all(text).await.unwrap();
            let mut back = [0; 4];
            bytes.read_exact(&mut back).await.unwrap();
            assert_eq!(&back, text);
        }
        let counts = world.counts(0);
        assert_eq!((counts.live, counts.idle, counts.in_flight), (1, 0, 1));
        drop((bytes, client));
        settle().await;
        assert_eq!(world.dropped(DropReason::Upgraded), 1);
        world.assert_at_rest();
    });
}
