//! Ten thousand trials of a backend that closes idle connections at the worst moment.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use hyper::Method;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::world::{Wires, World, empty, full, group, run};
use crate::l7::connect::Standing;
use crate::l7::exchange::Failure;
use crate::l7::upstream::{DropReason, OpenReason};

const TRIALS: u32 = 10_000;

/// Serves some requests, and then closes: while it is idle, as the next request is on its way, or as that arrives.
/// A first request is always answered, as by a backend that closes what is idle and nothing else.
fn fickle(wires: &Wires, seed: u64) {
    let chance = Rc::new(RefCell::new(SmallRng::seed_from_u64(seed)));
    wires.script(0, move |_, mut end| {
        let chance = Rc::clone(&chance);
        let draw = move |below: u32| chance.borrow_mut().random_range(0..below);
        async move {
            loop {
                let Some(head) = end.head().await else { return };
                if let Some(length) = head.lines().find_map(|line| line.strip_prefix("content-length: ")) {
                    let mut body = vec![0; length.parse().unwrap()];
                    if tokio::io::AsyncReadExt::read_exact(&mut end, &mut body).await.is_err() {
                        return;
                    }
                }
                end.ok("x").await;
                match draw(5) {
                    0 => {
                        for _ in 0..draw(12) {
                            tokio::task::yield_now().await;
                        }
                        return;
                    }
                    1 => {
                        // The first byte has come: the request has left.
                        let _ = tokio::io::AsyncReadExt::read_u8(&mut end).await;
                        return;
                    }
                    2 => {
                        // A kernel that hears of it between check-out and the first byte.
                        *end.peer.pretend.lock().unwrap() = [Standing::Quiet, Standing::Closed].into();
                    }
                    _ => {}
                }
            }
        }
    });
}

#[test]
fn no_request_that_had_not_left_is_lost_to_a_backend_that_closes_at_the_worst_moment() {
    for seed in [4, 7] {
        run(true, trials(seed, TRIALS / 2));
    }
}

async fn trials(seed: u64, count: u32) {
    let world = World::new(vec![group(1)], None);
    fickle(&world.wires, seed);
    let mut chance = SmallRng::seed_from_u64(seed ^ 1);
    let mut clients: Vec<_> = (0..3).map(|_| world.client(0)).collect();
    let mut closed_early = 0;
    for trial in 0..count {
        let post = chance.random_range(0..2) == 0;
        let path = format!("/trial-{trial}-{seed};");
        let client = &mut clients[chance.random_range(0..3_usize)];
        let (method, body) = if post { (Method::POST, full("a body")) } else { (Method::GET, empty()) };
        let told = client.ask(method, &path, body).await;
        let times =
            || -> usize { world.wires.peers.borrow().iter().map(|peer| peer.times_sent(&path)).sum() };
        if told.status != 200 {
            told.assert_failed(Failure::ClosedEarly);
            assert!(post, "seed {seed}, trial {trial}: what may be sent again is not lost");
            assert_eq!(times(), 1, "seed {seed}, trial {trial}: it had left, and once");
            closed_early += 1;
        } else if post {
            assert_eq!(times(), 1, "seed {seed}, trial {trial}: not sent twice");
        }
        for _ in 0..chance.random_range(0..8) {
            tokio::task::yield_now().await;
        }
        // What is over is not searched again.
        if trial % 16 == 0 {
            world.wires.peers.borrow_mut().retain(|peer| Arc::strong_count(peer) > 1);
        }
    }
    // All of it has happened: found closed in the pool, by the connection's task or by a last look; and crossed on the wire.
    assert!(closed_early > count / 50, "{closed_early}");
    assert!(world.dropped(DropReason::ClosedByBackend) > u64::from(count / 10));
    assert!(world.opened(OpenReason::ReplacedStale) > u64::from(count / 50));
    assert!(world.opened(OpenReason::Cold) > u64::from(count / 50));
}
