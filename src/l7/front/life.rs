//! What the parts of one session know of each other: how many requests are open, and since when there are none.

use std::cell::Cell;
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::cut::Cut;
use super::refusal::Refusal;

/// A session's life. Lives on one thread.
pub(super) struct Life {
    /// Requests that are not answered to the end.
    open: Cell<usize>,
    /// When the last of them ended, or when the connection opened.
    since: Cell<Instant>,
    /// Whether what was answered has been flushed. Only a guard sees that, and only HTTP/1 needs it.
    resting: Cell<bool>,
    /// Whether there was a request at all.
    begun: Cell<bool>,
    /// Why what comes next is refused, where the bytes alone say that it must be.
    pub(super) refused: Cell<Option<Refusal>>,
    /// Why the connection is ended from here.
    pub(super) cut: Cell<Option<Cut>>,
    /// Bodies of answers that have given something, and have not been asked for more.
    given: Cell<usize>,
    /// When one of them was asked last.
    asked: Cell<Instant>,
    /// Who waits for rest.
    waiting: Cell<Option<Waker>>,
}

impl Life {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            open: Cell::new(0),
            since: Cell::new(Instant::now()),
            resting: Cell::new(true),
            begun: Cell::new(false),
            refused: Cell::new(None),
            cut: Cell::new(None),
            given: Cell::new(0),
            asked: Cell::new(Instant::now()),
            waiting: Cell::new(None),
        })
    }

    /// A request has come.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        self.open.set(self.open.get() + 1);
    }

    /// Takes over a request that has begun; it ends with what is returned.
    pub(super) fn hold(self: &Rc<Self>) -> Open {
        Open(Rc::clone(self))
    }

    /// Since when no request is open, if none is.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        (self.open.get() == 0).then(|| self.since.get())
    }

    /// The same, and what was answered has been flushed.
    pub(super) fn resting_since(&self) -> Option<Instant> {
        self.idle_since().filter(|_| self.resting.get())
    }

    /// What was answered has been flushed.
    pub(super) fn rest(&self) {
        if self.open.get() == 0
            && !self.resting.replace(true)
            && let Some(waiting) = self.waiting.take()
        {
            waiting.wake();
        }
    }

    /// Wakes the task when it rests. hyper goes back to a stream that has kept it waiting only if it is woken.
    pub(super) fn wake_when_resting(&self, context: &Context<'_>) {
        self.waiting.set(Some(context.waker().clone()));
    }

    /// A body has given something.
    pub(super) fn hand_out(&self) {
        if self.given.get() == 0 {
            self.asked.set(Instant::now());
        }
        self.given.set(self.given.get() + 1);
    }

    /// It is asked for more, or is over.
    pub(super) fn take_back(&self) {
        self.given.set(self.given.get().saturating_sub(1));
        self.asked.set(Instant::now());
    }

    /// Since when no answer that waits for the client has got on, if one waits.
    pub(super) fn stalled_since(&self) -> Option<Instant> {
        (self.given.get() > 0).then(|| self.asked.get())
    }

    /// Whether there was a request at all.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get()
    }
}

/// A request that is being answered. Goes with the body of its answer, or with its tunnel.
pub(super) struct Open(Rc<Life>);

impl Open {
    /// The life of its session.
    pub(super) fn life(&self) -> &Life {
        &self.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let open = self.0.open.get().saturating_sub(1);
        self.0.open.set(open);
        if open == 0 {
            self.0.since.set(Instant::now());
            self.0.resting.set(false);
        }
    }
}
