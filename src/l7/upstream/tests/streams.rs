//! HTTP/2 to backends: many requests over one upstream.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::wire::End;
use super::world::{Body, Told, World, echo, empty, full, group, settle, story};
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, UpstreamLimits, UpstreamProtocol};
use crate::l7::upstream::{DropReason, OpenReason};

fn http2(limits: UpstreamLimits) -> World {
    World::new(vec![GroupSpec { protocol: UpstreamProtocol::Http2, limits, ..group(1) }], None)
}

/// A hyper server that takes so many streams at once.
fn serve(world: &World, streams: u32) {
    world.wires.script(0, move |_, end| async move {
        let service = service_fn(|request| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            echo(0, request).await
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(streams);
        let _ = builder.serve_connection(TokioIo::new(end), service).await;
    });
}

async fn crowd(world: &World, clients: usize) -> Vec<Told> {
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let mut client = world.client(0);
        tasks.push(tokio::task::spawn_local(async move { client.get("/").await }));
    }
    let mut told = Vec::new();
    for task in tasks {
        told.push(task.await.unwrap());
    }
    settle().await;
    told
}

#[test]
fn a_crowd_that_comes_to_a_cold_backend_shares_one_upstream() {
    story(async {
        let world = http2(UpstreamLimits::default());
        serve(&world, 100);
        world.wires.delay.set(Duration::from_millis(20));
        let start = tokio::time::Instant::now();
        for told in crowd(&world, 50).await {
            told.assert_ok();
        }
        assert_eq!(start.elapsed().as_secs(), 1, "all at once");
        let counts = world.counts(0);
        assert_eq!((counts.opened(), counts.reused, counts.idle), (1, 49, 1));
        world.assert_at_rest();
    });
}

#[test]
fn no_upstream_is_given_more_than_its_backend_has_said_that_it_takes() {
    story(async {
        let world = http2(UpstreamLimits::default());
        serve(&world, 4);
        for (clients, opened) in [(1, 1), (6, 2), (12, 3)] {
            for told in crowd(&world, clients).await {
                told.assert_ok();
            }
            assert_eq!(world.counts(0).opened(), opened, "{clients} at once");
        }
        world.assert_at_rest();
    });
}

#[test]
fn a_websocket_is_refused_before_a_backend_is_asked() {
    story(async {
        let world = http2(UpstreamLimits::default());
        serve(&world, 4);
        let request = hyper::Request::get("/").header("connection", "upgrade").header("upgrade", "WebSocket");
        let told = world.client(0).tell(request.body(empty()).unwrap()).await;
        told.assert_failed(Failure::NoUpgrade);
        assert_eq!(world.wires.connected.get(), 0);
        world.assert_at_rest();
    });
}

#[test]
fn limits_end_an_upstream_behind_its_streams() {
    for (name, limits, reason) in [
        ("uses", UpstreamLimits { uses: Some(2), ..UpstreamLimits::default() }, DropReason::Uses),
        (
            "age",
            UpstreamLimits { age: Some(Duration::from_secs(2)), ..UpstreamLimits::default() },
            DropReason::Age,
        ),
        (
            "idle time",
            UpstreamLimits { idle_time: Duration::from_secs(1), ..UpstreamLimits::default() },
            DropReason::IdleTime,
        ),
    ] {
        story(async move {
            let world = http2(limits);
            serve(&world, 100);
            for _ in 0..4 {
                crowd(&world, 1).await.remove(0).assert_ok();
            }
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert!(world.dropped(reason) >= 1, "{name}: {:?}", world.counts(0));
            world.assert_at_rest();
        });
    }
}

/// A backend by hand: what it does with the nth stream of the nth connection.
fn by_hand<F>(world: &World, act: F)
where
    F: Fn(usize, usize, &mut Server, h2::server::SendResponse<Bytes>) + Copy + 'static,
{
    world.wires.script(0, move |connection, end| async move {
        let mut server: Server = h2::server::handshake(end).await.unwrap();
        let mut stream = 0;
        while let Some(Ok((_request, respond))) = server.accept().await {
            act(connection, stream, &mut server, respond);
            stream += 1;
        }
    });
}

type Server = h2::server::Connection<End, Bytes>;

fn answer(mut respond: h2::server::SendResponse<Bytes>) {
    let head = hyper::Response::builder().status(200).body(()).unwrap();
    let mut body = respond.send_response(head, false).unwrap();
    body.send_data(Bytes::from("fine"), true).unwrap();
}

#[test]
fn a_stream_that_the_backend_refuses_is_sent_again_by_every_method() {
    for (method, body) in [(Method::GET, ""), (Method::POST, "a body")] {
        story(async move {
            let world = http2(UpstreamLimits::default());
            by_hand(&world, |connection, stream, _, mut respond| {
                if (connection, stream) == (0, 1) {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    answer(respond);
                }
            });
            let body = || -> Body { if body.is_empty() { empty() } else { full(body) } };
            let mut client = world.client(0);
            client.get("/").await.assert_ok();
            let told = client.ask(method.clone(), "/", body()).await;
            assert_eq!((told.assert_ok().tries, told.text()), (2, "fine"), "{method}");
            assert_eq!(world.opened(OpenReason::Retry), 1, "{method}");
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn a_stream_that_goaway_leaves_out_is_sent_again_and_costs_nothing() {
    for method in [Method::GET, Method::POST] {
        story(async move {
            let world = http2(UpstreamLimits { retry_percent: 0, ..UpstreamLimits::default() });
            world.wires.script(0, |connection, end| async move {
                let mut server: Server = h2::server::handshake(end).await.unwrap();
                let Some(Ok((_, first))) = server.accept().await else { return };
                answer(first);
                if connection == 0 {
                    // The last stream that it has looked at is the first one.
                    tokio::time::timeout(Duration::from_secs(1), server.accept()).await.unwrap_err();
                    server.abrupt_shutdown(h2::Reason::NO_ERROR);
                }
                while let Some(Ok((_, respond))) = server.accept().await {
                    answer(respond);
                }
            });
            let mut client = world.client(0);
            client.get("/").await.assert_ok();
            settle().await;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let told = client.ask(method.clone(), "/", full("x")).await;
            assert_eq!(told.assert_ok().text(), "fine", "{method}");
            assert_eq!((world.shared.report()[0].retries, world.counts(0).opened()), (0, 2), "{method}");
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn a_stream_that_was_reset_in_its_course_is_sent_again_only_where_it_may_be() {
    for (method, again) in [(Method::GET, true), (Method::POST, false)] {
        story(async move {
            let world = http2(UpstreamLimits::default());
            by_hand(&world, |connection, _, _, mut respond| {
                if connection == 0 {
                    respond.send_reset(h2::Reason::INTERNAL_ERROR);
                } else {
                    answer(respond);
                }
            });
            let told = world.client(0).ask(method, "/", empty()).await;
            if again {
                assert_eq!(told.assert_ok().tries, 2);
            } else {
                told.assert_failed(Failure::ClosedEarly);
            }
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn one_answer_that_nobody_wants_does_not_end_the_others() {
    story(async {
        let world = http2(UpstreamLimits::default());
        serve(&world, 100);
        let mut gone = world.client(0);
        let gone = tokio::task::spawn_local(async move { gone.get("/").await });
        settle().await;
        let mut stays = world.client(0);
        let stays = tokio::task::spawn_local(async move { stays.get("/").await });
        settle().await;
        gone.abort();
        settle().await;
        stays.await.unwrap().assert_ok();
        settle().await;
        assert_eq!((world.counts(0).opened(), world.counts(0).live), (1, 1));
        world.assert_at_rest();
    });
}
