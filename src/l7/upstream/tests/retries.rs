//! Which requests are tried again, where, how often, and with which body.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::Method;
use tokio::io::AsyncReadExt;

use super::world::{Door, Notes, World, empty, full, group, settle, story};
use crate::l7::connect::Standing;
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, UpstreamLimits, UpstreamMode};
use crate::l7::upstream::{DropReason, OpenReason};

/// A backend whose first connections take a whole request each and close instead of answering.
fn closes_first(world: &World, number: u16, times: usize) {
    world.wires.script(number, move |nth, mut end| async move {
        while end.head().await.is_some() {
            if nth < times {
                return;
            }
            end.ok("").await;
        }
    });
}

#[test]
fn what_may_have_been_acted_upon_is_sent_again_if_its_method_allows_it() {
    for (method, again) in [
        (Method::GET, true),
        (Method::HEAD, true),
        (Method::OPTIONS, true),
        (Method::TRACE, true),
        (Method::PUT, true),
        (Method::DELETE, true),
        (Method::POST, false),
        (Method::PATCH, false),
        (Method::from_bytes(b"PURGE").unwrap(), false),
    ] {
        story(async move {
            let world = World::new(vec![group(1)], None);
            closes_first(&world, 0, 1);
            let told = world.client(0).ask(method.clone(), "/", empty()).await;
            if again {
                assert_eq!(told.assert_ok().tries, 2, "{method}");
                assert_eq!(world.opened(OpenReason::Retry), 1, "{method}");
            } else {
                told.assert_failed(Failure::ClosedEarly);
            }
            settle().await;
            assert_eq!(
                (world.counts(0).failures, world.dropped(DropReason::ClosedByBackend)),
                (1, 1),
                "{method}"
            );
            world.assert_at_rest();
        });
    }
}

#[test]
fn the_second_try_is_at_the_same_backend_the_third_elsewhere_and_there_is_no_fourth() {
    story(async {
        let world = World::new(vec![group(2)], None);
        closes_first(&world, 0, usize::MAX);
        world.wires.server(1);
        let mut client = world.client(0);
        let told = client.get("/").await;
        assert_eq!((told.assert_ok().tries, told.backend), (3, 1));
        settle().await;
        world.assert_at_rest();
    });
    story(async {
        let world = World::new(vec![group(4)], None);
        (0..4).for_each(|number| closes_first(&world, number, usize::MAX));
        world.client(0).get("/").await.assert_failed(Failure::ClosedEarly);
        let report = &world.shared.report()[0];
        assert_eq!((report.retries, report.retries_denied, world.wires.connected.get()), (2, 0, 3));
        settle().await;
        world.assert_at_rest();
    });
}

#[test]
fn what_cannot_be_reached_is_gone_round_by_every_method() {
    for method in [Method::GET, Method::POST] {
        for (name, door) in [("refused", Door::Refused), ("silent", Door::Silent)] {
            let method = method.clone();
            story(async move {
                let world = World::new(vec![group(2)], None);
                world.wires.set(0, door);
                world.wires.server(1);
                let mut client = world.client(0);
                let told = client.ask(method, "/", full("body")).await;
                assert_eq!((told.assert_ok().tries, told.backend, told.text()), (2, 1, "body"), "{name}");
                assert_eq!((world.counts(0).unopened, world.counts(0).requests), (1, 1), "{name}");
                settle().await;
                world.assert_at_rest();
            });
        }
    }
}

#[test]
fn what_nobody_takes_fails_with_the_last_cause() {
    for (doors, failure) in [
        (vec![Door::Refused], Failure::ConnectFailed),
        (vec![Door::Refused, Door::Refused], Failure::ConnectFailed),
        (vec![Door::Silent], Failure::ConnectTimeout),
        (vec![Door::Refused, Door::Refused, Door::Refused, Door::Refused], Failure::ConnectFailed),
    ] {
        story(async move {
            let count = doors.len();
            let world = World::new(vec![group(u16::try_from(count).unwrap())], None);
            for (number, door) in (0..).zip(doors) {
                world.wires.set(number, door);
            }
            world.client(0).post("x").await.assert_failed(failure);
            let report = &world.shared.report()[0];
            let unopened: u64 = report.backends.iter().map(|backend| backend.counts.unopened).sum();
            assert_eq!(unopened, count.min(3) as u64);
            assert_eq!(world.failures(failure), 1);
            world.assert_at_rest();
        });
    }
}

#[test]
fn an_upstream_that_was_closed_before_the_request_left_costs_nothing() {
    use Standing::{Closed, Failed, Unsolicited};
    for (name, look, reason) in [
        ("closed with the first byte in hand", Closed, DropReason::ClosedByBackend),
        ("reset with the first byte in hand", Failed, DropReason::Failed),
        ("spoken on with the first byte in hand", Unsolicited, DropReason::UnsolicitedBytes),
    ] {
        story(async move {
            // No budget at all, so that nothing but this could have saved it.
            let limits = UpstreamLimits { retry_percent: 0, ..UpstreamLimits::default() };
            let world = World::new(vec![GroupSpec { limits, ..group(1) }], None);
            world.wires.server(0);
            let mut client = world.client(0);
            for round in 1..=20 {
                client.post("warm").await.assert_ok();
                settle().await;
                let peer = world.wires.peers.borrow().last().unwrap().clone();
                *peer.pretend.lock().unwrap() = VecDeque::from([look]);
                let body = format!("not lost {round};");
                let told = client.post(body.clone()).await;
                assert_eq!((told.assert_ok().tries, told.text()), (1, body.as_str()), "{name}");
                assert_eq!(peer.times_sent(&body), 0, "{name}");
                assert_eq!(
                    (world.dropped(reason), world.opened(OpenReason::ReplacedStale)),
                    (round, round),
                    "{name}"
                );
            }
            assert_eq!(world.shared.report()[0].retries, 0, "{name}");
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn a_pool_full_of_dead_upstreams_loses_no_request() {
    story(async {
        let world = World::simple();
        let clients: Vec<_> = (0..10).map(|_| world.client(0)).collect();
        let tasks = clients.into_iter().map(|mut client| {
            tokio::task::spawn_local(async move { client.get("/").await.assert_ok().clone() })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        settle().await;
        for peer in world.wires.peers.borrow().iter() {
            *peer.pretend.lock().unwrap() = VecDeque::from([Standing::Closed]);
        }
        let told = world.client(0).post("x").await;
        assert_eq!((told.assert_ok().tries, told.origin.as_str()), (1, "new"));
        settle().await;
        assert_eq!(world.dropped(DropReason::ClosedByBackend), 3, "after three it opens one");
        world.assert_at_rest();
    });
}

#[test]
fn a_fresh_upstream_that_closes_before_anything_left_is_a_retry_for_every_method() {
    story(async {
        let world = World::new(vec![group(1)], None);
        world.wires.script(0, |nth, mut end| async move {
            if nth > 0 {
                while end.head().await.is_some() {
                    end.ok("x").await;
                }
            }
        });
        // The backend closes while the balancer still takes the connection for open.
        world.wires.delay.set(Duration::from_millis(1));
        let told = world.client(0).ask(Method::POST, "/", empty()).await;
        // Whether a byte had left by then is the scheduler's to say; what is promised is no loss without one.
        if told.status == 200 {
            assert_eq!(told.tries, 2);
        } else {
            told.assert_failed(Failure::ClosedEarly);
            assert_eq!(world.wires.peers.borrow()[0].times_sent("POST"), 1);
        }
    });
}

#[test]
fn retries_end_with_their_budget() {
    for (percent, requests, want) in [(0, 30, 10), (20, 100, 10 + 20)] {
        story(async move {
            let limits = UpstreamLimits { retry_percent: percent, ..UpstreamLimits::default() };
            let world = World::new(vec![GroupSpec { limits, ..group(1) }], None);
            world.mode.set(UpstreamMode::New);
            // Every first try of a request fails, every second would succeed.
            world.wires.script(0, |nth, mut end| async move {
                if end.head().await.is_some() && nth % 2 == 1 {
                    end.ok("x").await;
                }
            });
            let mut client = world.client(0);
            let (mut ok, mut connections) = (0, 0);
            for _ in 0..requests {
                let told = client.get("/").await;
                if told.status == 200 {
                    ok += 1;
                } else {
                    told.assert_failed(Failure::ClosedEarly);
                    // The next request must find the odd turn again.
                    world.wires.connected.set(connections);
                    continue;
                }
                connections = world.wires.connected.get();
            }
            let report = &world.shared.report()[0];
            // The last few earn as they go.
            assert!((want - 1..=want + 6).contains(&ok), "{percent} %: {ok} of {requests}");
            assert_eq!(report.retries, ok);
            assert_eq!(report.retries_denied, requests - ok);
        });
    }
}

/// Reads a whole request of known length, or so much of its body.
async fn body(end: &mut super::wire::End, length: usize) -> Vec<u8> {
    let mut body = vec![0; length];
    end.read_exact(&mut body).await.unwrap();
    body
}

#[test]
fn a_body_is_sent_again_whole_as_long_as_it_is_kept() {
    for (name, method, length, read, tries) in [
        ("before any of it was read", Method::PUT, 10_000, 0, Some(2)),
        ("after half", Method::PUT, 10_000, 5_000, Some(2)),
        ("after all", Method::PUT, 10_000, 10_000, Some(2)),
        ("up to the last byte that is kept", Method::PUT, 64 * 1024, 64 * 1024, Some(2)),
        ("too long to be kept", Method::PUT, 300_000, 250_000, None),
        ("too long, but no more of it was taken than is kept", Method::PUT, 3_000_000, 0, Some(2)),
        ("not to be repeated", Method::POST, 10, 10, None),
    ] {
        story(async move {
            let world = World::new(vec![group(1)], None);
            let notes = Notes::default();
            let seen = notes.clone();
            world.wires.script(0, move |nth, mut end| {
                let seen = seen.clone();
                async move {
                    end.head().await;
                    if nth == 0 {
                        body(&mut end, read).await;
                        return;
                    }
                    let got = body(&mut end, length).await;
                    let sum = got.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(*byte));
                    seen.note(sum.to_string());
                    end.ok("stored").await;
                    end.head().await;
                }
            });
            let sent: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            let sum = sent.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31) + u32::from(*byte));
            let told = world.client(0).ask(method, "/", full(sent)).await;
            match tries {
                Some(tries) => {
                    assert_eq!((told.assert_ok().tries, told.text()), (tries, "stored"), "{name}");
                    assert_eq!(notes.all(), [sum.to_string()], "{name}");
                }
                None => assert_eq!(told.failure, "closed_early", "{name}"),
            }
            settle().await;
            world.assert_at_rest();
        });
    }
}

#[test]
fn a_long_body_is_not_lost_to_an_upstream_that_was_closed_before_it_left() {
    story(async {
        let world = World::simple();
        let mut client = world.client(0);
        client.post("warm").await.assert_ok();
        settle().await;
        *world.wires.peers.borrow()[0].pretend.lock().unwrap() = VecDeque::from([Standing::Closed]);
        let long = "0123456789".repeat(100_000);
        let told = client.post(long.clone()).await;
        assert_eq!(told.assert_ok().tries, 1);
        assert!(told.body.unwrap() == long.as_bytes());
    });
}
