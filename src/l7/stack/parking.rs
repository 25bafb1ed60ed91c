//! Parking: a connection on which nothing is under way needs no rings, and no socket either.
//!
//! All that smoltcp would have to remember of it are two numbers, the client's window and what the
//! client once offered. So when nothing has moved for a while, the rings go back to the pool, and
//! with the next byte, from either side, a socket is led to where the connection is (see
//! `engine`), which costs about as much as some packets. Ten thousand idle connections then cost
//! what their bookkeeping takes, and rings can be large.
//!
//! ```text
//!            nothing queued, nothing to acknowledge, `Timeouts::park` passed
//!   Seated ─────────────────────────────────────────────────────────────────▶ Parked
//!          ◀─────────────────────────────────────────────────────────────────
//!            data or FIN from the client; write, shutdown or drop of the stream
//! ```
//!
//! The client does not notice: the rings come back in the same sizes, so that windows and their
//! scale stay true. Bytes beyond a gap are forgotten, which RFC 2018 §8 allows: they have
//! not been acknowledged. The congestion window starts anew, as RFC 5681 §4.1 wants after idling.
//! While a connection is parked, keep-alives are answered by hand.

use smoltcp::socket::tcp::State as TcpState;

use super::engine::{Engine, Manner, Opening};
use super::flow::{End, Flow, Holder, Seating, State};
use super::segment::Segment;

/// What a parked connection does about a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parked {
    /// Nothing: it acknowledges what is known, or opens the window.
    Noted,
    /// It asks whether we are there.
    Asked,
    /// It needs a socket.
    Wakes,
}

impl Flow {
    /// The engine, which is made if the connection is parked; `None` if it is over.
    #[inline]
    pub(crate) fn seated<'a>(&self, state: &'a mut State) -> Option<&'a mut Engine> {
        if matches!(state.seating, Seating::Parked(_)) {
            self.unpark(state);
        }
        state.seating.engine()
    }

    /// What smoltcp is told of this connection as it is now.
    fn opening(&self, state: &State) -> Opening {
        Opening {
            tuple: self.tuple,
            theirs: state.wire.acknowledged.minus(1),
            ours: state.wire.next.minus(1),
            offer: state.offer,
            window: state.client_window,
            round_trip: state.round_trip,
        }
    }

    /// Gives the connection rings.
    pub(super) fn unpark(&self, state: &mut State) {
        let shared = &self.shared;
        let seat = shared.pool.borrow_mut().take(state.listener.rings);
        let manner = Manner { mss: state.wire.mss, congestion: state.listener.congestion };
        let opening = self.opening(state);
        let opened =
            Engine::open(&mut shared.interface.borrow_mut(), seat, &opening, manner, shared.now.get());
        let reader = match &mut state.seating {
            Seating::Parked(reader) => reader.take(),
            Seating::Seated(_) | Seating::Over => None,
        };
        match opened {
            Ok((mut engine, offset)) => {
                if let Some(reader) = reader {
                    engine.socket().register_recv_waker(&reader);
                }
                state.wire.offset = offset;
                state.seating = Seating::Seated(engine);
            }
            Err(seat) => {
                // smoltcp takes every handshake that this room makes up; were it not so, the
                // connection would be given up.
                debug_assert!(false, "smoltcp does not take {opening:?}");
                shared.pool.borrow_mut().give_back(seat);
                state.end.get_or_insert(End::Aborted);
                state.seating = Seating::Over;
                if let Some(reader) = reader {
                    reader.wake();
                }
            }
        }
        self.touch();
    }

    /// Takes the rings away if nothing is under way. Only when all has been said.
    pub(super) fn park(&self, state: &mut State) {
        let Seating::Seated(engine) = std::mem::replace(&mut state.seating, Seating::Parked(None)) else {
            return;
        };
        // This wakes who reads, which then waits at the parked connection.
        self.shared.pool.borrow_mut().give_back(engine.into_seat());
    }
}

impl State {
    /// Whether nothing is under way, or can be without another byte from either side.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.holder == Holder::Stream
            && !self.shut
            && self.acknowledge_by.is_none()
            && self.seating.engine().is_some_and(|engine| {
                let socket = engine.socket();
                socket.state() == TcpState::Established
                    && socket.send_queue() == 0
                    && socket.recv_queue() == 0
            })
    }

    /// What a segment means to the connection while it is parked.
    pub(super) fn while_parked(&mut self, segment: &Segment) -> Parked {
        let expected = self.wire.acknowledged;
        if segment.flags.fin() || segment.acknowledgement != self.wire.next {
            return Parked::Wakes;
        }
        if segment.payload == 0 && segment.sequence == expected {
            self.client_window = segment.window;
            return Parked::Noted;
        }
        // RFC 9293 §3.8.4: a probe is one byte, or none, before what is expected.
        if segment.payload <= 1 && segment.sequence == expected.minus(1) {
            return Parked::Asked;
        }
        Parked::Wakes
    }
}
