//! How handshakes went, counted: one set a site, for all workers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::agreed::Handshake;
use super::failure::Cause;

/// The counters. They are only ever added to.
#[derive(Debug, Default)]
pub struct HandshakeCounters {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: [AtomicU64; Cause::COUNT],
}

/// What they stood at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeCounts {
    /// Full handshakes.
    pub full: u64,
    /// Resumed ones.
    pub resumed: u64,
    /// Failed ones, by [`Cause`].
    pub failed: [u64; Cause::COUNT],
}

impl HandshakeCounts {
    /// Those that failed for this reason.
    pub fn failed_by(&self, cause: Cause) -> u64 {
        self.failed[cause as usize]
    }

    /// All that failed.
    pub fn failed(&self) -> u64 {
        self.failed.iter().sum()
    }
}

impl HandshakeCounters {
    /// Reads them.
    pub fn counts(&self) -> HandshakeCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let failed = std::array::from_fn(|place| read(&self.failed[place]));
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
        self.failed[cause as usize].fetch_add(1, Ordering::Relaxed);
    }
}
