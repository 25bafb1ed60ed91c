//! Backends: where they are, what share of new flows they get, and how they are doing.

use std::fmt;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::datapath::ServiceId;
use crate::packet::Endpoint;

use super::health::{Health, HealthRecord, PassiveHealth};

/// A backend's share of new flows, against the weights of the others. Never zero: a backend
/// that takes no new flows is draining, which is not a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Weight(NonZeroU16);

impl Weight {
    /// The weight of a backend that is given none.
    pub const ONE: Self = Self(NonZeroU16::MIN);

    /// `None` for zero.
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }

    /// The number.
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A backend as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Its address and port.
    pub endpoint: Endpoint,
    /// Its share of new flows.
    pub weight: Weight,
    /// Whether it takes no new flows, and only keeps those that it has.
    pub drain: bool,
}

/// A backend of one service, at work.
#[derive(Debug)]
pub struct Backend {
    /// Its address and port.
    pub endpoint: Endpoint,
    /// The service that it belongs to. The same endpoint in two services is two backends.
    pub service: ServiceId,
    /// Its share of new flows.
    pub weight: Weight,
    /// Whether it takes no new flows.
    pub draining: bool,
    pub(super) state: Arc<State>,
}

impl Backend {
    /// How many flows it has now, over all workers.
    pub fn live_flows(&self) -> u32 {
        self.state.live()
    }

    /// Whether it is up, as far as its traffic has told.
    pub fn health(&self) -> Health {
        self.state.health.health()
    }
}

/// What changes about a backend while it works; its [`Backend`] and the schedulers share it.
///
/// Every worker writes here when it opens or ends a flow, so that each has a cache line of
/// its own. All accesses are relaxed: each value is complete in itself, and none announces that
/// some other memory has been written.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct State {
    live: AtomicU32,
    pub(super) health: HealthRecord,
}

impl State {
    pub(super) fn new(passive: PassiveHealth) -> Self {
        Self { live: AtomicU32::new(0), health: HealthRecord::new(passive) }
    }

    /// How many flows the backend has now.
    #[inline]
    pub(super) fn live(&self) -> u32 {
        self.live.load(Relaxed)
    }

    /// One flow more.
    pub(super) fn opened(&self) {
        self.live.update(Relaxed, Relaxed, |live| live.saturating_add(1));
    }

    /// One flow less. A close that nobody opened leaves zero, not four thousand million.
    pub(super) fn closed(&self) {
        self.live.update(Relaxed, Relaxed, |live| live.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_never_zero() {
        assert_eq!(Weight::new(0), None);
        assert_eq!(Weight::new(65_535).map(Weight::value), Some(65_535));
        assert_eq!(Weight::new(1), Some(Weight::ONE));
    }

    #[test]
    fn live_flows_stop_at_zero() {
        let state = State::new(PassiveHealth::default());
        state.closed();
        assert_eq!(state.live(), 0);
        state.opened();
        state.opened();
        state.closed();
        assert_eq!(state.live(), 1);
    }

    #[test]
    fn a_state_fills_one_cache_line() {
        assert_eq!(std::mem::size_of::<State>(), 64);
    }
}
