//! TCP segments: what the stack reads of those that come in, and the bare ones it writes
//! itself, because no connection exists (yet, or any more) that could.

use etherparse::{PacketBuilder, TcpOptionElement, TcpOptionsIterator};

use super::sequence::Sequence;
use crate::packet::{
    ChecksumState, Endpoint, Family, FiveTuple, Frame, Offload, Protocol, TcpFlags, Transport, View, checksum,
};

/// Hops that our own packets may go.
const HOPS: u8 = 64;

/// The least room that any packet of [`Bare`] needs: IPv6, TCP, and the options of a SYN.
pub(super) const BARE_ROOM: usize = 40 + 20 + 40;

/// What is read of an incoming TCP segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// From the client to the VIP.
    pub(super) tuple: FiveTuple,
    pub(super) flags: TcpFlags,
    pub(super) sequence: Sequence,
    pub(super) acknowledgement: Sequence,
    /// The window field, unscaled.
    pub(super) window: u16,
    /// Bytes of payload.
    pub(super) payload: u32,
    /// Where the TCP header is.
    pub(super) header_at: usize,
    /// Where its options are, which end where the payload begins.
    pub(super) options: (usize, usize),
}

impl Segment {
    /// Reads a segment; `None` where the packet is none.
    #[inline]
    pub(super) fn of(packet: &[u8], view: &View) -> Option<Self> {
        let Transport::Tcp { source_port, destination_port, flags, header_length } = view.transport else {
            return None;
        };
        let at = view.transport_at;
        let fixed = packet.get(at..)?.first_chunk::<20>()?;
        let word = |at: usize| u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let payload_at = at.checked_add(header_length)?;
        Some(Self {
            tuple: FiveTuple {
                protocol: Protocol::Tcp,
                source: Endpoint { address: view.source, port: source_port },
                destination: Endpoint { address: view.destination, port: destination_port },
            },
            flags,
            sequence: Sequence(word(4)),
            acknowledgement: Sequence(word(8)),
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            payload: u32::try_from(view.length.checked_sub(payload_at)?).ok()?,
            header_at: at,
            options: (at + 20, payload_at),
        })
    }

    /// The sequence number behind this segment: SYN and FIN take one each.
    pub(super) fn end(&self) -> Sequence {
        self.sequence.plus(self.payload + u32::from(self.flags.syn()) + u32::from(self.flags.fin()))
    }

    /// What the options of a SYN offer.
    pub(super) fn offer(&self, packet: &[u8]) -> Offer {
        // RFC 9293 §3.7.1: where no MSS is given, it is 536 (IPv4) or 1220 (IPv6).
        let mss = match self.tuple.source.address.family() {
            Family::V4 => 536,
            Family::V6 => 1220,
        };
        let mut offer = Offer { mss, scale: None, sack: false };
        let options = packet.get(self.options.0..self.options.1).unwrap_or_default();
        for option in TcpOptionsIterator::from_slice(options).flatten() {
            match option {
                TcpOptionElement::MaximumSegmentSize(mss) if mss > 0 => offer.mss = mss.max(MIN_MSS),
                // RFC 7323 §2.3: a shift above 14 is read as 14.
                TcpOptionElement::WindowScale(shift) => offer.scale = Some(shift.min(14)),
                TcpOptionElement::SelectiveAcknowledgementPermitted => offer.sack = true,
                _ => {}
            }
        }
        offer
    }
}

/// The least segment size that a client is believed. Linux has the same bound: below it, options
/// could fill the segment, and each byte sent would cost a packet.
pub(super) const MIN_MSS: u16 = 48;

/// What the options of a SYN offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// The largest segment that its sender takes.
    pub(super) mss: u16,
    /// How far its windows are shifted (RFC 7323), if at all.
    pub(super) scale: Option<u8>,
    /// Whether it understands selective acknowledgements (RFC 2018).
    pub(super) sack: bool,
}

/// Whether the TCP checksum of a packet may be believed: what the kernel vouches for, or has not
/// finished because the packet never was on a wire, needs no look.
#[inline]
pub(super) fn checksum_is_right(frame: &Frame, view: &View) -> bool {
    match frame.offload.checksum {
        ChecksumState::Verified | ChecksumState::Partial { .. } => true,
        ChecksumState::Whole => {
            let Some(segment) = frame.packet().get(view.transport_at..view.length) else { return false };
            checksum::sum(pseudo_header(view, segment.len()), segment) == 0xffff
        }
    }
}

fn pseudo_header(view: &View, length: usize) -> u16 {
    match view.family {
        Family::V4 => {
            checksum::pseudo_header(&view.source.v4_octets(), &view.destination.v4_octets(), 6, length)
        }
        Family::V6 => checksum::pseudo_header(&view.source.octets(), &view.destination.octets(), 6, length),
    }
}

/// A segment without payload that is written by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bare {
    pub(super) from: Endpoint,
    pub(super) to: Endpoint,
    pub(super) kind: BareKind,
    pub(super) sequence: Sequence,
    pub(super) window: u16,
}

/// What a bare segment is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BareKind {
    /// The first of a connection.
    Syn(Offer),
    /// The answer to it, which acknowledges this.
    SynAck(Offer, Sequence),
    /// An acknowledgement.
    Ack(Sequence),
    /// The end of what is sent, with an acknowledgement.
    Fin(Sequence),
    /// A reset, which acknowledges where it answers something that did not.
    Reset(Option<Sequence>),
}

impl Bare {
    /// Writes the segment as a whole packet and gives its length.
    pub(super) fn write(&self, mut space: &mut [u8]) -> usize {
        let room = space.len();
        let (ports, sequence, window) = ((self.from.port, self.to.port), self.sequence.0, self.window);
        let ip = match self.from.address.family() {
            Family::V4 => {
                PacketBuilder::ipv4(self.from.address.v4_octets(), self.to.address.v4_octets(), HOPS)
            }
            Family::V6 => PacketBuilder::ipv6(self.from.address.octets(), self.to.address.octets(), HOPS),
        };
        let tcp = ip.tcp(ports.0, ports.1, sequence, window);
        let (tcp, offer) = match self.kind {
            BareKind::Syn(offer) => (tcp.syn(), Some(offer)),
            BareKind::SynAck(offer, acknowledged) => (tcp.syn().ack(acknowledged.0), Some(offer)),
            BareKind::Ack(acknowledged) => (tcp.ack(acknowledged.0), None),
            BareKind::Fin(acknowledged) => (tcp.fin().ack(acknowledged.0), None),
            BareKind::Reset(Some(acknowledged)) => (tcp.rst().ack(acknowledged.0), None),
            BareKind::Reset(None) => (tcp.rst(), None),
        };
        let mut options = [const { TcpOptionElement::Noop }; 3];
        let mut count = 0;
        if let Some(offer) = offer {
            let mut push = |option| {
                options[count] = option;
                count += 1;
            };
            push(TcpOptionElement::MaximumSegmentSize(offer.mss));
            if offer.sack {
                push(TcpOptionElement::SelectiveAcknowledgementPermitted);
            }
            if let Some(shift) = offer.scale {
                push(TcpOptionElement::WindowScale(shift));
            }
        }
        let written =
            tcp.options(options.get(..count).unwrap_or_default()).map(|tcp| tcp.write(&mut space, &[]));
        debug_assert!(matches!(written, Ok(Ok(()))), "a bare segment fits {BARE_ROOM} bytes");
        room - space.len()
    }

    /// Puts the segment into a frame in place of what was there.
    pub(super) fn replace(&self, frame: &mut Frame) {
        frame.rewrite(|space| self.write(space));
        frame.offload = Offload::default();
    }

    /// The reset that a TCP without such a connection sends (RFC 9293 §3.10.7.1).
    pub(super) fn reset_to(segment: &Segment) -> Self {
        let (sequence, acknowledged) = if segment.flags.ack() {
            (segment.acknowledgement, None)
        } else {
            (Sequence(0), Some(segment.end()))
        };
        Self {
            from: segment.tuple.destination,
            to: segment.tuple.source,
            kind: BareKind::Reset(acknowledged),
            sequence,
            window: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_bare_segment_reads_back_as_written() {
        for (from, to) in
            [("198.51.100.1:4000", "203.0.113.1:80"), ("[2001:db8::1]:4000", "[2001:db8::2]:80")]
        {
            let offer = Offer { mss: 1400, scale: Some(7), sack: true };
            let bare = Bare {
                from: endpoint(from),
                to: endpoint(to),
                kind: BareKind::SynAck(offer, Sequence(9)),
                sequence: Sequence(7),
                window: 1234,
            };
            let mut frame = Frame::new();
            bare.replace(&mut frame);
            assert!(frame.packet().len() <= BARE_ROOM);
            let view = View::of(frame.packet()).unwrap();
            assert!(checksum_is_right(&frame, &view));
            let segment = Segment::of(frame.packet(), &view).unwrap();
            assert_eq!((segment.tuple.source, segment.tuple.destination), (bare.from, bare.to));
            assert_eq!(segment.offer(frame.packet()), offer);
            assert_eq!((segment.acknowledgement, segment.window), (Sequence(9), 1234));
            assert_eq!(segment.end(), Sequence(8));
        }
    }
}
