//! Second chances: answers that are no better than none, second ways beside slow first ones, and what bounds all of that.

use std::time::Duration;

use hyper::Method;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::world::{Told, World, empty, full, group, settle, story};
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, Statuses, UpstreamLimits, UpstreamProtocol};
use crate::l7::upstream::{DropReason, OpenReason};

fn limited(backends: u16, limits: UpstreamLimits) -> World {
    World::new(vec![GroupSpec { limits, ..group(backends) }], None)
}

fn statuses(all: &[u16]) -> Statuses {
    let mut statuses = Statuses::default();
    for status in all {
        assert!(statuses.insert(*status));
    }
    statuses
}

/// A backend that answers with this status, after a while.
fn answers(world: &World, number: u16, status: u16, after: Duration) {
    world.wires.script(number, move |_, mut end| async move {
        while end.head().await.is_some() {
            sleep(after).await;
            let text = format!("HTTP/1.1 {status} X\r\ncontent-length: 1\r\n\r\n{number}");
            end.write_all(text.as_bytes()).await.unwrap();
        }
    });
}

fn from(told: &Told) -> (u16, u32, u16, &str) {
    (told.status, told.tries, told.backend, told.text())
}

#[test]
fn an_answer_that_is_no_better_than_none_is_asked_for_elsewhere() {
    story(async {
        let retry_on = statuses(&[502, 503]);
        let world = limited(2, UpstreamLimits { retry_on, ..UpstreamLimits::default() });
        answers(&world, 0, 503, Duration::ZERO);
        answers(&world, 1, 200, Duration::ZERO);
        let told = world.client(0).get("/").await;
        assert_eq!(from(&told), (200, 2, 1, "1"));
        assert_eq!((world.shared.report()[0].retries, world.opened(OpenReason::Retry)), (1, 1));
        // A POST is not done twice: of two, each backend has one.
        let mut told = Vec::new();
        for _ in 0..2 {
            let post = world.client(0).ask(Method::POST, "/", full("x")).await;
            told.push((post.status, post.tries));
        }
        told.sort_unstable();
        assert_eq!(told, [(200, 1), (503, 1)]);
        settle().await;
        world.assert_at_rest();
    });
}

#[test]
fn a_status_that_nobody_chose_and_one_without_an_alternative_are_answers() {
    for (name, backends, status, tries, retry_percent) in [
        ("not chosen", 2, 500, 1, 100),
        ("nobody else", 1, 503, 1, 100),
        ("nobody better", 2, 503, 2, 100),
        ("no more than three tries", 5, 503, 3, 100),
    ] {
        story(async move {
            let limits =
                UpstreamLimits { retry_on: statuses(&[503]), retry_percent, ..UpstreamLimits::default() };
            let world = limited(backends, limits);
            (0..backends).for_each(|number| answers(&world, number, status, Duration::ZERO));
            let told = world.client(0).get("/").await;
            assert_eq!((told.status, told.tries, told.failure.as_str()), (status, tries, ""), "{name}");
            assert!(told.body.is_some(), "{name}");
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn an_answer_that_is_poor_is_better_than_a_backend_that_refuses() {
    story(async {
        let limits = UpstreamLimits { retry_on: statuses(&[503]), ..UpstreamLimits::default() };
        let world = limited(2, limits);
        answers(&world, 0, 503, Duration::ZERO);
        let told = world.client(0).get("/").await;
        assert_eq!((told.status, told.text()), (503, "0"));
        settle().await;
        world.assert_at_rest();
    });
}

fn hedged(backends: u16) -> World {
    let hedge = Some(Duration::from_millis(200));
    limited(backends, UpstreamLimits { hedge, ..UpstreamLimits::default() })
}

#[test]
fn a_second_backend_is_asked_when_the_first_takes_long_and_the_first_answer_wins() {
    /// Its name; how long each backend takes; who answers, after how long; what was sent twice, and won.
    type Case = (&'static str, u64, u64, u16, u64, (u64, u64));
    let cases: [Case; 4] = [
        ("the first is quick", 100, 0, 0, 100, (0, 0)),
        ("the second wins", 5_000, 300, 1, 500, (1, 1)),
        ("the first wins all the same", 400, 5_000, 0, 400, (1, 0)),
        ("the second is down", 1_000, u64::MAX, 0, 1_000, (1, 0)),
    ];
    for (name, first, second, backend, time, counts) in cases {
        story(async move {
            let world = hedged(2);
            answers(&world, 0, 200, Duration::from_millis(first));
            if second < u64::MAX {
                answers(&world, 1, 200, Duration::from_millis(second));
            }
            let start = Instant::now();
            let told = world.client(0).get("/").await;
            let took = start.elapsed().as_millis();
            assert_eq!((told.assert_ok().backend, told.failure.as_str()), (backend, ""), "{name}");
            assert!(u128::from(time) <= took && took < u128::from(time) + 50, "{name}: {took}");
            let report = &world.shared.report()[0];
            assert_eq!((report.hedges, report.hedges_won), counts, "{name}");
            settle().await;
            // Who lost has been given up.
            assert_eq!(
                world.dropped(DropReason::RequestAborted),
                counts.0 - u64::from(second == u64::MAX && counts.0 == 1),
                "{name}"
            );
            world.assert_at_rest();
        });
    }
}

#[test]
fn what_may_not_be_done_twice_has_one_way() {
    for (name, method, body) in [("a POST", Method::POST, empty()), ("a body", Method::PUT, full("x"))] {
        story(async move {
            let world = hedged(2);
            (0..2).for_each(|number| answers(&world, number, 200, Duration::from_secs(1)));
            world.client(0).ask(method, "/", body).await.assert_ok();
            assert_eq!((world.shared.report()[0].hedges, world.wires.connected.get()), (0, 1), "{name}");
        });
    }
}

#[test]
fn second_ways_are_within_the_budget_of_retries() {
    story(async {
        let hedge = Some(Duration::from_millis(1));
        let world = limited(2, UpstreamLimits { hedge, retry_percent: 0, ..UpstreamLimits::default() });
        (0..2).for_each(|number| answers(&world, number, 200, Duration::from_millis(2)));
        for _ in 0..100 {
            world.client(0).get("/").await.assert_ok();
        }
        let report = &world.shared.report()[0];
        // Ten a second, and it is not yet half of one.
        assert!(report.hedges < 20 && report.retries_denied > 60, "{report:?}");
    });
}

#[test]
fn no_backend_has_more_requests_than_may_be_and_others_wait_or_are_told() {
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        story(async move {
            let limits = UpstreamLimits { requests: Some(2), waiting: 1, ..UpstreamLimits::default() };
            let world = World::new(vec![GroupSpec { protocol, limits, ..group(1) }], None);
            world.wires.script(0, move |_, end| async move {
                let service = hyper::service::service_fn(|request| async {
                    sleep(Duration::from_secs(1)).await;
                    super::world::echo(0, request).await
                });
                let end = TokioIo::new(end);
                let _ = match protocol {
                    UpstreamProtocol::Http1 => {
                        hyper::server::conn::http1::Builder::new().serve_connection(end, service).await
                    }
                    UpstreamProtocol::Http2 => {
                        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                        builder.serve_connection(end, service).await
                    }
                };
            });
            let ask = || {
                let mut client = world.client(0);
                tokio::task::spawn_local(async move { client.get("/").await })
            };
            let all: Vec<_> = (0..4).map(|_| ask()).collect();
            sleep(Duration::from_millis(500)).await;
            assert_eq!(world.counts(0).in_flight, 2, "{protocol:?}");
            let mut words = Vec::new();
            for told in all {
                let told = told.await.unwrap();
                words.push(if told.status == 200 { "ok".to_owned() } else { told.failure });
            }
            words.sort();
            assert_eq!(words, ["ok", "ok", "ok", "queue_full"], "{protocol:?}");
            settle().await;
            assert_eq!(world.counts(0).in_flight, 0);
        });
    }
}

#[test]
fn a_request_has_its_time_over_all_tries() {
    story(async {
        let total = Some(Duration::from_secs(3));
        let response = Duration::from_secs(60);
        let world = limited(3, UpstreamLimits { response, total, ..UpstreamLimits::default() });
        (0..3).for_each(|number| answers(&world, number, 200, Duration::from_secs(20)));
        let start = Instant::now();
        world.client(0).get("/").await.assert_failed(Failure::TotalTimeout);
        assert!(start.elapsed() >= Duration::from_secs(3) && start.elapsed() < Duration::from_secs(4));
        assert_eq!(world.failures(Failure::TotalTimeout), 1);
        settle().await;
        world.assert_at_rest();
    });
}

#[test]
fn an_answer_whose_bytes_stop_coming_is_cut_off_and_one_that_is_slow_is_not() {
    for (pause, whole) in [(4, true), (6, false)] {
        story(async move {
            let world =
                limited(1, UpstreamLimits { body: Duration::from_secs(5), ..UpstreamLimits::default() });
            world.wires.script(0, move |_, mut end| async move {
                end.head().await;
                end.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n").await.unwrap();
                for byte in b"slow" {
                    sleep(Duration::from_secs(pause)).await;
                    let _gone = end.write_all(&[*byte]).await;
                }
                sleep(Duration::from_secs(60)).await;
            });
            let told = world.client(0).get("/").await;
            assert_eq!(told.body.is_some(), whole, "{pause}");
            settle().await;
            assert_eq!(world.dropped(DropReason::AnswerTimedOut), u64::from(!whole), "{pause}");
        });
    }
}
