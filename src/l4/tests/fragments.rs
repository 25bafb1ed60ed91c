//! Fragmented datagrams through the translator, in any order, on any queue.

use super::super::fragments::{DatagramKey, Route};
use super::*;
use crate::packet::View;

/// Cuts a packet into fragments of at most `size` bytes of payload, which is a multiple of eight.
pub fn cut(packet: &[u8], size: usize, id: u32) -> Vec<Vec<u8>> {
    let v4 = packet[0] >> 4 == 4;
    let header = if v4 { 20 } else { 40 };
    let payload = &packet[header..];
    let count = payload.len().div_ceil(size);
    payload
        .chunks(size)
        .enumerate()
        .map(|(n, chunk)| {
            let offset = u16::try_from(n * size).unwrap();
            let more = u16::from(n + 1 < count);
            let mut fragment = packet[..header].to_vec();
            if v4 {
                let length = u16::try_from(header + chunk.len()).unwrap();
                fragment[2..4].copy_from_slice(&length.to_be_bytes());
                fragment[4..6].copy_from_slice(&u16::try_from(id).unwrap().to_be_bytes());
                fragment[6..8].copy_from_slice(&(offset / 8 | more << 13).to_be_bytes());
                fragment[10..12].fill(0);
                let sum = checksum::of(&fragment);
                fragment[10..12].copy_from_slice(&sum.to_be_bytes());
            } else {
                let length = u16::try_from(8 + chunk.len()).unwrap();
                fragment[4..6].copy_from_slice(&length.to_be_bytes());
                let next = std::mem::replace(&mut fragment[6], 44);
                fragment.extend([next, 0]);
                fragment.extend((offset | more).to_be_bytes());
                fragment.extend(id.to_be_bytes());
            }
            fragment.extend(chunk);
            fragment
        })
        .collect()
}

/// Puts fragments of one datagram together; every one must agree on everything but its place.
fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let mut views: Vec<_> = fragments.iter().map(|f| (View::of(f).unwrap(), f)).collect();
    views.sort_by_key(|(view, _)| view.fragment.unwrap().offset);
    let first = views[0].0;
    let v4 = fragments[0][0] >> 4 == 4;
    let header = if v4 { 20 } else { 40 };
    let mut whole = views[0].1[..header].to_vec();
    for (view, bytes) in &views {
        let (a, b) = (view.fragment.unwrap(), first.fragment.unwrap());
        assert_eq!((view.source, view.destination, a.id), (first.source, first.destination, b.id));
        assert_eq!(usize::from(a.offset), whole.len() - header, "a gap");
        whole.extend(&bytes[view.transport_at..view.length]);
    }
    let length = u16::try_from(if v4 { whole.len() } else { whole.len() - 40 }).unwrap();
    if v4 {
        whole[2..4].copy_from_slice(&length.to_be_bytes());
        whole[6..8].fill(0);
        whole[10..12].fill(0);
        let sum = checksum::of(&whole[..20]);
        whole[10..12].copy_from_slice(&sum.to_be_bytes());
    } else {
        whole[4..6].copy_from_slice(&length.to_be_bytes());
        whole[6] = 17;
    }
    whole
}

#[test]
fn fragments_arrive_whole_in_any_order_on_any_queues_both_ways() {
    for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        for nat in [Nat::Full, Nat::Dnat] {
            for workers in [1u8, 4] {
                for rotate in 0..6 {
                    let mut rig = Plan { nat, workers, ..Plan::default() }.build();
                    let mut pieces = cut(&udp(client, vip, &[3; 8000]), 1400, 77);
                    pieces.rotate_left(rotate);
                    let there = seen(&join(&pass(&mut rig, &pieces, rotate)));
                    let reply = udp(&there.destination.to_string(), &there.source.to_string(), &[4; 8000]);
                    let mut pieces = cut(&reply, 1400, 78);
                    pieces.reverse();
                    pieces.rotate_left(rotate);
                    let back = seen(&join(&pass(&mut rig, &pieces, rotate + 1)));
                    assert_eq!((back.source, back.destination), (socket(vip), socket(client)));
                    let totals = rig.totals();
                    assert!(totals.agree() && totals.held == 0, "{totals:?}");
                    assert_eq!(totals.ended(Outcome::Forwarded), 12);
                }
            }
        }
    }
}

/// Sends pieces over all queues in turn, and gives back what came out.
fn pass(rig: &mut Rig, pieces: &[Vec<u8>], start: usize) -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for (n, piece) in pieces.iter().enumerate() {
        let worker = u8::try_from((n + start) % rig.translators.len()).unwrap();
        let (verdict, packet) = rig.send(worker, piece);
        if matches!(verdict, Verdict::Forward(_) | Verdict::Answer(_)) {
            out.push(packet);
        }
        out.append(&mut rig.extra);
    }
    out
}

#[test]
fn fragments_on_their_flow_s_own_queue_come_back_to_it_from_wherever_they_meet() {
    for (client, vip) in [(CLIENT, VIP), (CLIENT6, VIP6)] {
        let mut rig = Plan { workers: 4, ..Plan::default() }.build();
        for worker in 0..4u8 {
            let client = client.replace("40000", &format!("4000{worker}"));
            let there = seen(&rig.send(worker, &udp(&client, vip, b"short")).1);
            for id in 0..16 {
                let pieces = cut(&udp(&client, vip, &[3; 3000]), 1400, id);
                let out: Vec<_> = pieces.iter().map(|piece| rig.send(worker, piece)).collect();
                assert!(out.iter().all(|(verdict, _)| matches!(verdict, Verdict::Forward(_))), "{out:?}");
                let out: Vec<_> = out.into_iter().map(|(_, packet)| packet).collect();
                let there_too = seen(&join(&out));
                assert_eq!((there_too.source, there_too.destination), (there.source, there.destination));
            }
        }
        assert_eq!(rig.count(Outcome::Forwarded, Reason::NewFlow), 4);
    }
}

#[test]
fn datagrams_of_two_clients_with_one_identification_do_not_mix() {
    let mut rig = Plan { locals: &["10.9.0.1/32"], ..Plan::default() }.build();
    let ids: Vec<_> = ["198.51.100.7:1", "198.51.100.8:1"]
        .iter()
        .map(|client| {
            let out = pass(&mut rig, &cut(&udp(client, VIP, &[1; 3000]), 1400, 5), 0);
            assert_eq!(out.len(), 3);
            View::of(&join_id(&out)).unwrap().fragment.unwrap().id
        })
        .collect();
    assert_ne!(ids[0], ids[1]);
}

fn join_id(pieces: &[Vec<u8>]) -> Vec<u8> {
    pieces[0].clone()
}

#[test]
fn a_later_fragment_whose_hops_end_here_is_dropped_and_not_answered() {
    for (client, vip, hops_at) in [(CLIENT, VIP, 8), (CLIENT6, VIP6, 7)] {
        let mut rig = Plan::default().build();
        let mut pieces = cut(&udp(client, vip, &[1; 4000]), 1400, 5);
        for (piece, hops) in pieces.iter_mut().zip([64, 1, 0]) {
            piece[hops_at] = hops;
            if hops_at == 8 {
                piece[10..12].fill(0);
                let sum = checksum::of(&piece[..20]);
                piece[10..12].copy_from_slice(&sum.to_be_bytes());
            }
        }
        assert_eq!(pass(&mut rig, &pieces, 0).len(), 1);
        assert_eq!(rig.count(Outcome::Dropped, Reason::TtlExpired), 2);
    }
}

#[test] // RFC 8200 §4.5: only the first one's counts
fn later_fragments_over_ipv6_may_say_another_next_header() {
    for later_first in [false, true] {
        let mut rig = Plan { workers: 3, ..Plan::default() }.build();
        let whole = udp(CLIENT6, VIP6, &[1; 4000]);
        let mut pieces = cut(&whole, 1400, 5);
        for piece in &mut pieces[1..] {
            piece[40] = 60;
        }
        if later_first {
            pieces.reverse();
        }
        assert_eq!(pass(&mut rig, &pieces, 0).len(), 3);
    }
}

#[test]
fn a_later_fragment_is_not_sent_round_in_circles() {
    let mut rig = Plan { workers: 3, ..Plan::default() }.build();
    let pieces = cut(&udp(CLIENT, VIP, &[1; 4000]), 1400, 5);
    let view = View::of(&pieces[1]).unwrap();
    let key = DatagramKey::of(&view, &view.fragment.unwrap());
    // Each of two first fragments of one datagram came by a worker that sent it on to the other.
    for (worker, other) in [(0, 1), (1, 2), (2, 0)] {
        let route = Route::Elsewhere(WorkerId(other));
        assert!(rig.translators[worker].fragments.decide(rig.now, key, route).is_empty());
    }
    for worker in 0..3 {
        assert_eq!(rig.send(worker, &pieces[1]).0, Verdict::Drop(Reason::FragmentTimeout));
    }
    assert!(rig.totals().agree());
}

#[test]
fn orphans_end_as_counted_drops() {
    let mut rig = Plan::default().build();
    let pieces = cut(&udp(CLIENT, VIP, &[1; 3000]), 1400, 5);
    assert!(pass(&mut rig, &pieces[1..], 0).is_empty());
    assert_eq!(rig.totals().held, 2);
    assert!(rig.totals().agree());
    rig.pass(Duration::from_secs(16));
    assert_eq!((rig.totals().held, rig.count(Outcome::Dropped, Reason::FragmentTimeout)), (0, 2));
    assert!(rig.totals().agree());
}

#[test]
fn pieces_of_a_refused_datagram_are_refused_as_well() {
    let mut rig = Plan::default().build();
    let pieces = cut(&udp(CLIENT, "203.0.113.1:9", &[1; 5000]), 1400, 5);
    for piece in &pieces {
        let _ = rig.send(0, piece);
    }
    assert_eq!(rig.count(Outcome::Answered, Reason::NoService), 1);
    assert_eq!(rig.count(Outcome::Dropped, Reason::NoService), 3);
}

#[test]
fn a_large_ping_is_answered_piece_by_piece() {
    for (client, vip, protocol, kind) in [(CLIENT, VIP, 1, 8u8), (CLIENT6, VIP6, 58, 128)] {
        for reversed in [false, true] {
            let mut rig = Plan::default().build();
            let mut ping = udp(client, vip, &[9; 4000]);
            let header = if protocol == 1 { 20 } else { 40 };
            ping[if protocol == 1 { 9 } else { 6 }] = protocol;
            ping[header..header + 8].copy_from_slice(&[kind, 0, 0, 0, 0, 1, 0, 1]);
            let mut pieces = cut(&ping, 1400, 5);
            if reversed {
                pieces.reverse();
            }
            let out = pass(&mut rig, &pieces, 0);
            assert_eq!(out.len(), pieces.len());
            for piece in &out {
                let view = View::of(piece).unwrap();
                assert_eq!(view.destination.to_string(), socket(client).ip().to_string());
            }
            assert_eq!(rig.count(Outcome::Answered, Reason::EchoRequest), 3);
        }
    }
}

#[test]
fn a_first_fragment_sent_twice_gets_one_identification() {
    let mut rig = Plan::default().build();
    let pieces = cut(&udp(CLIENT, VIP, &[1; 3000]), 1400, 5);
    let twice = [pieces[0].clone(), pieces[0].clone(), pieces[1].clone(), pieces[2].clone()];
    let out = pass(&mut rig, &twice, 0);
    let ids: Vec<_> = out.iter().map(|piece| View::of(piece).unwrap().fragment.unwrap().id).collect();
    assert_eq!(ids, [ids[0]; 4]);
}

#[test]
fn no_two_workers_ever_use_one_identification_at_a_time() {
    let mut rig = Plan { locals: &["10.9.0.1/32"], workers: 3, ..Plan::default() }.build();
    let mut seen = std::collections::HashSet::new();
    for worker in 0..3 {
        for port in 1..200 {
            let client = format!("198.51.100.{}:{port}", worker + 1);
            let out = pass(&mut rig, &cut(&udp(&client, VIP, &[1; 3000]), 1400, port), worker);
            assert!(seen.insert(View::of(&out[0]).unwrap().fragment.unwrap().id), "{client}");
        }
    }
}
