//! How many upstreams there may be: of one backend, and of all together.

use std::time::Duration;

use super::world::{World, group, settle, story};
use crate::l7::spec::{GroupSpec, UpstreamLimits, UpstreamMode};
use crate::l7::upstream::DropReason;

/// Backends that take a second for each answer.
fn slow(world: &World, backends: u16) {
    for number in 0..backends {
        world.wires.script(number, |_, mut end| async move {
            while end.head().await.is_some() {
                tokio::time::sleep(Duration::from_secs(1)).await;
                end.ok("x").await;
            }
        });
    }
}

fn capped(backends: u16, connections: usize) -> GroupSpec {
    GroupSpec { limits: UpstreamLimits { connections, ..UpstreamLimits::default() }, ..group(backends) }
}

/// Sends so many requests at once and gives back how many upstreams there were at most.
async fn crowd(world: &World, group: usize, clients: usize) -> usize {
    let mut tasks = Vec::new();
    for _ in 0..clients {
        let mut client = world.client(group);
        tasks.push(tokio::task::spawn_local(async move {
            client.get("/").await.assert_ok();
        }));
    }
    let mut most = 0;
    while !tasks.iter().all(tokio::task::JoinHandle::is_finished) {
        settle().await;
        let live = |report: crate::l7::upstream::GroupReport| -> usize {
            report.backends.iter().map(|backend| backend.counts.live).sum()
        };
        most = most.max(world.shared.report().into_iter().map(live).sum());
    }
    for task in tasks {
        task.await.unwrap();
    }
    settle().await;
    most
}

#[test]
fn a_backend_has_no_more_upstreams_than_it_may() {
    for mode in [UpstreamMode::Pool, UpstreamMode::New] {
        story(async move {
            let world = World::new(vec![capped(1, 3)], None);
            slow(&world, 1);
            world.mode.set(mode);
            assert_eq!(crowd(&world, 0, 9).await, 3, "{mode:?}");
            assert_eq!(world.shared.report()[0].waited, 6, "{mode:?}");
            world.assert_at_rest();
        });
    }
}

#[test]
fn where_one_backend_is_full_another_is_asked_before_anybody_waits() {
    story(async {
        let world = World::new(vec![capped(2, 2)], None);
        slow(&world, 2);
        assert_eq!(crowd(&world, 0, 4).await, 4);
        assert_eq!(world.shared.report()[0].waited, 0);
        assert_eq!((world.counts(0).requests, world.counts(1).requests), (2, 2));
        world.assert_at_rest();
    });
}

#[test]
fn all_together_have_no_more_than_they_may() {
    story(async {
        let world = World::new(vec![capped(2, 10), capped(2, 10)], Some(3));
        slow(&world, 2);
        let other = world.clone();
        let other = tokio::task::spawn_local(async move { crowd(&other, 1, 5).await });
        let most = crowd(&world, 0, 5).await;
        assert_eq!(most.max(other.await.unwrap()), 3);
        world.assert_at_rest();
    });
}

#[test]
fn idle_upstreams_of_others_make_room_when_all_together_are_too_many() {
    story(async {
        let world =
            World::new(vec![capped(1, 10), GroupSpec { name: "other".to_owned(), ..capped(1, 10) }], Some(2));
        slow(&world, 1);
        crowd(&world, 0, 2).await;
        assert_eq!(world.counts(0).idle, 2);
        crowd(&world, 1, 2).await;
        assert_eq!((world.counts(0).idle, world.dropped(DropReason::MadeRoom)), (0, 2));
        crowd(&world, 0, 1).await;
        let reports = world.shared.report();
        assert_eq!((reports[0].backends[0].counts.live, reports[1].backends[0].counts.live), (1, 1));
        assert_eq!(reports[0].waited + reports[1].waited, 0);
        world.assert_at_rest();
    });
}

#[test]
fn who_waits_for_room_in_total_is_given_what_another_group_gives_back() {
    story(async {
        let world = World::new(vec![capped(1, 10), capped(1, 10)], Some(1));
        slow(&world, 1);
        for _ in 0..3 {
            let mut first = world.client(0);
            let first = tokio::task::spawn_local(async move { first.get("/").await });
            settle().await;
            let start = tokio::time::Instant::now();
            world.client(1).get("/").await.assert_ok();
            assert_eq!(start.elapsed().as_secs(), 1, "the other's second, and its own");
            first.await.unwrap().assert_ok();
        }
        settle().await;
        assert_eq!(world.shared.report()[1].waited, 3);
        world.assert_at_rest();
    });
}

#[test]
fn new_makes_room_among_the_idle_of_the_same_backend() {
    story(async {
        let world = World::new(vec![capped(1, 2)], None);
        slow(&world, 1);
        crowd(&world, 0, 2).await;
        world.mode.set(UpstreamMode::New);
        crowd(&world, 0, 1).await;
        assert_eq!((world.dropped(DropReason::MadeRoom), world.dropped(DropReason::SingleUse)), (1, 1));
        world.assert_at_rest();
    });
}
