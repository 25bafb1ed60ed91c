//! Flows: there and back, known and new, on any worker.

use super::*;
use crate::packet::{ChecksumState, SegmentKind, Segments};

const FAMILIES: [(&str, &str); 2] = [(CLIENT, VIP), (CLIENT6, VIP6)];

fn is_forward(verdict: Verdict, reason: Reason) {
    assert_eq!(verdict, Verdict::Forward(reason));
}

#[test]
fn a_flow_goes_there_and_back_in_every_mode() {
    for nat in [Nat::Full, Nat::Dnat] {
        for (client, vip) in FAMILIES {
            for make in [tcp_syn as fn(&str, &str) -> Vec<u8>, |a, b| udp(a, b, b"question")] {
                let mut rig = Plan { nat, ..Plan::default() }.build();
                let (verdict, out) = rig.send(0, &make(client, vip));
                is_forward(verdict, Reason::NewFlow);
                let there = seen(&out);
                assert!(
                    BACKENDS.iter().chain(&BACKENDS6).any(|b| socket(b) == there.destination),
                    "{there:?}"
                );
                assert_eq!(there.hops, 63);
                match nat {
                    Nat::Dnat => assert_eq!(there.source, socket(client)),
                    Nat::Full => assert_ne!(there.source.ip(), socket(client).ip()),
                }
                let (from, to) = (there.destination.to_string(), there.source.to_string());
                let reply =
                    if make(client, vip)[9] == 17 || vip.starts_with('[') && make(client, vip)[6] == 17 {
                        udp(&from, &to, b"answer")
                    } else {
                        tcp(&from, &to, "SA", b"")
                    };
                let (verdict, out) = rig.send(0, &reply);
                is_forward(verdict, Reason::KnownFlow);
                let back = seen(&out);
                assert_eq!((back.source, back.destination), (socket(vip), socket(client)));
                assert!(rig.totals().agree());
            }
        }
    }
}

fn tcp_syn(from: &str, to: &str) -> Vec<u8> {
    tcp(from, to, "S", b"")
}

#[test]
fn a_flow_keeps_its_backend_and_new_ones_take_turns() {
    let mut rig = Plan::default().build();
    let mut first = Vec::new();
    for port in 40_000..40_009 {
        let client = format!("198.51.100.7:{port}");
        let there = seen(&rig.send(0, &tcp_syn(&client, VIP)).1);
        for _ in 0..3 {
            let again = seen(&rig.send(0, &tcp(&client, VIP, "A", b"more")).1);
            assert_eq!((again.source, again.destination), (there.source, there.destination));
        }
        first.push(there.destination);
    }
    for backend in BACKENDS {
        assert_eq!(first.iter().filter(|seen| **seen == socket(backend)).count(), 3, "{backend}");
    }
}

#[test]
fn where_a_client_reaches_a_backend_already_another_flow_is_sent_from_a_local_address() {
    // One endpoint of the client's to two ports of the VIP, by a scheduler that has one backend for it.
    let mut rig = Plan { nat: Nat::Dnat, scheduler: SchedulerKind::Sh, ..Plan::default() }.build();
    for udp_flow in [false, true] {
        let there = [VIP, "203.0.113.1:443"].map(|vip| {
            let packet = if udp_flow { udp(CLIENT, vip, b"x") } else { tcp_syn(CLIENT, vip) };
            let (verdict, out) = rig.send(0, &packet);
            is_forward(verdict, Reason::NewFlow);
            (vip, seen(&out))
        });
        assert_eq!(there[0].1.destination, there[1].1.destination);
        assert!(there[0].1.source == socket(CLIENT) && there[1].1.source.to_string().starts_with("10.9."));
        for (vip, there) in there {
            let (from, to) = (there.destination.to_string(), there.source.to_string());
            let reply = if udp_flow { udp(&from, &to, b"y") } else { tcp(&from, &to, "SA", b"") };
            let back = seen(&rig.send(0, &reply).1);
            assert_eq!((back.source, back.destination), (socket(vip), socket(CLIENT)));
        }
    }
}

#[test]
fn a_packet_on_the_wrong_queue_is_handed_to_the_owner_and_comes_out_the_same() {
    for nat in [Nat::Full, Nat::Dnat] {
        let mut rig = Plan { nat, workers: 4, ..Plan::default() }.build();
        for (port, worker) in (40_000..40_200).zip([0u8, 1, 2, 3].into_iter().cycle()) {
            let client = format!("198.51.100.7:{port}");
            let there = seen(&rig.send(worker, &tcp_syn(&client, VIP)).1);
            for other in 0..4 {
                let (verdict, out) = rig.send(other, &tcp(&client, VIP, "A", b"x"));
                is_forward(verdict, Reason::KnownFlow);
                assert_eq!(seen(&out).source, there.source);
                let reply = tcp(&there.destination.to_string(), &there.source.to_string(), "A", b"y");
                let (verdict, out) = rig.send(other, &reply);
                is_forward(verdict, Reason::KnownFlow);
                assert_eq!(seen(&out).destination, socket(&client));
            }
        }
        assert!(rig.totals().agree());
        assert_eq!(rig.count(Outcome::Forwarded, Reason::NewFlow), 200);
    }
}

#[test]
fn a_syn_sent_again_on_another_queue_opens_nothing_new() {
    let mut rig = Plan { workers: 2, ..Plan::default() }.build();
    let first = seen(&rig.send(0, &tcp_syn(CLIENT, VIP)).1);
    let again = seen(&rig.send(1, &tcp_syn(CLIENT, VIP)).1);
    assert_eq!(first, again);
    assert_eq!(rig.count(Outcome::Forwarded, Reason::NewFlow), 1);
}

#[test]
fn a_closed_connection_s_tuple_opens_a_new_flow_at_once() {
    let mut rig = Plan::default().build();
    let old = seen(&rig.send(0, &tcp_syn(CLIENT, VIP)).1);
    let (backend, local) = (old.destination.to_string(), old.source.to_string());
    for (reply, flags) in [(true, "SA"), (false, "A"), (false, "FA"), (true, "FA"), (false, "A")] {
        let packet = if reply { tcp(&backend, &local, flags, b"") } else { tcp(CLIENT, VIP, flags, b"") };
        is_forward(rig.send(0, &packet).0, Reason::KnownFlow);
    }
    let (verdict, out) = rig.send(0, &tcp_syn(CLIENT, VIP));
    is_forward(verdict, Reason::NewFlow);
    let new = seen(&out);
    assert_ne!((new.source, new.destination), (old.source, old.destination));
    let (verdict, out) = rig.send(0, &tcp(&new.destination.to_string(), &new.source.to_string(), "SA", b""));
    is_forward(verdict, Reason::KnownFlow);
    assert_eq!(seen(&out).destination, socket(CLIENT));
}

#[test]
fn a_syn_in_an_open_connection_re_points_nothing() {
    let mut rig = Plan::default().build();
    let there = seen(&rig.send(0, &tcp_syn(CLIENT, VIP)).1);
    let reply = tcp(&there.destination.to_string(), &there.source.to_string(), "SA", b"");
    is_forward(rig.send(0, &reply).0, Reason::KnownFlow);
    is_forward(rig.send(0, &tcp(CLIENT, VIP, "A", b"")).0, Reason::KnownFlow);
    let (verdict, out) = rig.send(0, &tcp_syn(CLIENT, VIP));
    is_forward(verdict, Reason::KnownFlow);
    assert_eq!((seen(&out).source, seen(&out).destination), (there.source, there.destination));
}

#[test]
fn mid_flow_is_placed_again_by_a_hash_where_the_client_address_is_kept() {
    for scheduler in [SchedulerKind::Mh, SchedulerKind::Sh] {
        let plan = || Plan { nat: Nat::Dnat, scheduler, ..Plan::default() };
        for port in 40_000..40_050 {
            let client = format!("198.51.100.7:{port}");
            let before = seen(&plan().build().send(0, &tcp_syn(&client, VIP)).1);
            let mut restarted = plan().build();
            let (verdict, out) = restarted.send(0, &tcp(&client, VIP, "A", b"as if nothing had happened"));
            is_forward(verdict, Reason::AdoptedFlow);
            assert_eq!(seen(&out).destination, before.destination, "{scheduler:?}");
        }
    }
}

#[test]
fn a_backend_that_is_its_own_client_is_reached_from_a_local_address() {
    for nat in [Nat::Full, Nat::Dnat] {
        let mut rig = Plan { nat, ..Plan::default() }.build();
        for port in 50_000..50_003 {
            let out = rig.send(0, &tcp_syn(&format!("10.0.0.2:{port}"), VIP)).1;
            assert!(seen(&out).source.to_string().starts_with("10.9.0."), "{nat:?} {:?}", seen(&out));
        }
    }
}

#[test]
fn a_large_segment_passes_whole_and_its_unfinished_sum_stays_unfinished() {
    let mut rig = Plan::default().build();
    let there = seen(&rig.send(0, &tcp_syn(CLIENT, VIP)).1);
    let mut packet = tcp(CLIENT, VIP, "A", &vec![7; 60_000]);
    let pseudo = checksum::pseudo_header(&packet[12..16], &packet[16..20], 6, packet.len() - 20);
    packet[36..38].copy_from_slice(&pseudo.to_be_bytes());
    let offload = Offload {
        checksum: ChecksumState::Partial { start: 20, offset: 16 },
        segments: Some(Segments { kind: SegmentKind::TcpV4, size: 1448, header_length: 40, ecn: false }),
    };
    let mut frame = Frame::copy_of(&packet, offload);
    is_forward(rig.drive(0, &mut frame), Reason::KnownFlow);
    assert_eq!(frame.offload, offload);
    let mut out = frame.packet().to_vec();
    let finished = checksum::of(&out[20..]);
    out[36..38].copy_from_slice(&finished.to_be_bytes());
    assert_eq!(seen(&out).source, there.source);
}

#[test]
fn what_may_be_fragmented_gets_an_identification_of_ours_and_what_may_not_keeps_its_own() {
    let mut rig = Plan { locals: &["10.9.0.1/32"], ..Plan::default() }.build();
    for (flags, kept) in [(0x40, true), (0, false)] {
        let mut seen = std::collections::HashSet::new();
        for client in ["198.51.100.7:1", "198.51.100.8:1", "198.51.100.7:1"] {
            let mut packet = udp(client, VIP, b"x");
            packet[4..7].copy_from_slice(&[0x12, 0x34, flags]);
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            let out = rig.send(0, &packet).1;
            let _ = super::seen(&out);
            assert_eq!(out[6], flags);
            assert_eq!(out[4..6] == [0x12, 0x34], kept);
            assert!(kept || seen.insert([out[4], out[5]]));
        }
    }
}

#[test]
fn the_parts_of_large_segments_have_identifications_that_no_other_worker_uses() {
    for workers in [1u8, 2, 3, 64] {
        let mut rig = Plan { workers, ..Plan::default() }.build();
        let mut used = std::collections::HashSet::new();
        for (worker, port) in (0..workers).zip(40_000..).take(4) {
            let client = format!("198.51.100.7:{port}");
            is_forward(rig.send(worker, &tcp_syn(&client, VIP)).0, Reason::NewFlow);
            for size in [1400u16, 700, 1400, 100] {
                let mut packet = tcp(&client, VIP, "A", &[7; 14_000]);
                packet[6] = 0; // may be fragmented
                packet[10..12].fill(0);
                let sum = checksum::of(&packet[..20]);
                packet[10..12].copy_from_slice(&sum.to_be_bytes());
                let segments = Segments { kind: SegmentKind::TcpV4, size, header_length: 40, ecn: false };
                let offload = Offload { segments: Some(segments), ..Offload::default() };
                let mut frame = Frame::copy_of(&packet, offload);
                is_forward(rig.drive(worker, &mut frame), Reason::KnownFlow);
                // Whoever cuts it numbers the parts one by one from the number of the whole.
                let first = u16::from_be_bytes([frame.packet()[4], frame.packet()[5]]);
                for part in 0..14_000 / size {
                    assert!(used.insert(first.wrapping_add(part)), "{workers} workers, {size} bytes");
                }
            }
        }
    }
}

#[test]
fn each_backend_s_packets_and_bytes_are_counted_by_direction() {
    let mut rig = Plan { workers: 2, ..Plan::default() }.build();
    let there = seen(&rig.send(0, &udp(CLIENT, VIP, &[1; 100])).1);
    let (backend, local) = (there.destination.to_string(), there.source.to_string());
    for worker in [0, 1, 0] {
        let _ = rig.send(worker, &udp(&backend, &local, &[2; 1000]));
    }
    let _ = rig.send(1, &udp(CLIENT, VIP, &[3; 10]));
    let counts = rig.totals().backends;
    let place = BACKENDS.iter().position(|backend| socket(backend) == there.destination).unwrap();
    let counts_of = |c: &crate::datapath::BackendTotals| {
        (c.flows, c.packets_original, c.bytes_original, c.packets_reply, c.bytes_reply, c.refused)
    };
    assert_eq!(counts_of(&counts[place]), (1, 2, 128 + 38, 3, 3 * 1028, 0));
    let others = counts.iter().enumerate().filter(|(other, _)| *other != place);
    assert!(others.into_iter().all(|(_, counts)| *counts == crate::datapath::BackendTotals::default()));
}

/// How many live flows each backend is thought to have.
fn live(rig: &Rig) -> Vec<u32> {
    rig.balancer.backends().iter().map(crate::balance::Backend::live_flows).collect()
}

#[test]
fn a_flow_counts_for_its_backend_while_it_is_in_use_and_no_longer() {
    // Two flows, so that one count too few would show as well as one too many.
    let mut rig = Plan { scheduler: SchedulerKind::Sh, ..Plan::default() }.build();
    let other = seen(&rig.send(0, &udp(CLIENT, VIP, b"")).1).destination;
    let place = BACKENDS.iter().position(|backend| socket(backend) == other).unwrap();
    let there = seen(&rig.send(0, &tcp_syn(CLIENT, VIP)).1);
    assert_eq!(there.destination, other);
    let (backend, local) = (there.destination.to_string(), there.source.to_string());
    for (name, reply, flags, want) in [
        ("opened", false, "S", 2),
        ("refused", true, "RA", 1),
        ("refused twice", true, "RA", 1),
        ("the backend answers after all", true, "SA", 2),
        ("established", false, "A", 2),
        ("reset", false, "R", 1),
        ("alive after all", true, "A", 2),
        ("half closed", false, "FA", 2),
        ("closed", true, "FA", 1),
    ] {
        let packet = if reply { tcp(&backend, &local, flags, b"") } else { tcp(CLIENT, VIP, flags, b"") };
        is_forward(rig.send(0, &packet).0, Reason::KnownFlow);
        assert_eq!(live(&rig)[place], want, "{name}");
    }
    rig.pass(Duration::from_secs(250));
    assert_eq!((rig.totals().flows_ended, live(&rig)[place]), (1, 1), "the closed one has ended");
    rig.pass(Duration::from_secs(60));
    assert_eq!((rig.totals().flows_ended, live(&rig)[place]), (2, 0));
}

#[test]
fn where_no_local_address_is_left_either_such_a_flow_goes_to_another_backend() {
    let mut rig = Plan { nat: Nat::Dnat, locals: &[], ..Plan::default() }.build();
    for (client, vip, backend) in [
        (CLIENT, VIP, BACKENDS[0]),
        ("198.51.100.8:1", VIP, BACKENDS[1]),
        ("198.51.100.9:1", VIP, BACKENDS[2]),
        (CLIENT, "203.0.113.1:443", BACKENDS[1]),
    ] {
        let (verdict, out) = rig.send(0, &tcp_syn(client, vip));
        is_forward(verdict, Reason::NewFlow);
        assert_eq!((seen(&out).source, seen(&out).destination), (socket(client), socket(backend)));
    }
}

#[test]
fn idle_flows_end_when_their_time_has_come_and_not_before() {
    let mut rig = Plan::default().build();
    let _ = rig.send(0, &udp(CLIENT, VIP, b"?"));
    rig.pass(Duration::from_secs(299));
    assert_eq!(rig.totals().flows_ended, 0);
    rig.pass(Duration::from_secs(2));
    assert_eq!(rig.totals().flows_ended, 1);
    assert_eq!(rig.balancer.backends().iter().map(crate::balance::Backend::live_flows).sum::<u32>(), 0);
}

#[test]
fn padding_behind_the_packet_does_not_travel() {
    let mut rig = Plan::default().build();
    let mut packet = udp(CLIENT, VIP, b"");
    packet.extend([0; 18]);
    let (verdict, out) = rig.send(0, &packet);
    is_forward(verdict, Reason::NewFlow);
    assert_eq!(out.len(), 28);
}
