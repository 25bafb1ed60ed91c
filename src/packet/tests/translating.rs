//! Translating gives the packet that its sender would have sent in the other's name: every
//! test builds that packet anew, and compares all of it.

use proptest::prelude::*;

use super::support::{Packet, Sum, any_packet, complete, tuple};
use crate::packet::rewrite::{Passage, lacks_checksum, readdress, translate};
use crate::packet::{ChecksumState, FiveTuple, Protocol, Transport, View};

const V4: [&str; 4] = ["198.51.100.7:40000", "203.0.113.1:80", "10.47.3.9:50000", "10.47.2.2:8080"];
const V6: [&str; 4] =
    ["[2001:db8:1::7]:40000", "[2001:db8::1]:80", "[2001:db8:3::9]:5", "[2001:db8:2::2]:8080"];

fn translated(packet: &Packet, to: &FiveTuple, passage: Passage) -> Vec<u8> {
    let mut bytes = packet.build();
    let view = View::of(&bytes).unwrap();
    assert_eq!(view.tuple(), Some(packet.tuple));
    translate(&mut bytes, &view, to, packet.checksum_state(), passage);
    bytes
}

fn check(packet: &Packet, to: &FiveTuple) -> Result<(), TestCaseError> {
    let there = translated(packet, to, Passage::default());
    let other = Packet { tuple: *to, ..packet.clone() };
    prop_assert_eq!(&there, &other.build(), "there: {:?}", packet);
    let back = translated(&other, &packet.tuple, Passage::default());
    prop_assert_eq!(&back, &packet.build(), "and back: {:?}", packet);

    if packet.sum == Sum::Partial {
        let mut completed = there;
        let length = View::of(&completed).unwrap().length;
        complete(&mut completed, length, packet.checksum_state(), to.protocol);
        let whole = Packet { sum: Sum::Right, ..other }.build();
        prop_assert_eq!(completed, whole, "completed: {:?}", packet);
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_translated_packet_is_the_one_that_would_have_been_sent((packet, to) in any_packet(0..100)) {
        check(&packet, &to)?;
    }

    #[test]
    fn hops_and_identification_change_on_the_way(
        (packet, to) in any_packet(0..300), decrement_hops: bool, identification: Option<u32>
    ) {
        let passage = Passage { decrement_hops, identification };
        let mut other = Packet { tuple: to, ..packet.clone() };
        if decrement_hops {
            other.hops = packet.hops.saturating_sub(1);
        }
        if let Some(id) = identification {
            other.id = id;
        }
        prop_assert_eq!(translated(&packet, &to, passage), other.build());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_large_segment_is_translated_whole((packet, to) in any_packet(60_000..65_000)) {
        check(&packet, &to)?;
    }
}

/// Each port gives another sum, so that all ports meet all checksums that there are: also the
/// two zeros, before and after.
#[test]
fn every_checksum_there_is_stays_right() {
    for (protocol, ends) in
        [(Protocol::Tcp, V4), (Protocol::Udp, V4), (Protocol::Tcp, V6), (Protocol::Udp, V6)]
    {
        let packet = Packet { payload: vec![], ..Packet::plain(protocol, ends[0], ends[1]) };
        let mut seen = [0, 0];
        let mut bytes = packet.build();
        for port in 0..=u16::MAX {
            let mut to = tuple(protocol, ends[2], ends[3]);
            to.source.port = port;
            // Each starts where the last one ended.
            let view = View::of(&bytes).unwrap();
            translate(&mut bytes, &view, &to, ChecksumState::Whole, Passage::default());
            assert_eq!(bytes, Packet { tuple: to, ..packet.clone() }.build(), "{to}");
            match bytes[packet.checksum_at()..][..2] {
                [0, 0] => seen[0] += 1,
                [0xff, 0xff] => seen[1] += 1,
                _ => {}
            }
        }
        // One port in 65,535 gives a zero; its two forms are two of 65,536 ports.
        let [zeros, ones] = seen;
        assert!((1..=2).contains(&(zeros + ones)), "{protocol}: {zeros} zeros, {ones} ones");
        assert_eq!(ones == 0, protocol == Protocol::Tcp, "{protocol}: only UDP sends 0xffff");
    }
}

#[test]
fn what_is_no_checksum_stays_none() {
    for (ends, lacks) in [(V4, false), (V6, true)] {
        let packet = Packet { sum: Sum::Absent, ..Packet::plain(Protocol::Udp, ends[0], ends[1]) };
        let mut bytes = packet.build();
        let view = View::of(&bytes).unwrap();
        assert_eq!(lacks_checksum(&bytes, &view), lacks, "{packet:?}");
        let to = tuple(Protocol::Udp, ends[2], ends[3]);
        translate(&mut bytes, &view, &to, ChecksumState::Whole, Passage::default());
        assert_eq!(bytes[packet.checksum_at()..][..2], [0, 0]);
    }
    let right = Packet::plain(Protocol::Udp, V6[0], V6[1]).build();
    assert!(!lacks_checksum(&right, &View::of(&right).unwrap()));
}

/// A tunnel over UDP whose inner packet waits for its checksum: the outer one is complete.
#[test]
fn a_partial_sum_of_a_packet_inside_is_not_taken_for_the_outer_one() {
    let packet = Packet::plain(Protocol::Udp, V4[0], V4[1]);
    let to = tuple(Protocol::Udp, V4[2], V4[3]);
    let inner = u16::try_from(packet.transport_at() + 8 + 8 + 14 + 20).unwrap();
    for (start, offset) in [(inner, 16), (inner, 6), (20, 16), (0, 6), (u16::MAX, u16::MAX)] {
        let mut bytes = packet.build();
        let view = View::of(&bytes).unwrap();
        translate(&mut bytes, &view, &to, ChecksumState::Partial { start, offset }, Passage::default());
        assert_eq!(bytes, Packet { tuple: to, ..packet.clone() }.build(), "{start} + {offset}");
    }
}

#[test]
fn hops_do_not_go_below_zero() {
    for ends in [V4, V6] {
        let packet = Packet { hops: 0, ..Packet::plain(Protocol::Tcp, ends[0], ends[1]) };
        let passage = Passage { decrement_hops: true, identification: None };
        assert_eq!(translated(&packet, &packet.tuple, passage), packet.build());
    }
}

/// Later fragments get what the first one got, and their bytes stay as they are.
#[test]
fn a_later_fragment_gets_addresses_and_identification_and_nothing_else() {
    let passage = Passage { decrement_hops: true, identification: Some(0xdead_beef) };
    for ends in [V4, V6] {
        let first = Packet {
            first_fragment: Some(24),
            payload: (0..64).collect(),
            ..Packet::plain(Protocol::Tcp, ends[0], ends[1])
        };
        let later = |packet: &Packet| {
            let mut bytes = packet.build();
            // The same place in both families: behind flags, the offset in units of eight bytes.
            let offset: u16 = if packet.is_v4() { 0x2003 } else { 24 + 1 };
            let at = if packet.is_v4() { 6 } else { 42 };
            bytes[at..at + 2].copy_from_slice(&offset.to_be_bytes());
            if packet.is_v4() {
                bytes[10..12].fill(0);
                let sum = !super::support::slow_sum(&bytes[..20]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            // The first fragment's transport header stands for payload that must stay.
            bytes[packet.transport_at()..].iter_mut().zip(100..).for_each(|(byte, n)| *byte = n);
            bytes
        };
        let mut bytes = later(&first);
        let view = View::of(&bytes).unwrap();
        assert_eq!(view.transport, Transport::LaterFragment);
        let to = tuple(Protocol::Tcp, ends[2], ends[3]);
        readdress(&mut bytes, &view, to.source.address, to.destination.address, passage);
        assert_eq!(bytes, later(&Packet { tuple: to, hops: 63, id: 0xdead_beef, ..first.clone() }));
    }
}
