//! One fetch for many: who waits for it, and what it brought.
//!
//! ```text
//!   Fetching ──┬── Given: a head, and a body that is whole or on its way ── stored when it is whole
//!              ├── Declined: it is for the one that asked for it, and others ask for themselves
//!              ├── Refused: the backend answered with an error, and what is stored may be given instead
//!              └── Failed
//! ```
//!
//! A flight ends when it brought something, or, before that, when nobody waits for it. Invariant: whoever joins does so under
//! the lock of the shard that lists the flight, and it is taken off that list before it ends for want of waiters; so nobody
//! waits for a flight that is not on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::HeaderMap;
use hyper::StatusCode;
use tokio::sync::watch;

use super::entry::{Head, Place, Whole};
use super::flow::Flow;
use super::status::Detail;
use crate::l7::exchange::{Failure, Origin};
use crate::packet::Endpoint;

/// One fetch.
#[derive(Debug)]
pub(super) struct Flight {
    pub hash: u64,
    /// What is fetched.
    pub key: Box<str>,
    pub place: Place,
    /// The request that it is for, with the fields that others must agree with.
    pub request: HeaderMap,
    /// Whether others may wait for it.
    pub sharing: Sharing,
    /// Set once what it brings is outdated before it came.
    doomed: AtomicBool,
    phase: watch::Sender<Phase>,
}

/// Whether others may wait for a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// They may.
    Open,
    /// It is for one.
    Alone,
}

/// How far it is.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Fetching,
    Given(Given),
    /// It is not for others, for this reason.
    Declined(Detail),
    /// The backend answered with this status to a validation, and what is stored may be given instead.
    Refused(StatusCode),
    Failed(Failure),
}

/// What a fetch brought.
#[derive(Clone, Debug)]
pub(super) struct Given {
    pub head: Arc<Head>,
    pub body: Source,
    /// The backend's own status.
    pub status: StatusCode,
    /// Why it is not stored, or that it was validated.
    pub detail: Option<Detail>,
    pub stored: bool,
    /// Who answered, how the upstream was come by, and after how many tries.
    pub from: (Option<Endpoint>, Option<Origin>, u32),
}

/// Where its body is.
#[derive(Clone, Debug)]
pub(super) enum Source {
    Whole(Arc<Whole>),
    Flow(Arc<Flow>),
}

impl Flight {
    pub(super) fn new(
        hash: u64,
        key: Box<str>,
        place: Place,
        request: HeaderMap,
        sharing: Sharing,
    ) -> Arc<Self> {
        let (phase, _) = watch::channel(Phase::Fetching);
        Arc::new(Self { hash, key, place, request, sharing, doomed: AtomicBool::new(false), phase })
    }

    /// Waits for what it brings. With the shard's lock held, but for the first one.
    pub(super) fn join(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(super) fn reach(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Whether it is still on its way to a head.
    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.phase.receiver_count() > 0
    }

    /// Waits until nobody waits for it.
    pub(super) async fn deserted(&self) {
        self.phase.closed().await;
    }

    pub(super) fn doom(&self) {
        self.doomed.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.load(Ordering::Relaxed)
    }
}

/// What a waiter is told in the end.
pub(super) async fn landed(mut flight: watch::Receiver<Phase>) -> Phase {
    match flight.wait_for(|phase| !matches!(phase, Phase::Fetching)).await {
        Ok(phase) => phase.clone(),
        // Its worker is gone, and the fetch with it.
        Err(_) => Phase::Failed(Failure::ClosedEarly),
    }
}
