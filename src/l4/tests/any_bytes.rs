//! Anything may arrive: no packet panics, and every one is accounted for.

use super::*;
use crate::packet::{ChecksumState, SegmentKind, Segments};
use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = whole();
    for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        seeds.extend(super::fragments::cut(&udp(client, vip, &[1; 100]), 40, 7));
        let [address, about] = [vip, client].map(|end| socket(end).ip().to_string());
        let answer = udp(vip, client, b"an answer that did not arrive");
        let kind = if vip == VIP { 3 } else { 1 };
        seeds.push(super::icmp::icmp(&about, &address, kind, 3, [0; 4], &answer));
        seeds.push(super::icmp::icmp(&about, &address, if vip == VIP { 8 } else { 128 }, 0, [0; 4], b"ping"));
    }
    // Extension headers: options for each hop, for the destination, and a whole packet that calls itself a fragment.
    let plain = udp(CLIENT6, VIP6, b"question");
    let mut extended = plain[..40].to_vec();
    extended[5] += 24;
    extended[6] = 0;
    extended.extend([60, 0, 1, 4, 0, 0, 0, 0, 44, 0, 1, 4, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 9]);
    extended.extend(&plain[40..]);
    seeds.push(extended);
    seeds
}

fn whole() -> Vec<Vec<u8>> {
    vec![
        tcp(CLIENT, VIP, "S", b""),
        tcp(CLIENT, VIP, "A", b"data"),
        tcp(CLIENT6, VIP6, "S", b""),
        udp(CLIENT, VIP, b"question"),
        udp(CLIENT6, VIP6, b"question"),
        udp(BACKENDS[0], "10.9.0.1:5000", b"answer"),
        tcp(CLIENT, "203.0.113.1:9", "S", b""),
    ]
}

#[test]
fn the_seeds_are_packets() {
    for seed in seeds() {
        assert!(crate::packet::View::of(&seed).is_ok(), "{seed:02x?}");
    }
}

/// What a kernel might say of a packet, or could never say.
fn offload() -> impl Strategy<Value = Offload> {
    let checksum = prop_oneof![
        4 => Just(ChecksumState::Whole),
        1 => Just(ChecksumState::Verified),
        1 => Just(ChecksumState::Partial { start: 20, offset: 16 }),
        1 => Just(ChecksumState::Partial { start: 40, offset: 6 }),
        1 => (any::<u16>(), any::<u16>()).prop_map(|(start, offset)| ChecksumState::Partial { start, offset }),
    ];
    let kind = prop::sample::select(vec![SegmentKind::TcpV4, SegmentKind::TcpV6, SegmentKind::Udp]);
    let segments = (kind, any::<u16>(), any::<u16>(), any::<bool>())
        .prop_map(|(kind, size, header_length, ecn)| Segments { kind, size, header_length, ecn });
    (checksum, prop::option::weighted(0.3, segments))
        .prop_map(|(checksum, segments)| Offload { checksum, segments })
}

proptest! {
    #[test]
    fn any_bytes_get_a_verdict(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        let mut rig = Plan { workers: 2, ..Plan::default() }.build();
        for packet in &packets {
            let _ = rig.send(0, packet);
        }
        prop_assert!(rig.totals().agree());
    }

    #[test]
    fn mutated_packets_get_a_verdict(
        picks in prop::collection::vec((any::<prop::sample::Index>(), offload(), prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            any::<prop::sample::Index>(), any::<bool>(), 0u8..2), 1..60),
        nat in prop::sample::select(vec![Nat::Full, Nat::Dnat]),
    ) {
        let mut rig = Plan { workers: 2, nat, ..Plan::default() }.build();
        let seeds = seeds();
        for (pick, offload, changes, cut, mend, worker) in picks {
            let mut packet = pick.get(&seeds).clone();
            for (at, byte) in changes {
                let at = at.index(packet.len());
                packet[at] = byte;
            }
            if mend && packet[0] == 0x45 {
                packet[10..12].fill(0);
                let sum = checksum::of(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            if !mend {
                packet.truncate(cut.index(packet.len()) + 1);
            }
            let _ = rig.drive(worker, &mut Frame::copy_of(&packet, offload));
            rig.pass(Duration::from_millis(100));
        }
        prop_assert!(rig.totals().agree());
    }
}
