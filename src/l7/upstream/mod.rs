//! Upstreams: who sends requests to backends, over connections that are kept and shared by all workers.
//!
//! ```text
//!   forward(exchange) ─▶ pool: find ─┬─ Lease ──────▶ probe: still quiet? ─┬─▶ send ─▶ head ─▶ body ─▶ give back
//!        ▲                           ├─ Slot ───▶ connect, PROXY, TLS ─────┘     │
//!        │                           └─ Waiting                                  │ no answer
//!        └───────────────────── retry, if it may ◀───────────────────────────────┘
//! ```
//!
//! [`Shared`] is one a process: groups with their schedulers, the pool, the counters. [`Upstreams`] is one a worker: it
//! opens upstreams there and forwards the requests of its sessions, over any worker's upstreams.
//!
//! *A request is not lost to an upstream that the backend closed before the request left.* With the first bytes of the
//! request in hand the kernel is asked how the connection stands (see `wire`). What is found
//! closed is dropped with its reason, and the request goes on to the next or to a fresh one, whatever its method,
//! with its body replayed from what was kept of it (see `body`). Between that last look and the backend's kernel there is
//! still the wire: a request that crosses with a FIN is retried where HTTP allows it (see `forward`), and fails as
//! [`ClosedEarly`](super::exchange::Failure::ClosedEarly) where it does not.
//!
//! An upstream that began with a PROXY protocol header speaks for one client, so it is never pooled.
//!
//! Informational answers other than 101 end here: hyper keeps them to itself. A `CONNECT` has no tunnel.

mod account;
mod answer;
mod body;
mod books;
mod budget;
mod call;
mod forward;
mod hedge;
mod lease;
mod open;
mod pool;
mod proxy_header;
mod reason;
mod wait;
mod wire;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::connect::Connect;
use crate::datapath::WorkerId;

pub use self::answer::{AnswerBody, AnswerLost};
pub use self::body::BodyLost;
pub use self::pool::Shared;
pub use self::reason::{BackendCounts, BackendReport, DropReason, GroupReport, OpenReason};

/// How often a worker looks for upstreams whose time is over, at least and at most.
const SWEEPS: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// One worker's way to the backends.
pub struct Upstreams {
    shared: Arc<Shared>,
    worker: usize,
    connect: Rc<dyn Connect>,
    sweeper: JoinHandle<()>,
}

impl Upstreams {
    /// For one worker, on its thread and within its `LocalSet`. One for each worker.
    pub fn new(shared: Arc<Shared>, worker: WorkerId, connect: Rc<dyn Connect>) -> Self {
        let worker = worker.index();
        shared.add_worker(worker);
        let sweeper = tokio::task::spawn_local(sweep(Arc::clone(&shared), worker));
        Self { shared, worker, connect, sweeper }
    }

    /// What all workers share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }
}

impl Drop for Upstreams {
    fn drop(&mut self) {
        self.sweeper.abort();
    }
}

/// One timer a worker, not one an upstream. Check-out looks for itself; this is for those that nobody asks for.
async fn sweep(shared: Arc<Shared>, worker: usize) {
    let limits = shared.groups.iter().map(|group| group.limits);
    let shortest =
        limits.map(|limits| limits.age.map_or(limits.idle_time, |age| age.min(limits.idle_time))).min();
    let pause = (shortest.unwrap_or(SWEEPS.1) / 8).clamp(SWEEPS.0, SWEEPS.1);
    loop {
        tokio::time::sleep(pause).await;
        shared.sweep(worker);
    }
}

#[cfg(test)]
mod tests;
