//! Steady load, from one worker and from several: the pool is one.

use std::sync::{Arc, Barrier};

use super::world::{World, group, run, settle, shared_of};
use crate::l7::spec::{GroupSpec, UpstreamLimits};
use crate::l7::upstream::Shared;

const CLIENTS: usize = 8;
const REQUESTS: usize = 12_000;

/// One worker's share of the load, on a thread of its own.
fn work(shared: Arc<Shared>, worker: u8, workers: usize, start: &Barrier) {
    run(false, async {
        let world = World::on(shared, worker);
        world.wires.server(0);
        start.wait();
        let mut tasks = Vec::new();
        for _ in 0..CLIENTS / workers {
            let mut client = world.client(0);
            tasks.push(tokio::task::spawn_local(async move {
                for _ in 0..REQUESTS / CLIENTS {
                    client.get("/steady").await.assert_ok();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        // The others may still use what lives here.
        while world.shared.report()[0].requests < REQUESTS as u64 || world.counts(0).in_flight > 0 {
            settle().await;
        }
    });
}

#[test]
fn under_steady_load_upstreams_are_reused_whatever_the_number_of_workers() {
    for workers in [1, 2, 4] {
        let shared = shared_of(vec![group(1)], None);
        let start = Arc::new(Barrier::new(workers));
        let threads: Vec<_> = (0..workers)
            .map(|worker| {
                let (shared, start) = (Arc::clone(&shared), Arc::clone(&start));
                let worker = u8::try_from(worker).unwrap();
                std::thread::spawn(move || work(shared, worker, workers, &start))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        let counts = shared.report()[0].backends[0].counts;
        assert_eq!((counts.requests, counts.failures), (REQUESTS as u64, 0));
        assert!(counts.reused * 1000 >= counts.requests * 999, "{workers} workers: {counts:?}");
    }
}

#[test]
fn a_worker_uses_what_another_has_opened_where_no_more_may_be() {
    let limits = UpstreamLimits { connections: 1, ..UpstreamLimits::default() };
    let shared = shared_of(vec![GroupSpec { limits, ..group(1) }], None);
    let (opened, done) = (Arc::new(Barrier::new(2)), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let first = std::thread::spawn({
        let (shared, opened, done) = (Arc::clone(&shared), Arc::clone(&opened), Arc::clone(&done));
        move || {
            run(false, async {
                let world = World::on(shared, 0);
                world.wires.server(0);
                world.client(0).get("/").await.assert_ok();
                settle().await;
                opened.wait();
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    settle().await;
                }
            });
        }
    });
    opened.wait();
    // This one has no way to any backend of its own.
    run(false, async {
        let world = World::on(Arc::clone(&shared), 1);
        let mut client = world.client(0);
        for _ in 0..100 {
            assert_eq!(client.post("from afar").await.assert_ok().text(), "from afar");
        }
    });
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    first.join().unwrap();
    let counts = shared.report()[0].backends[0].counts;
    assert_eq!((counts.opened(), counts.reused), (1, 100));
}
