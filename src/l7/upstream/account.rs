//! One backend's books: which of its upstreams a request may have, and how each of them ends.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::body::Outgoing;
use super::books::{Found, Want, Wish};
use super::lease::Handle;
use super::pool::Group;
use super::reason::{BackendCounts, DropReason, OpenReason};
use super::wire::{Reuse, Sharing, Upstream};
use crate::l7::spec::UpstreamLimits;

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

/// What an account has for a wish.
pub(super) enum Pick {
    Reuse(Arc<Upstream>, Handle),
    Open(OpenReason),
}

impl Pick {
    fn reuse((upstream, handle): (Arc<Upstream>, Handle)) -> Self {
        upstream.uses.fetch_add(1, Relaxed);
        upstream.streams.fetch_add(1, Relaxed);
        Self::Reuse(upstream, handle)
    }
}

impl Account {
    pub(super) fn add_worker(&mut self, worker: usize) {
        if self.idle.len() <= worker {
            self.idle.resize_with(worker + 1, Vec::new);
        }
    }

    pub(super) fn find(
        &mut self,
        group: &Group,
        wish: &Wish,
        now: Instant,
        freed: &mut usize,
        reserve: &impl Fn() -> bool,
    ) -> Result<Pick, Found> {
        if group.limits.requests.is_some_and(|most| self.counts.in_flight >= most) {
            return Err(Found::Full);
        }
        let pooled = wish.want == Want::Pool;
        let lends = pooled && group.sharing() == Sharing::OneByOne;
        if pooled {
            let found = match group.sharing() {
                Sharing::OneByOne => self.take_idle(group, Some(wish.worker), now, freed),
                Sharing::Streams => self.take_stream(group, wish.worker, now, freed),
            };
            if let Some(found) = found {
                return Ok(Pick::reuse(found));
            }
            // A crowd that comes to a cold backend shares what the first of it opens.
            if group.sharing() == Sharing::Streams && self.opening > 0 {
                return Err(Found::Opening);
            }
        } else if self.counts.live >= group.limits.connections {
            self.end_oldest(DropReason::MadeRoom, freed);
        }
        let crowded = self.counts.live >= group.limits.connections || self.counts.idle >= group.limits.idle;
        if crowded
            && lends
            && let Some(found) = self.take_idle(group, None, now, freed)
        {
            return Ok(Pick::reuse(found));
        }
        if self.counts.live >= group.limits.connections {
            return Err(Found::Full);
        }
        // What this very call has freed is still counted in total.
        if *freed > 0 {
            *freed -= 1;
        } else if !reserve() {
            let lent = if lends { self.take_idle(group, None, now, freed) } else { None };
            return lent.map(Pick::reuse).ok_or(Found::NoRoom);
        }
        let why = wish.because.unwrap_or(match self.counts.live {
            0 => OpenReason::Cold,
            _ => OpenReason::NoneIdle,
        });
        self.counts.live += 1;
        self.opening += 1;
        Ok(Pick::Open(why))
    }

    pub(super) fn begin(&mut self) {
        self.counts.in_flight += 1;
        self.counts.requests = self.counts.requests.wrapping_add(1);
    }

    /// One that was being opened is there, with its first request.
    pub(super) fn enter(&mut self, upstream: &Arc<Upstream>, why: OpenReason, handle: &Handle) {
        self.opening = self.opening.saturating_sub(1);
        self.counts.note_opened(why);
        upstream.ended.store(false, Relaxed);
        upstream.uses.store(1, Relaxed);
        upstream.streams.store(1, Relaxed);
        if let (Handle::Http2(handle), Reuse::Pooled) = (handle, upstream.reuse) {
            let (upstream, handle) = (Arc::clone(upstream), handle.clone());
            self.carriers.push(Carrier { upstream, handle, since: Instant::now(), idle: false });
        }
    }

    /// One that was being opened will not be.
    pub(super) fn vacate(&mut self) {
        self.opening = self.opening.saturating_sub(1);
        self.counts.live = self.counts.live.saturating_sub(1);
        self.counts.in_flight = self.counts.in_flight.saturating_sub(1);
    }

    /// Keeps one whose request is over, or ends it where there is a reason to.
    pub(super) fn check_in(
        &mut self,
        upstream: &Arc<Upstream>,
        handle: Handle,
        reason: Option<DropReason>,
        now: Instant,
        freed: &mut usize,
    ) {
        match handle {
            Handle::Http1(handle) => {
                let gone = handle.is_closed().then(|| upstream.why_gone());
                if let Some(reason) = gone.or(reason) {
                    self.end(upstream, reason, freed);
                    return;
                }
                upstream.check_in();
                if let Some(stack) = self.idle.get_mut(upstream.worker) {
                    stack.push(Idle { upstream: Arc::clone(upstream), handle, since: now });
                    self.counts.idle += 1;
                }
            }
            Handle::Http2(_) if upstream.streams.load(Relaxed) > 0 => {}
            Handle::Http2(_) => {
                if let Some(reason) = reason {
                    self.forget(upstream);
                    self.end(upstream, reason, freed);
                    return;
                }
                let carrier =
                    self.carriers.iter_mut().find(|carrier| Arc::ptr_eq(&carrier.upstream, upstream));
                if let Some(carrier) = carrier {
                    (carrier.since, carrier.idle) = (now, true);
                    self.counts.idle += 1;
                } else {
                    // Retired while it was busy: nobody will ask for it again.
                    self.end(upstream, upstream.why_gone(), freed);
                }
            }
        }
    }

    /// The one of this worker that was used last, or of the worker that has most.
    fn take_idle(
        &mut self,
        group: &Group,
        worker: Option<usize>,
        now: Instant,
        freed: &mut usize,
    ) -> Option<(Arc<Upstream>, Handle)> {
        if self.counts.idle == 0 {
            return None;
        }
        loop {
            let stack = match worker {
                Some(worker) => self.idle.get_mut(worker),
                None => self.idle.iter_mut().max_by_key(|stack| stack.len()),
            };
            let Idle { upstream, handle, since } = stack?.pop()?;
            self.counts.idle = self.counts.idle.saturating_sub(1);
            let tired = (now.saturating_duration_since(since) >= group.limits.idle_time)
                .then_some(DropReason::IdleTime);
            let gone = handle.is_closed().then(|| upstream.why_gone());
            match gone.or(tired).or_else(|| upstream.worn(&group.limits, now)) {
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
            let reason = tired.or_else(|| upstream.worn(&group.limits, now));
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
    pub(super) fn forget(&mut self, upstream: &Arc<Upstream>) {
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
    pub(super) fn end(&mut self, upstream: &Upstream, reason: DropReason, freed: &mut usize) -> bool {
        if upstream.ended.swap(true, Relaxed) {
            return false;
        }
        self.counts.note_dropped(reason);
        self.counts.live = self.counts.live.saturating_sub(1);
        *freed += 1;
        true
    }

    /// Ends the idle one that has been so longest, of the worker that has most.
    pub(super) fn end_oldest(&mut self, reason: DropReason, freed: &mut usize) -> bool {
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

    pub(super) fn sweep(&mut self, worker: usize, limits: &UpstreamLimits, now: Instant, freed: &mut usize) {
        let overdue = |upstream: &Upstream, since: Instant| {
            let tired = now.saturating_duration_since(since) >= limits.idle_time;
            tired.then_some(DropReason::IdleTime).or_else(|| upstream.worn(limits, now))
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
