//! How far a TCP connection has come, as seen by somebody on its path.
//!
//! ```text
//!                    SYN-ACK             ACK from
//!    SYN            from backend         the client                one FIN            the other FIN
//!   ─────▶ Opening ─────────▶ Answered ──────────▶ Established ──────────▶ Closing ────────────▶ Closed
//!             │                   ╲                  ▲   │ RST                │ RST
//!             │ RST                ╲ RST   any but   │   ▼                    ▼
//!             ▼                     ╰────▶  a RST    ╰─ Reset ◀───────────────╯
//!          Refused                                       │ SYN from the client
//!             ▲   RST                                    ▼
//!             ╰─────────────── Resuming ◀────────────────╯
//!                                 │  ▲
//!              SYN-ACK: Answered ◀┤  ╰── a packet in mid-flow that opened the flow
//!      any other: Established ◀───╯      (nothing here has seen its SYN)
//!      (from the backend)
//! ```
//!
//! This is the state machine of RFC 6146 §3.5.2.2, to which RFC 7857 §2 points all NATs, with these
//! differences, each for a reason:
//!
//! - *Established only after the client's ACK*, where RFC 6146 is content with both SYNs. RFC 5382 REQ-5
//!   means by established that the handshake is complete. And a backend answers every SYN of a flood; its
//!   SYN-ACKs must not lift invented clients to a timeout of two hours.
//! - *A RST ends nothing by itself* (RFC 7857 §2.2: translate it, keep the state). Windows are not
//!   tracked, so a forged RST looks like a true one. Any later packet shows that the connection lives on.
//! - *A SYN after a RST goes to the same backend* (`Resuming`), and what the backend says to it decides. If
//!   it picked a new backend, two forged packets, a RST and a SYN, would re-point a live connection (RFC 5961 §4
//!   has an endpoint answer such a SYN with a challenge ACK, and it must get the chance). If the
//!   backend refuses, the next SYN is free to go elsewhere.
//! - *A SYN after both FINs, or after a refusal, is a new flow* ([`State::is_over`]): a client that uses its port
//!   again at once must not wait for our timer, and a FIN from the backend's side cannot be forged by
//!   somebody who only reaches the client's side. RFC 6146 would translate it by the old entry.
//! - *One FIN shortens the timeout* to `tcp_closing` (RFC 5382 REQ-5), counted from the last packet as ever;
//!   RFC 6146 keeps the long one until the second FIN.

use super::binding::Direction;
use crate::packet::TcpFlags;

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// A UDP flow, which has no states.
    Udp,
    /// The client has sent a SYN.
    Opening,
    /// The backend has answered it with its own.
    Answered,
    /// A connection that nobody here has seen opening, or one that was reset and got a SYN: what the backend says decides.
    Resuming,
    /// The client has acknowledged the backend's SYN.
    Established,
    /// This side has sent its FIN, the other has not.
    Closing(Direction),
    /// Both have.
    Closed,
    /// A RST was seen on an open connection.
    Reset,
    /// A RST was seen before there was a connection.
    Refused,
}

/// Where a flow waits for its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The handshake is not complete. May have to give way when the table is full.
    Opening,
    /// In use.
    Open,
    /// Done, and kept for late packets only. Gives way first.
    Closed,
}

impl State {
    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Opening => "opening",
            Self::Answered => "answered",
            Self::Resuming => "resuming",
            Self::Established => "established",
            Self::Closing(_) => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
        }
    }

    /// The state after a packet with these flags.
    #[must_use]
    pub fn next(self, direction: Direction, flags: TcpFlags) -> Self {
        if flags.any(TcpFlags::RST) {
            self.after_rst()
        } else if flags.any(TcpFlags::SYN) {
            self.after_syn(direction, flags)
        } else {
            self.after_other(direction, flags)
        }
    }

    fn after_rst(self) -> Self {
        match self {
            Self::Opening | Self::Resuming => Self::Refused,
            Self::Answered | Self::Established | Self::Closing(_) => Self::Reset,
            Self::Udp | Self::Closed | Self::Reset | Self::Refused => self,
        }
    }

    /// A SYN in an open connection passes through and changes nothing: the endpoint answers it
    /// (RFC 5961 §4).
    ///
    /// One with ACK or FIN from the client, before the backend has said anything, is like any other packet in mid-flow
    /// then: a backend that did not take the first SYN answers by a RST, which is no refusal. If it were, a client
    /// could have every backend taken for down by two packets that do not go together.
    fn after_syn(self, direction: Direction, flags: TcpFlags) -> Self {
        match (self, direction) {
            (Self::Opening, Direction::Original) if !flags.opens() => Self::Resuming,
            (Self::Opening | Self::Resuming | Self::Reset | Self::Refused, Direction::Reply) => {
                Self::Answered
            }
            (Self::Reset, Direction::Original) => Self::Resuming,
            _ => self,
        }
    }

    fn after_other(self, direction: Direction, flags: TcpFlags) -> Self {
        let in_use = if flags.any(TcpFlags::FIN) { Self::Closing(direction) } else { Self::Established };
        match (self, direction) {
            (Self::Opening, Direction::Original) => Self::Resuming,
            (Self::Answered, Direction::Original) if flags.any(TcpFlags::ACK) => in_use,
            (Self::Resuming | Self::Refused, Direction::Reply) | (Self::Established | Self::Reset, _) => {
                in_use
            }
            (Self::Closing(side), _) if side != direction && flags.any(TcpFlags::FIN) => Self::Closed,
            // Opening: the backend may still have an older connection of this tuple, and says so with a
            // challenge ACK; that is no answer to the SYN. Resuming, Refused: only the backend can say that
            // it knows the connection; if the client's word were enough, a flood of ACKs would fill the
            // table for two hours.
            (Self::Opening, Direction::Reply)
            | (Self::Resuming | Self::Refused, Direction::Original)
            | (Self::Answered | Self::Closing(_) | Self::Closed | Self::Udp, _) => self,
        }
    }

    /// Whether a fresh SYN ([`TcpFlags::opens`]) from the client starts a new flow in the place of this one.
    #[inline]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Closed | Self::Refused)
    }

    #[inline]
    pub(super) fn phase(self) -> Phase {
        match self {
            Self::Opening | Self::Answered | Self::Resuming => Phase::Opening,
            Self::Udp | Self::Established | Self::Closing(_) => Phase::Open,
            Self::Closed | Self::Reset | Self::Refused => Phase::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Original, Reply};
    use super::State::{Answered, Closed, Closing, Established, Opening, Refused, Reset, Resuming, Udp};
    use super::*;

    const SYN: TcpFlags = TcpFlags::SYN;
    const SYN_ACK: TcpFlags = TcpFlags::SYN_ACK;
    const ACK: TcpFlags = TcpFlags::ACK;
    const RST: TcpFlags = TcpFlags::RST;
    const FIN_ACK: TcpFlags = TcpFlags(0x11);
    const NONE: TcpFlags = TcpFlags(0);

    #[test]
    fn transitions() {
        for (name, from, direction, flags, want) in [
            ("a SYN sent again changes nothing", Opening, Original, SYN, Opening),
            ("SYN-ACK from the client answers nothing", Opening, Original, SYN_ACK, Resuming),
            ("nor does it later", Answered, Original, SYN_ACK, Answered),
            ("a SYN that is a FIN too opens nothing", Opening, Original, TcpFlags(0x03), Resuming),
            ("SYN-ACK from the backend answers", Opening, Reply, SYN_ACK, Answered),
            ("so does its bare SYN: simultaneous open", Opening, Reply, SYN, Answered),
            ("a challenge ACK is no answer", Opening, Reply, ACK, Opening),
            ("an ACK at first shows an older connection", Opening, Original, ACK, Resuming),
            ("RST from the backend refuses", Opening, Reply, RST | ACK, Refused),
            ("RST from the client gives up", Opening, Original, RST, Refused),
            ("the client's ACK completes the handshake", Answered, Original, ACK, Established),
            ("a packet without ACK does not", Answered, Original, NONE, Answered),
            ("SYN-ACK sent again changes nothing", Answered, Reply, SYN_ACK, Answered),
            ("a SYN sent again crosses the SYN-ACK", Answered, Original, SYN, Answered),
            ("ACK and FIN at once", Answered, Original, FIN_ACK, Closing(Original)),
            ("RST in the handshake's end", Answered, Original, RST, Reset),
            ("data changes nothing", Established, Reply, ACK, Established),
            ("a SYN from the client changes nothing", Established, Original, SYN, Established),
            ("a SYN from the backend changes nothing", Established, Reply, SYN, Established),
            ("the client's FIN", Established, Original, FIN_ACK, Closing(Original)),
            ("the backend's FIN", Established, Reply, FIN_ACK, Closing(Reply)),
            ("a FIN sent again is one FIN", Closing(Original), Original, FIN_ACK, Closing(Original)),
            ("data after the other's FIN", Closing(Original), Reply, ACK, Closing(Original)),
            ("a SYN in closing changes nothing", Closing(Original), Original, SYN, Closing(Original)),
            ("both FINs close", Closing(Original), Reply, FIN_ACK, Closed),
            ("both FINs close, the other order", Closing(Reply), Original, FIN_ACK, Closed),
            ("the last ACK changes nothing", Closed, Original, ACK, Closed),
            ("a RST after both FINs changes nothing", Closed, Reply, RST, Closed),
            ("a SYN after both FINs is for somebody else", Closed, Original, SYN, Closed),
            ("RST from the client", Established, Original, RST, Reset),
            ("RST from the backend", Established, Reply, RST | ACK, Reset),
            ("RST when half closed", Closing(Reply), Original, RST, Reset),
            ("two RSTs are one", Reset, Original, RST, Reset),
            ("data after a RST shows that it was forged", Reset, Original, ACK, Established),
            ("from either side", Reset, Reply, ACK, Established),
            ("a FIN after a RST", Reset, Reply, FIN_ACK, Closing(Reply)),
            ("a SYN after a RST asks the backend", Reset, Original, SYN, Resuming),
            ("who knows the connection: challenge ACK", Resuming, Reply, ACK, Established),
            ("or does not, and opens one", Resuming, Reply, SYN_ACK, Answered),
            ("or refuses", Resuming, Reply, RST, Refused),
            ("the client's word is not enough", Resuming, Original, ACK, Resuming),
            ("nor is its FIN", Resuming, Original, FIN_ACK, Resuming),
            ("nor its SYN", Resuming, Original, SYN, Resuming),
            ("a backend that closes what it knew", Resuming, Reply, FIN_ACK, Closing(Reply)),
            ("RST from the client while nobody knows", Resuming, Original, RST, Refused),
            ("a forged refusal is undone by the answer", Refused, Reply, SYN_ACK, Answered),
            ("or by what the backend says later", Refused, Reply, ACK, Established),
            ("not by the client", Refused, Original, ACK, Refused),
            ("a SYN after a refusal is a new flow's", Refused, Original, SYN, Refused),
            ("UDP knows no flags", Udp, Original, RST, Udp),
        ] {
            assert_eq!(from.next(direction, flags), want, "{name}");
        }
    }

    #[test]
    fn rst_outweighs_all_other_flags() {
        for from in [Opening, Answered, Resuming, Established, Closing(Reply), Closed, Reset, Refused] {
            for direction in [Original, Reply] {
                for flags in 0..=u8::MAX {
                    let flags = TcpFlags(flags) | RST;
                    assert_eq!(from.next(direction, flags), from.next(direction, RST), "{from:?} {flags:?}");
                }
            }
        }
    }

    #[test]
    fn only_a_fresh_syn_opens() {
        for (flags, want) in [(SYN, true), (SYN_ACK, false), (ACK, false), (SYN | RST, false), (NONE, false)]
        {
            assert_eq!(flags.opens(), want, "{flags:?}");
        }
        assert!(TcpFlags(0xc2).opens(), "ECN's ECE and CWR do not matter (RFC 3168 §6.1.1)");
    }

    #[test]
    fn a_state_takes_one_byte() {
        assert_eq!(size_of::<State>(), 1);
    }
}
