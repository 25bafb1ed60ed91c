//! The bound: every byte that the cache holds is charged here before it is held, and is given back when nobody holds it any more.
//!
//! Invariant: the charges that are alive sum up to [`Budget::held`], which never passes [`Budget::most`]. What is thrown out of
//! the store while a client still reads it stays charged until that client is done: it is still in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much may be held, and how much is.
#[derive(Debug)]
pub(super) struct Budget {
    most: usize,
    held: AtomicUsize,
}

impl Budget {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: AtomicUsize::new(0) })
    }

    pub(super) fn most(&self) -> usize {
        self.most
    }

    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// Takes as much, if there is as much.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        self.add(bytes).then(|| Charge { budget: Arc::clone(self), bytes })
    }

    fn add(&self, bytes: usize) -> bool {
        let room = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.most);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok()
    }
}

/// What somebody holds.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Joins another one to it.
    pub(super) fn join(&mut self, mut other: Self) {
        self.bytes = self.bytes.saturating_add(std::mem::take(&mut other.bytes));
    }

    /// Gives back all but this.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        let over = self.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(over);
        self.budget.held.fetch_sub(over, Ordering::Relaxed);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let budget = Budget::new(10);
        let mut first = budget.take(6).unwrap();
        assert!(budget.take(5).is_none());
        first.join(budget.take(4).unwrap());
        assert_eq!((budget.held(), first.bytes()), (10, 10));
        first.shrink_to(7);
        first.shrink_to(9);
        assert_eq!((budget.held(), first.bytes()), (7, 7));
        drop(first);
        assert_eq!(budget.held(), 0);
    }
}
