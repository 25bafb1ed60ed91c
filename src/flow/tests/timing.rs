//! When flows end: never early, at most a tick late, and in bounded pieces of work.

use super::*;
use crate::flow::{Timeouts, Why};
use Direction::{Original, Reply};

const TICK: u64 = 250;

/// Drives the timers by their own word, as a driver does, up to `until`; gives what ended when.
fn drive(rig: &mut Rig, until: Instant) -> Vec<(Instant, Ended)> {
    let mut ended = Vec::new();
    for _ in 0..1_000_000 {
        let Some(due) = rig.tables[0].next_deadline().filter(|due| *due <= until) else { return ended };
        rig.tables[0].expire(due, usize::MAX, |flow| ended.push((due, flow)));
    }
    panic!("a deadline that never passes");
}

#[test]
fn each_state_has_its_own_timeout_and_ends_within_a_tick_of_it() {
    let four = Duration::from_mins(4);
    for (name, vip, packets, want) in [
        ("opening", TCP, &OPENED[..1], four),
        ("answered", TCP, &OPENED[..2], four),
        ("established", TCP, &OPENED, Duration::from_mins(124)),
        ("closing", TCP, &CLOSED[..4], four),
        ("closed", TCP, &CLOSED, four),
        ("reset", TCP, &[OPENED[0], OPENED[1], OPENED[2], (Reply, TcpFlags::RST)], four),
        ("refused", TCP, &[OPENED[0], (Reply, TcpFlags::RST)], four),
        ("adopted", TCP, &[(Original, TcpFlags::ACK)], four),
        ("udp", UDP, &[(Original, TcpFlags(0))], Duration::from_mins(5)),
    ] {
        for start in [0, 1, 249, 250, 251, 63 * TICK, 4096 * TICK - 1, 123_456_789] {
            let mut rig = Rig::roomy();
            let start = at(start);
            rig.connection(start, full(client(1), vip, 0), packets);
            let ended = drive(&mut rig, start + Duration::from_secs(100_000));
            assert_eq!(ended.len(), 1, "{name}");
            let (when, flow) = ended[0];
            let lived = when.since(start);
            assert!(lived >= want && lived < want + Duration::from_millis(TICK), "{name}: {lived:?}");
            assert_eq!(flow.why, Why::TimedOut);
            rig.audit();
        }
    }
}

#[test]
fn packets_of_both_directions_keep_an_open_flow_alive() {
    for vip in [TCP, UDP] {
        for direction in [Original, Reply] {
            let mut rig = Rig::roomy();
            let id = rig.connection(at(0), full(client(1), vip, 0), &OPENED);
            let mut now = at(0);
            for _ in 0..100 {
                now = now + Duration::from_secs(299);
                assert_eq!(rig.expire(now), []);
                assert_ne!(rig.packet(now, id, direction, TcpFlags::ACK), Change::Gone);
                rig.audit();
            }
            assert_eq!(rig.expire(now + Duration::from_secs(7441)).len(), 1);
        }
    }
}

#[test]
fn a_half_open_flow_is_refreshed_and_a_closed_one_is_not() {
    let mut rig = Rig::roomy();
    let opening = rig.connection(at(0), full(client(1), TCP, 0), &OPENED[..1]);
    let closed = rig.connection(at(0), full(client(2), TCP, 0), &CLOSED);
    let _ = rig.packet(at(200_000), opening, Original, TcpFlags::SYN);
    let _ = rig.packet(at(200_000), closed, Reply, FIN_ACK);
    let ended = drive(&mut rig, at(1_000_000));
    let when: Vec<_> = ended.iter().map(|(when, flow)| (*when, flow.binding.client)).collect();
    assert_eq!(when, [(at(240_000), client(2)), (at(440_000), client(1))]);
}

#[test]
fn a_state_with_a_shorter_timeout_is_obeyed_at_once() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    let _ = rig.packet(at(1000), id, Reply, FIN_ACK);
    let ended = drive(&mut rig, at(10_000_000));
    assert_eq!(ended.iter().map(|(when, _)| *when).collect::<Vec<_>>(), [at(241_000)]);
}

#[test]
fn timeouts_of_nothing_and_of_forever_break_nothing() {
    let (none, ever) = (Duration::ZERO, Duration::MAX);
    let timeouts = |timeout| Timeouts {
        tcp_opening: timeout,
        tcp_established: timeout,
        tcp_closing: timeout,
        tcp_closed: timeout,
        udp: timeout,
        fragment: timeout,
    };
    let half = u64::MAX / 2;
    for (timeout, start) in [(none, 0), (none, 1), (none, half), (ever, 0), (ever, half)] {
        let settings = Settings { timeouts: timeouts(timeout), ..Settings::new(100) };
        let mut rig = Rig::new(settings, pool(&["192.0.2.0/24"], 1..=1000), 1);
        let start = Instant::from_nanos(start);
        for (number, packets) in (0..).zip([&OPENED[..1], &OPENED, &CLOSED[..4], &CLOSED]) {
            let id = rig.connection(start, full(client(number), TCP, 0), packets);
            let _ = rig.packet(start, id, Original, TcpFlags::ACK);
        }
        let id = rig.open(start, 0, full(client(9), UDP, 0)).unwrap();
        let _ = rig.packet(start, id, Original, TcpFlags(0));
        rig.audit();
        if timeout == none {
            let due = rig.tables[0].next_deadline().unwrap();
            assert!(due.since(start) < Duration::from_millis(TICK));
            assert_eq!(rig.expire(due).len(), 5);
            continue;
        }
        // Forever is 17 years here.
        let year = Duration::from_hours(365 * 24);
        assert_eq!(drive(&mut rig, start + 16 * year), []);
        rig.audit();
        assert_eq!(drive(&mut rig, start + 18 * year).len(), 5);
        rig.audit();
    }
}

#[test]
fn time_may_jump_by_years() {
    let year = Duration::from_hours(365 * 24);
    let timeouts = Timeouts { udp: 3 * year, ..Timeouts::default() };
    let settings = Settings { timeouts, ..Settings::new(1000) };
    let mut rig = Rig::new(settings, pool(&["192.0.2.0/24"], 1..=60_000), 1);
    let mut now = at(777);
    for round in 0..20 {
        for number in 0..10 {
            rig.connection(now, full(client(round * 100 + number), TCP, 0), &OPENED);
        }
        let udp = rig.open(now, 0, full(client(round * 100 + 50), UDP, 0)).unwrap();
        now = now + 2 * year;
        // All idle ones are over, at one call; the flow that may idle for three years is not.
        assert_eq!(rig.expire(now).len(), 10 + usize::from(round > 0));
        rig.audit();
        assert!(rig.tables[0].binding(udp).is_some());
    }
    assert_eq!(rig.expire(now + 100 * year).len(), 1);
    assert_eq!(rig.tables[0].next_deadline(), None);
    rig.connection(now, full(client(1), TCP, 0), &OPENED);
    rig.audit();
}

#[test]
fn one_call_does_bounded_work_and_says_that_there_is_more() {
    let mut rig = Rig::new(Settings::new(1000), pool(&["192.0.2.0/24"], 1..=60_000), 1);
    for number in 0..300 {
        let packets = [&OPENED[..1], &OPENED, &CLOSED][number as usize % 3];
        rig.connection(at(0), full(client(number), TCP, 0), packets);
    }
    let now = at(8_000_000);
    let mut calls = 0;
    while let Some(due) = rig.tables[0].next_deadline() {
        assert!(due <= now, "there is more to do now");
        let mut ended = 0;
        rig.tables[0].expire(now, 7, |_| ended += 1);
        assert!(ended <= 7);
        rig.audit();
        calls += 1;
        assert!(calls <= 100, "a flow is looked at a few times at most");
    }
    assert_eq!(rig.shared.live(), 0);
    rig.tables[0].expire(now, 0, |_| panic!("no budget, no work"));
}

#[test]
fn a_busy_flow_is_hardly_touched_by_the_wheel() {
    let mut rig = Rig::roomy();
    let id = rig.connection(at(0), full(client(1), TCP, 0), &OPENED);
    let (mut now, mut fired) = (at(0), 0);
    while now < at(86_400_000) {
        now = now + SECOND;
        while rig.tables[0].next_deadline().is_some_and(|due| due <= now) {
            fired += 1;
            rig.tables[0].expire(now, 1, |flow| panic!("{flow:?}"));
        }
        assert_eq!(rig.packet(now, id, Original, TcpFlags::ACK), Change::Nothing);
    }
    assert!(fired < 50, "{fired} times in 24 hours");
}

#[test]
fn a_clock_that_goes_back_ends_nothing_early_and_loses_nothing() {
    let mut rig = Rig::roomy();
    rig.connection(at(1_000_000), full(client(1), TCP, 0), &OPENED[..1]);
    let id = rig.connection(at(500), full(client(2), TCP, 0), &OPENED);
    let _ = rig.packet(at(100), id, Original, FIN_ACK);
    rig.connection(at(0), full(client(3), TCP, 0), &CLOSED);
    rig.audit();
    assert_eq!(rig.expire(at(0)), []);
    assert_eq!(rig.expire(at(1_239_999)), []);
    assert_eq!(rig.expire(at(1_240_000)).len(), 3);
    rig.audit();
}

#[test]
fn an_empty_table_asks_for_nothing() {
    let mut rig = Rig::roomy();
    assert_eq!(rig.tables[0].next_deadline(), None);
    assert_eq!(rig.expire(at(0) + 10 * MINUTE), []);
}
