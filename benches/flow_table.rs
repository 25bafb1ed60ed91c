//! What the flow table costs: a packet of a known flow, a new flow, a flow that ends, and bytes a flow.
//!
//! `cargo bench --bench flow_table`. The figures that matter are those with 1,000,000 live flows in random
//! order, where no line is in the cache; with one flow, all are. What a line costs that is not in the cache differs
//! between machines by a factor of three, so that is measured beside it: a known flow takes two, one after the other.

#![expect(clippy::disallowed_methods, reason = "a benchmark has to look at the clock")]
#![expect(clippy::cast_precision_loss, reason = "figures for people to read")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use criterion::{Criterion, Throughput};
use fourseven::datapath::{BackendId, Instant, Nat, VipId, WorkerId, WorkerSet};
use fourseven::flow::{Direction, Event, FlowId, FlowTable, LocalPool, Lookup, NewFlow, Settings, Shared};
use fourseven::packet::{Address, Endpoint, FiveTuple, Protocol, TcpFlags};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

const MANY: u32 = 1_000_000;
const BACKENDS: u32 = 16;

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn vip(protocol: Protocol) -> (Protocol, Endpoint) {
    (protocol, Endpoint { address: Address::v4([203, 0, 113, 1]), port: 80 })
}

fn client(number: u32) -> Endpoint {
    let [_, a, b, c] = (number / 4).to_be_bytes();
    Endpoint { address: Address::v4([100, a, b, c]), port: 40_000 + u16::try_from(number % 4).unwrap() }
}

fn table(flows: u32) -> FlowTable {
    let backends: Vec<Endpoint> = (0..BACKENDS)
        .map(|number| Endpoint {
            address: Address::v4([10, 0, 0, u8::try_from(number).unwrap()]),
            port: 8080,
        })
        .collect();
    let pool = LocalPool::new(&["10.47.3.0/24".parse().unwrap()], LocalPool::DEFAULT_PORTS).unwrap();
    let vips = vec![vip(Protocol::Tcp), vip(Protocol::Udp)];
    let mut settings = Settings::new(flows);
    // The batches below are UDP and end soon; the flows beside them stay.
    settings.timeouts.udp = Duration::from_secs(1);
    settings.timeouts.tcp_established = Duration::from_hours(365 * 24);
    FlowTable::new(Arc::new(Shared::new(settings, vips, &backends, pool, 0x5eed)), WorkerId(0))
}

fn open(table: &mut FlowTable, now: Instant, number: u32, vip: u16, chance: &mut StdRng) -> FlowId {
    let new = NewFlow {
        client: client(number),
        vip: VipId(vip),
        backend: BackendId(number % BACKENDS),
        nat: Nat::Full,
    };
    table.open(now, new, chance, |_| {}).expect("there is room")
}

/// A table with established TCP flows, and the tuples of both directions' packets in random order.
fn filled(flows: u32) -> (FlowTable, Vec<FiveTuple>) {
    let mut table = table(flows.max(MANY));
    let mut chance = StdRng::seed_from_u64(1);
    let mut tuples = Vec::new();
    for number in 0..flows {
        let id = open(&mut table, at(0), number, 0, &mut chance);
        for (direction, flags) in [
            (Direction::Original, TcpFlags::SYN),
            (Direction::Reply, TcpFlags::SYN_ACK),
            (Direction::Original, TcpFlags::ACK),
        ] {
            let _ = table.observe(at(1), id, direction, Event::Tcp(flags), 60);
        }
        for direction in [Direction::Original, Direction::Reply] {
            tuples
                .push(table.rewritten(id, direction).map(|leaves| leaves.0).expect("it is live").reversed());
        }
    }
    tuples.shuffle(&mut chance);
    (table, tuples)
}

/// What the translator asks of the table for every packet of a known flow.
fn packet(table: &mut FlowTable, now: Instant, tuple: &FiveTuple) -> Option<FiveTuple> {
    let Lookup::Here(id, direction) = table.find(tuple, WorkerSet::default()) else { return None };
    let _ = black_box(table.observe(now, id, direction, Event::Tcp(TcpFlags::ACK), 1500));
    table.rewritten(id, direction).map(|leaves| leaves.0)
}

fn known(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("known flow: find, observe, rewritten");
    group.throughput(Throughput::Elements(1));
    for (name, flows) in [("1 live", 1), ("1,000,000 live, random order", MANY)] {
        let (mut table, tuples) = filled(flows);
        let mut next = tuples.iter().cycle();
        group.bench_function(name, |bench| {
            bench.iter(|| {
                let tuple = next.next().expect("a cycle has no end");
                assert!(black_box(packet(&mut table, at(1000), black_box(tuple))).is_some());
            });
        });
        let mut next = tuples.iter().cycle();
        group.bench_function(format!("{name}, find alone"), |bench| {
            bench.iter(|| {
                table.find(black_box(next.next().expect("a cycle has no end")), WorkerSet::default())
            });
        });
        let mut stranger = 0;
        group.bench_function(format!("{name}, a tuple that is not there"), |bench| {
            bench.iter(|| {
                stranger += 1;
                let (protocol, destination) = vip(Protocol::Udp);
                let tuple = FiveTuple { protocol, source: client(stranger), destination };
                table.find(black_box(&tuple), WorkerSet::default())
            });
        });
    }
    group.finish();
}

/// What one line from memory costs here, when the next cannot be asked for before it has come.
fn line(criterion: &mut Criterion) {
    let lines = 96 << 20 >> 6;
    let mut order: Vec<usize> = (0..lines).collect();
    order.shuffle(&mut StdRng::seed_from_u64(4));
    let mut memory = vec![[0usize; 8]; lines];
    for (from, to) in order.iter().zip(order.iter().cycle().skip(1)) {
        memory[*from][0] = *to;
    }
    let mut at = 0;
    criterion.bench_function("one line out of 96 MiB", |bench| {
        bench.iter(|| {
            at = memory[at][0];
            at
        });
    });
}

/// Opens and ends flows by the batch, beside many that live on, and measures the one or the other.
fn turnover(criterion: &mut Criterion) {
    const BATCH: u32 = 10_000;
    let mut group = criterion.benchmark_group("1,000,000 live");
    group.throughput(Throughput::Elements(1));
    let (mut table, _) = filled(MANY - BATCH);
    let mut chance = StdRng::seed_from_u64(2);
    let mut now = at(10_000);
    let mut batches = |iterations: u64| {
        let (mut opening, mut ending) = (Duration::ZERO, Duration::ZERO);
        let mut left = u32::try_from(iterations).expect("not so many");
        let scale =
            |took: Duration, batches: u32| took.mul_f64(iterations as f64 / f64::from(batches * BATCH));
        let mut batches = 0;
        while left > 0 {
            let mut numbers: Vec<u32> = (0..BATCH).map(|_| chance.random_range(MANY..1 << 26)).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers.shuffle(&mut chance);
            let start = Clock::now();
            for number in &numbers {
                open(&mut table, now, *number, 1, &mut chance);
            }
            opening += start.elapsed();
            now = now + Duration::from_secs(2);
            let start = Clock::now();
            table.expire(now, usize::MAX, |ended| {
                black_box(ended);
            });
            ending += start.elapsed();
            assert_eq!(table.len(), MANY - BATCH);
            batches += 1;
            left = left.saturating_sub(BATCH);
        }
        (scale(opening, batches), scale(ending, batches))
    };
    group.bench_function("open", |bench| bench.iter_custom(|iterations| batches(iterations).0));
    group.bench_function("expire", |bench| bench.iter_custom(|iterations| batches(iterations).1));
    group.finish();
}

/// Bytes a flow, by the table's own account, and by what the kernel says of the process.
fn memory() {
    let resident = || -> usize {
        let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0) * 4096
    };
    let before = resident();
    let mut table = table(MANY);
    let mut chance = StdRng::seed_from_u64(3);
    for number in 0..MANY {
        open(&mut table, at(0), number, 0, &mut chance);
    }
    let shared = table.shared();
    assert_eq!(shared.live(), MANY);
    let (counted, grown) = (shared.memory(), resident().saturating_sub(before));
    let each = |bytes: usize| bytes as f64 / f64::from(MANY);
    println!("memory at {MANY} flows: {:.1} bytes a flow by the table's account", each(counted));
    println!("memory at {MANY} flows: {:.1} bytes a flow by growth of resident memory", each(grown));
}

fn main() {
    memory();
    let mut criterion = Criterion::default().configure_from_args();
    line(&mut criterion);
    known(&mut criterion);
    turnover(&mut criterion);
    criterion.final_summary();
}
