//! The contract of core and driver.
//!
//! A driver reads a frame, gives it to its core with the time, and obeys the verdict. Frames
//! that the core lets go beside the one it was given (fragments that had waited) come
//! out through the [`Outbox`]. Between frames the driver calls [`Datapath::handle_timeout`] when
//! [`Datapath::poll_timeout`] says so.
//!
//! ```text
//!             frame, now                      verdict: write it, drop it,
//!   driver ───────────────▶ core ───────────▶          hand it over
//!             now                             outbox:  more frames, each
//!          ───────────────▶                            with its own verdict
//!             now                             sink:    frames of its own
//!          ───────────────▶
//!             now, queue                      outbox:  "a fence of that
//!          ───────────────▶                            worker's queue"
//! ```
//!
//! A core to whom it matters in which order the packets of one flow came by different queues asks for a *fence* of a
//! queue ([`Outbox::ask_fence`]). Once it has been given every frame that lay in that queue at that time,
//! the driver says so by [`Datapath::handle_fence`].
//!
//! A core that ends connections has frames of its own to send, which answer no single frame. Its driver asks
//! for them behind each turn by [`Datapath::poll_egress`], and is woken by [`Datapath::poll_dirty`] when there are
//! some at another time. Both have a default that says "never", so that a core which only passes frames
//! on, and its driver, know nothing of them. They are not a trait of their own because a driver then would have
//! to know which of the two it drives.

mod counters;
mod decision;
mod ids;
mod nat;
mod reason;
mod time;
mod verdict;

pub use counters::{BackendCounters, BackendTotals, Count, Counters, Totals};
pub use decision::{Decision, FlowNumber, Listening, Side};
pub use ids::{BackendId, ServiceId, VipId, WorkerId};
pub use nat::{Nat, UnknownNat};
pub use reason::Reason;
pub use time::Instant;
pub use verdict::{Outcome, Verdict};

use std::task::{Context, Poll};

use crate::packet::Frame;

/// A packet-processing core: no sockets, no clock, no chance of its own.
pub trait Datapath {
    /// Decides about one frame, and rewrites it in place where it goes on.
    fn handle_frame(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        arrival: Arrival,
        out: &mut Outbox,
    ) -> Verdict;

    /// Does what has fallen due. The work of one call is bounded; where more is left,
    /// [`Datapath::poll_timeout`] gives a time that has passed already.
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox);

    /// When [`Datapath::handle_timeout`] must next be called, if ever.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Every frame that lay in the queue of this worker when a fence of it was asked for has been given to this core or
    /// another one, or is lost. There is one such call for each time that was asked.
    fn handle_fence(&mut self, _now: Instant, _queue: WorkerId, _out: &mut Outbox) {}

    /// Gives the frames that the core has to say on its own now to `sink`, one after the other in the same
    /// buffer. The work of one call is bounded; where more is left, [`Datapath::poll_dirty`] is ready.
    fn poll_egress(&mut self, _now: Instant, _sink: &mut dyn FnMut(&mut Frame)) {}

    /// Ready when [`Datapath::poll_egress`] has something to say; otherwise wakes whoever asked last as soon as it has.
    fn poll_dirty(&self, _context: &Context<'_>) -> Poll<()> {
        Poll::Pending
    }

    /// Whether to remember, from now on, what there is to say of each decision.
    fn listen(&mut self, _listening: Listening) {}

    /// What there is to say of the frame that was last given to [`Datapath::handle_frame`], and of those that it let go
    /// through the outbox. Nothing but defaults in a core that was not told to listen, or has nothing to say. The verdict is
    /// the driver's to fill in.
    fn decision(&self) -> Decision {
        Decision::default()
    }
}

/// How a frame came to this core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// On this worker's own queue.
    Queue,
    /// From other workers' cores, which have found that the flow does not live with them.
    HandedOver {
        /// Who they are, so that a frame cannot go round in circles.
        visited: WorkerSet,
        /// The first of them: the worker on whose queue it came.
        queue: WorkerId,
    },
}

impl Arrival {
    /// The workers that have looked at the frame before this one.
    pub const fn visited(self) -> WorkerSet {
        match self {
            Self::Queue => WorkerSet::NONE,
            Self::HandedOver { visited, .. } => visited,
        }
    }

    /// The worker on whose queue it came, where this is the one that has it now.
    #[inline]
    pub const fn queue(self, own: WorkerId) -> WorkerId {
        match self {
            Self::Queue => own,
            Self::HandedOver { queue, .. } => queue,
        }
    }
}

/// A set of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerSet(u64);

impl WorkerSet {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The first so many workers.
    pub const fn first(workers: u8) -> Self {
        Self(if workers >= 64 { u64::MAX } else { (1 << workers) - 1 })
    }

    /// This set without one.
    #[must_use]
    pub const fn without(self, worker: WorkerId) -> Self {
        Self(self.0 & !(1 << (worker.0 & 63)))
    }

    /// Whether nobody is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in the order of their ids.
    pub fn iter(self) -> impl Iterator<Item = WorkerId> {
        (0..64).map(WorkerId).filter(move |worker| self.contains(*worker))
    }

    /// This set and one more.
    #[must_use]
    pub const fn with(self, worker: WorkerId) -> Self {
        Self(self.0 | 1 << (worker.0 & 63))
    }

    /// Whether a worker is in the set.
    pub const fn contains(self, worker: WorkerId) -> bool {
        self.0 >> (worker.0 & 63) & 1 == 1
    }
}

/// Frames that leave the core beside the one it was given, each with a verdict of its own,
/// which is never `Held`.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: Vec<(Frame, Verdict)>,
    fences: WorkerSet,
}

impl Outbox {
    /// Puts a frame in.
    pub fn push(&mut self, frame: Frame, verdict: Verdict) {
        self.frames.push((frame, verdict));
    }

    /// Asks for a fence of this worker's queue, which may be the core's own. It must not be asked for again before it
    /// has passed.
    pub fn ask_fence(&mut self, queue: WorkerId) {
        self.fences = self.fences.with(queue);
    }

    /// Takes out which fences are asked for.
    pub fn take_fences(&mut self) -> WorkerSet {
        std::mem::take(&mut self.fences)
    }

    /// Whether there is nothing to do, which is nearly always.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.fences.is_empty()
    }

    /// Takes the frames out, in the order in which they must be written.
    pub fn drain(&mut self) -> impl Iterator<Item = (Frame, Verdict)> + '_ {
        self.frames.drain(..)
    }
}
