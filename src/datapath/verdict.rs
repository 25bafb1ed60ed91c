//! What becomes of a packet.

use super::ids::WorkerId;
use super::reason::Reason;

/// What the driver must do with the frame that it gave to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a verdict says whether the frame must be written"]
pub enum Verdict {
    /// Write the frame: it is the same packet, rewritten.
    Forward(Reason),
    /// Write the frame: it is now the balancer's own answer to the packet.
    Answer(Reason),
    /// Write nothing: the core has taken the packet in. What it has to say because of it comes
    /// out when the core is asked for its own frames.
    Deliver(Reason),
    /// Write nothing.
    Drop(Reason),
    /// Write nothing; the core has taken a copy and will forward or drop it later.
    Held,
    /// Give the frame to this worker's core: the flow lives there.
    HandOver(WorkerId),
}

/// The ends that a packet can come to, which are what is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Outcome {
    /// It went on.
    Forwarded,
    /// It was answered by the balancer.
    Answered,
    /// It ended here, in a connection of the balancer's own.
    Delivered,
    /// It went nowhere.
    Dropped,
}

impl Outcome {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// All of them, in the order of reports.
    pub const ALL: [Self; Self::COUNT] = [Self::Forwarded, Self::Answered, Self::Delivered, Self::Dropped];

    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::Answered => "answered",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
        }
    }
}

impl Verdict {
    /// The end that this verdict is, and why; `None` while the packet's way goes on.
    pub const fn outcome(self) -> Option<(Outcome, Reason)> {
        match self {
            Self::Forward(reason) => Some((Outcome::Forwarded, reason)),
            Self::Answer(reason) => Some((Outcome::Answered, reason)),
            Self::Deliver(reason) => Some((Outcome::Delivered, reason)),
            Self::Drop(reason) => Some((Outcome::Dropped, reason)),
            Self::Held | Self::HandOver(_) => None,
        }
    }
}
