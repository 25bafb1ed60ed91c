//! Between smoltcp and the wire: what each outgoing packet of a connection still needs.
//!
//! smoltcp chooses its own initial sequence number and segment size; the client has been told
//! others. So each packet on its way out gets its sequence number shifted by a constant, and
//! each packet on its way in its acknowledgement number back:
//!
//! ```text
//!             sequence + offset
//!   smoltcp ─────────────────────▶ client        selective acknowledgements that smoltcp
//!           ◀─────────────────────               sends are in the client's numbers, and
//!             acknowledgement − offset           those it receives it does not read
//! ```
//!
//! smoltcp has been shown a multiple of the real segment size. What is then larger than one real
//! segment leaves with the real size beside it, for the device to cut, or for `segmentation`
//! where the device cannot.

use super::segment::Segment;
use super::sequence::Sequence;
use super::settings::Offloads;
use crate::packet::{ChecksumState, Family, Offload, SegmentKind, Segments, checksum};

/// Where the checksum is in a TCP header.
const CHECKSUM_AT: usize = 16;

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;

/// What is between one smoltcp socket and its client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire {
    /// Wire number minus smoltcp's number, of what we send.
    pub(super) offset: u32,
    /// The payload that one segment on the path may have.
    pub(crate) mss: u16,
    pub(super) offloads: Offloads,
    /// The number behind the last byte that was sent: SND.NXT.
    pub(super) next: Sequence,
    /// The number behind the last byte that the client has a window for.
    pub(super) edge: Sequence,
    /// Whether smoltcp takes bytes for sent that were cut off.
    pub(super) clipped: bool,
    /// The number that was acknowledged last: RCV.NXT, once everything due was sent.
    pub(super) acknowledged: Sequence,
    /// The window that was announced last, unscaled, …
    pub(super) window: u16,
    /// … and how far it is shifted.
    pub(super) shift: u8,
}

impl Wire {
    /// Gives an incoming packet the acknowledgement number that smoltcp expects. Its checksum
    /// is wrong afterwards, and not looked at again.
    ///
    /// smoltcp cuts off what is beyond its window and believes a FIN behind that, so that the stream would seem to end
    /// before its last bytes. Such a FIN is taken away; it comes again with the bytes.
    #[inline]
    pub(super) fn inward(&self, packet: &mut [u8], segment: &Segment) {
        if let Some(field) = packet.get_mut(segment.header_at + 8..).and_then(<[u8]>::first_chunk_mut::<4>) {
            *field = segment.acknowledgement.minus(self.offset).0.to_be_bytes();
        }
        let end = segment.sequence.plus(segment.payload);
        if segment.flags.fin()
            && end.is_after(self.window_end())
            && let Some(flags) = packet.get_mut(segment.header_at + 13)
        {
            *flags &= !FIN;
        }
    }

    /// Cuts off what a packet that smoltcp wrote has beyond the client's window; says how long it is then.
    ///
    /// smoltcp sends a whole segment again after three duplicate acknowledgements, whatever the window, which does no harm as
    /// long as segments are those of the path. One byte may always go beyond: that is how a closed window is probed
    /// (RFC 9293 §3.8.6.1).
    #[inline]
    pub(super) fn clip(&mut self, packet: &mut [u8]) -> usize {
        let length = packet.len();
        let at = match packet.first().map(|byte| byte >> 4) {
            Some(4) => 20,
            Some(6) => 40,
            _ => return length,
        };
        let Some((ip, tcp)) = packet.split_at_mut_checked(at) else { return length };
        let Some(header) = tcp.first_chunk_mut::<20>() else { return length };
        let [_, _, _, _, s0, s1, s2, s3, ..] = *header;
        let header_length = usize::from(header[12] >> 4) * 4;
        let sequence = Sequence(u32::from_be_bytes([s0, s1, s2, s3])).plus(self.offset);
        let room = if self.edge.is_after(sequence) { self.edge.since(sequence) as usize } else { 0 };
        let whole = at + header_length + room.max(1);
        if length <= whole {
            return length;
        }
        self.clipped = true;
        header[13] &= !(FIN | PSH);
        let clipped = u16::try_from(whole).unwrap_or(u16::MAX);
        if at == 20 {
            ip[2..4].copy_from_slice(&clipped.to_be_bytes());
            ip[10..12].fill(0);
            let sum = checksum::of(ip);
            ip[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            ip[4..6].copy_from_slice(&clipped.saturating_sub(40).to_be_bytes());
        }
        whole
    }

    /// Finishes a packet that smoltcp wrote without a TCP checksum, and says what is left to do
    /// for the device.
    #[inline]
    pub(super) fn outward(&mut self, packet: &mut [u8]) -> Offload {
        // smoltcp writes neither IPv4 options nor extension headers.
        let (family, at) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => (Family::V4, 20),
            Some(6) => (Family::V6, 40),
            _ => return Offload::default(),
        };
        let Some((ip, tcp)) = packet.split_at_mut_checked(at) else { return Offload::default() };
        let length = tcp.len();
        let Some(header) = tcp.first_chunk_mut::<20>() else { return Offload::default() };
        let header_length = usize::from(header[12] >> 4) * 4;
        let payload = length.saturating_sub(header_length);
        let [_, _, _, _, s0, s1, s2, s3, a0, a1, a2, a3, _, flags, w0, w1, ..] = *header;
        let (fin, rst, ack) = (flags & 1 != 0, flags & 4 != 0, flags & 16 != 0);

        let sequence = Sequence(u32::from_be_bytes([s0, s1, s2, s3])).plus(self.offset);
        header[4..8].copy_from_slice(&sequence.0.to_be_bytes());
        if !rst {
            #[expect(clippy::cast_possible_truncation, reason = "no packet is longer than 65,575 bytes")]
            let end = sequence.plus(payload as u32 + u32::from(fin));
            self.next = self.next.max(end);
        }
        if ack && !rst {
            self.acknowledged = Sequence(u32::from_be_bytes([a0, a1, a2, a3]));
            self.window = u16::from_be_bytes([w0, w1]);
        }

        let addresses = match family {
            Family::V4 => ip.get(12..20),
            Family::V6 => ip.get(8..40),
        }
        .unwrap_or_default();
        let (source, destination) = addresses.split_at(addresses.len() / 2);
        let pseudo = checksum::pseudo_header(source, destination, 6, length);
        let segments = self.segments(family, at, header_length, payload);
        // A sum over headers alone costs less than what the device would do for it.
        let unfinished = segments.is_some() || self.offloads == Offloads::Segments && payload > 0;
        let (field, state) = if unfinished {
            #[expect(clippy::cast_possible_truncation, reason = "20 or 40, and 16")]
            let state = ChecksumState::Partial { start: at as u16, offset: CHECKSUM_AT as u16 };
            (pseudo, state)
        } else {
            tcp[CHECKSUM_AT..CHECKSUM_AT + 2].fill(0);
            (!checksum::sum(pseudo, tcp), ChecksumState::Whole)
        };
        tcp[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&field.to_be_bytes());
        Offload { checksum: state, segments }
    }

    /// How a packet is to be cut, if it is larger than a segment may be.
    fn segments(&self, family: Family, at: usize, header_length: usize, payload: usize) -> Option<Segments> {
        let options = u16::try_from(header_length.saturating_sub(20)).unwrap_or(0);
        let size = self.mss.saturating_sub(options).max(1);
        (payload > usize::from(size)).then(|| Segments {
            kind: match family {
                Family::V4 => SegmentKind::TcpV4,
                Family::V6 => SegmentKind::TcpV6,
            },
            size,
            header_length: u16::try_from(at + header_length).unwrap_or(u16::MAX),
            ecn: false,
        })
    }

    /// Where the window ends that the client was told last.
    pub(super) fn window_end(&self) -> Sequence {
        self.acknowledged.plus(u32::from(self.window) << self.shift.min(14))
    }
}
