//! What is left of a connection that we have closed: enough to answer late segments.
//!
//! ```text
//!   FIN-WAIT-2 ──the client's FIN──▶ TIME-WAIT ──2 MSL──▶ gone
//!       │  nobody reads any more;        │  a FIN sent again is acknowledged again;
//!       │  data are thrown away, for     │  a SYN with a higher number begins anew
//!       │  a while, then reset           │  (RFC 9293 §3.6.1, RFC 1122 §4.2.2.13)
//! ```
//!
//! No socket, no rings: some numbers.

use super::segment::Segment;
use super::sequence::Sequence;
use super::timers::TimerId;
use crate::datapath::Instant;
use crate::packet::FiveTuple;

/// What is left of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tombstone {
    /// From the client to the VIP.
    pub(super) tuple: FiveTuple,
    pub(super) phase: Phase,
    /// The number behind our FIN.
    pub(super) next: Sequence,
    /// The number that the client sends next.
    pub(super) expected: Sequence,
    /// The window field that the client was told last.
    pub(super) window: u16,
    pub(super) timer: TimerId,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Our FIN is acknowledged; the client may still send. Until the time given it may even
    /// send data that nobody will read.
    FinWait2(Instant),
    /// Both sides have closed.
    TimeWait,
}

/// What a late segment calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Late {
    /// Acknowledge what is expected.
    Acknowledge,
    /// Acknowledge it, and wait the whole time from now on.
    WaitAgain,
    /// Reset, and forget the connection.
    Reset,
    /// Forget the connection.
    Forget,
    /// Nothing.
    Ignore,
    /// Forget the connection and take the segment as the first of a new one, which must not
    /// use numbers before the one given.
    Anew(Sequence),
}

/// How far the numbers of the next connection stay ahead of the last one's.
const AHEAD: u32 = 1 << 17;

impl Tombstone {
    /// Takes a segment in.
    pub(super) fn take(&mut self, now: Instant, segment: &Segment) -> Late {
        let flags = segment.flags;
        if flags.rst() {
            // RFC 1337: a reset must not cut TIME-WAIT short.
            return match self.phase {
                Phase::FinWait2(_) if segment.sequence == self.expected => Late::Forget,
                Phase::FinWait2(_) | Phase::TimeWait => Late::Ignore,
            };
        }
        if flags.syn() {
            return if !flags.ack()
                && self.phase == Phase::TimeWait
                && segment.sequence.is_after(self.expected)
            {
                Late::Anew(self.next.plus(AHEAD))
            } else {
                Late::Acknowledge
            };
        }
        if !flags.ack() {
            return Late::Ignore;
        }
        let Phase::FinWait2(lingers_until) = self.phase else {
            return if flags.fin() {
                Late::WaitAgain
            } else if segment.payload > 0 {
                Late::Acknowledge
            } else {
                Late::Ignore
            };
        };
        if segment.payload > 0 && segment.end().is_after(self.expected) && now >= lingers_until {
            return Late::Reset;
        }
        // In order, or with a part that is: what lies beyond a gap will be sent again.
        if segment.sequence.is_after(self.expected) {
            return Late::Acknowledge;
        }
        if segment.end().is_after(self.expected) {
            self.expected = segment.end();
            if flags.fin() {
                self.phase = Phase::TimeWait;
                return Late::WaitAgain;
            }
            return Late::Acknowledge;
        }
        // A keep-alive probe, or data sent again: RFC 9293 §3.10.7.4 acknowledges these.
        if segment.payload > 0 || self.expected.is_after(segment.sequence) {
            Late::Acknowledge
        } else {
            Late::Ignore
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l7::stack::segment::{Bare, BareKind, Offer};
    use crate::l7::stack::timers::Timers;
    use crate::packet::{Frame, Protocol, TcpFlags, View};
    use std::net::SocketAddr;
    use std::time::Duration;

    fn segment(sequence: u32, payload: u32, flags: TcpFlags) -> Segment {
        let from = SocketAddr::from(([198, 51, 100, 1], 4000)).into();
        let to = SocketAddr::from(([203, 0, 113, 1], 80)).into();
        let kind = BareKind::Syn(Offer { mss: 1, scale: None, sack: false });
        let mut frame = Frame::new();
        Bare { from, to, kind, sequence: Sequence(sequence), window: 1 }.replace(&mut frame);
        let view = View::of(frame.packet()).unwrap();
        Segment { flags, payload, ..Segment::of(frame.packet(), &view).unwrap() }
    }

    #[test]
    fn late_segments_get_what_the_rfcs_give_them() {
        let ack = TcpFlags::ACK;
        let fin = TcpFlags::FIN | ack;
        let syn = TcpFlags::SYN;
        let rst = TcpFlags::RST;
        let until = Instant::START + Duration::from_secs(5);
        let (before, after) = (Instant::START, until);
        let waits = Phase::FinWait2(until);
        for (name, phase, now, given, want) in [
            ("FIN sent again", Phase::TimeWait, before, segment(999, 0, fin), Late::WaitAgain),
            ("a pure ACK", Phase::TimeWait, before, segment(1000, 0, ack), Late::Ignore),
            ("old data", Phase::TimeWait, before, segment(900, 10, ack), Late::Acknowledge),
            ("RST in TIME-WAIT", Phase::TimeWait, before, segment(1000, 0, rst), Late::Ignore),
            ("a higher SYN", Phase::TimeWait, before, segment(2000, 0, syn), Late::Anew(Sequence(5 + AHEAD))),
            ("a lower SYN", Phase::TimeWait, before, segment(500, 0, syn), Late::Acknowledge),
            ("a SYN before the client closed", waits, before, segment(2000, 0, syn), Late::Acknowledge),
            ("the FIN", waits, before, segment(1000, 0, fin), Late::WaitAgain),
            ("the FIN behind data", waits, before, segment(1000, 7, fin), Late::WaitAgain),
            ("a FIN beyond a gap", waits, before, segment(1010, 7, fin), Late::Acknowledge),
            ("data soon", waits, before, segment(1000, 7, ack), Late::Acknowledge),
            ("data late", waits, after, segment(1000, 7, ack), Late::Reset),
            ("a FIN alone, late", waits, after, segment(1000, 0, fin), Late::WaitAgain),
            ("a keep-alive probe", waits, after, segment(999, 0, ack), Late::Acknowledge),
            ("the right RST", waits, before, segment(1000, 0, rst), Late::Forget),
            ("a guessed RST", waits, before, segment(1001, 0, rst), Late::Ignore),
        ] {
            let mut timers = Timers::new();
            let mut stone = Tombstone {
                tuple: FiveTuple { protocol: Protocol::Tcp, ..given.tuple },
                phase,
                next: Sequence(5),
                expected: Sequence(1000),
                window: 0,
                timer: timers.add(until, ()),
            };
            assert_eq!(stone.take(now, &given), want, "{name}");
            assert_eq!(
                stone.phase == Phase::TimeWait,
                phase == Phase::TimeWait || want == Late::WaitAgain,
                "{name}"
            );
        }
    }
}
