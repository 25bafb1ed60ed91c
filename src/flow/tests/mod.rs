//! Tests of the table as a whole. [`Rig`] is a few workers' tables driven from one thread, and
//! [`Rig::audit`] checks what must hold after every step.

mod lifecycle;
mod limits;
mod model;
mod timing;
mod wheel;
mod workers;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::{Change, Direction, Ended, Event, FlowId, FlowTable, LocalPool, Lookup};
use super::{NewFlow, OpenError, Settings, Shared};
use crate::datapath::Nat;
use crate::datapath::{BackendId, Instant, VipId, WorkerId, WorkerSet};
use crate::packet::TcpFlags;
use crate::packet::{Endpoint, FiveTuple, Protocol};

fn tuple(protocol: Protocol, source: &str, destination: &str) -> FiveTuple {
    FiveTuple { protocol, source: endpoint(source), destination: endpoint(destination) }
}
const TCP: VipId = VipId(0);
const UDP: VipId = VipId(1);
/// TCP as well, on another port.
const OTHER: VipId = VipId(2);
const TCP_V6: VipId = VipId(3);

fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn at(millis: u64) -> Instant {
    Instant::from_nanos(millis * 1_000_000)
}

fn client(number: u32) -> Endpoint {
    let [_, a, b, c] = number.to_be_bytes();
    endpoint(&format!("198.{a}.{b}.{c}:4000"))
}

/// Where backends are. The third is the first under another id; the last one is IPv6.
const BACKENDS: [&str; 4] = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.1:8080", "[2001:db8::1]:8080"];

fn pool(prefixes: &[&str], ports: std::ops::RangeInclusive<u16>) -> LocalPool {
    let prefixes: Vec<_> = prefixes.iter().map(|prefix| prefix.parse().unwrap()).collect();
    LocalPool::new(&prefixes, ports).unwrap()
}

struct Rig {
    shared: Arc<Shared>,
    tables: Vec<FlowTable>,
    chance: StdRng,
    ended: Vec<Ended>,
}

impl Rig {
    fn new(settings: Settings, pool: LocalPool, workers: u8) -> Self {
        let vips = vec![
            (Protocol::Tcp, endpoint("203.0.113.1:80")),
            (Protocol::Udp, endpoint("203.0.113.1:80")),
            (Protocol::Tcp, endpoint("203.0.113.1:81")),
            (Protocol::Tcp, endpoint("[2001:db8:1::1]:80")),
        ];
        let backends = BACKENDS.map(endpoint);
        let shared = Arc::new(Shared::new(settings, vips, &backends, pool, 0x0dd5_eed5));
        let tables = (0..workers).map(|worker| FlowTable::new(shared.clone(), WorkerId(worker))).collect();
        Self { shared, tables, chance: StdRng::seed_from_u64(5), ended: Vec::new() }
    }

    /// One worker, and room for everything.
    fn roomy() -> Self {
        Self::new(Settings::new(1000), pool(&["192.0.2.0/24", "2001:db8:2::/64"], 1024..=65_535), 1)
    }

    fn open(&mut self, now: Instant, worker: usize, new: NewFlow) -> Result<FlowId, OpenError> {
        let ended = &mut self.ended;
        self.tables[worker].open(now, new, &mut self.chance, |flow| ended.push(flow))
    }

    fn packet(&mut self, now: Instant, id: FlowId, direction: Direction, flags: TcpFlags) -> Change {
        self.tables[0].observe(now, id, direction, Event::Tcp(flags), 100)
    }

    /// A connection of worker 0 that has come as far as these packets bring it.
    fn connection(&mut self, now: Instant, new: NewFlow, packets: &[(Direction, TcpFlags)]) -> FlowId {
        let id = self.open(now, 0, new).unwrap();
        for (direction, flags) in packets {
            let _ = self.packet(now, id, *direction, *flags);
        }
        id
    }

    fn expire(&mut self, now: Instant) -> Vec<Ended> {
        let ended = &mut self.ended;
        for table in &mut self.tables {
            table.expire(now, usize::MAX, |flow| ended.push(flow));
        }
        std::mem::take(&mut self.ended)
    }

    /// Checks the invariants of all tables together.
    fn audit(&mut self) {
        let (mut live, mut locals, mut memory, mut keys) = (0, 0, 0, HashSet::new());
        for table in &mut self.tables {
            let mut listed = table.timers.listed(&mut table.slab);
            listed.sort_unstable_by_key(|(index, _)| *index);
            assert_eq!(listed.len(), table.len() as usize, "every live flow is in one list");
            for (index, phase) in listed {
                let id = table.slab.id(index).unwrap();
                let entry = table.slab.get(id).unwrap();
                assert!(entry.live);
                assert_eq!(phase, entry.state.phase(), "and in that of its phase");
                locals += u32::from(entry.local.port != 0);
                for direction in [Direction::Original, Direction::Reply] {
                    let key = table.key(entry, direction).unwrap();
                    assert_eq!(
                        table.find(&key, WorkerSet::default()),
                        Lookup::Here(id, direction),
                        "both keys are present"
                    );
                    assert!(keys.insert(key), "no key is another flow's: {key}");
                    assert_eq!(
                        table.rewritten(id, direction.reversed()).map(|leaves| leaves.0),
                        Some(key.reversed())
                    );
                }
            }
            live += table.len();
            memory += table.slab.memory() + table.timers.memory();
        }
        assert_eq!(self.shared.live(), live);
        assert!(live <= self.shared.capacity());
        assert_eq!(self.shared.index.words(), 2 * live as usize, "no key is present without its flow");
        assert_eq!(self.shared.clients.totals(), [u64::from(live); 2]);
        assert_eq!(self.shared.uses.total(), locals);
        assert!(self.shared.memory() > memory + self.shared.index.memory());
    }
}

fn full(client: Endpoint, vip: VipId, backend: u32) -> NewFlow {
    NewFlow { client, vip, backend: BackendId(backend), nat: Nat::Full }
}

fn dnat(client: Endpoint, vip: VipId, backend: u32) -> NewFlow {
    NewFlow { nat: Nat::Dnat, ..full(client, vip, backend) }
}

const OPENED: [(Direction, TcpFlags); 3] = [
    (Direction::Original, TcpFlags::SYN),
    (Direction::Reply, TcpFlags::SYN_ACK),
    (Direction::Original, TcpFlags::ACK),
];

const FIN_ACK: TcpFlags = TcpFlags(0x11);

const CLOSED: [(Direction, TcpFlags); 5] =
    [OPENED[0], OPENED[1], OPENED[2], (Direction::Original, FIN_ACK), (Direction::Reply, FIN_ACK)];

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
