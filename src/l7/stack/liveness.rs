//! Whether a client is still there, and whether smoltcp still does something about it.
//!
//! smoltcp has keep-alives and a timeout of its own. They are not used:
//!
//! - Its keep-alive carries one byte of zero, in the place of the last byte that was *sent*. If
//!   that byte was lost and its retransmission is not under way, the zero is accepted in its
//!   place, and the stream is damaged. Ours carries nothing (RFC 9293 §3.8.4 allows both).
//! - Its retransmission timer is replaced by the one for zero-window probes when a partial
//!   acknowledgement closes the window, and is not set again when the window opens. What was
//!   under way and lost is then never sent again. With no other timer in use, such a stall can
//!   be told: numbers are not acknowledged, and smoltcp has no deadline. It is mended by what
//!   the client would do if it could, which is to acknowledge the same number again and again
//!   (RFC 5681 §3.2), or by sending the FIN again by hand.
//! - Its timer for probes is not set where the window closes while the one for retransmission runs and nothing is
//!   acknowledged with it, as when segments come out of order. When that fires there is nothing that it may send, and if
//!   the client's word that the window is open again is lost, both wait for ever. That can be told too: bytes wait, and
//!   smoltcp has no deadline. It is told once more that the window is closed, and then probes it.
//! - What `Wire::clip` cut off it takes for sent, and would send nothing until its retransmission timer fires. If all that
//!   was really sent is acknowledged, the same made-up acknowledgements let it go on at once.

use std::time::Duration;

use smoltcp::socket::tcp;

use super::engine::Reply;
use super::flow::{Flow, State};
use super::segment::{Bare, BareKind, Segment};
use super::sequence::Sequence;
use super::settings::Timeouts;
use crate::datapath::Instant;

/// How long a stall may look like one before it is mended: the least retransmission timeout
/// (RFC 6298 §2.4).
const STALL: Duration = Duration::from_secs(1);

/// Acknowledgements of one number that make smoltcp send again: three duplicates (RFC 5681
/// §3.2) of one that may be the first.
const DUPLICATES: usize = 4;

impl State {
    /// When the client must be asked whether it is there, or be taken for dead.
    pub(super) fn alive_deadline(&self, timeouts: &Timeouts) -> Instant {
        self.probe_at(timeouts).min(self.heard_at + timeouts.dead)
    }

    fn probe_at(&self, timeouts: &Timeouts) -> Instant {
        self.heard_at.max(self.probed_at) + timeouts.keep_alive
    }

    /// Whether the client is to be given up.
    pub(super) fn is_lost(&self, now: Instant, timeouts: &Timeouts) -> bool {
        now >= self.heard_at + timeouts.dead
            || now >= self.active_at + timeouts.idle
            || self.orphan_until.is_some_and(|until| now >= until)
    }

    /// Asks the client whether it is there, if it is time to.
    pub(super) fn probe(&mut self, flow: &Flow, now: Instant, timeouts: &Timeouts, replies: &mut Vec<Reply>) {
        if now >= self.probe_at(timeouts) {
            self.probed_at = now;
            let bare = self.acknowledgement(flow);
            let probe = Bare { sequence: bare.sequence.minus(1), ..bare };
            replies.push(Reply::new(|space| probe.write(space)));
        }
    }

    /// An acknowledgement of what was acknowledged last.
    pub(super) fn acknowledgement(&self, flow: &Flow) -> Bare {
        Bare {
            from: flow.tuple.destination,
            to: flow.tuple.source,
            kind: BareKind::Ack(self.wire.acknowledged),
            sequence: self.wire.next,
            window: self.wire.window,
        }
    }

    /// Takes note of what the client acknowledges, and of the window with it; of nothing where that is old.
    #[inline]
    pub(super) fn note_acknowledgement(&mut self, acknowledged: Sequence, window: u16) {
        let under_way = self.wire.next.since(self.client_acknowledged);
        if acknowledged.since(self.client_acknowledged) <= under_way {
            self.client_acknowledged = acknowledged;
            self.client_window = window;
        }
    }

    /// Takes note of how much the client has room for. A window is not taken back (RFC 9293 §3.8.6).
    #[inline]
    pub(super) fn note_window(&mut self, segment: &Segment) {
        let under_way = self.wire.next.since(self.client_acknowledged);
        if segment.flags.ack() && segment.acknowledgement.since(self.client_acknowledged) <= under_way {
            let shift = self.offer.scale.unwrap_or(0).min(14);
            let edge = segment.acknowledgement.plus(u32::from(segment.window) << shift);
            self.wire.edge = self.wire.edge.max(edge);
        }
    }

    /// Closes our half, once smoltcp can be trusted with the rest.
    ///
    /// Behind a FIN of the client's that makes LAST-ACK, in which smoltcp passes over what acknowledges nothing new: windows
    /// that open, and duplicates that tell of a loss. So there it is not closed until the client has a window for all that
    /// is written, which needs no more of its words.
    pub(crate) fn close(&mut self) {
        let (from, edge) = (self.client_acknowledged, self.wire.edge);
        // The window that smoltcp goes by may be an older one, come late.
        let said = usize::from(self.client_window) << self.offer.scale.unwrap_or(0).min(14);
        let Some(engine) = self.seating.engine() else { return };
        let socket = engine.socket();
        let room = if edge.is_after(from) { edge.since(from) as usize } else { 0 };
        if socket.state() != tcp::State::CloseWait || socket.send_queue() <= room.min(said) {
            socket.close();
        }
    }

    /// Sees to it that what is under way is not forgotten; when to look again, if it may be.
    /// `due` is smoltcp's own deadline.
    pub(super) fn mend(
        &mut self,
        flow: &Flow,
        now: Instant,
        due: Option<Instant>,
        replies: &mut Vec<Reply>,
    ) -> Option<Instant> {
        let queued = self.seating.engine()?.socket().send_queue() > 0;
        let under_way = self.client_acknowledged != self.wire.next;
        let open = self.client_window > 0 && self.wire.edge.is_after(self.wire.next);
        let cut_off = queued && !under_way && open && std::mem::take(&mut self.wire.clipped);
        if !cut_off {
            if due.is_some() || !under_way && !queued {
                self.stalled_at = None;
                return due;
            }
            let since = *self.stalled_at.get_or_insert(now);
            if now < since + STALL {
                return Some(since + STALL);
            }
            self.stalled_at = Some(now);
        }
        let unprobed = !under_way && !cut_off;
        let made_up = Bare {
            from: flow.tuple.source,
            to: flow.tuple.destination,
            kind: BareKind::Ack(self.client_acknowledged.minus(self.wire.offset)),
            sequence: self.wire.acknowledged,
            window: if unprobed { 0 } else { self.client_window },
        };
        let engine = self.seating.engine()?;
        if queued {
            let made_up = Reply::new(|space| made_up.write(space));
            let mut interface = flow.shared.interface.borrow_mut();
            for _ in 0..if unprobed { 1 } else { DUPLICATES } {
                engine.receive(&mut interface, now, made_up.packet(), &mut self.wire, replies);
            }
            drop(interface);
            flow.touch();
        } else {
            let bare = self.acknowledgement(flow);
            let fin = Bare {
                kind: BareKind::Fin(self.wire.acknowledged),
                sequence: bare.sequence.minus(1),
                ..bare
            };
            replies.push(Reply::new(|space| fin.write(space)));
        }
        Some(now + STALL)
    }
}
