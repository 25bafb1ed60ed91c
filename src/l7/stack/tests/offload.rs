//! Large segments both ways, and what the path says about their size.

use etherparse::PacketBuilder;
use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::cut;
use super::*;
use crate::packet::{ChecksumState, SegmentKind, Segments};

fn bench(device: DeviceTraits, congestion: Congestion) -> Bench {
    let mut bench = Bench::new(StackSettings::on(device));
    let rings = Rings { receive: RingSize::K256, transmit: RingSize::K256 };
    for vip in ["203.0.113.1:80", "[2001:db8::1]:80"] {
        bench.stack.listen(endpoint(vip), Listener { rings, congestion });
    }
    bench
}

/// What leaves when 100 KB are written, with the real segment sizes beside it.
fn bulk(bench: &mut Bench, stream: &mut FlowStream) -> Vec<Frame> {
    stream.write_all(&vec![9; 100_000]).now_or_never().unwrap().unwrap();
    let mut frames = Vec::new();
    bench.stack.poll_egress(bench.now, &mut |frame| frames.push(frame.clone()));
    frames
}

#[test]
fn large_segments_leave_whole_with_the_clients_segment_size() {
    for (client, kind, headers) in
        [("198.51.100.1:4000", SegmentKind::TcpV4, 40), ("[2001:db8:1::1]:4000", SegmentKind::TcpV6, 60)]
    {
        let mut bench = bench(CUTS, Congestion::None);
        let mut hand = Hand { mss: 1000, ..Hand::at(client) };
        let mut stream = hand.connect(&mut bench);
        let frames = bulk(&mut bench, &mut stream);
        let first = &frames[0];
        assert_eq!(frames.len(), 1, "the client's window is 60,000 bytes");
        assert_eq!(first.packet().len(), 60_000 + headers);
        let segments = Segments { kind, size: 1000, header_length: headers as u16, ecn: false };
        assert_eq!(first.offload.segments, Some(segments));
        assert!(matches!(first.offload.checksum, ChecksumState::Partial { .. }));
        // Cut and completed as a kernel would, all sums are right.
        let pieces = cut(first);
        assert_eq!(pieces.len(), 60);
        for piece in pieces {
            heard(&Frame::copy_of(&piece, Offload::default()));
        }
    }
}

#[test]
fn cubic_begins_with_ten_segments() {
    let mut bench = bench(CUTS, Congestion::Cubic);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let sent: usize = bulk(&mut bench, &mut stream).iter().map(|frame| frame.packet().len() - 40).sum();
    assert_eq!(sent, 14_600);
}

#[test]
fn a_plain_device_gets_plain_packets() {
    let mut bench = bench(PLAIN, Congestion::None);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    for frame in bulk(&mut bench, &mut stream) {
        assert!(frame.packet().len() <= 1500);
        assert_eq!(frame.offload, Offload::default());
        heard(&frame);
    }
}

#[test]
fn large_segments_come_in_whole() {
    let mut bench = bench(CUTS, Congestion::None);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let mut buffer = vec![0; 100_000];
    for round in 0..10u8 {
        let packet = hand.say(ACK, &vec![round; 60_000]);
        // The field holds the sum of the pseudo-header only; whoever sent it vouches for the rest.
        let mut frame = Frame::copy_of(&packet, Offload::default());
        frame.packet_mut()[36..38].fill(0);
        let segments = Some(Segments { kind: SegmentKind::TcpV4, size: 1460, header_length: 40, ecn: false });
        frame.offload = Offload { checksum: ChecksumState::Partial { start: 20, offset: 16 }, segments };
        let verdict = bench.stack.handle_frame(bench.now, &mut frame, Arrival::Queue);
        assert_eq!(verdict, Verdict::Deliver(Reason::KnownFlow));
        let mut got = 0;
        while got < 60_000 {
            let length = stream.read(&mut buffer).now_or_never().unwrap().unwrap();
            assert!(buffer[..length].iter().all(|&byte| byte == round));
            got += length;
        }
        assert_eq!(bench.drain().last().unwrap().acknowledgement, hand.next);
    }
}

/// An ICMP error about a packet of the stack's.
fn too_big(frame: &Frame, mtu: u16) -> Vec<u8> {
    let quoted = &frame.packet()[..frame.packet().len().min(500)];
    let mut packet = Vec::new();
    if quoted[0] >> 4 == 4 {
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
        );
        PacketBuilder::ipv4([192, 0, 2, 9], [203, 0, 113, 1], 64)
            .icmpv4(kind)
            .write(&mut packet, quoted)
            .unwrap();
    } else {
        let kind = etherparse::Icmpv6Type::PacketTooBig { mtu: u32::from(mtu) };
        let to = endpoint("[2001:db8::1]:80").address.octets();
        PacketBuilder::ipv6([1; 16], to, 64).icmpv6(kind).write(&mut packet, quoted).unwrap();
    }
    packet
}

#[test]
fn packet_too_big_makes_segments_smaller_on_both_devices_and_families() {
    for device in [CUTS, PLAIN] {
        for (client, mtu, size) in [("198.51.100.1:4000", 1300, 1260), ("[2001:db8:1::1]:4000", 1300, 1240)] {
            let mut bench = bench(device, Congestion::None);
            let mut hand = Hand::at(client);
            let mut stream = hand.connect(&mut bench);
            let frames = bulk(&mut bench, &mut stream);
            let (verdict, _) = bench.give(&too_big(&frames[0], mtu));
            assert_eq!(verdict, Verdict::Deliver(Reason::IcmpError), "{device:?} {client}");
            // The loss is noticed by the retransmission timer.
            let mut again = Vec::new();
            bench.now = bench.now + Duration::from_secs(2);
            bench.stack.handle_timeout(bench.now);
            bench.stack.poll_egress(bench.now, &mut |frame| again.extend(cut(frame)));
            let family = hand.client.address.family();
            let largest = again.iter().map(Vec::len).max().unwrap();
            assert_eq!(largest, size + usize::from(super::super::engine::headers(family)), "{device:?}");
        }
    }
}

#[test]
fn forged_and_absurd_sizes_are_not_believed() {
    let mut bench = bench(CUTS, Congestion::None);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let frames = bulk(&mut bench, &mut stream);
    // RFC 5927: a number that is not under way.
    let mut forged = frames[0].clone();
    forged.packet_mut()[24] ^= 0x40;
    assert_eq!(bench.give(&too_big(&forged, 1300)).0, Verdict::Drop(Reason::IcmpNoFlow));
    let mut damaged = too_big(&frames[0], 1300);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(bench.give(&damaged).0, Verdict::Drop(Reason::BadChecksum));
    // Absurdly small is taken as the smallest that is believed.
    assert_eq!(bench.give(&too_big(&frames[0], 68)).0, Verdict::Deliver(Reason::IcmpError));
    bench.now = bench.now + Duration::from_secs(2);
    bench.stack.handle_timeout(bench.now);
    let mut size = 0;
    bench.stack.poll_egress(bench.now, &mut |frame| size = frame.offload.segments.unwrap().size);
    assert_eq!(size, 552 - 40);
}
