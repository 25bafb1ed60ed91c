//! The pool: which upstreams there are, and who gets one. One for the process, whatever the number of workers.
//!
//! # Theory of operation
//!
//! Each group has its books behind one lock, which is held for a look-up and never across I/O. A request comes here
//! twice: to find an upstream, and to give it back.
//!
//! ```text
//!   find ─┬─ idle, of the same worker, last used ──▶ Lease        give back ─┬─▶ who waits first
//!         ├─ room for one more, and to keep it ────▶ Slot, to open           ├─▶ idle
//!         ├─ idle, of another worker ──────────────▶ Lease                   └─▶ dropped, by a limit
//!         ├─ no room in total: an idle one of another backend makes way
//!         └─ no room: first in, first out, for a while
//! ```
//!
//! - The idle handles of one backend are stacks, one for each worker: the connection's task stays where it was
//!   opened, and a request that stays there too needs no other thread. To wake one costs each request two system calls and
//!   two turns of the scheduler, while opening costs once; so another worker's is taken only where the limits leave no room
//!   for one more. The newest is on top, so that the ones at the bottom age and a pool shrinks to what is needed.
//! - While requests wait, new ones get behind them, whatever is free. Whoever frees something serves the first that can use it.
//! - `live` of a backend counts what is open or being opened. [`Upstream::ended`] is set when an upstream leaves the books: by
//!   whoever decides that it should, or when its bytes are dropped and no request holds it, whichever is first.
//! - Nothing that takes the lock is dropped under it.
//! - Who waits for room in total is in the queue before it looks for the last time, and who frees some looks for those who
//!   wait afterwards. That `open` and `waiting` are sequentially consistent is what makes one of them see the other.

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::time::Instant;

use super::books::{Books, Found, Grant, Waiter, Wish};
use super::lease::Handle;
use super::reason::{BackendReport, DropReason, GroupReport, bump};
use super::wait::Waiting;
use super::wire::{Sharing, Upstream};
use crate::balance::{BackendGroup, BalanceError, Health, PassiveHealth};
use crate::datapath::{self, BackendId, ServiceId};
use crate::l7::exchange::Failure;
use crate::l7::spec::{GroupSpec, Plan, ProxyProtocol, UpstreamLimits, UpstreamProtocol};
use crate::l7::tls::{BackendCause, BackendClient};
use crate::packet::Endpoint;

/// The pool of one process, and all that workers share about backends.
pub struct Shared {
    pub(super) groups: Box<[Group]>,
    /// The bound of upstreams of all backends together.
    most: Option<usize>,
    /// How many there are, where there is a bound.
    open: AtomicUsize,
    /// Requests that wait, in all groups.
    pub(super) waiting: AtomicUsize,
    /// Which group's waiting requests are next to be looked at when room comes free.
    turn: AtomicUsize,
    closing: AtomicBool,
    start: OnceLock<Instant>,
}

/// One group.
pub(super) struct Group {
    pub name: String,
    pub protocol: UpstreamProtocol,
    pub proxy_protocol: ProxyProtocol,
    pub limits: UpstreamLimits,
    pub tls: Option<BackendClient>,
    pub balance: BackendGroup,
    books: Mutex<Books>,
}

impl Group {
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a backend is.
    pub(super) fn endpoint(&self, backend: BackendId) -> Option<Endpoint> {
        self.balance.backends().get(backend.index()).map(|backend| backend.endpoint)
    }

    pub(super) fn sharing(&self) -> Sharing {
        match self.protocol {
            UpstreamProtocol::Http1 => Sharing::OneByOne,
            UpstreamProtocol::Http2 => Sharing::Streams,
        }
    }
}

/// What a request that looks for an upstream gets.
pub(super) enum Acquired {
    Now(Grant),
    Later(Waiting),
    Never(Failure),
}

impl Shared {
    /// Builds it. `tls` has who speaks it to each group's backends, by the group's place, made for the group's protocol;
    /// `None`, and a place that is not there, is cleartext. `seed` is for schedulers that draw.
    ///
    /// # Errors
    ///
    /// What is wrong with a group's backends.
    pub fn new(
        plan: &Plan,
        tls: Vec<Option<BackendClient>>,
        passive: PassiveHealth,
        seed: u64,
    ) -> Result<Arc<Self>, BalanceError> {
        let mut tls = tls.into_iter();
        let mut groups = Vec::with_capacity(plan.groups.len());
        for (place, spec) in plan.groups.iter().enumerate() {
            groups.push(Group::new(place, spec, tls.next().flatten(), passive, seed)?);
        }
        Ok(Arc::new(Self {
            groups: groups.into(),
            most: plan.upstreams,
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            turn: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            start: OnceLock::new(),
        }))
    }

    /// How things stand: one report a group, by their places.
    pub fn report(&self) -> Vec<GroupReport> {
        self.groups.iter().map(|group| group.lock().report(group)).collect()
    }

    /// Drops all idle upstreams, and the others as they come back.
    pub fn shut_down(&self) {
        self.closing.store(true, Relaxed);
        for place in 0..self.groups.len() {
            self.with(place, |_, books, ended| books.end_idle(None, DropReason::Shutdown, ended));
        }
    }

    /// Time since the first worker was there.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.start.get_or_init(|| now))
    }

    fn time(&self, now: Instant) -> datapath::Instant {
        datapath::Instant::START + self.since_start(now)
    }

    /// One more worker's place among the idle.
    pub(super) fn add_worker(&self, worker: usize) {
        self.since_start(Instant::now());
        for group in &self.groups {
            group.lock().add_worker(worker);
        }
    }

    /// Does something under the lock of a group, and afterwards what must not be done under it: gives room that has come
    /// free to other groups, and drops what nobody took.
    fn with<R>(&self, place: usize, act: impl FnOnce(&Group, &mut Books, &mut usize) -> R) -> Option<R> {
        let group = self.groups.get(place)?;
        let mut freed = 0;
        let result = {
            let mut books = group.lock();
            act(group, &mut books, &mut freed)
        };
        if freed > 0 && self.most.is_some() {
            self.open.fetch_sub(freed, SeqCst);
        }
        Some(result)
    }

    /// As [`Shared::with`], and then serves those who wait.
    fn with_and_serve<R>(
        self: &Arc<Self>,
        place: usize,
        act: impl FnOnce(&Group, &mut Books, &mut usize) -> R,
    ) -> Option<R> {
        let result = self.with(place, act);
        if self.waiting.load(SeqCst) > 0 {
            self.serve(place);
        }
        result
    }

    /// Room for one more upstream in total.
    fn reserve(&self) -> bool {
        let Some(most) = self.most else { return true };
        self.open.try_update(SeqCst, SeqCst, |open| (open < most).then_some(open + 1)).is_ok()
    }

    /// An upstream, a place for one, a place in the queue, or none of these.
    pub(super) fn acquire(self: &Arc<Self>, place: usize, wish: &Wish) -> Acquired {
        // What makes room may lose it to somebody else; after a few times this waits like everybody.
        for attempt in 0..4 {
            let found = self.with_and_serve(place, |group, books, freed| {
                let now = Instant::now();
                if wish.first && attempt == 0 {
                    books.requests = books.requests.wrapping_add(1);
                    books.budget.earn();
                }
                let queue = !books.waiters.is_empty() && !wish.is_retry();
                let found = if queue && group.balance.has_any(self.time(now)) {
                    Found::Full
                } else {
                    self.find(group, books, place, wish, now, freed)
                };
                match found {
                    Found::Grant(grant) => Ok(Acquired::Now(grant)),
                    Found::NoRoom if attempt < 3 => Err(()),
                    Found::NoBackend => Ok(Acquired::Never(Failure::NoBackend)),
                    Found::NoRoom | Found::Full | Found::Opening => {
                        if books.waiters.len() >= group.limits.waiting {
                            return Ok(Acquired::Never(Failure::QueueFull));
                        }
                        let (waiter, waiting) = Waiting::new(self, place, books.ticket(), wish);
                        books.waited = books.waited.wrapping_add(1);
                        books.waiters.push_back(waiter);
                        self.waiting.fetch_add(1, SeqCst);
                        Ok(Acquired::Later(waiting))
                    }
                }
            });
            match found {
                Some(Ok(acquired)) => return acquired,
                Some(Err(())) => self.make_room(place),
                None => return Acquired::Never(Failure::NoBackend),
            }
        }
        Acquired::Never(Failure::NoBackend)
    }

    fn find(
        self: &Arc<Self>,
        group: &Group,
        books: &mut Books,
        place: usize,
        wish: &Wish,
        now: Instant,
        freed: &mut usize,
    ) -> Found {
        books.find(group, self, place, wish, (now, self.time(now)), freed, || self.reserve())
    }

    /// Ends the idle upstream of any backend that has been idle longest at its place; this group's come last, where
    /// the wish has found none of use.
    fn make_room(&self, place: usize) {
        let others = (1..=self.groups.len()).map(|step| (place + step) % self.groups.len().max(1));
        for other in others {
            if self.with(other, |_, books, freed| books.end_oldest(DropReason::MadeRoom, freed)) == Some(true)
            {
                return;
            }
        }
    }

    /// Gives what is free to those who wait, this group's first.
    fn serve(self: &Arc<Self>, place: usize) {
        let groups = self.groups.len().max(1);
        self.serve_group(place);
        if self.most.is_none() {
            return;
        }
        let first = self.turn.fetch_add(1, Relaxed);
        for step in 0..groups {
            if self.waiting.load(SeqCst) == 0 {
                return;
            }
            let other = first.wrapping_add(step) % groups;
            if other != place {
                self.serve_group(other);
            }
        }
    }

    fn serve_group(self: &Arc<Self>, place: usize) {
        // What a waiter was given and did not live to take. Dropped here, where no lock is held; that frees it again.
        let mut untaken = Vec::new();
        for _ in 0..2 {
            let room = self.with(place, |group, books, freed| {
                let now = Instant::now();
                while let Some(waiter) = books.waiters.pop_front() {
                    self.waiting.fetch_sub(1, SeqCst);
                    if waiter.is_gone() {
                        continue;
                    }
                    match self.find(group, books, place, &waiter.wish, now, freed) {
                        Found::Grant(grant) => untaken.extend(waiter.give(grant)),
                        // Dropped: that tells it.
                        Found::NoBackend => {}
                        found @ (Found::NoRoom | Found::Full | Found::Opening) => {
                            books.waiters.push_front(waiter);
                            self.waiting.fetch_add(1, SeqCst);
                            return matches!(found, Found::NoRoom);
                        }
                    }
                }
                false
            });
            if room != Some(true) {
                break;
            }
            self.make_room(place);
        }
    }

    /// A waiter has given up.
    pub(super) fn leave_queue(&self, place: usize, ticket: u64) {
        self.with(place, |_, books, _| {
            let before = books.waiters.len();
            books.waiters.retain(|waiter: &Waiter| waiter.ticket != ticket);
            self.waiting.fetch_sub(before - books.waiters.len(), SeqCst);
        });
    }

    /// An upstream is open and goes on the books.
    pub(super) fn opened(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        why: super::reason::OpenReason,
        handle: &Handle,
    ) {
        self.with_and_serve(upstream.group, |_, books, _| books.opened(upstream, why, handle));
    }

    /// A slot was not filled.
    pub(super) fn vacate(self: &Arc<Self>, place: usize, backend: BackendId) {
        self.with_and_serve(place, |group, books, freed| {
            books.vacate(backend, freed);
            group.balance.closed(backend);
        });
    }

    /// A request is through with its upstream, which can serve others.
    pub(super) fn check_in(self: &Arc<Self>, upstream: &Arc<Upstream>, handle: Handle) {
        let closing = self.closing.load(Relaxed);
        self.with_and_serve(upstream.group, |group, books, freed| {
            group.balance.closed(upstream.backend);
            books.check_in(group, upstream, handle, closing, freed);
        });
    }

    /// A request is through with its upstream, and so is the upstream.
    pub(super) fn abandon(self: &Arc<Self>, upstream: &Arc<Upstream>, reason: DropReason) {
        self.with_and_serve(upstream.group, |group, books, freed| {
            group.balance.closed(upstream.backend);
            books.finish(upstream);
            books.end(upstream, reason, freed);
        });
    }

    /// The upstream's bytes are the client's from now on; unless they are gone already.
    pub(super) fn upgrade(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        self.with_and_serve(upstream.group, |group, books, freed| {
            upstream.saw_upgrade();
            if upstream.gone.load(Relaxed) {
                books.end(upstream, DropReason::Upgraded, freed);
                group.balance.closed(upstream.backend);
                books.finish(upstream);
            }
        });
    }

    /// An upstream's bytes are gone. Where a request holds it, that has more to say about why.
    pub(super) fn gone(self: &Arc<Self>, upstream: &Arc<Upstream>) {
        self.with_and_serve(upstream.group, |group, books, freed| {
            upstream.gone.store(true, Relaxed);
            if upstream.is_busy() || !books.end(upstream, upstream.why_gone(), freed) {
                return;
            }
            if upstream.is_upgraded() {
                group.balance.closed(upstream.backend);
                books.finish(upstream);
            }
        });
    }

    /// A backend could not be reached.
    pub(super) fn refused(self: &Arc<Self>, place: usize, backend: BackendId) {
        let now = self.time(Instant::now());
        self.with_and_serve(place, |group, books, freed| {
            books.note_unopened(backend);
            if let Some(Health::Down { .. }) = group.balance.refused(now, backend) {
                books.end_idle(Some(backend), DropReason::BackendDown, freed);
            }
        });
    }

    /// A try has brought no answer.
    pub(super) fn note_lost(&self, upstream: &Upstream) {
        self.with(upstream.group, |_, books, _| books.note_lost(upstream.backend));
    }

    /// A backend and we could not agree on TLS.
    pub(super) fn note_tls(&self, place: usize, cause: BackendCause) {
        self.with(place, |_, books, _| bump(&mut books.tls_failures, cause as usize));
    }

    /// A request has failed.
    pub(super) fn note_failure(&self, place: usize, failure: Failure) {
        self.with(place, |_, books, _| bump(&mut books.failures, failure as usize));
    }

    /// Whether a request may be tried again, which it then is.
    pub(super) fn may_retry(&self, place: usize) -> bool {
        let since_start = self.since_start(Instant::now());
        let allowed = self.with(place, |_, books, _| {
            let allowed = books.budget.spend(since_start);
            let counter = if allowed { &mut books.retries } else { &mut books.retries_denied };
            *counter = counter.wrapping_add(1);
            allowed
        });
        allowed.unwrap_or(false)
    }

    /// A request goes to a second backend, or has its answer from there.
    pub(super) fn note_hedge(&self, place: usize, won: bool) {
        self.with(place, |_, books, _| {
            let counter = if won { &mut books.hedges_won } else { &mut books.hedges };
            *counter = counter.wrapping_add(1);
        });
    }

    /// Drops what one worker has that was idle too long or is too old.
    pub(super) fn sweep(self: &Arc<Self>, worker: usize) {
        for place in 0..self.groups.len() {
            self.with_and_serve(place, |group, books, freed| {
                books.sweep(worker, &group.limits, Instant::now(), freed);
            });
        }
    }
}

impl Group {
    fn new(
        place: usize,
        spec: &GroupSpec,
        tls: Option<BackendClient>,
        passive: PassiveHealth,
        seed: u64,
    ) -> Result<Self, BalanceError> {
        let number = ServiceId(u16::try_from(place).unwrap_or(u16::MAX));
        let GroupSpec { name, scheduler, members, protocol, proxy_protocol, limits, .. } = spec;
        let salt = u64::try_from(place).unwrap_or_default();
        let chance = SmallRng::seed_from_u64(seed ^ salt);
        Ok(Self {
            name: name.clone(),
            protocol: *protocol,
            proxy_protocol: *proxy_protocol,
            limits: *limits,
            tls,
            balance: BackendGroup::new(name, number, *scheduler, members, passive)?,
            books: Mutex::new(Books::new(members.len(), limits.retry_percent, chance)),
        })
    }
}

impl Books {
    fn report(&self, group: &Group) -> GroupReport {
        let now = group.balance.backends().iter().zip(&self.backends);
        let backends = now.map(|(backend, account)| BackendReport {
            endpoint: backend.endpoint,
            up: backend.health() == Health::Up,
            counts: account.counts,
        });
        GroupReport {
            name: group.name.clone(),
            backends: backends.collect(),
            requests: self.requests,
            retries: self.retries,
            retries_denied: self.retries_denied,
            hedges: self.hedges,
            hedges_won: self.hedges_won,
            waited: self.waited,
            waiting: self.waiters.len(),
            failures: self.failures,
            tls_failures: self.tls_failures,
        }
    }
}

/// The queue of one group.
pub(super) type Queue = VecDeque<Waiter>;
