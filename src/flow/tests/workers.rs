//! Several workers on one `Shared`, driven from one thread.

use super::*;

fn rig(workers: u8) -> Rig {
    Rig::new(Settings::new(1000), pool(&["192.0.2.0/24"], 1024..=65_535), workers)
}

#[test]
fn a_flow_is_here_for_its_owner_and_elsewhere_for_all_others() {
    let mut rig = rig(3);
    let id = rig.open(at(0), 1, full(client(1), TCP, 0)).unwrap();
    let original = tuple(Protocol::Tcp, "198.0.0.1:4000", "203.0.113.1:80");
    let reply = rig.tables[1].rewritten(id, Direction::Original).map(|leaves| leaves.0).unwrap().reversed();
    for (key, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
        assert_eq!(rig.tables[1].find(&key, WorkerSet::default()), Lookup::Here(id, direction));
        for other in [0, 2] {
            let found = rig.tables[other].find(&key, WorkerSet::default());
            assert_eq!(found, Lookup::Elsewhere(WorkerId(1)));
        }
    }
    rig.audit();
}

#[test]
fn a_worker_that_has_been_asked_is_not_asked_again() {
    let mut rig = rig(2);
    rig.open(at(0), 1, full(client(1), TCP, 0)).unwrap();
    let original = tuple(Protocol::Tcp, "198.0.0.1:4000", "203.0.113.1:80");
    let visited = WorkerSet::default().with(WorkerId(1));
    assert_eq!(rig.tables[0].find(&original, visited), Lookup::Nowhere);
}

#[test]
fn two_workers_never_open_the_same_flow() {
    let mut rig = rig(2);
    let id = rig.open(at(0), 1, full(client(1), TCP, 0)).unwrap();
    let elsewhere = Err(OpenError::Elsewhere(WorkerId(1)));
    assert_eq!(rig.open(at(0), 0, full(client(1), TCP, 1)), elsewhere);
    // Not even when it is over: its owner must know.
    for (direction, flags) in CLOSED {
        let _ = rig.tables[1].observe(at(0), id, direction, Event::Tcp(flags), 0);
    }
    assert_eq!(rig.open(at(0), 0, full(client(1), TCP, 1)), elsewhere);
    assert!(rig.tables[1].close(at(0), id).is_some());
    rig.open(at(0), 0, full(client(1), TCP, 1)).unwrap();
    rig.audit();
}

#[test]
fn workers_share_the_pool_and_the_limits() {
    let limits = Settings { max_flows_per_client: 3, ..Settings::new(8) };
    let mut rig = Rig::new(limits, pool(&["192.0.2.1/32"], 1..=4), 2);
    for number in 0..4 {
        rig.open(at(0), number as usize % 2, full(client(number), TCP, 0)).unwrap();
        rig.audit();
    }
    for worker in [0, 1] {
        assert_eq!(rig.open(at(0), worker, full(client(9), TCP, 0)), Err(OpenError::NoLocalPort));
    }
    assert_eq!(rig.open(at(0), 0, dnat(client(0), OTHER, 1)).map(drop), Ok(()));
    assert_eq!(rig.open(at(0), 1, dnat(client(0), UDP, 1)).map(drop), Ok(()));
    assert_eq!(rig.open(at(0), 1, dnat(client(0), OTHER, 0)), Err(OpenError::Elsewhere(WorkerId(0))));
    let other_port = Endpoint { port: 9, ..client(0) };
    assert_eq!(rig.open(at(0), 1, dnat(other_port, UDP, 1)), Err(OpenError::ClientLimit));
    for number in 10..12 {
        rig.open(at(0), 0, dnat(client(number), TCP, 1)).unwrap();
    }
    assert_eq!(rig.open(at(0), 1, dnat(client(20), TCP, 1)), Err(OpenError::TableFull));
    rig.audit();
}

#[test]
fn in_dnat_a_reply_key_of_another_worker_is_in_use() {
    let mut rig = rig(2);
    rig.open(at(0), 0, dnat(client(1), TCP, 0)).unwrap();
    assert_eq!(rig.open(at(0), 1, dnat(client(1), OTHER, 0)), Err(OpenError::InUse));
    rig.audit();
}

#[test]
#[should_panic(expected = "one of 64 and has one table")]
fn a_worker_has_one_table() {
    let rig = rig(1);
    drop(FlowTable::new(rig.shared.clone(), WorkerId(0)));
}

#[test]
#[should_panic(expected = "one of 64 and has one table")]
fn there_are_64_workers_at_most() {
    drop(FlowTable::new(rig(1).shared.clone(), WorkerId(64)));
}
