//! Packets of a flow leave in the order in which they came, by whatever queues the kernel leads them.
//!
//! The workers are the ones that `run` has, with translators and queues in memory; what is played here is the kernel,
//! which changes the queue of a flow in the middle, and the scheduler, which lets workers lag behind. One thread takes
//! all turns, so that a failure is found again by its seed.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use fourseven::balance::{BackendSpec, Balancer, PassiveHealth, SchedulerKind, ServiceSpec, Weight};
use fourseven::datapath::{Counters, Instant, Nat, Outcome, Totals, WorkerId};
use fourseven::flow::{LocalPool, Settings, Shared};
use fourseven::io::memory::{MemoryQueue, pair};
use fourseven::io::{More, Queue, Worker, settle_mail};
use fourseven::l4::{Setup, Translator};
use fourseven::packet::{Endpoint, Frame, Offload};
use proptest::prelude::*;

const VIP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 53);
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 5300);

fn client(flow: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 7), 40_000 + u16::try_from(flow).unwrap())
}

fn udp(from: SocketAddrV4, to: SocketAddrV4, number: u32) -> Vec<u8> {
    let packet = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64).udp(from.port(), to.port());
    let mut bytes = Vec::new();
    packet.write(&mut bytes, &number.to_be_bytes()).unwrap();
    bytes
}

/// Where a packet goes from and to, and its number.
fn read(packet: &[u8]) -> (SocketAddrV4, SocketAddrV4, u32) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { panic!("{packet:x?}") };
    let Some(TransportSlice::Udp(udp)) = &sliced.transport else { panic!("{packet:x?}") };
    let source = SocketAddrV4::new(ip.header().source_addr(), udp.source_port());
    let destination = SocketAddrV4::new(ip.header().destination_addr(), udp.destination_port());
    (source, destination, u32::from_be_bytes(udp.payload().try_into().unwrap()))
}

/// A flow's direction: what has been sent and what has come through, by number.
#[derive(Default)]
struct Lane {
    /// Where the kernel leads it now.
    queue: usize,
    sent: u32,
    came_through: u32,
    /// Below this number all were sent by an earlier queue.
    on_queue_since: u32,
}

impl Lane {
    /// Whether the kernel may change the queue, without two changes at once on the way, there and back. Nothing would
    /// tell what lies before the first from what lies behind the second.
    fn may_change(&self) -> bool {
        self.came_through > self.on_queue_since || self.came_through == self.sent
    }
}

const CLIENTS: usize = 0;
const BACKENDS: usize = 1;

struct World {
    workers: Vec<Worker<Translator>>,
    counters: Vec<Arc<Counters>>,
    far: Vec<MemoryQueue>,
    now: Instant,
    /// By flow, then by direction.
    lanes: Vec<[Lane; 2]>,
    /// From where a flow's packets reach the backend, once one has.
    locals: Vec<Option<SocketAddrV4>>,
}

impl World {
    fn new(workers: u8, flows: usize, nat: Nat) -> Self {
        let endpoint: Endpoint = SocketAddr::from(BACKEND).into();
        let backend = BackendSpec { endpoint, weight: Weight::ONE, drain: false };
        let services = vec![ServiceSpec {
            name: "dns".into(),
            listen: vec![format!("udp/{VIP}").parse().unwrap()],
            nat,
            scheduler: SchedulerKind::Rr,
            backends: vec![backend],
        }];
        let balancer = Arc::new(Balancer::new(services, PassiveHealth::default(), 1).unwrap());
        let vips = balancer.vips().iter().map(|vip| (vip.listen.protocol, vip.listen.endpoint)).collect();
        let pool = LocalPool::new(&["10.9.0.0/29".parse().unwrap()], 1024..=65535).unwrap();
        let shared = Shared::new(Settings::new(1024), vips, &[endpoint], pool, 1);
        let setup = Setup {
            balancer,
            flows: Arc::new(shared),
            fragment_lifetime: Duration::from_secs(15),
            workers,
            seed: 1,
        };
        let counters: Vec<_> = (0..workers).map(|_| Arc::new(Counters::new(1))).collect();
        let cores = (0..).map(WorkerId).zip(&counters);
        let cores = cores.map(|(id, counters)| Translator::new(&setup, id, Arc::clone(counters))).collect();
        let (near, far): (Vec<Box<dyn Queue>>, Vec<_>) = (0..workers)
            .map(|_| {
                let (near, far) = pair(4096);
                (Box::new(near) as Box<dyn Queue>, far)
            })
            .unzip();
        Self {
            workers: Worker::team(cores, near, counters.clone()).unwrap(),
            counters,
            far,
            now: Instant::from_nanos(1_000_000_000),
            lanes: (0..flows).map(|_| Default::default()).collect(),
            locals: vec![None; flows],
        }
    }

    /// The kernel leads the next packets of a lane to another queue, if it may now.
    fn change(&mut self, flow: usize, direction: usize, queue: usize) {
        let known = self.lanes[flow][CLIENTS].came_through;
        let lane = &mut self.lanes[flow][direction];
        // Until its flow is there, or an answer has come, nothing but our writing changes a queue: the first packet is
        // written after it was read, and the second is the first after which another answer could be sent.
        let least = [1, 2][direction];
        let settled = known >= least || lane.sent == lane.came_through;
        if lane.may_change() && settled && queue < self.far.len() && queue != lane.queue {
            lane.queue = queue;
            lane.on_queue_since = lane.sent;
        }
    }

    /// One end sends packets, if it has something to send to.
    fn send(&mut self, flow: usize, direction: usize, count: u32) {
        let (from, to) = match direction {
            CLIENTS => (client(flow), VIP),
            _ => match self.locals[flow] {
                Some(local) => (BACKEND, local),
                None => return,
            },
        };
        let name = u32::try_from(flow).unwrap() << 16;
        let lane = &mut self.lanes[flow][direction];
        for _ in 0..count {
            let packet = udp(from, to, name | lane.sent);
            self.far[lane.queue].send(&mut Frame::copy_of(&packet, Offload::default())).unwrap();
            lane.sent += 1;
        }
    }

    /// One worker's turn, and a look at what came out.
    fn turn(&mut self, worker: usize) -> bool {
        let Some(worker) = self.workers.get_mut(worker) else { return false };
        let turn = worker.turn(self.now).unwrap();
        self.look();
        turn.frames > 0 || turn.more == More::Perhaps
    }

    fn look(&mut self) {
        let mut frame = Frame::new();
        for far in &mut self.far {
            while far.receive(&mut frame).unwrap() {
                let (source, destination, number) = read(frame.packet());
                let flow = (number >> 16) as usize;
                let direction = if destination == BACKEND {
                    self.locals[flow] = Some(source);
                    CLIENTS
                } else {
                    assert_eq!((source, destination), (VIP, client(flow)));
                    BACKENDS
                };
                let lane = &mut self.lanes[flow][direction];
                assert_eq!(number & 0xffff, lane.came_through, "flow {flow}, direction {direction}");
                lane.came_through += 1;
            }
        }
    }

    /// Lets all that is on its way come through, and holds the counts to that.
    fn finish(mut self) -> Totals {
        for _ in 0..1000 {
            let busy = (0..self.workers.len()).filter(|worker| self.turn(*worker)).count();
            if busy == 0 {
                break;
            }
        }
        let sent: u32 = self.lanes.iter().flatten().map(|lane| lane.sent).sum();
        for (flow, lanes) in self.lanes.iter().enumerate() {
            assert_eq!(
                lanes.each_ref().map(|lane| lane.came_through),
                lanes.each_ref().map(|lane| lane.sent),
                "{flow}"
            );
        }
        let totals = Totals::of(self.counters.iter().map(|counters| &**counters));
        assert!(totals.agree() && totals.held == 0 && totals.order_given_up == 0, "{totals:?}");
        assert_eq!(totals.received, u64::from(sent));
        totals
    }
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send { flow: usize, direction: usize, count: u32 },
    Change { flow: usize, direction: usize, queue: usize },
    Turn { worker: usize },
}

fn steps(workers: usize, flows: usize) -> impl Strategy<Value = Vec<Step>> {
    let send = (0..flows, 0..2usize, 1..4u32);
    let change = (0..flows, 0..2usize, 0..workers);
    let step = prop_oneof![
        4 => send.prop_map(|(flow, direction, count)| Step::Send { flow, direction, count }),
        3 => change.prop_map(|(flow, direction, queue)| Step::Change { flow, direction, queue }),
        3 => (0..workers).prop_map(|worker| Step::Turn { worker }),
    ];
    prop::collection::vec(step, 1..400)
}

fn play(workers: u8, flows: usize, nat: Nat, steps: &[Step]) -> Totals {
    let mut world = World::new(workers, flows, nat);
    for step in steps {
        match *step {
            Step::Send { flow, direction, count } => world.send(flow, direction, count),
            Step::Change { flow, direction, queue } => world.change(flow, direction, queue),
            Step::Turn { worker } => drop(world.turn(worker)),
        }
    }
    world.finish()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn whatever_queues_a_flow_comes_by_and_whoever_lags_each_direction_keeps_its_order(
        (workers, flows, steps) in (2..5u8, 1..4usize).prop_flat_map(|(workers, flows)| {
            (Just(workers), Just(flows), steps(usize::from(workers), flows))
        }),
        nat in prop::sample::select(vec![Nat::Full, Nat::Dnat]),
    ) {
        play(workers, flows, nat, &steps);
    }
}

#[test]
fn a_packet_that_another_worker_has_still_to_hand_over_is_not_overtaken() {
    let mut world = World::new(2, 1, Nat::Full);
    world.change(0, CLIENTS, 1);
    world.send(0, CLIENTS, 1);
    world.turn(1);
    // The flow is worker 1's. Its client's next packet lies in queue 0, and the one behind that in queue 1.
    world.change(0, CLIENTS, 0);
    world.send(0, CLIENTS, 1);
    assert!(world.turn(0) && world.turn(1));
    world.send(0, CLIENTS, 1);
    world.change(0, CLIENTS, 1);
    world.send(0, CLIENTS, 2);
    for _ in 0..5 {
        world.turn(1);
    }
    assert_eq!(world.lanes[0][CLIENTS].came_through, 2, "worker 0 has read nothing yet");
    let totals = world.finish();
    assert_eq!((totals.waited_for_order, totals.handed_over), (3, 2), "{totals:?}");
}

#[test]
fn what_waits_when_the_workers_stop_is_let_go() {
    let mut world = World::new(2, 1, Nat::Full);
    world.send(0, CLIENTS, 1);
    world.turn(0);
    world.change(0, CLIENTS, 1);
    world.send(0, CLIENTS, 1);
    assert!(world.turn(1) && world.turn(0));
    world.send(0, CLIENTS, 1);
    world.change(0, CLIENTS, 0);
    world.send(0, CLIENTS, 2);
    world.turn(0);
    let totals = |world: &World| Totals::of(world.counters.iter().map(|counters| &**counters));
    assert_eq!(totals(&world).held, 2);
    // One stays in the queue of worker 1, which is read no more, and has not come in.
    settle_mail(&mut world.workers, world.now);
    let totals = totals(&world);
    assert!(totals.agree() && totals.held == 0 && totals.order_given_up == 0, "{totals:?}");
    assert_eq!((totals.received, totals.ended(Outcome::Forwarded)), (4, 4));
}
