//! `struct virtio_net_hdr`: what the kernel says in front of each packet, and we say back.
//!
//! ```text
//!   0      1         2        4         6           8            10
//!   ├ flags ┼ gso_type ┼ hdr_len ┼ gso_size ┼ csum_start ┼ csum_offset ┤ packet …
//! ```
//!
//! All numbers are in native byte order (`TUNSETVNETLE` is never set). `linux/virtio_net.h` has the
//! names; what is read is believed only as far as it fits the packet it came with.

use etherparse::{SlicedPacket, TransportSlice};

use crate::packet::{ChecksumState, HEADROOM, Offload, SegmentKind, Segments};

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
/// Beside a TCP type: the segments carry CWR.
const GSO_ECN: u8 = 0x80;

/// The header's bytes.
pub(super) type Header = [u8; HEADROOM];

/// What a header from the kernel says about a packet of `length` bytes; `None` where that makes no
/// sense, be it a type that nobody asked for or a place that is not in the packet.
pub(super) fn read(header: Header, length: usize) -> Option<Offload> {
    let [flags, gso_type, hl0, hl1, gs0, gs1, cs0, cs1, co0, co1] = header;
    let start = u16::from_ne_bytes([cs0, cs1]);
    let offset = u16::from_ne_bytes([co0, co1]);
    let checksum = if flags & NEEDS_CSUM != 0 {
        let end = usize::from(start) + usize::from(offset) + 2;
        if end > length {
            return None;
        }
        ChecksumState::Partial { start, offset }
    } else if flags & DATA_VALID != 0 {
        ChecksumState::Verified
    } else {
        ChecksumState::Whole
    };
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => return Some(Offload { checksum, segments: None }),
        GSO_TCPV4 => SegmentKind::TcpV4,
        GSO_TCPV6 => SegmentKind::TcpV6,
        GSO_UDP_L4 => SegmentKind::Udp,
        _ => return None,
    };
    let size = u16::from_ne_bytes([gs0, gs1]);
    let header_length = u16::from_ne_bytes([hl0, hl1]);
    let segments = Segments { kind, size, header_length, ecn: gso_type & GSO_ECN != 0 };
    (size != 0).then_some(Offload { checksum, segments: Some(segments) })
}

/// The header for a packet that is handed to the kernel; `None` where the packet is not what its
/// offloads say, so that the kernel would refuse it.
///
/// A verified checksum is not mentioned: `DATA_VALID` is for readers only (virtio 1.2 §5.1.6.2).
pub(super) fn write(offload: &Offload, packet: &[u8]) -> Option<Header> {
    let (flags, start, offset) = match offload.checksum {
        ChecksumState::Partial { start, offset } => (NEEDS_CSUM, start, offset),
        ChecksumState::Whole | ChecksumState::Verified => (0, 0, 0),
    };
    let (gso_type, hdr_len, gso_size) = match offload.segments {
        None => (GSO_NONE, 0, 0),
        Some(segments) => {
            let gso_type = match segments.kind {
                SegmentKind::TcpV4 => GSO_TCPV4,
                SegmentKind::TcpV6 => GSO_TCPV6,
                SegmentKind::Udp => GSO_UDP_L4,
            };
            let ecn = if segments.ecn { GSO_ECN } else { 0 };
            (gso_type | ecn, header_length(offload.checksum, segments.kind, packet)?, segments.size)
        }
    };
    let ([hl0, hl1], [gs0, gs1]) = (hdr_len.to_ne_bytes(), gso_size.to_ne_bytes());
    let ([cs0, cs1], [co0, co1]) = (start.to_ne_bytes(), offset.to_ne_bytes());
    Some([flags, gso_type, hl0, hl1, gs0, gs1, cs0, cs1, co0, co1])
}

/// The length of the IP and transport headers together, which the kernel makes linear.
///
/// What the kernel once gave as `hdr_len` will not do: on the forward path it can be all that
/// happened to be linear, and zero makes older kernels allocate the whole packet in one piece.
fn header_length(checksum: ChecksumState, kind: SegmentKind, packet: &[u8]) -> Option<u16> {
    let length = match checksum {
        // The usual case: the kernel has said where the transport header starts.
        ChecksumState::Partial { start, .. } => {
            let start = usize::from(start);
            let transport = match kind {
                SegmentKind::TcpV4 | SegmentKind::TcpV6 => {
                    usize::from(*packet.get(start.checked_add(12)?)? >> 4) * 4
                }
                SegmentKind::Udp => 8,
            };
            start.checked_add(transport)?
        }
        ChecksumState::Whole | ChecksumState::Verified => {
            let payload = match (SlicedPacket::from_ip(packet).ok()?.transport?, kind) {
                (TransportSlice::Tcp(tcp), SegmentKind::TcpV4 | SegmentKind::TcpV6) => tcp.payload().len(),
                (TransportSlice::Udp(udp), SegmentKind::Udp) => udp.payload().len(),
                _ => return None,
            };
            packet.len().checked_sub(payload)?
        }
    };
    (length <= packet.len()).then_some(u16::try_from(length).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn tcp_packet(options: &[u8], payload: usize, v6: bool) -> Vec<u8> {
        let ip = if v6 {
            PacketBuilder::ipv6([1; 16], [2; 16], 64)
        } else {
            PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        };
        let mut packet = Vec::new();
        ip.tcp(1, 2, 3, 4).options_raw(options).unwrap().write(&mut packet, &vec![0; payload]).unwrap();
        packet
    }

    fn large(kind: SegmentKind, checksum: ChecksumState) -> Offload {
        let segments = Segments { kind, size: 1448, header_length: 9999, ecn: false };
        Offload { checksum, segments: Some(segments) }
    }

    fn number(header: Header, at: usize) -> u16 {
        u16::from_ne_bytes([header[at], header[at + 1]])
    }

    #[test]
    fn the_header_length_written_is_the_true_one_whatever_the_kernel_had_said() {
        let partial = |start| ChecksumState::Partial { start, offset: 16 };
        for (name, packet, offload, want) in [
            (
                "IPv4, 12 bytes of options",
                tcp_packet(&[1; 12], 3000, false),
                large(SegmentKind::TcpV4, partial(20)),
                52,
            ),
            ("IPv6, no options", tcp_packet(&[], 3000, true), large(SegmentKind::TcpV6, partial(40)), 60),
            (
                "IPv4, sum whole",
                tcp_packet(&[1; 8], 3000, false),
                large(SegmentKind::TcpV4, ChecksumState::Whole),
                48,
            ),
            (
                "IPv6, sum verified",
                tcp_packet(&[], 9, true),
                large(SegmentKind::TcpV6, ChecksumState::Verified),
                60,
            ),
        ] {
            let header = write(&offload, &packet).unwrap_or_else(|| panic!("{name}"));
            assert_eq!(number(header, 2), want, "{name}");
            assert_eq!(number(header, 4), 1448, "{name}");
        }
    }

    #[test]
    fn a_packet_that_is_not_what_its_offloads_say_is_not_written() {
        let tcp = tcp_packet(&[], 3000, false);
        for (name, packet, offload) in [
            ("nothing at all", &[][..], large(SegmentKind::TcpV4, ChecksumState::Whole)),
            ("TCP, called UDP", &tcp[..], large(SegmentKind::Udp, ChecksumState::Whole)),
            (
                "cut before the data offset",
                &tcp[..30],
                large(SegmentKind::TcpV4, ChecksumState::Partial { start: 20, offset: 16 }),
            ),
            (
                "start behind the end",
                &tcp[..],
                large(SegmentKind::Udp, ChecksumState::Partial { start: 65_535, offset: 6 }),
            ),
        ] {
            assert_eq!(write(&offload, packet), None, "{name}");
        }
    }

    #[test]
    fn what_nobody_asked_for_is_not_understood() {
        let base: Header = [0; HEADROOM];
        let with = |changes: &[(usize, u8)]| {
            let mut header = base;
            for &(at, byte) in changes {
                header[at] = byte;
            }
            header
        };
        for (name, header) in [
            ("UFO, which is gone from the kernel", with(&[(1, 3), (4, 9)])),
            ("a UDP tunnel", with(&[(1, 0x21), (4, 9)])),
            ("segments of no size", with(&[(1, GSO_TCPV4)])),
            ("a checksum behind the end", with(&[(0, NEEDS_CSUM), (6, 90), (8, 16)])),
        ] {
            assert_eq!(read(header, 100), None, "{name}");
        }
        assert_eq!(read(base, 0), Some(Offload::default()));
    }

    #[test]
    fn ecn_is_a_mark_beside_the_type_and_survives_both_ways() {
        let packet = tcp_packet(&[], 3000, false);
        let mut offload = large(SegmentKind::TcpV4, ChecksumState::Partial { start: 20, offset: 16 });
        offload.segments.as_mut().unwrap().ecn = true;
        let header = write(&offload, &packet).unwrap();
        assert_eq!(header[1], GSO_TCPV4 | GSO_ECN);
        assert!(read(header, packet.len()).unwrap().segments.unwrap().ecn);
    }

    proptest! {
        #[test]
        fn any_header_and_any_packet_do_no_harm(header: Header, packet: Vec<u8>) {
            if let Some(offload) = read(header, packet.len()) {
                if let ChecksumState::Partial { start, offset } = offload.checksum {
                    prop_assert!(usize::from(start) + usize::from(offset) + 2 <= packet.len());
                }
                if let Some(again) = write(&offload, &packet).and_then(|header| read(header, packet.len())) {
                    prop_assert_eq!(again.segments.map(|s| (s.kind, s.size, s.ecn)), offload.segments.map(|s| (s.kind, s.size, s.ecn)));
                }
            }
        }
    }
}
