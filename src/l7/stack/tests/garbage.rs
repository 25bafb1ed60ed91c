//! Any bytes, and any segments: no panic, no leak. Debug assertions, smoltcp's too, are on here.

use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// One thing that happens to a connection.
#[derive(Clone, Debug)]
enum Step {
    /// A segment with these flags, at these distances from the right numbers.
    Segment {
        flags: u8,
        sequence: i32,
        acknowledgement: i32,
        window: u16,
        length: usize,
    },
    Read(usize),
    Write(usize),
    Shutdown,
    Drop,
    Drain,
    Pass(u64),
}

/// Distances that are often just right, just wrong, or just at an edge of a ring.
fn distance() -> impl Strategy<Value = i32> {
    prop_oneof![
        4 => Just(0),
        2 => -3i32..4,
        2 => prop_oneof![Just(16_383), Just(65_535), Just(65_536), Just(131_070), Just(-65_535)],
        1 => any::<i32>(),
        1 => 0i32..200_000,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![6 => Just(ACK), 2 => Just(ACK | FIN), 1 => Just(ACK | RST), 1 => any::<u8>()];
    let length = prop_oneof![Just(0usize), Just(1), 1usize..1460, Just(65_000)];
    prop_oneof![
        10 => (flags, distance(), distance(), any::<u16>(), length).prop_map(
            |(flags, sequence, acknowledgement, window, length)| Step::Segment {
                flags: flags & 0x3f, sequence, acknowledgement, window, length
            }
        ),
        3 => (1usize..100_000).prop_map(Step::Read),
        3 => (1usize..100_000).prop_map(Step::Write),
        1 => Just(Step::Shutdown),
        1 => Just(Step::Drop),
        4 => Just(Step::Drain),
        1 => (0u64..100_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_segments_in_any_order_do_harm(
        steps in prop::collection::vec(step(), 1..60),
        ring in prop_oneof![Just(RingSize::K16), Just(RingSize::K64), Just(RingSize::K256)],
        scaled in any::<bool>(),
        cuts in any::<bool>(),
    ) {
        let mut bench = Bench::new(StackSettings::on(if cuts { CUTS } else { PLAIN }));
        let rings = Rings { receive: ring, transmit: ring };
        bench.stack.listen(vip(), Listener { rings, congestion: Congestion::Cubic });
        let mut hand = Hand::at("198.51.100.1:4000");
        // With a window scale the announced window and smoltcp's own differ most.
        let mut syn = hand.say(SYN, &[]);
        if scaled {
            syn = scaled_syn(&hand);
        }
        hand.expected = bench.give(&syn).1.unwrap().sequence.plus(1);
        bench.feed(&hand.say(ACK, &[]));
        let mut stream = bench.stack.accept().map(|accepted| accepted.stream);
        let mut buffer = vec![0; 100_000];
        for step in steps {
            match step {
                Step::Segment { flags, sequence, acknowledgement, window, length } => {
                    hand.window = window;
                    let right = hand.expected;
                    hand.expected = Sequence(right.0.wrapping_add(acknowledgement.cast_unsigned()));
                    let number = Sequence(hand.next.0.wrapping_add(sequence.cast_unsigned()));
                    let mut packet = hand.at_number(flags, number, &buffer[..length]);
                    packet[33] = flags;
                    let mut frame = Frame::copy_of(&packet, Offload {
                        checksum: crate::packet::ChecksumState::Verified, segments: None
                    });
                    let _ = bench.stack.handle_frame(bench.now, &mut frame, Arrival::Queue);
                    hand.expected = right;
                    if sequence == 0 && flags & (SYN | RST) == 0 {
                        hand.next = hand.next.plus(length as u32);
                    }
                }
                Step::Read(length) => {
                    if let Some(stream) = &mut stream {
                        let _ = stream.read(&mut buffer[..length]).now_or_never();
                    }
                }
                Step::Write(length) => {
                    if let Some(stream) = &mut stream {
                        let _ = stream.write(&buffer[..length]).now_or_never();
                    }
                }
                Step::Shutdown => {
                    if let Some(stream) = &mut stream {
                        let _ = stream.shutdown().now_or_never();
                    }
                }
                Step::Drop => stream = None,
                Step::Drain => {
                    let said = bench.drain();
                    hand.hear(&said);
                }
                Step::Pass(millis) => {
                    let said = bench.pass(Duration::from_millis(millis));
                    hand.hear(&said);
                }
            }
        }
        drop(stream);
        while bench.stack.accept().is_some() {}
        bench.pass(Duration::from_secs(2000));
        assert_nothing_leaks(&bench.stack);
    }

    #[test]
    fn no_bytes_do_harm(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut bench = Bench::new(StackSettings::on(PLAIN));
        for packet in packets {
            let _ = bench.give(&packet);
            bench.drain();
        }
    }

    #[test]
    fn no_damage_to_a_right_packet_does_harm(
        flips in prop::collection::vec((0usize..60, any::<u8>()), 1..6), v6 in any::<bool>(), open in any::<bool>()
    ) {
        let mut bench = Bench::new(StackSettings::on(PLAIN));
        let mut hand = Hand::at(if v6 { "[2001:db8:1::1]:4000" } else { "198.51.100.1:4000" });
        let stream = open.then(|| hand.connect(&mut bench));
        let mut packet = hand.say(if open { ACK } else { SYN }, b"some payload");
        for (at, byte) in flips {
            let at = at % packet.len();
            packet[at] = byte;
        }
        if !v6 {
            packet[10..12].fill(0);
            let length = usize::from(packet[0] & 15) * 4;
            let sum = crate::packet::checksum::of(&packet[..length.clamp(20, packet.len())]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
        }
        let mut frame = Frame::copy_of(&packet, Offload {
            checksum: crate::packet::ChecksumState::Verified, segments: None
        });
        let _ = bench.stack.handle_frame(bench.now, &mut frame, Arrival::Queue);
        drop(stream);
        while bench.stack.accept().is_some() {}
        bench.pass(Duration::from_secs(2000));
        assert_nothing_leaks(&bench.stack);
    }
}

fn scaled_syn(hand: &Hand) -> Vec<u8> {
    let mut frame = Frame::new();
    super::super::segment::Bare {
        from: hand.client,
        to: hand.vip,
        kind: super::super::segment::BareKind::Syn(super::super::segment::Offer {
            mss: 1460,
            scale: Some(7),
            sack: true,
        }),
        sequence: hand.next.minus(1),
        window: 60_000,
    }
    .replace(&mut frame);
    frame.packet().to_vec()
}
