//! What the cache has counted, for all workers together.

use std::sync::atomic::{AtomicU64, Ordering};

use super::status::{CacheStatus, Detail, Handling};

/// Counts of one cache.
#[derive(Debug)]
pub struct CacheCounters {
    handled: [AtomicU64; Handling::COUNT],
    detailed: [AtomicU64; Detail::COUNT],
    collapsed: AtomicU64,
    stored: AtomicU64,
    evicted: AtomicU64,
    invalidated: AtomicU64,
    purged: AtomicU64,
}

impl Default for CacheCounters {
    fn default() -> Self {
        Self {
            handled: std::array::from_fn(|_| AtomicU64::new(0)),
            detailed: std::array::from_fn(|_| AtomicU64::new(0)),
            collapsed: AtomicU64::new(0),
            stored: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            invalidated: AtomicU64::new(0),
            purged: AtomicU64::new(0),
        }
    }
}

impl CacheCounters {
    /// Requests that were handled so.
    pub fn handled(&self, handling: Handling) -> u64 {
        read(&self.handled[handling as usize])
    }

    /// Requests of which this was said in detail.
    pub fn detailed(&self, detail: Detail) -> u64 {
        read(&self.detailed[detail as usize])
    }

    /// What else has occurred, each with its word.
    pub fn others(&self) -> [(&'static str, u64); 5] {
        [
            ("collapsed", read(&self.collapsed)),
            ("stored", read(&self.stored)),
            ("evicted", read(&self.evicted)),
            ("invalidated", read(&self.invalidated)),
            ("purged", read(&self.purged)),
        ]
    }

    pub(super) fn count(&self, status: &CacheStatus) {
        add(&self.handled[status.handling as usize], 1);
        if let Some(detail) = status.detail {
            self.count_detail(detail);
        }
        if status.collapsed {
            add(&self.collapsed, 1);
        }
    }

    pub(super) fn count_detail(&self, detail: Detail) {
        add(&self.detailed[detail as usize], 1);
    }

    pub(super) fn count_stored(&self) {
        add(&self.stored, 1);
    }

    pub(super) fn count_evicted(&self, entries: usize) {
        add(&self.evicted, entries);
    }

    pub(super) fn count_invalidated(&self, entries: usize) {
        add(&self.invalidated, entries);
    }

    pub(super) fn count_purged(&self, entries: usize) {
        add(&self.purged, entries);
    }
}

fn read(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicU64, more: usize) {
    count.fetch_add(more as u64, Ordering::Relaxed);
}
