//! One flow from its opening to its end: what its packets become, and what is reported.

use super::*;
use crate::flow::{Binding, State, Traffic, Why};
use Direction::{Original, Reply};

#[test]
fn full_nat_rewrites_both_ends_and_dnat_one() {
    let mut rig = Rig::roomy();
    let original = tuple(Protocol::Tcp, "198.0.0.7:4000", "203.0.113.1:80");
    assert_eq!(rig.tables[0].find(&original, WorkerSet::default()), Lookup::Nowhere);

    let id = rig.open(at(0), 0, full(client(7), TCP, 0)).unwrap();
    let binding = rig.tables[0].binding(id).unwrap();
    let local = binding.local.unwrap();
    assert_eq!(binding, Binding { client: client(7), vip: TCP, backend: BackendId(0), local: Some(local) });
    let leaves = rig.tables[0].rewritten(id, Original).map(|leaves| leaves.0).unwrap();
    assert_eq!((leaves.source, leaves.destination), (local, endpoint("10.0.0.1:8080")));
    assert_eq!(rig.tables[0].rewritten(id, Reply).map(|leaves| leaves.0), Some(original.reversed()));
    assert_eq!(rig.tables[0].find(&original, WorkerSet::default()), Lookup::Here(id, Original));
    assert_eq!(rig.tables[0].find(&leaves.reversed(), WorkerSet::default()), Lookup::Here(id, Reply));

    let id = rig.open(at(0), 0, dnat(client(8), TCP, 1)).unwrap();
    let leaves = rig.tables[0].rewritten(id, Original).map(|leaves| leaves.0).unwrap();
    assert_eq!(leaves, tuple(Protocol::Tcp, "198.0.0.8:4000", "10.0.0.2:8080"));
    assert_eq!(rig.tables[0].binding(id).unwrap().local, None);
    rig.audit();
}

#[test]
fn ipv6_flows_are_like_ipv4_ones() {
    let mut rig = Rig::roomy();
    for (client, nat) in [("[2001:db8:9::1]:4000", Nat::Full), ("[2001:db8:9::2]:4000", Nat::Dnat)] {
        let new = NewFlow { nat, ..full(endpoint(client), TCP_V6, 3) };
        let id = rig.open(at(0), 0, new).unwrap();
        let leaves = rig.tables[0].rewritten(id, Original).map(|leaves| leaves.0).unwrap();
        assert_eq!(leaves.destination, endpoint(BACKENDS[3]));
        assert_eq!(leaves.source == endpoint(client), nat == Nat::Dnat);
        assert_eq!(leaves.source.address.family(), crate::packet::Family::V6);
    }
    rig.audit();
}

#[test]
fn a_connection_reports_what_others_must_know() {
    let mut rig = Rig::roomy();
    let id = rig.open(at(0), 0, full(client(1), TCP, 0)).unwrap();
    for (name, direction, flags, want) in [
        ("the SYN", Original, TcpFlags::SYN, Change::Nothing),
        ("again", Original, TcpFlags::SYN, Change::Nothing),
        ("its answer", Reply, TcpFlags::SYN_ACK, Change::Accepted),
        ("again", Reply, TcpFlags::SYN_ACK, Change::Nothing),
        ("the ACK", Original, TcpFlags::ACK, Change::Established),
        ("data", Reply, TcpFlags::ACK, Change::Nothing),
        ("a SYN out of the blue", Original, TcpFlags::SYN, Change::Nothing),
        ("a RST that may be forged", Original, TcpFlags::RST, Change::Closed),
        ("and was", Reply, TcpFlags::ACK, Change::Revived),
        ("FIN", Reply, FIN_ACK, Change::Nothing),
        ("FIN", Original, FIN_ACK, Change::Closed),
        ("the last ACK", Reply, TcpFlags::ACK, Change::Nothing),
        ("the client begins anew", Original, TcpFlags::SYN, Change::Reopen),
    ] {
        assert_eq!(rig.packet(at(10), id, direction, flags), want, "{name}");
        rig.audit();
    }
    let ended = rig.tables[0].close(at(2_100), id).unwrap();
    assert_eq!((ended.why, ended.in_use), (Why::Removed, false));
    assert_eq!(ended.original, Traffic { packets: 6, bytes: 600 });
    assert_eq!(ended.reply, Traffic { packets: 6, bytes: 600 });
    assert_eq!(ended.lasted, Duration::from_secs(2));
    assert_eq!(ended.binding.client, client(1));
    assert_eq!(rig.packet(at(10), id, Original, TcpFlags::ACK), Change::Gone);
    assert_eq!(rig.tables[0].close(at(10), id), None);
    rig.audit();
}

#[test]
fn a_refused_connection_is_reported_once_and_its_next_syn_opens_another() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED[..1]);
    assert_eq!(rig.packet(at(0), id, Reply, TcpFlags(0x14)), Change::Refused);
    assert_eq!(rig.packet(at(0), id, Reply, TcpFlags(0x14)), Change::Nothing);
    assert_eq!(rig.packet(at(0), id, Original, TcpFlags::SYN), Change::Reopen);

    let again = rig.open(at(1), 0, full(client(1), TCP, 1)).unwrap();
    let old = rig.ended.pop().unwrap();
    assert_eq!((old.why, old.in_use, old.binding.backend), (Why::Replaced, false, BackendId(0)));
    assert_eq!(rig.tables[0].binding(id), None);
    assert_eq!(rig.tables[0].binding(again).unwrap().backend, BackendId(1));
    rig.audit();
}

#[test]
fn an_unreachable_backend_refuses_only_what_is_not_yet_open() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED[..1]);
    assert_eq!(rig.tables[0].unreachable(at(0), id), Change::Refused);
    assert_eq!(rig.tables[0].unreachable(at(0), id), Change::Nothing);
    assert_eq!(rig.packet(at(0), id, Reply, TcpFlags::SYN_ACK), Change::Revived, "the mapping has stayed");
    assert_eq!(rig.packet(at(0), id, Original, TcpFlags::ACK), Change::Established);
    assert_eq!(rig.tables[0].unreachable(at(0), id), Change::Nothing);
    assert_eq!(rig.tables[0].state(id), Some(State::Established));
    rig.audit();
}

#[test]
fn a_tuple_is_used_again_at_once_after_its_close_in_both_modes() {
    for nat in [Nat::Full, Nat::Dnat] {
        let mut rig = Rig::roomy();
        let new = NewFlow { nat, ..full(client(1), TCP, 0) };
        let mut id = rig.connection(at(0), new, &CLOSED);
        for round in 0..100 {
            assert_eq!(rig.packet(at(round), id, Original, TcpFlags::SYN), Change::Reopen);
            let next = rig.connection(at(round), new, &CLOSED);
            assert_ne!(next, id);
            id = next;
            assert_eq!(rig.shared.live(), 1);
            rig.audit();
        }
    }
}

#[test]
fn a_new_connection_of_a_tuple_is_sent_from_another_port_than_the_last() {
    // Two ports, so by chance every second round would pick the same.
    let mut rig = Rig::new(Settings::new(10), pool(&["192.0.2.1/32"], 1..=2), 1);
    let mut id = rig.connection(at(0), full(client(1), TCP, 0), &CLOSED);
    for _ in 0..30 {
        let before = rig.tables[0].binding(id).unwrap().local;
        id = rig.connection(at(0), full(client(1), TCP, 0), &CLOSED);
        assert_ne!(rig.tables[0].binding(id).unwrap().local, before);
    }
    // And the same one where there is no other.
    let other = rig.connection(at(0), full(client(2), TCP, 0), &OPENED);
    let before = rig.tables[0].binding(id).unwrap().local;
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    assert_eq!(rig.tables[0].binding(id).unwrap().local, before);
    assert!(rig.tables[0].binding(other).is_some());
    rig.audit();
}

#[test]
fn a_live_flow_is_never_opened_over() {
    let mut rig = Rig::roomy();
    for packets in [&OPENED[..1], &OPENED[..2], &OPENED, &CLOSED[..4]] {
        let id = rig.connection(at(0), full(client(1), TCP, 0), packets);
        assert_eq!(rig.open(at(0), 0, full(client(1), TCP, 1)), Err(OpenError::InUse));
        assert!(rig.tables[0].close(at(0), id).is_some());
    }
    rig.audit();
}

#[test]
fn a_flow_in_mid_air_is_adopted_when_the_backend_knows_it() {
    let mut rig = Rig::roomy();
    let id = rig.open(at(0), 0, full(client(1), TCP, 0)).unwrap();
    assert_eq!(rig.packet(at(0), id, Original, TcpFlags::ACK), Change::Nothing);
    assert_eq!(rig.tables[0].state(id), Some(State::Resuming));
    assert_eq!(rig.packet(at(0), id, Reply, TcpFlags::ACK), Change::Established);

    let id = rig.open(at(0), 0, full(client(2), TCP, 0)).unwrap();
    assert_eq!(rig.packet(at(0), id, Original, TcpFlags::ACK), Change::Nothing);
    assert_eq!(rig.packet(at(0), id, Reply, TcpFlags::RST), Change::Closed, "not refused: it was no SYN");
    rig.audit();
}

#[test]
fn two_forged_packets_do_not_move_a_connection_to_another_backend() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    assert_eq!(rig.packet(at(1), id, Original, TcpFlags::RST), Change::Closed);
    assert_eq!(rig.packet(at(1), id, Original, TcpFlags::SYN), Change::Revived);
    assert_eq!(rig.packet(at(1), id, Original, TcpFlags::SYN), Change::Nothing, "still no reason to reopen");
    assert_eq!(rig.packet(at(2), id, Reply, TcpFlags::ACK), Change::Established, "the challenge ACK");
    assert_eq!(rig.tables[0].state(id), Some(State::Established));
    rig.audit();
}

#[test]
fn a_reset_connection_opens_again_or_leaves_a_backend_that_refuses() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    let _ = rig.packet(at(1), id, Reply, TcpFlags::RST);
    let _ = rig.packet(at(1), id, Original, TcpFlags::SYN);
    assert_eq!(rig.packet(at(1), id, Reply, TcpFlags::SYN_ACK), Change::Accepted);
    assert_eq!(rig.packet(at(1), id, Original, TcpFlags::ACK), Change::Established);

    let _ = rig.packet(at(2), id, Reply, TcpFlags::RST);
    let _ = rig.packet(at(2), id, Original, TcpFlags::SYN);
    assert_eq!(rig.packet(at(2), id, Reply, TcpFlags::RST), Change::Closed);
    assert_eq!(rig.packet(at(2), id, Original, TcpFlags::SYN), Change::Reopen);
}

#[test]
fn udp_reports_the_first_answer_and_ignores_flags() {
    let mut rig = Rig::roomy();
    let id = rig.open(at(0), 0, full(client(1), UDP, 0)).unwrap();
    let mut datagram = |direction| rig.tables[0].observe(at(0), id, direction, Event::Udp, 50);
    assert_eq!(datagram(Original), Change::Nothing);
    assert_eq!(datagram(Reply), Change::Accepted);
    assert_eq!(datagram(Reply), Change::Nothing);
    assert_eq!(rig.packet(at(0), id, Original, TcpFlags::RST), Change::Nothing);
    assert_eq!(rig.tables[0].state(id), Some(State::Udp));
    rig.audit();
}

#[test]
fn tcp_and_udp_of_the_same_endpoints_are_two_flows_and_may_share_a_port() {
    let mut rig = Rig::new(Settings::new(10), pool(&["192.0.2.1/32"], 5..=5), 1);
    let tcp = rig.open(at(0), 0, full(client(1), TCP, 0)).unwrap();
    let udp = rig.open(at(0), 0, full(client(1), UDP, 0)).unwrap();
    let local = |id| rig.tables[0].binding(id).unwrap().local;
    assert_eq!(local(tcp), local(udp));
    rig.audit();
}

#[test]
fn what_does_not_go_together_is_not_opened() {
    let mut rig = Rig::roomy();
    for (name, new, want) in [
        ("no such VIP", full(client(1), VipId(9), 0), OpenError::Mismatch),
        ("no such backend", full(client(1), TCP, 9), OpenError::Mismatch),
        ("an IPv6 backend", full(client(1), TCP, 3), OpenError::Mismatch),
        ("an IPv6 client", full(endpoint("[2001:db8::9]:1"), TCP, 0), OpenError::Mismatch),
        ("a client that is a VIP", dnat(endpoint("203.0.113.1:9"), TCP, 0), OpenError::InUse),
    ] {
        assert_eq!(rig.open(at(0), 0, new), Err(want), "{name}");
        rig.audit();
    }
}

#[test]
fn in_dnat_one_client_endpoint_reaches_a_backend_by_one_vip() {
    let mut rig = Rig::roomy();
    let id = rig.open(at(0), 0, dnat(client(1), TCP, 0)).unwrap();
    assert_eq!(rig.open(at(0), 0, dnat(client(1), OTHER, 0)), Err(OpenError::InUse));
    assert_eq!(rig.open(at(0), 0, dnat(client(1), OTHER, 2)), Err(OpenError::InUse), "the same endpoint");
    rig.open(at(0), 0, dnat(client(1), OTHER, 1)).unwrap();
    rig.audit();
    assert!(rig.tables[0].close(at(0), id).is_some());
    assert_eq!(rig.open(at(0), 0, dnat(client(1), OTHER, 0)), Err(OpenError::InUse), "its own flow is live");
    rig.audit();
}

#[test]
fn a_table_that_goes_takes_its_flows_along() {
    let mut rig = Rig::new(Settings::new(100), pool(&["192.0.2.0/24"], 1024..=2000), 2);
    let before = rig.shared.memory();
    for number in 0..20 {
        rig.open(at(0), number as usize % 2, full(client(number), TCP, 0)).unwrap();
    }
    let gone = rig.tables.pop().unwrap();
    let freed = gone.slab.memory() + gone.timers.memory();
    drop(gone);
    assert_eq!((rig.shared.live(), rig.shared.left()), (10, 10));
    rig.audit();
    rig.tables.push(FlowTable::new(rig.shared.clone(), WorkerId(1)));
    rig.open(at(0), 1, full(client(1), TCP, 0)).unwrap();
    assert_eq!(rig.shared.memory(), before + 2 * (freed - rig.tables[1].timers.memory()));
    rig.audit();
}
