//! Anything may arrive: no packet panics, and every one is accounted for.

use super::*;
use proptest::prelude::*;

fn seeds() -> Vec<Vec<u8>> {
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
        picks in prop::collection::vec((0usize..7, prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            any::<prop::sample::Index>(), any::<bool>(), 0u8..2), 1..60),
        nat in prop::sample::select(vec![Nat::Full, Nat::Dnat]),
    ) {
        let mut rig = Plan { workers: 2, nat, ..Plan::default() }.build();
        let seeds = seeds();
        for (pick, changes, cut, mend, worker) in picks {
            let mut packet = seeds[pick].clone();
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
            let _ = rig.send(worker, &packet);
            rig.pass(Duration::from_millis(100));
        }
        prop_assert!(rig.totals().agree());
    }
}
