//! What is opened, reused and dropped, and for which reason.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::{Method, Request};

use super::world::{Door, Notes, World, empty, group, settle, story};
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, ProxyProtocol, UpstreamLimits, UpstreamMode};
use crate::l7::upstream::{DropReason, OpenReason};

fn limited(limits: UpstreamLimits) -> GroupSpec {
    GroupSpec { limits, ..group(1) }
}

fn served(limits: UpstreamLimits) -> World {
    let world = World::new(vec![limited(limits)], None);
    world.wires.server(0);
    world
}

/// So many requests at once.
async fn crowd(world: &World, clients: usize) {
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let mut client = world.client(0);
        tasks.push(tokio::task::spawn_local(async move { client.get("/crowd").await.assert_ok().clone() }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    settle().await;
}

#[test]
fn one_upstream_serves_requests_one_after_another() {
    story(async {
        let world = World::simple();
        let mut client = world.client(0);
        for nth in 0..10 {
            let told = client.get("/a").await;
            assert_eq!(told.assert_ok().origin, if nth == 0 { "new" } else { "reused" });
            assert_eq!((told.text(), told.tries), ("/a", 1));
        }
        settle().await;
        let counts = world.counts(0);
        assert_eq!((counts.opened(), counts.reused, counts.requests), (1, 9, 10));
        assert_eq!((counts.live, counts.idle, counts.failures), (1, 1, 0));
        assert_eq!(world.opened(OpenReason::Cold), 1);
        assert_eq!(world.shared.report()[0].requests, 10);
        world.assert_at_rest();
    });
}

#[test]
fn requests_at_the_same_time_have_upstreams_of_their_own_and_leave_them_to_others() {
    story(async {
        let world = World::simple();
        crowd(&world, 8).await;
        assert_eq!((world.opened(OpenReason::Cold), world.opened(OpenReason::NoneIdle)), (1, 7));
        crowd(&world, 8).await;
        assert_eq!((world.counts(0).opened(), world.counts(0).reused, world.counts(0).idle), (8, 8, 8));
        world.assert_at_rest();
    });
}

#[test]
fn new_opens_one_for_each_request_and_closes_it_behind_the_answer() {
    story(async {
        let world = World::simple();
        world.mode.set(UpstreamMode::New);
        let mut client = world.client(0);
        for _ in 0..5 {
            assert_eq!(client.get("/").await.assert_ok().origin, "new");
        }
        assert_eq!(client.post("body").await.assert_ok().text(), "body");
        settle().await;
        assert_eq!((world.opened(OpenReason::ModeNew), world.dropped(DropReason::SingleUse)), (6, 6));
        assert_eq!((world.counts(0).live, world.counts(0).reused), (0, 0));
        assert_eq!(world.wires.connected.get(), 6);
        world.assert_at_rest();
    });
}

#[test]
fn the_backend_is_told_about_the_client_before_all_else_and_by_one_upstream_a_request() {
    story(async {
        let world = World::new(vec![GroupSpec { proxy_protocol: ProxyProtocol::V2, ..group(1) }], None);
        let notes = Notes::default();
        let seen = notes.clone();
        world.wires.script(0, move |_, mut end| {
            let seen = seen.clone();
            async move {
                let mut header = [0; 28];
                tokio::io::AsyncReadExt::read_exact(&mut end, &mut header).await.unwrap();
                seen.note(format!("{:?}", &header[12..24]));
                seen.note(end.head().await.unwrap());
                end.ok("hello").await;
                end.head().await;
            }
        });
        let mut client = world.client(0);
        for _ in 0..2 {
            assert_eq!(client.get("/who").await.assert_ok().text(), "hello");
        }
        settle().await;
        let notes = notes.all();
        assert_eq!(notes[0], "[33, 17, 0, 12, 198, 51, 100, 7, 203, 0, 113, 1]");
        assert!(notes[1].starts_with("GET /who HTTP/1.1\r\n"), "{}", notes[1]);
        assert_eq!((world.opened(OpenReason::ProxyProtocol), world.dropped(DropReason::SingleUse)), (2, 2));
        world.assert_at_rest();
    });
}

#[test]
fn an_upstream_is_dropped_when_its_limit_is_reached() {
    let default = UpstreamLimits::default;
    let idle_time = Duration::from_secs(60);
    for (name, limits, pause, reason, opened, dropped) in [
        ("nothing happens in time", default(), idle_time / 2, DropReason::IdleTime, 1, 0),
        ("idle for too long", default(), idle_time * 2, DropReason::IdleTime, 3, 3),
        (
            "too old",
            UpstreamLimits { age: Some(idle_time / 2), ..default() },
            idle_time / 3,
            DropReason::Age,
            2,
            1,
        ),
        (
            "too often used",
            UpstreamLimits { uses: Some(2), ..default() },
            Duration::ZERO,
            DropReason::Uses,
            2,
            1,
        ),
    ] {
        story(async move {
            let world = served(limits);
            let mut client = world.client(0);
            for _ in 0..3 {
                client.get("/").await.assert_ok();
                tokio::time::sleep(pause).await;
            }
            settle().await;
            let got = (world.counts(0).opened(), world.dropped(reason));
            assert_eq!(got, (opened, dropped), "{name}");
            world.assert_at_rest();
        });
    }
}

#[test]
fn no_more_are_idle_than_may_be() {
    story(async {
        let world = served(UpstreamLimits { idle: 2, ..UpstreamLimits::default() });
        crowd(&world, 5).await;
        assert_eq!((world.counts(0).idle, world.dropped(DropReason::IdleCount)), (2, 3));
        world.assert_at_rest();
    });
}

#[test]
fn idle_upstreams_that_the_backend_closes_or_speaks_on_are_dropped_at_once() {
    for (name, last_words, reason) in [
        ("closed", "", DropReason::ClosedByBackend),
        ("spoken on", "HTTP/1.1 408 Request Timeout\r\n\r\n", DropReason::UnsolicitedBytes),
    ] {
        story(async move {
            let world = World::new(vec![group(1)], None);
            world.wires.script(0, move |_, mut end| async move {
                while end.head().await.is_some() {
                    end.ok("x").await;
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    end.say(last_words).await;
                    if last_words.is_empty() {
                        return;
                    }
                }
            });
            let mut client = world.client(0);
            for _ in 0..3 {
                assert_eq!(client.post("x").await.assert_ok().tries, 1, "{name}");
                tokio::time::sleep(Duration::from_secs(2)).await;
                assert_eq!(world.counts(0).live, 0, "{name}");
            }
            assert_eq!(world.dropped(reason), 3, "{name}");
            assert_eq!(world.opened(OpenReason::Cold), 3, "{name}");
            world.assert_at_rest();
        });
    }
}

#[test]
fn an_answer_that_ends_the_connection_is_not_reused() {
    for (name, answer) in [
        ("it says so", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\nx"),
        ("its end is the body's end", "HTTP/1.1 200 OK\r\n\r\nx"),
    ] {
        story(async move {
            let world = World::new(vec![group(1)], None);
            world.wires.script(0, move |_, mut end| async move {
                end.head().await;
                end.say(answer).await;
            });
            let mut client = world.client(0);
            for _ in 0..3 {
                assert_eq!(client.get("/").await.assert_ok().text(), "x", "{name}");
                settle().await;
            }
            assert_eq!(world.dropped(DropReason::ClosedByBackend), 3, "{name}");
            world.assert_at_rest();
        });
    }
}

#[test]
fn what_is_not_http_is_a_bad_answer() {
    story(async {
        let world = World::new(vec![group(1)], None);
        world.wires.script(0, |_, mut end| async move {
            end.head().await;
            end.say("220 mail.example.com ESMTP\r\n\r\n").await;
            end.head().await;
        });
        world.client(0).get("/").await.assert_failed(Failure::BadAnswer);
        settle().await;
        assert_eq!((world.dropped(DropReason::Failed), world.failures(Failure::BadAnswer)), (1, 1));
        world.assert_at_rest();
    });
}

#[test]
fn an_answer_that_nobody_wants_any_more_takes_its_upstream_with_it() {
    story(async {
        let world = World::new(vec![group(1)], None);
        world.wires.script(0, |_, mut end| async move {
            end.head().await;
            end.say("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
            end.head().await;
        });
        let mut client = world.client(0);
        let request = Request::builder().uri("/").body(empty()).unwrap();
        let mut response = client.send(request).await.unwrap();
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        assert_eq!(world.counts(0).in_flight, 1);
        drop((response, client));
        settle().await;
        assert_eq!(world.dropped(DropReason::RequestAborted), 1);
        world.assert_at_rest();
    });
}

#[test]
fn a_head_that_does_not_come_in_time_is_not_waited_for() {
    story(async {
        let world = World::new(vec![group(1)], None);
        world.wires.script(0, |_, mut end| async move {
            end.head().await;
            end.head().await;
        });
        let start = tokio::time::Instant::now();
        world.client(0).get("/").await.assert_failed(Failure::ResponseTimeout);
        assert_eq!(start.elapsed().as_secs(), 60);
        settle().await;
        assert_eq!(world.dropped(DropReason::TimedOut), 1);
        world.assert_at_rest();
    });
}

#[test]
fn what_is_idle_ends_with_the_balancer_and_with_its_backend() {
    story(async {
        let world = World::simple();
        crowd(&world, 4).await;
        world.shared.shut_down();
        settle().await;
        assert_eq!((world.dropped(DropReason::Shutdown), world.counts(0).live), (4, 0));
        crowd(&world, 2).await;
        assert_eq!((world.dropped(DropReason::Shutdown), world.counts(0).live), (6, 0));
        world.assert_at_rest();
    });
    story(async {
        let world = World::simple();
        crowd(&world, 4).await;
        world.wires.set(0, Door::Refused);
        world.mode.set(UpstreamMode::New);
        for _ in 0..3 {
            world.client(0).get("/").await.assert_failed(Failure::ConnectFailed);
        }
        settle().await;
        assert_eq!((world.dropped(DropReason::BackendDown), world.counts(0).unopened), (4, 3));
        world.client(0).get("/").await.assert_failed(Failure::NoBackend);
        world.assert_at_rest();
    });
}

#[test]
fn the_request_goes_out_as_http_1_1_wants_it() {
    story(async {
        let world = World::new(vec![group(1)], None);
        let notes = Notes::default();
        let seen = notes.clone();
        world.wires.script(0, move |_, mut end| {
            let seen = seen.clone();
            async move {
                while let Some(head) = end.head().await {
                    seen.note(head);
                    end.ok("").await;
                }
            }
        });
        let mut client = world.client(0);
        for (method, uri) in [
            (Method::GET, "http://www.example.com/a?b=c"),
            (Method::OPTIONS, "*"),
            (Method::GET, "http://www.example.com"),
        ] {
            let request = Request::builder().method(method).uri(uri).header("host", "www.example.com");
            client.tell(request.body(empty()).unwrap()).await.assert_ok();
        }
        let lines: Vec<String> =
            notes.all().iter().map(|head| head.lines().next().unwrap().to_owned()).collect();
        assert_eq!(lines, ["GET /a?b=c HTTP/1.1", "OPTIONS * HTTP/1.1", "GET / HTTP/1.1"]);
    });
}
