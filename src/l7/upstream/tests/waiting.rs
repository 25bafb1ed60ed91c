//! The queue: who waits, in which order, and for how long.

use std::time::Duration;

use super::world::{Notes, World, group, settle, story};
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, UpstreamLimits};

/// One upstream at most, and a backend that takes a second for each answer.
fn narrow(limits: UpstreamLimits) -> World {
    let limits = UpstreamLimits { connections: 1, ..limits };
    let world = World::new(vec![GroupSpec { limits, ..group(1) }], None);
    world.wires.script(0, |_, mut end| async move {
        while end.head().await.is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
            end.ok("x").await;
        }
    });
    world
}

/// Sends so many requests, a little apart, each of which notes its number and how it ended.
async fn line_up(world: &World, requests: usize) -> Notes {
    let notes = Notes::default();
    let mut tasks = Vec::new();
    for nth in 0..requests {
        let (mut client, notes) = (world.client(0), notes.clone());
        tasks.push(tokio::task::spawn_local(async move {
            let told = client.get("/").await;
            notes.note(format!("{nth} {}{}", told.origin, told.failure));
        }));
        settle().await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    settle().await;
    notes
}

#[test]
fn who_came_first_is_served_first() {
    story(async {
        let world = narrow(UpstreamLimits::default());
        let notes = line_up(&world, 4).await;
        assert_eq!(notes.all(), ["0 new", "1 reused", "2 reused", "3 reused"]);
        let report = &world.shared.report()[0];
        assert_eq!((report.waited, report.backends[0].counts.opened()), (3, 1));
        world.assert_at_rest();
    });
}

#[test]
fn no_more_wait_than_may() {
    story(async {
        let world = narrow(UpstreamLimits { waiting: 2, ..UpstreamLimits::default() });
        let notes = line_up(&world, 5).await;
        assert_eq!(notes.all(), ["3 queue_full", "4 queue_full", "0 new", "1 reused", "2 reused"]);
        assert_eq!(world.failures(Failure::QueueFull), 2);
        world.assert_at_rest();
    });
}

#[test]
fn nobody_waits_longer_than_may() {
    story(async {
        let world = narrow(UpstreamLimits { wait: Duration::from_millis(1500), ..UpstreamLimits::default() });
        let notes = line_up(&world, 4).await;
        assert_eq!(notes.all(), ["0 new", "2 queue_timeout", "3 queue_timeout", "1 reused"]);
        assert_eq!(world.failures(Failure::QueueTimeout), 2);
        world.assert_at_rest();
    });
}

#[test]
fn who_gives_up_leaves_the_queue_and_takes_nothing() {
    story(async {
        let world = narrow(UpstreamLimits::default());
        let mut first = world.client(0);
        let first = tokio::task::spawn_local(async move { first.get("/").await });
        settle().await;
        let mut second = world.client(0);
        let second = tokio::task::spawn_local(async move { second.get("/").await });
        settle().await;
        assert_eq!(world.shared.report()[0].waiting, 1);
        let mut third = world.client(0);
        let third = tokio::task::spawn_local(async move { third.get("/").await });
        settle().await;
        second.abort();
        settle().await;
        first.await.unwrap().assert_ok();
        third.await.unwrap().assert_ok();
        settle().await;
        assert_eq!(world.counts(0).requests, 2);
        world.assert_at_rest();
    });
}

#[test]
fn newcomers_do_not_overtake() {
    story(async {
        let world = narrow(UpstreamLimits { wait: Duration::from_secs(100), ..UpstreamLimits::default() });
        let notes = Notes::default();
        let mut tasks = Vec::new();
        for nth in 0..10 {
            let (mut client, notes) = (world.client(0), notes.clone());
            tasks.push(tokio::task::spawn_local(async move {
                for round in 0..3 {
                    client.get("/").await.assert_ok();
                    notes.note(format!("{round} {nth}"));
                }
            }));
            settle().await;
        }
        for task in tasks {
            task.await.unwrap();
        }
        let want: Vec<String> =
            (0..3).flat_map(|round| (0..10).map(move |nth| format!("{round} {nth}"))).collect();
        assert_eq!(notes.all(), want);
    });
}

#[test]
fn a_waiter_is_given_the_place_of_an_upstream_that_ends() {
    story(async {
        let limits = UpstreamLimits { connections: 1, ..UpstreamLimits::default() };
        let world = World::new(vec![GroupSpec { limits, ..group(1) }], None);
        world.wires.script(0, |_, mut end| async move {
            end.head().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
            end.say("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\nx").await;
        });
        let notes = line_up(&world, 3).await;
        assert_eq!(notes.all(), ["0 new", "1 new", "2 new"]);
        world.assert_at_rest();
    });
}

#[test]
fn those_who_wait_are_told_when_the_last_backend_goes_down() {
    story(async {
        let limits =
            UpstreamLimits { connections: 1, connect: Duration::from_secs(1), ..UpstreamLimits::default() };
        let world = World::new(vec![GroupSpec { limits, ..group(1) }], None);
        world.wires.set(0, super::world::Door::Silent);
        let notes = line_up(&world, 6).await;
        let told = notes.all();
        assert_eq!(told[..3], ["0 connect_timeout", "1 connect_timeout", "2 connect_timeout"]);
        assert_eq!(told[3..], ["3 no_backend", "4 no_backend", "5 no_backend"]);
        world.assert_at_rest();
    });
}
