//! What goes no further, and what its sender hears of it.

use super::*;
use crate::balance::Health;
use crate::packet::{ChecksumState, SegmentKind, Segments};

fn answer_of(rig: &mut Rig, packet: &[u8], reason: Reason) -> Vec<u8> {
    let (verdict, out) = rig.send(0, packet);
    assert_eq!(verdict, Verdict::Answer(reason));
    assert_eq!(rig.count(Outcome::Answered, reason), 1);
    out
}

fn is_reset(packet: &[u8], from: &str, to: &str) {
    let seen = seen(packet);
    assert_eq!((seen.source, seen.destination), (socket(from), socket(to)));
    let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
    let Some(etherparse::TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
    assert!(tcp.rst());
}

fn icmp_of(packet: &[u8]) -> (u8, u8) {
    let _ = seen(packet);
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    (packet[at], packet[at + 1])
}

#[test]
fn a_vip_port_without_a_service_refuses() {
    for (client, vip) in [(CLIENT, "203.0.113.1:81"), (CLIENT6, "[2001:db8:f::1]:81")] {
        let mut rig = Plan::default().build();
        let out = answer_of(&mut rig, &tcp(client, vip, "S", b""), Reason::NoService);
        is_reset(&out, vip, client);
        let mut rig = Plan::default().build();
        let out = answer_of(&mut rig, &udp(client, vip, b"?"), Reason::NoService);
        assert_eq!(icmp_of(&out), if vip.starts_with('[') { (1, 4) } else { (3, 3) });
    }
}

#[test]
fn an_answer_has_nothing_of_what_was_unfinished_about_the_packet() {
    for (packet, kind) in [
        (tcp(CLIENT, VIP, "A", &[1; 9000]), SegmentKind::TcpV4),
        (tcp(CLIENT6, VIP6, "A", &[1; 9000]), SegmentKind::TcpV6),
        (udp(CLIENT6, "[2001:db8:f::1]:9", &[1; 9000]), SegmentKind::Udp),
    ] {
        let start = if packet[0] >> 4 == 4 { 20 } else { 40 };
        let offset = if kind == SegmentKind::Udp { 6 } else { 16 };
        let segments = Segments { kind, size: 1400, header_length: start + 20, ecn: true };
        let offload =
            Offload { checksum: ChecksumState::Partial { start, offset }, segments: Some(segments) };
        let mut frame = Frame::copy_of(&packet, offload);
        let verdict = Plan::default().build().drive(0, &mut frame);
        assert!(matches!(verdict, Verdict::Answer(_)), "{verdict:?}");
        assert_eq!(frame.offload, Offload::default());
        let _ = seen(frame.packet());
    }
}

#[test]
fn a_service_without_a_live_backend_refuses() {
    let plan = || Plan { drained: true, ..Plan::default() };
    let out = answer_of(&mut plan().build(), &tcp(CLIENT, VIP, "S", b""), Reason::NoBackend);
    is_reset(&out, VIP, CLIENT);
    let out = answer_of(&mut plan().build(), &udp(CLIENT6, VIP6, b""), Reason::NoBackend);
    assert_eq!(icmp_of(&out), (1, 4));
}

#[test]
fn a_backend_that_refuses_again_and_again_is_not_asked_any_more() {
    let mut rig = Plan::default().build();
    let dead = socket(BACKENDS[0]);
    let mut asked = 0;
    for port in 40_000..40_030 {
        let there = seen(&rig.send(0, &tcp(&format!("198.51.100.7:{port}"), VIP, "S", b"")).1);
        let flags = if there.destination == dead { "RA" } else { "SA" };
        asked += u32::from(there.destination == dead);
        let reply = tcp(&there.destination.to_string(), &there.source.to_string(), flags, b"");
        assert_eq!(rig.send(0, &reply).0, Verdict::Forward(Reason::KnownFlow));
    }
    assert_eq!(asked, 3);
    assert_eq!(rig.totals().backends.iter().map(|b| b.refused).sum::<u64>(), 3);
}

#[test]
fn a_client_cannot_make_a_backend_seem_to_refuse() {
    // A backend may have dropped the SYN, for a wrong checksum say; and it answers what makes no sense without one by RST.
    for flags in ["SA", "SF", "SFA", "A", "FA", "F", ""] {
        let mut rig = Plan::default().build();
        for port in 40_000..40_030 {
            let client = format!("198.51.100.7:{port}");
            let there = seen(&rig.send(0, &tcp(&client, VIP, "S", b"")).1);
            assert_eq!(rig.send(0, &tcp(&client, VIP, flags, b"")).0, Verdict::Forward(Reason::KnownFlow));
            let reset = tcp(&there.destination.to_string(), &there.source.to_string(), "R", b"");
            assert_eq!(rig.send(0, &reset).0, Verdict::Forward(Reason::KnownFlow), "{flags}");
        }
        assert_eq!(rig.totals().backends.iter().map(|b| b.refused).sum::<u64>(), 0, "{flags}");
        assert!(rig.balancer.backends().iter().all(|backend| backend.health() == Health::Up), "{flags}");
    }
}

#[test]
fn a_syn_that_a_dead_backend_left_unanswered_goes_elsewhere_when_it_is_sent_again() {
    let mut rig = Plan::default().build();
    let syn = |port: u16| tcp(&format!("198.51.100.7:{port}"), VIP, "S", b"");
    let dead = socket(BACKENDS[0]);
    let there: Vec<_> = (0..12).map(|number| seen(&rig.send(0, &syn(40_000 + number)).1)).collect();
    let asked: Vec<u16> = (0..12).filter(|&n| there[usize::from(n)].destination == dead).collect();
    assert_eq!(asked.len(), 4);
    let again = |rig: &mut Rig, number: u16| seen(&rig.send(0, &syn(40_000 + number)).1).destination;
    assert_eq!(again(&mut rig, asked[3]), dead, "nothing is known yet");
    for &number in &asked[..3] {
        let Seen { source, destination, .. } = there[usize::from(number)];
        let reply = tcp(&destination.to_string(), &source.to_string(), "RA", b"");
        assert_eq!(rig.send(0, &reply).0, Verdict::Forward(Reason::KnownFlow));
    }
    assert_ne!(again(&mut rig, asked[3]), dead);
    // Who waits for a backend that lives goes on waiting.
    for number in (0..12).filter(|number| !asked.contains(number)) {
        assert_eq!(again(&mut rig, number), there[usize::from(number)].destination);
    }
    let live: u32 = rig.balancer.backends().iter().map(crate::balance::Backend::live_flows).sum();
    assert_eq!(live, 9);
    assert_eq!(rig.totals().backends.iter().map(|b| b.refused).sum::<u64>(), 3);
}

#[test]
fn a_full_table_refuses_and_says_so() {
    let settings = Settings { max_flows: 64, max_flows_per_client: 64, ..Settings::default() };
    let mut rig = Plan { settings, ..Plan::default() }.build();
    let mut verdicts = std::collections::HashMap::new();
    for port in 0..200 {
        let packet = udp(&format!("198.51.100.{}:{}", port % 100 + 1, 40_000 + port), VIP, b"");
        *verdicts.entry(rig.send(0, &packet).0).or_insert(0) += 1;
    }
    assert_eq!(verdicts[&Verdict::Forward(Reason::NewFlow)], 64);
    assert_eq!(verdicts[&Verdict::Answer(Reason::TableFull)], 100, "and then the rate limit");
    assert_eq!(verdicts[&Verdict::Drop(Reason::TableFull)], 36);
    assert_eq!(rig.totals().answers_suppressed, 36);
    let there = icmp_of(&{
        rig.pass(Duration::from_secs(1));
        rig.send(0, &udp("198.51.100.200:1", VIP, b"")).1
    });
    assert_eq!(there, (3, 13));
    assert!(rig.totals().agree());
}

#[test]
fn one_client_cannot_fill_the_table_alone() {
    let settings = Settings { max_flows: 1024, max_flows_per_client: 256, ..Settings::default() };
    let mut rig = Plan { settings, ..Plan::default() }.build();
    for port in 1..=2000 {
        let _ = rig.send(0, &tcp(&format!("198.51.100.7:{port}"), VIP, "S", b""));
    }
    assert_eq!(rig.count(Outcome::Forwarded, Reason::NewFlow), 256);
    assert_eq!(rig.count(Outcome::Answered, Reason::ClientLimit), 2000 - 256);
    let (verdict, _) = rig.send(0, &tcp("198.51.100.8:1", VIP, "S", b""));
    assert_eq!(verdict, Verdict::Forward(Reason::NewFlow));
}

#[test]
fn no_free_local_port_is_a_reason_of_its_own() {
    let mut rig = Plan { ports: 5000..=5009, locals: &["10.9.0.1/32"], ..Plan::default() }.build();
    for port in 0..40 {
        let _ = rig.send(0, &tcp(&format!("198.51.100.{}:1", port + 1), VIP, "S", b""));
    }
    assert_eq!(rig.count(Outcome::Forwarded, Reason::NewFlow), 30, "ten ports to each of three backends");
    assert_eq!(rig.count(Outcome::Answered, Reason::NoLocalPort), 10);
}

#[test]
fn strangers_in_mid_flow_are_reset_but_resets_are_not_answered() {
    let mut rig = Plan::default().build();
    let out = answer_of(&mut rig, &tcp(CLIENT, VIP, "A", b"hello?"), Reason::NoFlow);
    is_reset(&out, VIP, CLIENT);
    assert_eq!(rig.send(0, &tcp(CLIENT, VIP, "RA", b"")).0, Verdict::Drop(Reason::NoFlow));
    let late = tcp(BACKENDS[0], "10.9.0.1:5000", "A", b"late");
    is_reset(&rig.send(0, &late).1, "10.9.0.1:5000", BACKENDS[0]);
    assert_eq!(rig.send(0, &udp(BACKENDS[0], "10.9.0.1:5000", b"late")).0, Verdict::Drop(Reason::NoFlow));
}

/// The same packet with that many hops left.
fn with_hops(mut packet: Vec<u8>, hops: u8) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[8] = hops;
        packet[10..12].fill(0);
        let sum = checksum::of(&packet[..20]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        packet[7] = hops;
    }
    packet
}

#[test]
fn the_end_of_the_hop_limit_is_answered() {
    for (client, vip, want) in [(CLIENT, VIP, (11, 0)), (CLIENT6, VIP6, (3, 0))] {
        for hops in [0, 1] {
            let mut rig = Plan::default().build();
            let packet = with_hops(tcp(client, vip, "S", b""), hops);
            assert_eq!(icmp_of(&answer_of(&mut rig, &packet, Reason::TtlExpired)), want, "a new flow");
            assert_eq!(rig.translators[0].flows().len(), 0, "none is opened");
        }
    }
}

#[test]
fn the_end_of_the_hop_limit_is_answered_in_known_flows_both_ways() {
    for (client, vip, want) in [(CLIENT, VIP, (11, 0)), (CLIENT6, VIP6, (3, 0))] {
        for make in [udp as fn(&str, &str, &[u8]) -> Vec<u8>, |a, b, payload| tcp(a, b, "A", payload)] {
            for hops in [0, 1] {
                let mut rig = Plan::default().build();
                let is_udp = make(client, vip, b"") == udp(client, vip, b"");
                let first = if is_udp { udp(client, vip, b"") } else { tcp(client, vip, "S", b"") };
                let there = seen(&rig.send(0, &first).1);
                let (backend, local) = (there.destination.to_string(), there.source.to_string());
                for (from, to) in [(client, vip), (&*backend, &*local)] {
                    let (verdict, out) = rig.send(0, &with_hops(make(from, to, b"x"), hops));
                    assert_eq!(verdict, Verdict::Answer(Reason::TtlExpired), "{from} {hops}");
                    assert_eq!(icmp_of(&out), want);
                    let out = seen(&out);
                    assert_eq!((out.source.ip(), out.destination.ip()), (socket(to).ip(), socket(from).ip()));
                }
                assert_eq!(rig.send(0, &with_hops(make(client, vip, b"x"), 2)).1[hops_at(vip)], 1);
            }
        }
    }
}

/// Where the hops stand in a packet to there.
fn hops_at(to: &str) -> usize {
    if to.starts_with('[') { 7 } else { 8 }
}

#[test]
fn addresses_that_cannot_be_are_dropped() {
    for (name, packet, reason) in [
        ("land", tcp(VIP, VIP, "S", b""), Reason::Land),
        ("loopback source", tcp("127.0.0.1:1", VIP, "S", b""), Reason::Martian),
        ("broadcast source", tcp("255.255.255.255:1", VIP, "S", b""), Reason::Martian),
        ("this network", tcp("0.0.0.0:1", VIP, "S", b""), Reason::Martian),
        ("reserved", udp("240.0.0.1:1", VIP, b""), Reason::Martian),
        ("multicast source", udp("224.0.0.1:1", VIP, b""), Reason::Martian),
        ("multicast destination", udp(CLIENT, "224.0.0.1:80", b""), Reason::LinkLocal),
        ("link-local source", udp("[fe80::1]:1", VIP6, b""), Reason::LinkLocal),
        ("loopback source", tcp("[::1]:1", VIP6, "S", b""), Reason::Martian),
        ("unspecified source", tcp("[::]:1", VIP6, "S", b""), Reason::Martian),
        ("mapped source", tcp("[::ffff:198.51.100.7]:40000", VIP6, "S", b""), Reason::Martian),
        (
            "both mapped",
            tcp("[::ffff:198.51.100.7]:40000", "[::ffff:203.0.113.1]:80", "S", b""),
            Reason::Martian,
        ),
        ("a VIP as source", tcp("203.0.113.1:9", VIP, "S", b""), Reason::Martian),
        ("the same, UDP", udp("203.0.113.1:9", "203.0.113.1:443", b""), Reason::Martian),
        ("the same, no service", udp("203.0.113.1:9", "203.0.113.1:10", b""), Reason::Martian),
        ("the same over IPv6", udp("[2001:db8:f::1]:9", VIP6, b""), Reason::Martian),
        ("not ours", tcp(CLIENT, "192.0.2.1:80", "S", b""), Reason::NotOurs),
    ] {
        let mut rig = Plan::default().build();
        assert_eq!(rig.send(0, &packet).0, Verdict::Drop(reason), "{name}");
        assert!(rig.totals().agree(), "{name}");
    }
}

#[test]
fn others_packets_go_on_unchanged_where_dnat_brings_them() {
    let mut rig = Plan { nat: Nat::Dnat, ..Plan::default() }.build();
    let packet = tcp(BACKENDS[0], "192.0.2.1:443", "S", b"");
    let (verdict, out) = rig.send(0, &packet);
    assert_eq!(verdict, Verdict::Forward(Reason::NotOurs));
    let seen = seen(&out);
    assert_eq!(
        (seen.source, seen.destination, seen.hops),
        (socket(BACKENDS[0]), socket("192.0.2.1:443"), 63)
    );
    let odd = tcp(CLIENT, "192.0.2.1:80", "SF", b"");
    assert_eq!(rig.send(0, &odd).0, Verdict::Forward(Reason::NotOurs));
}

#[test]
fn what_is_for_our_own_addresses_never_goes_on_unchanged() {
    for (from, to) in
        [(CLIENT, VIP), (BACKENDS[0], "10.9.0.1:1"), (CLIENT6, VIP6), (BACKENDS6[0], "[2001:db8:9::1]:1")]
    {
        for protocol in [132, 47, 50, 41, 59] {
            let mut rig = Plan { nat: Nat::Dnat, ..Plan::default() }.build();
            let mut packet = udp(from, to, &[1; 20]);
            let at = if packet[0] >> 4 == 4 { 9 } else { 6 };
            packet[at] = protocol;
            let verdict = rig.send(0, &with_hops(packet, 64)).0;
            assert_eq!(verdict, Verdict::Drop(Reason::UnsupportedProtocol), "{to} {protocol}");
        }
    }
}

#[test]
fn flags_that_open_nothing_are_answered_as_strangers() {
    for flags in ["", "F", "SF", "SA", "SR", "SFR"] {
        let mut rig = Plan::default().build();
        let (verdict, _) = rig.send(0, &tcp(CLIENT, VIP, flags, b""));
        let want =
            if flags.contains('R') { Verdict::Drop(Reason::NoFlow) } else { Verdict::Answer(Reason::NoFlow) };
        assert_eq!(verdict, want, "{flags}");
    }
}

#[test]
fn a_datagram_over_ipv6_without_checksum_is_dropped() {
    let mut packet = udp(CLIENT6, VIP6, b"x");
    packet[46..48].fill(0);
    let mut rig = Plan::default().build();
    assert_eq!(rig.send(0, &packet).0, Verdict::Drop(Reason::BadChecksum));
}

#[test]
fn a_wrong_transport_checksum_stays_wrong() {
    let mut rig = Plan::default().build();
    let mut packet = tcp(CLIENT, VIP, "S", b"");
    packet[36] ^= 0x55;
    let (verdict, out) = rig.send(0, &packet);
    assert_eq!(verdict, Verdict::Forward(Reason::NewFlow));
    assert!(std::panic::catch_unwind(|| seen(&out)).is_err(), "it was mended on the way");
}
