//! How handshakes went, counted: one set a site, for all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::agreed::Handshake;
use super::failure::Cause;

/// The counters. They are only ever added to.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: [AtomicU64; Cause::ALL.len()],
}

/// What they stood at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Full handshakes.
    pub full: u64,
    /// Resumed ones.
    pub resumed: u64,
    /// Failed ones by their cause, all causes in the order of [`Cause::ALL`].
    pub failed: [(Cause, u64); Cause::ALL.len()],
}

impl HandshakeCounts {
    /// Those that failed for this reason.
    pub fn failed_by(&self, cause: Cause) -> u64 {
        self.failed.iter().find(|(one, _)| *one == cause).map_or(0, |(_, count)| *count)
    }

    /// All that failed.
    pub fn failed(&self) -> u64 {
        self.failed.iter().map(|(_, count)| count).sum()
    }
}

impl HandshakeCounters {
    /// Reads them.
    pub fn counts(&self) -> HandshakeCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut failed = Cause::ALL.map(|cause| (cause, 0));
        for ((_, count), counter) in failed.iter_mut().zip(&self.failed) {
            *count = read(counter);
        }
        HandshakeCounts { full: read(&self.full), resumed: read(&self.resumed), failed }
    }

    pub(super) fn done(&self, handshake: Handshake) {
        let counter = match handshake {
            Handshake::Full | Handshake::FullRetried => &self.full,
            Handshake::Resumed => &self.resumed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, cause: Cause) {
        let place = Cause::ALL.iter().position(|one| *one == cause);
        if let Some(counter) = place.and_then(|place| self.failed.get(place)) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}
