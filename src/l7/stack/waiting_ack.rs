//! Acknowledgements that wait a little for the answer, to go with it.
//!
//! A request that comes in one small segment is answered soon, as a rule, and the answer acknowledges it. A bare
//! acknowledgement before that costs a write to the device and the client's kernel a packet, half of all that is sent to a
//! client with one small request after the other. smoltcp can delay acknowledgements, but counts segments by the larger
//! size that it is shown, and would hold back those of an upload.
//!
//! So smoltcp is told to acknowledge at once, and is simply not asked while all that it would say is the acknowledgement
//! of one small segment. It is asked with the next segment (RFC 9293 §3.8.6.3 wants one for at least every second one), with
//! the answer, or when the time is over; and at once where more is waiting to be read, since then the window matters.

use std::time::Duration;

use smoltcp::socket::tcp;

use super::flow::{Holder, State};
use super::segment::Segment;
use crate::datapath::Instant;

/// How long it may wait. RFC 9293 §3.8.6.3 allows half a second, and Linux 40 ms; a client that waits for an acknowledgement
/// before it sends the rest (RFC 9293 §3.7.4, Nagle's algorithm) is held up by this much.
const WAITS: Duration = Duration::from_millis(10);

impl State {
    /// Takes note of a segment that smoltcp has just taken in.
    #[inline]
    pub(super) fn note_segment(&mut self, now: Instant, segment: &Segment) {
        if segment.payload == 0 {
            return;
        }
        let small = segment.payload < u32::from(self.wire.mss);
        let queued = self.seating.engine().map_or(0, |engine| engine.socket().recv_queue());
        let alone = queued <= segment.payload as usize;
        let first = self.acknowledge_by.is_none();
        self.acknowledge_by = (small && alone && first).then(|| now + WAITS);
    }

    /// Whether all that smoltcp would say can wait.
    #[inline]
    pub(super) fn may_keep_silent(&mut self, now: Instant) -> bool {
        let waits = self.acknowledge_by.is_some_and(|by| now < by);
        waits
            && self.holder == Holder::Stream
            && self.seating.engine().is_some_and(|engine| {
                let socket = engine.socket();
                socket.state() == tcp::State::Established && socket.send_queue() == 0
            })
    }
}
