//! Several workers, each in a thread of its own, open the same few flows at the same time.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use fourseven::datapath::{BackendId, Instant, Nat, VipId, WorkerId, WorkerSet};
use fourseven::flow::{
    Change, Direction, Event, FlowId, FlowTable, LocalPool, Lookup, NewFlow, OpenError, Settings, Shared,
};
use fourseven::packet::{Endpoint, FiveTuple, Protocol, TcpFlags};

const WORKERS: u8 = 4;
const CLIENTS: u32 = 6;
const STEPS: u64 = 20_000;

fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn client(number: u32) -> Endpoint {
    endpoint(&format!("198.51.100.{number}:4000"))
}

const VIPS: [&str; 2] = ["203.0.113.1:80", "203.0.113.1:81"];

/// Five ports for up to twelve flows to one backend, and room for ten: everything is fought for.
fn shared() -> Arc<Shared> {
    let vips = VIPS.map(|vip| (Protocol::Tcp, endpoint(vip)));
    let backends = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.1:8080"].map(endpoint);
    let pool = LocalPool::new(&["192.0.2.1/32".parse().unwrap()], 1..=5).unwrap();
    let settings = Settings { max_flows_per_client: 10, ..Settings::new(10) };
    Arc::new(Shared::new(settings, vips.to_vec(), &backends, pool, 0x5eed))
}

/// Who has which key now. A key is entered after its flow has been opened, and taken out before it is
/// closed, so each is in here only while the table must know it too.
#[derive(Default)]
struct Register(Mutex<HashMap<FiveTuple, WorkerId>>);

impl Register {
    fn enter(&self, key: FiveTuple, worker: WorkerId) {
        let before = self.0.lock().unwrap().insert(key, worker);
        assert_eq!(before, None, "worker {worker} has opened {key}, which was live");
    }

    fn leave(&self, key: &FiveTuple) {
        self.0.lock().unwrap().remove(key);
    }
}

struct Worker<'a> {
    id: WorkerId,
    table: FlowTable,
    chance: StdRng,
    flows: Vec<(FlowId, [FiveTuple; 2])>,
    register: &'a Register,
    opened: &'a AtomicU32,
    elsewhere: &'a AtomicU32,
}

impl Worker<'_> {
    fn step(&mut self, now: Instant) {
        let new = NewFlow {
            client: client(self.chance.random_range(0..CLIENTS)),
            vip: VipId(self.chance.random_range(0..2)),
            backend: BackendId(self.chance.random_range(0..3)),
            nat: if self.chance.random_bool(0.8) { Nat::Full } else { Nat::Dnat },
        };
        self.look_up(new);
        let opened = self.table.open(now, new, &mut self.chance, |flow| panic!("{flow:?} gave way"));
        match opened {
            Ok(id) => self.enter(now, id),
            Err(OpenError::Elsewhere(worker)) => {
                assert_ne!(worker, self.id);
                self.elsewhere.fetch_add(1, Relaxed);
            }
            Err(OpenError::TableFull | OpenError::NoLocalPort | OpenError::InUse) => {}
            Err(error) => panic!("{error}"),
        }
        for (id, [original, reply]) in &self.flows {
            for (key, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
                assert_eq!(self.table.find(key, WorkerSet::default()), Lookup::Here(*id, direction));
            }
        }
        while self.flows.len() > 2 || !self.flows.is_empty() && self.chance.random_bool(0.5) {
            let which = self.chance.random_range(0..self.flows.len());
            self.close(now, which);
        }
    }

    /// Another's flow is never here, whatever others do to the index meanwhile.
    fn look_up(&self, new: NewFlow) {
        let destination = endpoint(VIPS[new.vip.index()]);
        let tuple = FiveTuple { protocol: Protocol::Tcp, source: new.client, destination };
        match self.table.find(&tuple, WorkerSet::default()) {
            Lookup::Here(id, _) => assert!(self.flows.iter().any(|(mine, _)| *mine == id)),
            Lookup::Elsewhere(worker) => assert_ne!(worker, self.id),
            Lookup::Nowhere => {}
        }
    }

    fn enter(&mut self, now: Instant, id: FlowId) {
        self.opened.fetch_add(1, Relaxed);
        // A flow in use gives way to nobody.
        for (direction, flags) in [
            (Direction::Original, TcpFlags::SYN),
            (Direction::Reply, TcpFlags::SYN_ACK),
            (Direction::Original, TcpFlags::ACK),
        ] {
            assert_ne!(self.table.observe(now, id, direction, Event::Tcp(flags), 1), Change::Gone);
        }
        // What arrives in one direction is the reverse of what leaves in the other.
        let keys = [Direction::Reply, Direction::Original]
            .map(|direction| self.table.rewritten(id, direction).map(|leaves| leaves.0).unwrap().reversed());
        for key in keys {
            self.register.enter(key, self.id);
        }
        self.flows.push((id, keys));
    }

    fn close(&mut self, now: Instant, which: usize) {
        let (id, keys) = self.flows.swap_remove(which);
        for key in &keys {
            self.register.leave(key);
        }
        assert!(self.table.close(now, id).is_some());
    }
}

#[test]
fn workers_that_race_for_the_same_flows_never_share_a_key_and_leave_nothing_behind() {
    for seed in 0..4 {
        println!("seed {seed}");
        let (shared, register) = (shared(), Register::default());
        let (opened, elsewhere) = (AtomicU32::new(0), AtomicU32::new(0));
        thread::scope(|scope| {
            for number in 0..WORKERS {
                let mut worker = Worker {
                    id: WorkerId(number),
                    table: FlowTable::new(shared.clone(), WorkerId(number)),
                    chance: StdRng::seed_from_u64(seed * 100 + u64::from(number)),
                    flows: Vec::new(),
                    register: &register,
                    opened: &opened,
                    elsewhere: &elsewhere,
                };
                scope.spawn(move || {
                    for step in 0..STEPS {
                        worker.step(Instant::from_nanos(step * 1_000_000));
                    }
                    while !worker.flows.is_empty() {
                        worker.close(Instant::START, 0);
                    }
                });
            }
        });
        println!("{opened:?} opened, {elsewhere:?} were elsewhere");
        assert!(opened.into_inner() > 10_000);
        assert_eq!(shared.live(), 0);
        assert_eq!(register.0.into_inner().unwrap(), HashMap::new());

        // Not one place, port or client's count is lost: ten flows fit, five of them to one backend.
        let mut table = FlowTable::new(shared.clone(), WorkerId(0));
        let mut chance = StdRng::seed_from_u64(seed);
        for number in 0..10 {
            let (vip, backend) = (VipId(0), BackendId(number / 5));
            let new = NewFlow { client: client(number), vip, backend, nat: Nat::Full };
            assert!(table.open(Instant::START, new, &mut chance, |_| {}).is_ok());
        }
        assert_eq!(shared.live(), 10);
    }
}
