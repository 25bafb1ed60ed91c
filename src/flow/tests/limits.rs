//! What happens when there is no more room: of entries, for one client, of ports.

use super::*;
use crate::flow::{State, Why};
use Direction::{Original, Reply};

fn settings(flows: u32) -> Settings {
    Settings { max_flows_per_client: flows, ..Settings::new(flows) }
}

fn small(flows: u32) -> Rig {
    Rig::new(settings(flows), pool(&["192.0.2.0/24"], 1024..=2000), 1)
}

#[test]
fn a_full_table_takes_exactly_as_many_as_it_should() {
    let mut rig = small(200);
    for number in 0..200 {
        rig.connection(at(0), full(client(number), TCP, number % 3), &OPENED);
    }
    rig.audit();
    assert_eq!(rig.open(at(0), 0, full(client(200), TCP, 0)), Err(OpenError::TableFull));
    rig.audit();
    assert_eq!((rig.shared.live(), rig.shared.capacity()), (200, 200));
}

#[test]
fn flows_in_use_never_give_way() {
    let mut rig = small(4);
    rig.connection(at(0), full(client(0), TCP, 0), &OPENED);
    rig.connection(at(0), full(client(1), TCP, 0), &CLOSED[..4]);
    rig.open(at(0), 0, full(client(2), UDP, 0)).unwrap();
    rig.connection(at(50_000), full(client(3), TCP, 0), &OPENED[..1]);
    // A handshake has its five seconds, though everything else is older.
    assert_eq!(rig.open(at(54_999), 0, full(client(4), TCP, 0)), Err(OpenError::TableFull));
    assert!(rig.ended.is_empty());
    rig.open(at(55_000), 0, full(client(4), TCP, 0)).unwrap();
    assert_eq!(rig.ended.pop().unwrap().binding.client, client(3));
    rig.audit();
}

#[test]
fn closed_flows_give_way_first_then_half_open_ones_each_oldest_first() {
    let mut rig = small(6);
    rig.connection(at(0), full(client(0), TCP, 0), &OPENED[..1]);
    rig.connection(at(1000), full(client(1), TCP, 0), &OPENED[..2]);
    let two = rig.connection(at(2000), full(client(2), TCP, 0), &OPENED);
    let three = rig.connection(at(3000), full(client(3), TCP, 0), &OPENED);
    rig.connection(at(3000), full(client(4), TCP, 0), &CLOSED);
    rig.connection(at(3000), full(client(5), TCP, 0), &OPENED);
    // Opened before, closed after.
    assert_eq!(rig.packet(at(4000), three, Reply, TcpFlags::RST), Change::Closed);
    assert_eq!(rig.packet(at(5000), two, Reply, TcpFlags::RST), Change::Closed);
    for number in 10..15 {
        rig.connection(at(6000), full(client(number), TCP, 0), &OPENED);
        rig.audit();
    }
    let gone: Vec<_> = rig.ended.iter().map(|flow| (flow.binding.client, flow.why, flow.in_use)).collect();
    let want = [(4, false), (3, false), (2, false), (0, true), (1, true)];
    assert_eq!(gone, want.map(|(number, in_use)| (client(number), Why::Reclaimed, in_use)));
    assert_eq!(rig.open(at(60_000), 0, full(client(20), TCP, 0)), Err(OpenError::TableFull));
}

#[test]
fn a_half_open_flow_that_is_tried_again_gives_way_later() {
    let mut rig = small(2);
    let first = rig.connection(at(0), full(client(0), TCP, 0), &OPENED[..1]);
    rig.connection(at(1000), full(client(1), TCP, 0), &OPENED[..1]);
    assert_eq!(rig.packet(at(3000), first, Original, TcpFlags::SYN), Change::Nothing);
    rig.open(at(6000), 0, full(client(2), TCP, 0)).unwrap();
    assert_eq!(rig.ended.pop().unwrap().binding.client, client(1));
    rig.audit();
}

#[test]
fn a_flood_of_syns_does_not_lock_others_out() {
    let mut rig = small(100);
    // Ten SYNs a second from everywhere, and the backends answer them all: the table is full after ten
    // seconds, and a handshake's time is long enough for half of it. In between a client connects.
    let mut opened = 0;
    for millis in (0..60_000).step_by(100) {
        let flood = full(client(1000 + u32::try_from(millis).unwrap()), TCP, 0);
        if let Ok(id) = rig.open(at(millis), 0, flood) {
            let _ = rig.packet(at(millis), id, Original, TcpFlags::SYN);
            let _ = rig.packet(at(millis), id, Reply, TcpFlags::SYN_ACK);
        }
        if millis % 5000 == 2500 {
            let number = u32::try_from(millis / 5000).unwrap();
            let id = rig.connection(at(millis), full(client(number), TCP, 1), &OPENED);
            assert_eq!(rig.tables[0].state(id), Some(State::Established));
            opened += 1;
        }
    }
    assert_eq!(opened, 12);
    let kept = rig.tables[0].slab.live().filter(|index| {
        rig.tables[0].slab.entry(*index).is_some_and(|entry| entry.state == State::Established)
    });
    assert_eq!(kept.count(), 12);
    rig.audit();
}

#[test]
fn one_client_has_its_share_and_others_theirs() {
    let limits = Settings { max_flows_per_client: 10, ..Settings::new(40) };
    let mut rig = Rig::new(limits, pool(&["192.0.2.0/24", "2001:db8:2::/64"], 1024..=2000), 1);
    let from = |port: u16| Endpoint { port, ..client(1) };
    let mut ids = Vec::new();
    for port in 1..=10 {
        ids.push(rig.open(at(0), 0, full(from(port), if port % 2 == 0 { TCP } else { UDP }, 0)).unwrap());
    }
    assert_eq!(rig.open(at(0), 0, full(from(11), TCP, 0)), Err(OpenError::ClientLimit));
    rig.open(at(0), 0, full(client(2), TCP, 0)).unwrap();
    rig.audit();
    assert!(rig.tables[0].close(at(0), ids[3]).is_some());
    rig.open(at(0), 0, full(from(11), TCP, 0)).unwrap();
    assert_eq!(rig.open(at(0), 0, full(from(12), TCP, 0)), Err(OpenError::ClientLimit));

    // A /64 is one client.
    let host = |number: u32| endpoint(&format!("[2001:db8:9::{number}]:9"));
    for number in 1..=10 {
        rig.open(at(0), 0, full(host(number), TCP_V6, 3)).unwrap();
    }
    assert_eq!(rig.open(at(0), 0, full(host(11), TCP_V6, 3)), Err(OpenError::ClientLimit));
    rig.audit();
}

#[test]
fn a_client_at_its_limit_gives_up_its_own_closed_flows() {
    let limits = Settings { max_flows_per_client: 3, ..Settings::new(40) };
    let mut rig = Rig::new(limits, pool(&["192.0.2.0/24"], 1024..=2000), 1);
    let from = |port: u16| full(Endpoint { port, ..client(1) }, TCP, 0);
    rig.connection(at(0), from(1), &OPENED);
    for port in 2..=100 {
        rig.connection(at(0), from(port), &CLOSED);
    }
    assert_eq!((rig.tables[0].slab.live().count(), rig.ended.len()), (3, 97));
    assert!(rig.ended.iter().all(|ended| ended.why == Why::Reclaimed && !ended.in_use));
    rig.audit();
}

#[test]
fn a_client_at_its_limit_takes_no_room_from_others() {
    let limits = Settings { max_flows_per_client: 1, ..Settings::new(2) };
    let mut rig = Rig::new(limits, pool(&["192.0.2.0/24"], 1024..=2000), 1);
    rig.connection(at(0), full(client(1), TCP, 0), &CLOSED);
    rig.connection(at(0), full(client(2), TCP, 0), &OPENED);
    let again = Endpoint { port: 9, ..client(2) };
    assert_eq!(rig.open(at(60_000), 0, full(again, TCP, 0)), Err(OpenError::ClientLimit));
    assert!(rig.ended.is_empty(), "nobody gave way for it");
}

#[test]
fn a_small_pool_is_used_to_its_last_port_for_each_backend_and_protocol() {
    let mut rig = Rig::new(settings(400), pool(&["192.0.2.0/30"], 101..=120), 1);
    let mut number = 0;
    // 40 combinations; the first and third backend are one endpoint.
    for (vip, backend, want) in [(TCP, 0, 30), (TCP, 2, 10), (OTHER, 1, 40), (UDP, 2, 40)] {
        let mut locals = HashSet::new();
        for _ in 0..want {
            number += 1;
            let id = rig.connection(at(0), full(client(number), vip, backend), &OPENED);
            locals.insert(rig.tables[0].binding(id).unwrap().local.unwrap());
        }
        assert_eq!(locals.len(), want);
    }
    rig.audit();
    for (vip, backend) in [(TCP, 0), (OTHER, 2), (TCP, 1), (UDP, 0)] {
        assert_eq!(rig.open(at(0), 0, full(client(999), vip, backend)), Err(OpenError::NoLocalPort));
    }
    rig.open(at(0), 0, dnat(client(999), TCP, 0)).expect("DNAT takes no port");
    rig.audit();
}

#[test]
fn a_port_is_free_again_when_its_flow_ends() {
    let mut rig = Rig::new(settings(10), pool(&["192.0.2.1/32"], 7..=8), 1);
    let one = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    rig.connection(at(0), full(client(2), TCP, 0), &OPENED);
    assert_eq!(rig.open(at(0), 0, full(client(3), TCP, 0)), Err(OpenError::NoLocalPort));
    let local = rig.tables[0].binding(one).unwrap().local;
    assert!(rig.tables[0].close(at(0), one).is_some());
    let three = rig.connection(at(0), full(client(3), TCP, 0), &OPENED);
    assert_eq!(rig.tables[0].binding(three).unwrap().local, local);
    rig.audit();
}

#[test]
fn a_used_up_pool_takes_the_port_of_the_flow_to_that_backend_that_closed_first() {
    let mut rig = Rig::new(settings(20), pool(&["192.0.2.1/32"], 1..=3), 1);
    rig.connection(at(0), full(client(1), TCP, 1), &CLOSED);
    rig.connection(at(0), full(client(2), UDP, 0), &[]);
    rig.connection(at(0), full(client(3), TCP, 0), &OPENED);
    let second = rig.connection(at(0), full(client(4), TCP, 0), &OPENED);
    let first = rig.connection(at(0), full(client(5), TCP, 2), &CLOSED);
    let _ = rig.packet(at(500), second, Reply, TcpFlags::RST);
    let locals = [first, second].map(|id| rig.tables[0].binding(id).unwrap().local);
    for (number, local) in (10..).zip(locals) {
        let id = rig.connection(at(1000), full(client(number), TCP, 0), &OPENED);
        assert_eq!(rig.tables[0].binding(id).unwrap().local, local);
        let gone = rig.ended.pop().unwrap();
        assert_eq!((gone.why, gone.binding.local), (Why::Reclaimed, local));
        rig.audit();
    }
    assert_eq!(rig.open(at(1000), 0, full(client(20), TCP, 0)), Err(OpenError::NoLocalPort));
    assert!(rig.ended.is_empty());
    rig.audit();
}

#[test]
fn ports_are_spread_over_the_pool() {
    let mut rig = Rig::new(settings(600), pool(&["192.0.2.0/29"], 1024..=65_535), 1);
    let mut locals = Vec::new();
    for number in 0..600 {
        let id = rig.open(at(0), 0, full(client(number), TCP, 0)).unwrap();
        locals.push(rig.tables[0].binding(id).unwrap().local.unwrap());
    }
    let addresses: HashSet<_> = locals.iter().map(|local| local.address).collect();
    assert_eq!(addresses.len(), 6);
    let low = locals.iter().filter(|local| local.port < 1024 + 32_256).count();
    assert!((240..360).contains(&low), "{low} of 600 in the lower half");
    let in_a_row = locals.windows(2).filter(|pair| pair[0].port.abs_diff(pair[1].port) < 10).count();
    assert!(in_a_row < 10, "one port does not tell the next");
}

#[test]
fn a_vip_is_never_a_local_address() {
    let mut rig = Rig::new(settings(20), pool(&["203.0.113.0/30"], 1..=3), 1);
    for number in 0..3 {
        let id = rig.connection(at(0), full(client(number), TCP, 0), &OPENED);
        let local = rig.tables[0].binding(id).unwrap().local.unwrap();
        assert_eq!(local.address, endpoint("203.0.113.2:1").address);
    }
    assert_eq!(rig.open(at(0), 0, full(client(9), TCP, 0)), Err(OpenError::NoLocalPort));
}
