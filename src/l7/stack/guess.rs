//! Resets and SYNs, which anybody may have sent who guesses (RFC 5961).
//!
//! An off-path attacker who knows the five-tuple needs some hundred thousand guesses to hit a window, and four thousand
//! million to hit one number. So a reset is believed at exactly the next number, and otherwise answered by a challenge,
//! which the true client answers by a reset that is exact (§3.2); no SYN of a connection that is open is believed (§4.2).
//!
//! smoltcp does not say what the next number is, and what was acknowledged last may be behind it. So it is counted here.

use smoltcp::socket::tcp::State as TcpState;

use super::flow::State;
use super::segment::Segment;

/// What becomes of a segment with a SYN or a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Belief {
    /// It is the client's.
    True,
    /// It may be a guess: the client is asked.
    Doubtful,
    /// It is old, or made up.
    False,
}

impl State {
    /// Whether a segment with a SYN or a reset is believed.
    pub(super) fn belief(&self, segment: &Segment) -> Belief {
        let (sequence, told) = (segment.sequence, self.wire.acknowledged);
        if !segment.flags.rst() {
            return Belief::Doubtful;
        }
        // A client that is gone resets with the number that it was told last, which may be behind the next one.
        if sequence == self.expected || sequence == told {
            return Belief::True;
        }
        let inside = sequence.since(told) < self.wire.window_end().since(told);
        if inside { Belief::Doubtful } else { Belief::False }
    }

    /// Takes note of what smoltcp has taken in: it was in this state before, with so many bytes to be read.
    #[inline]
    pub(super) fn note_received(&mut self, before: TcpState, unread: usize) {
        let Some(engine) = self.seating.engine() else { return };
        let socket = engine.socket();
        #[expect(clippy::cast_possible_truncation, reason = "no ring has 4 GiB")]
        let taken = socket.recv_queue().saturating_sub(unread) as u32;
        let open = |state| matches!(state, TcpState::Established | TcpState::FinWait1 | TcpState::FinWait2);
        let closed = |state| matches!(state, TcpState::CloseWait | TcpState::Closing | TcpState::TimeWait);
        let fin = open(before) && closed(socket.state());
        self.expected = self.expected.plus(taken.saturating_add(u32::from(fin)));
    }
}
