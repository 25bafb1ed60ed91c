//! The end of a run, which anybody can bring about.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

/// Ends a run when it is triggered, from whatever thread. Clones are the same stop.
#[derive(Clone, Default)]
pub struct Stop(Arc<Inside>);

#[derive(Default)]
struct Inside {
    triggered: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Stop {
    /// A stop that is not triggered.
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the run. Workers take in nothing more, finish what they have, and return.
    pub fn trigger(&self) {
        self.0.triggered.store(true, SeqCst);
        for waker in self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            waker.wake_by_ref();
        }
    }

    /// Whether it was triggered.
    pub fn is_triggered(&self) -> bool {
        self.0.triggered.load(SeqCst)
    }

    /// Has a sleeper woken when it is triggered; look once more after this before going to sleep.
    pub(super) fn wakes(&self, waker: Waker) {
        self.0.wakers.lock().unwrap_or_else(PoisonError::into_inner).push(waker);
    }
}
