//! The books of one group: its upstreams, its queue, its counters. All of it is behind the group's lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::client::conn::{http1, http2};
use rand::rngs::SmallRng;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::body::Outgoing;
use super::budget::Budget;
use super::lease::{Handle, Lease, Slot};
use super::pool::{Group, Queue, Shared};
use super::reason::{BackendCounts, DropReason, OpenReason};
use super::wire::{Reuse, Sharing, Upstream};
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
        matches!(self.because, Some(OpenReason::Retry | OpenReason::ReplacedStale))
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
    pub waited: u64,
    pub failures: [u64; Failure::COUNT],
    pub tls_failures: [u64; BackendCause::COUNT],
}

/// One backend's.
#[derive(Default)]
pub(super) struct Account {
    pub counts: BackendCounts,
    /// Upstreams of HTTP/1.1 that are idle, by their worker; the last one was used last.
    idle: Vec<Vec<Idle>>,
    /// Upstreams of HTTP/2, idle or not.
    carriers: Vec<Carrier>,
    /// How many are being opened.
    opening: usize,
}

struct Idle {
    upstream: Arc<Upstream>,
    handle: http1::SendRequest<Outgoing>,
    since: Instant,
}

struct Carrier {
    upstream: Arc<Upstream>,
    handle: http2::SendRequest<Outgoing>,
    /// When it last had a request.
    since: Instant,
    /// Whether it has none now, and is counted as idle.
    idle: bool,
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
            waited: 0,
            failures: [0; Failure::COUNT],
            tls_failures: [0; BackendCause::COUNT],
        }
    }

    pub(super) fn add_worker(&mut self, worker: usize) {
        for account in &mut self.backends {
            if account.idle.len() <= worker {
                account.idle.resize_with(worker + 1, Vec::new);
            }
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
                Want::Pool | Want::Fresh => group.balance.pick(time, &wish.tuple, avoid, &mut self.chance),
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
        account.opening = account.opening.saturating_sub(1);
        account.counts.note_opened(why);
        upstream.ended.store(false, Relaxed);
        upstream.uses.store(1, Relaxed);
        upstream.streams.store(1, Relaxed);
        if let (Handle::Http2(handle), Reuse::Pooled) = (handle, upstream.reuse) {
            let (upstream, handle) = (Arc::clone(upstream), handle.clone());
            account.carriers.push(Carrier { upstream, handle, since: Instant::now(), idle: false });
        }
    }

    pub(super) fn vacate(&mut self, backend: BackendId, freed: &mut usize) {
        let Some(account) = self.backends.get_mut(backend.index()) else { return };
        account.opening = account.opening.saturating_sub(1);
        account.counts.live = account.counts.live.saturating_sub(1);
        account.counts.in_flight = account.counts.in_flight.saturating_sub(1);
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
        let worn = worn(upstream, limits, now);
        let crowded = !others_wait && account.counts.idle >= limits.idle;
        let reason = match (upstream.reuse, worn) {
            (Reuse::Single, _) => Some(DropReason::SingleUse),
            (Reuse::Pooled, _) if closing => Some(DropReason::Shutdown),
            (Reuse::Pooled, Some(reason)) => Some(reason),
            (Reuse::Pooled, None) => crowded.then_some(DropReason::IdleCount),
        };
        match handle {
            Handle::Http1(handle) => {
                let gone = handle.is_closed().then(|| upstream.why_gone());
                if let Some(reason) = gone.or(reason) {
                    account.end(upstream, reason, freed);
                    return;
                }
                upstream.check_in();
                if let Some(stack) = account.idle.get_mut(upstream.worker) {
                    stack.push(Idle { upstream: Arc::clone(upstream), handle, since: now });
                    account.counts.idle += 1;
                }
            }
            Handle::Http2(_) if upstream.streams.load(Relaxed) > 0 => {}
            Handle::Http2(_) => {
                if let Some(reason) = reason {
                    account.forget(upstream);
                    account.end(upstream, reason, freed);
                    return;
                }
                let carrier =
                    account.carriers.iter_mut().find(|carrier| Arc::ptr_eq(&carrier.upstream, upstream));
                if let Some(carrier) = carrier {
                    (carrier.since, carrier.idle) = (now, true);
                    account.counts.idle += 1;
                } else {
                    // Retired while it was busy: nobody will ask for it again.
                    account.end(upstream, upstream.why_gone(), freed);
                }
            }
        }
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

/// What an account has for a wish.
enum Pick {
    Reuse(Arc<Upstream>, Handle),
    Open(OpenReason),
}

impl Account {
    fn find(
        &mut self,
        group: &Group,
        wish: &Wish,
        now: Instant,
        freed: &mut usize,
        reserve: &impl Fn() -> bool,
    ) -> Result<Pick, Found> {
        if wish.want == Want::Pool {
            let found = match group.sharing() {
                Sharing::OneByOne => self.take_idle(group, wish.worker, now, freed),
                Sharing::Streams => self.take_stream(group, wish.worker, now, freed),
            };
            if let Some((upstream, handle)) = found {
                upstream.uses.fetch_add(1, Relaxed);
                upstream.streams.fetch_add(1, Relaxed);
                return Ok(Pick::Reuse(upstream, handle));
            }
            // A crowd that comes to a cold backend shares what the first of it opens.
            if group.sharing() == Sharing::Streams && self.opening > 0 {
                return Err(Found::Opening);
            }
        } else if self.counts.live >= group.limits.connections {
            self.end_oldest(DropReason::MadeRoom, freed);
        }
        if self.counts.live >= group.limits.connections {
            return Err(Found::Full);
        }
        // What this very call has freed is still counted in total.
        if *freed > 0 {
            *freed -= 1;
        } else if !reserve() {
            return Err(Found::NoRoom);
        }
        let why = wish.because.unwrap_or(match self.counts.live {
            0 => OpenReason::Cold,
            _ => OpenReason::NoneIdle,
        });
        self.counts.live += 1;
        self.opening += 1;
        Ok(Pick::Open(why))
    }

    fn begin(&mut self) {
        self.counts.in_flight += 1;
        self.counts.requests = self.counts.requests.wrapping_add(1);
    }

    /// The one of the same worker that was used last, or else one of the worker that has most.
    fn take_idle(
        &mut self,
        group: &Group,
        worker: usize,
        now: Instant,
        freed: &mut usize,
    ) -> Option<(Arc<Upstream>, Handle)> {
        if self.counts.idle == 0 {
            return None;
        }
        loop {
            let own = self.idle.get(worker).is_some_and(|stack| !stack.is_empty());
            let stack = if own {
                self.idle.get_mut(worker)
            } else {
                self.idle.iter_mut().max_by_key(|stack| stack.len())
            };
            let Idle { upstream, handle, since } = stack?.pop()?;
            self.counts.idle = self.counts.idle.saturating_sub(1);
            let tired = (now.saturating_duration_since(since) >= group.limits.idle_time)
                .then_some(DropReason::IdleTime);
            let gone = handle.is_closed().then(|| upstream.why_gone());
            match gone.or(tired).or_else(|| worn(&upstream, &group.limits, now)) {
                Some(reason) => {
                    self.end(&upstream, reason, freed);
                }
                None => {
                    upstream.check_out(true);
                    return Some((upstream, Handle::Http1(handle)));
                }
            }
        }
    }

    /// One with room for a stream, of the same worker if there is one.
    fn take_stream(
        &mut self,
        group: &Group,
        worker: usize,
        now: Instant,
        freed: &mut usize,
    ) -> Option<(Arc<Upstream>, Handle)> {
        let mut at = 0;
        while let Some(carrier) = self.carriers.get(at) {
            let Carrier { upstream, handle, since, idle } = carrier;
            let tired = (*idle && now.saturating_duration_since(*since) >= group.limits.idle_time)
                .then_some(DropReason::IdleTime);
            let closed = handle.is_closed();
            let reason = tired.or_else(|| worn(upstream, &group.limits, now));
            if !closed && reason.is_none() {
                at += 1;
                continue;
            }
            // Off the list: no more requests. Those that it has come to their end first.
            let Carrier { upstream, idle, .. } = self.carriers.swap_remove(at);
            if idle {
                self.counts.idle = self.counts.idle.saturating_sub(1);
                let reason = reason.filter(|_| !closed).unwrap_or_else(|| upstream.why_gone());
                self.end(&upstream, reason, freed);
            }
        }
        let mut best: Option<&mut Carrier> = None;
        for carrier in &mut self.carriers {
            let Upstream { streams, most_streams, worker: home, .. } = &*carrier.upstream;
            let better = best.as_ref().is_none_or(|best| best.upstream.worker != worker && *home == worker);
            if better && streams.load(Relaxed) < most_streams.load(Relaxed) {
                best = Some(carrier);
            }
        }
        let carrier = best?;
        if std::mem::take(&mut carrier.idle) {
            self.counts.idle = self.counts.idle.saturating_sub(1);
        }
        Some((Arc::clone(&carrier.upstream), Handle::Http2(carrier.handle.clone())))
    }

    /// Takes an upstream off the lists of those that can be had, if it is there.
    fn forget(&mut self, upstream: &Arc<Upstream>) {
        match upstream.sharing {
            Sharing::OneByOne => {
                let Some(stack) = self.idle.get_mut(upstream.worker) else { return };
                if let Some(at) = stack.iter().position(|idle| Arc::ptr_eq(&idle.upstream, upstream)) {
                    stack.remove(at);
                    self.counts.idle = self.counts.idle.saturating_sub(1);
                }
            }
            Sharing::Streams => {
                let at = self.carriers.iter().position(|carrier| Arc::ptr_eq(&carrier.upstream, upstream));
                if at.is_some_and(|at| self.carriers.swap_remove(at).idle) {
                    self.counts.idle = self.counts.idle.saturating_sub(1);
                }
            }
        }
    }

    /// Counts the end of an upstream that is on no list; false if it was counted before.
    fn end(&mut self, upstream: &Upstream, reason: DropReason, freed: &mut usize) -> bool {
        if upstream.ended.swap(true, Relaxed) {
            return false;
        }
        self.counts.note_dropped(reason);
        self.counts.live = self.counts.live.saturating_sub(1);
        *freed += 1;
        true
    }

    /// Ends the idle one that has been so longest, of the worker that has most.
    fn end_oldest(&mut self, reason: DropReason, freed: &mut usize) -> bool {
        if let Some(stack) = self.idle.iter_mut().max_by_key(|stack| stack.len()).filter(|s| !s.is_empty()) {
            let Idle { upstream, .. } = stack.remove(0);
            self.counts.idle = self.counts.idle.saturating_sub(1);
            self.end(&upstream, reason, freed);
            return true;
        }
        let Some(at) = self.carriers.iter().position(|carrier| carrier.idle) else { return false };
        let Carrier { upstream, .. } = self.carriers.swap_remove(at);
        self.counts.idle = self.counts.idle.saturating_sub(1);
        self.end(&upstream, reason, freed);
        true
    }

    fn sweep(&mut self, worker: usize, limits: &UpstreamLimits, now: Instant, freed: &mut usize) {
        let overdue = |upstream: &Upstream, since: Instant| {
            let tired = now.saturating_duration_since(since) >= limits.idle_time;
            tired.then_some(DropReason::IdleTime).or_else(|| worn(upstream, limits, now))
        };
        let mut over = Vec::new();
        if let Some(stack) = self.idle.get_mut(worker) {
            over.extend(
                stack
                    .extract_if(.., |idle| overdue(&idle.upstream, idle.since).is_some())
                    .map(|Idle { upstream, since, .. }| (overdue(&upstream, since), upstream)),
            );
        }
        let carriers = self.carriers.extract_if(.., |Carrier { upstream, since, idle, .. }| {
            *idle && upstream.worker == worker && overdue(upstream, *since).is_some()
        });
        over.extend(carriers.map(|Carrier { upstream, since, .. }| (overdue(&upstream, since), upstream)));
        for (reason, upstream) in over {
            self.counts.idle = self.counts.idle.saturating_sub(1);
            self.end(&upstream, reason.unwrap_or(DropReason::IdleTime), freed);
        }
    }
}

/// Why an upstream takes no more requests, by its age and use.
fn worn(upstream: &Upstream, limits: &UpstreamLimits, now: Instant) -> Option<DropReason> {
    if limits.age.is_some_and(|age| now.saturating_duration_since(upstream.opened) >= age) {
        return Some(DropReason::Age);
    }
    let uses = upstream.uses.load(Relaxed);
    limits.uses.is_some_and(|most| uses >= most).then_some(DropReason::Uses)
}
