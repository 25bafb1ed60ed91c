//! What the stack says of its decisions, to whoever listens.

use super::{Entry, Stack};
use crate::datapath::{Decision, FlowNumber, Listening};
use crate::packet::FiveTuple;

/// What is remembered of the last frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heard {
    tuple: FiveTuple,
    before: Option<&'static str>,
}

impl Stack {
    pub(super) fn set_listening(&mut self, listening: Listening) {
        (self.listening, self.heard) = (listening, None);
    }

    /// A frame has come of which nothing is known yet.
    #[inline]
    pub(super) fn hear_frame(&mut self) {
        if self.listening == Listening::Yes {
            self.heard = None;
        }
    }

    /// It is a segment from this client to this VIP, and the table has not seen it yet.
    #[inline]
    pub(super) fn hear_segment(&mut self, tuple: &FiveTuple) {
        if self.listening == Listening::Yes {
            self.heard = Some(Heard { tuple: *tuple, before: self.standing(tuple) });
        }
    }

    pub(super) fn told(&self) -> Decision {
        let Some(Heard { tuple, before }) = self.heard else { return Decision::default() };
        let flow = match self.table.get(&tuple) {
            Some(&Entry::Flow(key)) => Some(FlowNumber { worker: self.share.worker, number: key.number() }),
            Some(Entry::HalfOpen(_) | Entry::Tombstone(_)) | None => None,
        };
        let service = self.listeners.contains_key(&tuple.destination).then_some(tuple.destination);
        Decision { flow, service, before, after: self.standing(&tuple), ..Decision::default() }
    }

    /// The one word for how far a connection has come.
    fn standing(&self, tuple: &FiveTuple) -> Option<&'static str> {
        Some(match self.table.get(tuple)? {
            Entry::HalfOpen(_) => "opening",
            Entry::Flow(_) => "open",
            Entry::Tombstone(_) => "closed",
        })
    }
}
