//! ICMP through the translator: pings, and errors from both sides.

use super::*;
use crate::packet::quote::{self, Quote};
use crate::packet::{ChecksumState, View};

/// An ICMP message from `from` to `to`: type, code, the four bytes behind the checksum, and a body.
pub fn icmp(from: &str, to: &str, kind: u8, code: u8, rest: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest);
    message.extend(body);
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let mut packet =
        udp(&SocketAddr::new(from, 1).to_string(), &SocketAddr::new(to, 1).to_string(), &message[8..]);
    match from {
        IpAddr::V4(_) => {
            packet[9] = 1;
            packet[10..12].fill(0);
            let sum = checksum::of(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet[20..].copy_from_slice(&message);
        }
        IpAddr::V6(_) => {
            packet[6] = 58;
            packet[40..].copy_from_slice(&message);
        }
    }
    let view = View::of(&packet).unwrap();
    quote::renew_icmp_checksum(&mut packet, &view);
    packet
}

fn address(socket: &str) -> String {
    super::socket(socket).ip().to_string()
}

/// Checks an error that came out: where from and to, its checksum, and what it quotes.
fn is_error(packet: &[u8], from: &str, to: &str, quoted: (&str, &str)) {
    let view = View::of(packet).unwrap();
    assert!(quote::icmp_checksum_is_right(packet, &view), "ICMP checksum");
    assert_eq!((view.source.to_string(), view.destination.to_string()), (address(from), address(to)));
    let tuple = Quote::of(packet, &view).expect("a quote").tuple();
    assert_eq!((tuple.source.to_string(), tuple.destination.to_string()), (quoted.0.into(), quoted.1.into()));
}

const ROUTERS: [&str; 2] = ["10.0.0.254", "2001:db8:2::fe"];

#[test]
fn a_ping_to_a_vip_is_answered() {
    for (client, vip, kind, reply) in [(CLIENT, VIP, 8, 0), (CLIENT6, VIP6, 128, 129)] {
        for length in [0, 1, 56, 1000] {
            let mut rig = Plan::default().build();
            let ping = icmp(&address(client), &address(vip), kind, 0, [1, 2, 3, 4], &vec![9; length]);
            let (verdict, out) = rig.send(0, &ping);
            assert_eq!(verdict, Verdict::Answer(Reason::EchoRequest));
            let view = View::of(&out).unwrap();
            assert!(quote::icmp_checksum_is_right(&out, &view));
            assert_eq!(
                (view.source.to_string(), view.destination.to_string()),
                (address(vip), address(client))
            );
            assert_eq!((out[view.transport_at], view.hops), (reply, 64));
            assert_eq!(out[view.transport_at + 4..], ping[view.transport_at + 4..]);
        }
    }
}

#[test]
fn a_ping_in_a_vip_s_own_name_is_not_answered() {
    for (source, vip, kind) in [(VIP, VIP, 8), (VIP6, VIP6, 128)] {
        for nat in [Nat::Full, Nat::Dnat] {
            let mut rig = Plan { nat, ..Plan::default() }.build();
            let ping = icmp(&address(source), &address(vip), kind, 0, [1, 2, 3, 4], b"me?");
            assert_eq!(rig.send(0, &ping).0, Verdict::Drop(Reason::Martian), "{source} {vip}");
        }
    }
}

#[test]
fn an_error_from_the_backends_side_reaches_the_client_about_its_own_packet() {
    for nat in [Nat::Full, Nat::Dnat] {
        for (client, vip, router, kinds) in [
            (CLIENT, VIP, ROUTERS[0], [(3, 4, [0, 0, 0x05, 0x14]), (3, 1, [0; 4]), (11, 0, [0; 4])]),
            (CLIENT6, VIP6, ROUTERS[1], [(2, 0, [0, 0, 0x05, 0x14]), (1, 3, [0; 4]), (3, 0, [0; 4])]),
        ] {
            for (kind, code, rest) in kinds {
                let header = if vip.starts_with('[') { 40 } else { 20 };
                for quoted in [header + 4, header + 8, header + 20, 400] {
                    let mut rig = Plan { nat, ..Plan::default() }.build();
                    let there = rig.send(0, &udp(client, vip, &[1; 600])).1;
                    let backend_side = seen(&there);
                    let error = icmp(
                        router,
                        &backend_side.source.ip().to_string(),
                        kind,
                        code,
                        rest,
                        &there[..quoted.min(there.len())],
                    );
                    let (verdict, out) = rig.send(0, &error);
                    assert_eq!(verdict, Verdict::Forward(Reason::IcmpError), "{kind}/{code} {quoted}");
                    is_error(&out, vip, client, (client, vip));
                    let at = header;
                    assert_eq!(out[at..at + 2], [kind, code]);
                    assert_eq!(out[at + 4..at + 8], rest);
                }
            }
        }
    }
}

#[test]
fn an_error_from_the_client_s_side_reaches_the_backend() {
    for nat in [Nat::Full, Nat::Dnat] {
        for (client, vip, router, kind) in
            [(CLIENT, VIP, "198.51.100.254", 3), (CLIENT6, VIP6, "2001:db8:1::fe", 1)]
        {
            let mut rig = Plan { nat, ..Plan::default() }.build();
            let there = seen(&rig.send(0, &udp(client, vip, b"?")).1);
            let (backend, local) = (there.destination.to_string(), there.source.to_string());
            let reply = rig.send(0, &udp(&backend, &local, &[2; 900])).1;
            let error = icmp(router, &address(vip), kind, 1, [0; 4], &reply[..100]);
            let (verdict, out) = rig.send(0, &error);
            assert_eq!(verdict, Verdict::Forward(Reason::IcmpError));
            let from = match nat {
                Nat::Full => local.clone(),
                Nat::Dnat => SocketAddr::new(router.parse().unwrap(), 1).to_string(),
            };
            is_error(&out, &from, &backend, (&backend, &local));
        }
    }
}

#[test] // RFC 5508 REQ-7
fn an_error_about_a_backend_s_own_request_comes_back_to_that_backend() {
    for nat in [Nat::Full, Nat::Dnat] {
        for (asking, vip) in [("10.0.0.2:50000", VIP), ("[2001:db8:2::2]:50000", VIP6)] {
            let mut rig = Plan { nat, ..Plan::default() }.build();
            let there = rig.send(0, &udp(asking, vip, b"?")).1;
            let Seen { source, destination, .. } = seen(&there);
            assert_ne!(source, socket(asking), "{nat:?}");
            let (kind, code) = if vip == VIP { (3, 3) } else { (1, 4) };
            let error =
                icmp(&destination.ip().to_string(), &source.ip().to_string(), kind, code, [0; 4], &there);
            let (verdict, out) = rig.send(0, &error);
            assert_eq!(verdict, Verdict::Forward(Reason::IcmpError));
            is_error(&out, vip, asking, (asking, vip));
        }
    }
}

#[test]
fn the_translated_quote_is_the_start_of_the_packet_that_the_client_sent() {
    let mut rig = Plan::default().build();
    let sent = udp(CLIENT, VIP, &[5; 100]);
    let there = rig.send(0, &sent).1;
    let error = icmp(ROUTERS[0], &seen(&there).source.ip().to_string(), 3, 1, [0; 4], &there);
    let out = rig.send(0, &error).1;
    let mut want = sent;
    want[8] -= 1; // the hop that it went
    want[10..12].fill(0);
    let sum = checksum::of(&want[..20]);
    want[10..12].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(out[28..], want);
}

#[test]
fn errors_without_a_flow_or_with_damage_are_dropped() {
    let mut rig = Plan::default().build();
    let there = rig.send(0, &udp(CLIENT, VIP, b"?")).1;
    let local = seen(&there).source.ip().to_string();
    let stranger = udp("10.9.0.1:7", BACKENDS[0], b"never seen");
    for (name, packet, reason) in [
        ("unknown flow", icmp(ROUTERS[0], &local, 3, 1, [0; 4], &stranger), Reason::IcmpNoFlow),
        ("quote too short", icmp(ROUTERS[0], &local, 3, 1, [0; 4], &there[..23]), Reason::IcmpNoFlow),
        ("no quote", icmp(ROUTERS[0], &local, 3, 1, [0; 4], &[]), Reason::IcmpNoFlow),
        ("MTU below the least", icmp(ROUTERS[0], &local, 3, 4, [0, 0, 0, 67], &there), Reason::IcmpBadMtu),
        ("redirect", icmp(ROUTERS[0], &local, 5, 1, [0; 4], &there), Reason::IcmpUnsupported),
        ("source quench", icmp(ROUTERS[0], &local, 4, 0, [0; 4], &there), Reason::IcmpUnsupported),
        (
            "timestamp request",
            icmp(&address(CLIENT), &address(VIP), 13, 0, [0; 4], &[0; 12]),
            Reason::IcmpUnsupported,
        ),
    ] {
        assert_eq!(rig.send(0, &packet).0, Verdict::Drop(reason), "{name}");
    }
    let mut damaged = icmp(ROUTERS[0], &local, 3, 1, [0; 4], &there);
    *damaged.last_mut().unwrap() ^= 1;
    assert_eq!(rig.send(0, &damaged).0, Verdict::Drop(Reason::BadChecksum));
}

#[test] // RFC 5927 §4.1: whoever forges an error must know as much as possible
fn an_error_that_was_not_sent_to_whoever_sent_what_it_quotes_is_dropped() {
    for (client, vip, (kind, code)) in [(CLIENT, VIP, (3, 1)), (CLIENT6, VIP6, (1, 3))] {
        for nat in [Nat::Full, Nat::Dnat] {
            let mut rig = Plan { nat, ..Plan::default() }.build();
            let there = rig.send(0, &tcp(client, vip, "S", b"")).1;
            let Seen { source, destination, .. } = seen(&there);
            // A client can send to the VIP in any case, and in DNAT it need not guess a local port.
            for to in [address(vip), address(BACKENDS[1]), address(BACKENDS6[1])] {
                if to.contains(':') == vip.contains('[') {
                    let error = icmp(&address(client), &to, kind, code, [0; 4], &there);
                    assert_ne!(rig.send(0, &error).0, Verdict::Forward(Reason::IcmpError), "{nat:?} {to}");
                }
            }
            let reply = rig.send(0, &tcp(&destination.to_string(), &source.to_string(), "SA", b"")).1;
            let error = icmp(&address(client), &source.ip().to_string(), kind, code, [0; 4], &reply);
            assert_ne!(rig.send(0, &error).0, Verdict::Forward(Reason::IcmpError), "{nat:?}, about a reply");
            assert_eq!(refused(&rig), 0);
        }
    }
}

/// How many handshakes all backends have refused.
fn refused(rig: &Rig) -> u64 {
    rig.totals().backends.iter().map(|backend| backend.refused).sum()
}

#[test]
fn a_backend_that_is_unreachable_again_and_again_is_not_asked_any_more() {
    for (client, vip, router, dead, (kind, code)) in [
        ("198.51.100.7", VIP, ROUTERS[0], BACKENDS[0], (3, 1)),
        ("[2001:db8:1::7]", VIP6, ROUTERS[1], BACKENDS6[0], (1, 3)),
    ] {
        let mut rig = Plan::default().build();
        let mut asked = 0;
        for port in 40_000..40_030 {
            let there = rig.send(0, &tcp(&format!("{client}:{port}"), vip, "S", b"")).1;
            let Seen { source, destination, .. } = seen(&there);
            if destination == socket(dead) {
                asked += 1;
                let error = icmp(router, &source.ip().to_string(), kind, code, [0; 4], &there);
                assert_eq!(rig.send(0, &error).0, Verdict::Forward(Reason::IcmpError));
                assert_eq!(rig.send(0, &error).0, Verdict::Forward(Reason::IcmpError), "said twice");
            }
        }
        assert_eq!((asked, refused(&rig)), (3, 3));
    }
}

#[test]
fn what_the_client_s_side_reports_is_no_word_about_the_backend() {
    for (client, vip, (kind, code)) in [(CLIENT, VIP, (3, 3)), (CLIENT6, VIP6, (1, 4))] {
        let mut rig = Plan::default().build();
        let _ = rig.send(0, &tcp(client, vip, "S", b""));
        let answer = tcp(vip, client, "SA", b"");
        let error = icmp(&address(client), &address(vip), kind, code, [0; 4], &answer);
        assert_eq!(rig.send(0, &error).0, Verdict::Forward(Reason::IcmpError));
        assert_eq!(refused(&rig), 0);
    }
}

#[test]
fn an_error_whose_hops_end_here_goes_no_further_and_is_not_answered() {
    for (client, vip, router, hops_at) in [(CLIENT, VIP, ROUTERS[0], 8), (CLIENT6, VIP6, ROUTERS[1], 7)] {
        for hops in [0, 1] {
            let mut rig = Plan::default().build();
            let there = rig.send(0, &tcp(client, vip, "S", b"")).1;
            let (kind, code) = if hops_at == 8 { (3, 1) } else { (1, 3) };
            let mut error = icmp(router, &seen(&there).source.ip().to_string(), kind, code, [0; 4], &there);
            error[hops_at] = hops;
            if hops_at == 8 {
                error[10..12].fill(0);
                let sum = checksum::of(&error[..20]);
                error[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            assert_eq!(rig.send(0, &error).0, Verdict::Drop(Reason::TtlExpired));
            assert_eq!(refused(&rig), 0);
        }
    }
}

#[test]
fn an_error_with_an_unfinished_sum_leaves_with_a_whole_one() {
    let mut rig = Plan::default().build();
    let there = rig.send(0, &udp(CLIENT6, VIP6, b"?")).1;
    let mut error = icmp(ROUTERS[1], &seen(&there).source.ip().to_string(), 1, 4, [0; 4], &there);
    let pseudo = checksum::pseudo_header(&error[8..24], &error[24..40], 58, error.len() - 40);
    error[42..44].copy_from_slice(&pseudo.to_be_bytes());
    let checksum = ChecksumState::Partial { start: 40, offset: 2 };
    let mut frame = Frame::copy_of(&error, Offload { checksum, segments: None });
    assert_eq!(rig.drive(0, &mut frame), Verdict::Forward(Reason::IcmpError));
    assert_eq!(frame.offload, Offload::default());
    is_error(frame.packet(), VIP6, CLIENT6, (CLIENT6, VIP6));
}

#[test]
fn an_error_ends_no_flow_and_refreshes_no_timer() {
    let mut rig = Plan::default().build();
    let there = rig.send(0, &udp(CLIENT, VIP, b"?")).1;
    let error = icmp(ROUTERS[0], &seen(&there).source.ip().to_string(), 3, 3, [0; 4], &there);
    rig.pass(Duration::from_secs(290));
    let _ = rig.send(0, &error);
    assert_eq!(rig.send(0, &udp(CLIENT, VIP, b"!")).0, Verdict::Forward(Reason::KnownFlow));
    rig.pass(Duration::from_secs(290));
    let _ = rig.send(0, &error);
    rig.pass(Duration::from_secs(20));
    assert_eq!(rig.totals().flows_ended, 1);
}

#[test]
fn an_error_on_any_queue_finds_its_flow() {
    let mut rig = Plan { workers: 3, ..Plan::default() }.build();
    let there = rig.send(2, &udp(CLIENT, VIP, b"?")).1;
    for worker in 0..3 {
        let error = icmp(ROUTERS[0], &seen(&there).source.ip().to_string(), 3, 3, [0; 4], &there);
        assert_eq!(rig.send(worker, &error).0, Verdict::Forward(Reason::IcmpError));
    }
}
