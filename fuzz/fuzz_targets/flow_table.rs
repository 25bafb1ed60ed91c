//! Any sequence of openings, packets, lookups, closes and jumps of time on the flow tables of two workers:
//! nothing panics, both keys of a flow are known or neither, its way back is the inverse of its way there, and
//! the counts agree.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use arbitrary::Arbitrary;
use fourseven::datapath::{BackendId, Instant, Nat, VipId, WorkerId, WorkerSet};
use fourseven::flow::{
    Change, Direction, Event, FlowId, FlowTable, LocalPool, Lookup, NewFlow, Settings, Shared,
};
use fourseven::packet::{Address, Endpoint, Protocol, TcpFlags};
use libfuzzer_sys::fuzz_target;
use rand::SeedableRng;
use rand::rngs::StdRng;

#[derive(Arbitrary, Debug)]
enum Step {
    Open { worker: bool, client: u8, port: u8, vip: u8, backend: u8, dnat: bool },
    Packet { flow: u8, reply: bool, flags: u8, bytes: u16 },
    Unreachable { flow: u8 },
    Close { flow: u8 },
    Wait { milliseconds: u32 },
    Expire { worker: bool, budget: u8 },
}

fn endpoint(net: u8, host: u8, port: u16) -> Endpoint {
    Endpoint { address: Address::v4([net, 0, 0, host]), port }
}

fuzz_target!(|steps: Vec<Step>| {
    let vips = vec![(Protocol::Tcp, endpoint(203, 1, 80)), (Protocol::Udp, endpoint(203, 1, 53))];
    let backends: Vec<_> = (1..4).map(|host| endpoint(10, host, 8080)).collect();
    let pool = LocalPool::new(&["192.0.2.0/30".parse().unwrap()], 1024..=1031).unwrap();
    let settings = Settings { max_flows_per_client: 24, ..Settings::new(32) };
    let shared = Arc::new(Shared::new(settings, vips, &backends, pool, 7));
    let mut tables = [0, 1].map(|worker| FlowTable::new(Arc::clone(&shared), WorkerId(worker)));
    let mut chance = StdRng::seed_from_u64(7);
    let mut flows: Vec<(usize, FlowId)> = Vec::new();
    let mut now = Instant::START;

    for step in steps.into_iter().take(400) {
        match step {
            Step::Open { worker, client, port, vip, backend, dnat } => {
                let new = NewFlow {
                    client: endpoint(198, client % 8, 1 + u16::from(port % 16)),
                    vip: VipId(u16::from(vip % 3)),
                    backend: BackendId(u32::from(backend % 4)),
                    nat: if dnat { Nat::Dnat } else { Nat::Full },
                };
                let worker = usize::from(worker);
                if let Ok(id) = tables[worker].open(now, new, &mut chance, |_| {}) {
                    check(&tables, worker, id);
                    flows.push((worker, id));
                }
            }
            Step::Packet { flow, reply, flags, bytes } => {
                let Some((worker, id)) = pick(&flows, flow) else { continue };
                let direction = if reply { Direction::Reply } else { Direction::Original };
                let change =
                    tables[worker].observe(now, id, direction, Event::Tcp(TcpFlags(flags)), bytes.into());
                assert_eq!(change == Change::Gone, tables[worker].binding(id).is_none());
            }
            Step::Unreachable { flow } => {
                let Some((worker, id)) = pick(&flows, flow) else { continue };
                let _ = tables[worker].unreachable(now, id);
            }
            Step::Close { flow } => {
                let Some((worker, id)) = pick(&flows, flow) else { continue };
                let keys = [Direction::Original, Direction::Reply].map(|direction| {
                    tables[worker].rewritten(id, direction).map(|leaves| leaves.0.reversed())
                });
                let live = tables[worker].binding(id).is_some();
                assert_eq!(tables[worker].close(now, id).is_some(), live);
                for key in keys.into_iter().flatten() {
                    let found = tables[worker].find(&key, WorkerSet::default());
                    assert!(
                        !matches!(found, Lookup::Here(other, _) if other == id),
                        "a key outlives its flow"
                    );
                }
            }
            Step::Wait { milliseconds } => {
                now = now + Duration::from_millis(u64::from(milliseconds) * u64::from(milliseconds % 7));
            }
            Step::Expire { worker, budget } => {
                tables[usize::from(worker)].expire(now, budget.into(), |_| {});
            }
        }
        let live: u32 = tables.iter().map(FlowTable::len).sum();
        assert_eq!(live, shared.live());
        assert!(live <= 32);
        for &(worker, id) in &flows {
            check(&tables, worker, id);
        }
    }
    for table in &mut tables {
        table.expire(now + Duration::from_secs(1 << 32), usize::MAX, |_| {});
        assert!(table.is_empty(), "a flow never ends");
    }
    assert_eq!(shared.live(), 0);
});

fn pick(flows: &[(usize, FlowId)], number: u8) -> Option<(usize, FlowId)> {
    flows.get(usize::from(number) % flows.len().max(1)).copied()
}

/// A flow that lives is found under both keys, by its own worker and from the other one.
fn check(tables: &[FlowTable; 2], worker: usize, id: FlowId) {
    for direction in [Direction::Original, Direction::Reply] {
        let Some((leaves, _)) = tables[worker].rewritten(id, direction) else { return };
        let way_back = direction.reversed();
        let none = WorkerSet::default();
        assert_eq!(tables[worker].find(&leaves.reversed(), none), Lookup::Here(id, way_back));
        assert_eq!(
            tables[1 - worker].find(&leaves.reversed(), none),
            Lookup::Elsewhere(WorkerId(u8::try_from(worker).unwrap()))
        );
    }
}
