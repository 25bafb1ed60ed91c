//! Slots: how many of something there may be at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So many.
#[derive(Clone, Debug)]
pub(super) struct Slots(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    taken: AtomicUsize,
    most: usize,
}

/// One of them. It is free again when this goes.
#[derive(Debug)]
pub(super) struct Slot(Arc<Counted>);

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Counted { taken: AtomicUsize::new(0), most }))
    }

    /// One, if one is free.
    pub(super) fn take(&self) -> Option<Slot> {
        let next = |taken| (taken < self.0.most).then_some(taken + 1);
        self.0.taken.fetch_update(Relaxed, Relaxed, next).ok()?;
        Some(Slot(Arc::clone(&self.0)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_and_no_more_and_they_come_back() {
        let slots = Slots::new(2);
        let (first, _second) = (slots.take().unwrap(), slots.take().unwrap());
        assert!(slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
    }
}
