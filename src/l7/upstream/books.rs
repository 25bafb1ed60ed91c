//! The books of one group: its upstreams, its queue, its counters. All of it is behind the group's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::account::{Account, Pick};
use super::budget::Budget;
use super::lease::{Handle, Lease, Slot};
use super::pool::{Group, Queue, Shared};
use super::reason::{DropReason, OpenReason};
use super::wire::{Reuse, Upstream};
use crate::datapath::{self, BackendId};
use crate::l7::exchange::Failure;
use crate::l7::spec::UpstreamLimits;
use crate::l7::tls::BackendCause;
use crate::packet::FiveTuple;

/// What a request wants.
#[derive(Clone, Debug)]
pub(super) struct Wish {
    /// The client's connection, for the scheduler.
    pub tuple: FiveTuple,
    pub worker: usize,
    pub want: Want,
    /// The backend that the client stays with, while that is up and has room.
    pub prefer: Option<BackendId>,
    /// Backends that have turned it away.
    pub avoid: Vec<BackendId>,
    /// Whether it is the first that the request has.
    pub first: bool,
    /// What the request has been through, if the upstream that it asks for now is opened because of that.
    pub because: Option<OpenReason>,
}

/// Where the upstream is to come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// The pool, or opened where that has none.
    Pool,
    /// Opened.
    Fresh,
    /// Opened, to this backend.
    FreshAt(BackendId),
}

impl Wish {
    /// Whether it has been served before, and so does not stand at the end of the queue again.
    pub(super) fn is_retry(&self) -> bool {
        matches!(self.because, Some(OpenReason::Retry | OpenReason::Hedge | OpenReason::ReplacedStale))
    }
}

/// What it gets.
pub(super) enum Grant {
    Lease(Lease),
    Slot(Slot),
}

/// What was found.
pub(super) enum Found {
    Grant(Grant),
    /// All backends that could have served it have as many upstreams as they may.
    Full,
    /// One that can carry it is being opened.
    Opening,
    /// There are as many upstreams in total as may be.
    NoRoom,
    /// Nobody could serve it.
    NoBackend,
}

/// Who waits.
pub(super) struct Waiter {
    pub ticket: u64,
    pub wish: Wish,
    pub grant: oneshot::Sender<Grant>,
}

impl Waiter {
    pub(super) fn is_gone(&self) -> bool {
        self.grant.is_closed()
    }

    /// Gives it; what comes back has to be dropped without the lock.
    pub(super) fn give(self, grant: Grant) -> Option<Grant> {
        self.grant.send(grant).err()
    }
}

/// The books.
pub(super) struct Books {
    pub backends: Box<[Account]>,
    pub waiters: Queue,
    tickets: u64,
    pub budget: Budget,
    chance: SmallRng,
    pub requests: u64,
    pub retries: u64,
    pub retries_denied: u64,
    pub hedges: u64,
    pub hedges_won: u64,
    pub waited: u64,
    pub failures: [u64; Failure::COUNT],
    pub tls_failures: [u64; BackendCause::COUNT],
}

impl Books {
    pub(super) fn new(backends: usize, retry_percent: u32, chance: SmallRng) -> Self {
        Self {
            backends: (0..backends).map(|_| Account::default()).collect(),
            waiters: Queue::new(),
            tickets: 0,
            budget: Budget::new(retry_percent),
            chance,
            requests: 0,
            retries: 0,
            retries_denied: 0,
            hedges: 0,
            hedges_won: 0,
            waited: 0,
            failures: [0; Failure::COUNT],
            tls_failures: [0; BackendCause::COUNT],
        }
    }

    pub(super) fn add_worker(&mut self, worker: usize) {
        for account in &mut self.backends {
            account.add_worker(worker);
        }
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets = self.tickets.wrapping_add(1);
        self.tickets
    }

    /// Looks for what the wish wants: at the backend that the scheduler picks, and where that is full at others.
    #[expect(clippy::too_many_arguments)]
    pub(super) fn find(
        &mut self,
        group: &Group,
        shared: &Arc<Shared>,
        place: usize,
        wish: &Wish,
        (now, time): (Instant, datapath::Instant),
        freed: &mut usize,
        reserve: impl Fn() -> bool,
    ) -> Found {
        let mut full = Vec::new();
        let mut outcome = Found::NoBackend;
        loop {
            let avoid = if full.is_empty() { &wish.avoid } else { &full };
            let picked = match wish.want {
                Want::FreshAt(backend) if full.is_empty() => Some(backend),
                Want::FreshAt(_) => return outcome,
                Want::Pool | Want::Fresh => wish
                    .prefer
                    .filter(|backend| !avoid.contains(backend) && group.balance.takes(time, *backend))
                    .or_else(|| group.balance.pick(time, &wish.tuple, avoid, &mut self.chance)),
            };
            let Some(backend) = picked else { return outcome };
            let Some(account) = self.backends.get_mut(backend.index()) else { return outcome };
            match account.find(group, wish, now, freed, &reserve) {
                Ok(Pick::Reuse(upstream, handle)) => {
                    account.counts.reused += 1;
                    account.begin();
                    group.balance.opened(backend);
                    return Found::Grant(Grant::Lease(Lease::reused(Arc::clone(shared), upstream, handle)));
                }
                Ok(Pick::Open(why)) => {
                    account.begin();
                    group.balance.opened(backend);
                    return Found::Grant(Grant::Slot(Slot::new(Arc::clone(shared), place, backend, why)));
                }
                // Another backend would want the same room.
                Err(found @ Found::NoRoom) => return found,
                Err(found) => {
                    outcome = found;
                    if full.is_empty() {
                        full.clone_from(&wish.avoid);
                    }
                    full.push(backend);
                }
            }
        }
    }

    pub(super) fn opened(&mut self, upstream: &Arc<Upstream>, why: OpenReason, handle: &Handle) {
        let Some(account) = self.backends.get_mut(upstream.backend.index()) else { return };
        account.enter(upstream, why, handle);
    }

    pub(super) fn vacate(&mut self, backend: BackendId, freed: &mut usize) {
        let Some(account) = self.backends.get_mut(backend.index()) else { return };
        account.vacate();
        *freed += 1;
    }

    /// A request is over, whatever becomes of its upstream.
    pub(super) fn finish(&mut self, upstream: &Upstream) {
        let Some(account) = self.backends.get_mut(upstream.backend.index()) else { return };
        account.counts.in_flight = account.counts.in_flight.saturating_sub(1);
        let streams = upstream.streams.load(Relaxed);
        upstream.streams.store(streams.saturating_sub(1), Relaxed);
    }

    /// Takes an upstream off the books; false if it was off them before.
    pub(super) fn end(&mut self, upstream: &Arc<Upstream>, reason: DropReason, freed: &mut usize) -> bool {
        self.backends.get_mut(upstream.backend.index()).is_some_and(|account| {
            account.forget(upstream);
            account.end(upstream, reason, freed)
        })
    }

    pub(super) fn check_in(
        &mut self,
        group: &Group,
        upstream: &Arc<Upstream>,
        handle: Handle,
        closing: bool,
        freed: &mut usize,
    ) {
        self.finish(upstream);
        if upstream.ended.load(Relaxed) {
            return;
        }
        let others_wait = !self.waiters.is_empty();
        let Some(account) = self.backends.get_mut(upstream.backend.index()) else { return };
        let now = Instant::now();
        let limits = &group.limits;
        let worn = upstream.worn(limits, now);
        let crowded = !others_wait && account.counts.idle >= limits.idle;
        let reason = match (upstream.reuse, worn) {
            (Reuse::Single, _) => Some(DropReason::SingleUse),
            (Reuse::Pooled, _) if closing => Some(DropReason::Shutdown),
            (Reuse::Pooled, Some(reason)) => Some(reason),
            (Reuse::Pooled, None) => crowded.then_some(DropReason::IdleCount),
        };
        account.check_in(upstream, handle, reason, now, freed);
    }

    /// Ends all that is idle, of one backend or of all.
    pub(super) fn end_idle(&mut self, backend: Option<BackendId>, reason: DropReason, freed: &mut usize) {
        let accounts = self.backends.iter_mut().enumerate();
        for (_, account) in accounts.filter(|(place, _)| backend.is_none_or(|only| only.index() == *place)) {
            while account.end_oldest(reason, freed) {}
        }
    }

    /// Ends one that is idle; false if there is none.
    pub(super) fn end_oldest(&mut self, reason: DropReason, freed: &mut usize) -> bool {
        self.backends.iter_mut().any(|account| account.end_oldest(reason, freed))
    }

    pub(super) fn note_unopened(&mut self, backend: BackendId) {
        if let Some(account) = self.backends.get_mut(backend.index()) {
            account.counts.unopened = account.counts.unopened.wrapping_add(1);
        }
    }

    pub(super) fn note_lost(&mut self, backend: BackendId) {
        if let Some(account) = self.backends.get_mut(backend.index()) {
            account.counts.failures = account.counts.failures.wrapping_add(1);
        }
    }

    pub(super) fn sweep(&mut self, worker: usize, limits: &UpstreamLimits, now: Instant, freed: &mut usize) {
        for account in &mut self.backends {
            account.sweep(worker, limits, now, freed);
        }
    }
}
