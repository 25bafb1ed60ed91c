//! What a core can say about a verdict, for a capture and for those who ask why.
//!
//! A verdict alone says what the driver must do. A core that has been told to listen to itself
//! ([`Datapath::listen`](super::Datapath::listen)) remembers, for its last frame, which flow it was, which backend and
//! why that one. Nobody else can know: by the time that a driver looks, the state has moved on.

use std::fmt;

use super::ids::WorkerId;
use super::verdict::Verdict;
use crate::packet::Endpoint;

/// What was decided about one frame, and from what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What became of the frame; `None` for one that the core sent on its own.
    pub verdict: Option<Verdict>,
    /// The side that the frame came from, or went to where the core sent it on its own.
    pub side: Side,
    /// Which flow or connection it belongs to.
    pub flow: Option<FlowNumber>,
    /// The virtual service's endpoint.
    pub service: Option<Endpoint>,
    /// The backend.
    pub backend: Option<Endpoint>,
    /// Why that backend: the scheduler's word, or [`Decision::BOUND`].
    pub why: Option<&'static str>,
    /// The flow's state before the frame; `None` where there was no flow.
    pub before: Option<&'static str>,
    /// The flow's state after it.
    pub after: Option<&'static str>,
    /// More words of the form `key=value`, separated by blanks: a request and what became of it.
    pub more: Option<Box<str>>,
}

impl Decision {
    /// In [`Decision::why`]: the flow was bound to it before.
    pub const BOUND: &'static str = "bound";
}

/// The two sides of a balancer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Side {
    /// Clients.
    #[default]
    Client,
    /// Backends.
    Backend,
}

impl Side {
    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// Names a flow or connection, and over one run no other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowNumber {
    /// The worker that it lives with.
    pub worker: WorkerId,
    /// Its number there: the place in a table, and in the upper half how many others had that place before.
    pub number: u64,
}

impl fmt::Display for FlowNumber {
    /// `worker.place.generation`, which is one word.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.worker, self.number & 0xffff_ffff, self.number >> 32)
    }
}

/// Whether anybody wants to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listening {
    /// Nobody: nothing is remembered, and it costs nothing.
    #[default]
    No,
    /// The core remembers its last decision.
    Yes,
}
