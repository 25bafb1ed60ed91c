//! The translator of one worker.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::fragments::{FragmentTable, Traffic};
use super::identification::Identifications;
use super::limits::Bucket;
use super::order::{Lane, Order, Parked, Released, Why as LetGo};
use super::pieces;
use crate::balance::{Backend, Balancer, Health};
use crate::datapath::{Arrival, BackendId, Counters, Datapath, Decision, Instant, Outbox, Reason, VipId};
use crate::datapath::{Listening, Nat, Verdict, WorkerId, WorkerSet};
use crate::flow::{
    Binding, CameBy, Change, Direction, Ended, Event, FlowId, FlowTable, Lookup, NewFlow, OpenError, State,
    Why,
};
use crate::packet::rewrite::{self, Passage};
use crate::packet::{Address, FiveTuple, Frame, TcpFlags, Transport, Unreadable, View};

/// Flows that one call of [`Datapath::handle_timeout`] may end: some tens of microseconds.
const EXPIRE_BUDGET: usize = 256;

/// Backends that are tried for one new flow, where the first has the client's tuple in use.
const PICKS: usize = 4;

/// What the translators of all workers have in common.
#[derive(Clone)]
pub struct Setup {
    /// The virtual services and their backends.
    pub balancer: Arc<Balancer>,
    /// The flow table's shared half.
    pub flows: Arc<crate::flow::Shared>,
    /// How long a fragment waits for its first one, and how long that is remembered.
    pub fragment_lifetime: Duration,
    /// How many workers there are.
    pub workers: u8,
    /// Where chance comes from: local ports, schedulers, identifications.
    pub seed: u64,
}

/// Rewrites packets: the layer-4 core of one worker.
pub struct Translator {
    pub(super) worker: WorkerId,
    pub(super) workers: u8,
    pub(super) balancer: Arc<Balancer>,
    pub(super) flows: FlowTable,
    pub(super) fragments: FragmentTable,
    order: Order,
    pub(super) home_hash: foldhash::fast::FixedState,
    pub(super) counters: Arc<Counters>,
    pub(super) icmp_errors: Bucket,
    pub(super) resets: Bucket,
    chance: StdRng,
    identifications: Identifications,
    /// Some service keeps the client's address, so that packets which are not ours are routed
    /// through this device as well, and must go on.
    pub(super) passes_others: bool,
    /// What there is to say of the last frame, where somebody listens.
    pub(super) heard: Option<Box<Decision>>,
}

/// What came of a packet with ports, for those that need to know more than the verdict.
pub(super) struct Handled {
    pub(super) verdict: Verdict,
    /// The new addresses and whose traffic it is, where the packet was translated.
    pub(super) translated: Option<(FiveTuple, Traffic)>,
}

impl From<Verdict> for Handled {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, translated: None }
    }
}

impl Translator {
    /// The translator of one worker of `setup.workers`, which counts in `counters`.
    pub fn new(setup: &Setup, worker: WorkerId, counters: Arc<Counters>) -> Self {
        let seed = setup.seed.wrapping_add(u64::from(worker.0));
        Self {
            worker,
            workers: setup.workers.max(1),
            balancer: Arc::clone(&setup.balancer),
            flows: FlowTable::new(Arc::clone(&setup.flows), worker),
            fragments: FragmentTable::new(setup.fragment_lifetime),
            order: Order::default(),
            // All workers must find the same home for a datagram.
            home_hash: foldhash::fast::FixedState::with_seed(setup.seed),
            counters,
            icmp_errors: Bucket::new(1_000, 100),
            resets: Bucket::new(50_000, 5_000),
            chance: StdRng::seed_from_u64(seed),
            identifications: Identifications::new(setup, worker),
            passes_others: setup.balancer.services().iter().any(|service| service.nat == Nat::Dnat),
            heard: None,
        }
    }

    /// The flow table, to look at.
    pub fn flows(&self) -> &FlowTable {
        &self.flows
    }

    fn decide(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival, out: &mut Outbox) -> Verdict {
        self.hear_frame();
        let view = match View::of(frame.packet()) {
            Ok(view) => view,
            Err(unreadable) => return Verdict::Drop(reason_for(unreadable)),
        };
        if view.source.family() != view.family || view.destination.family() != view.family {
            return Verdict::Drop(Reason::Martian);
        }
        if view.length < frame.packet().len() {
            let offload = frame.offload;
            frame.filled(view.length, offload);
        }
        if view.fragment.is_some() {
            return self.fragment(now, frame, &view, arrival, out);
        }
        match view.transport {
            Transport::Tcp { .. } | Transport::Udp { .. } => match view.tuple() {
                Some(tuple) => self.packet(now, frame, &view, tuple, arrival, None).verdict,
                None => Verdict::Drop(Reason::Malformed),
            },
            Transport::Icmp { kind, code } => self.icmp(now, frame, &view, kind, code, arrival.visited()),
            Transport::LaterFragment => Verdict::Drop(Reason::Malformed),
            Transport::Other(_) => self.not_for_us(frame, &view, Reason::UnsupportedProtocol),
        }
    }

    /// A packet with ports, whole or the first fragment of one; that gets a new identification.
    #[inline]
    pub(super) fn packet(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        tuple: FiveTuple,
        arrival: Arrival,
        identification: Option<u32>,
    ) -> Handled {
        match self.flows.find(&tuple, arrival.visited()) {
            Lookup::Here(flow, direction) => {
                if !self.flows.is_on(flow, direction, arrival.queue(self.worker))
                    && identification.is_none()
                    && self.waits(now, frame, (flow, direction), arrival)
                {
                    return Verdict::Held.into();
                }
                self.hear_flow(flow, direction);
                if view.hops <= 1 {
                    return self.refuse(now, frame, view, Reason::TtlExpired).into();
                }
                if direction == Direction::Original && opens(view) {
                    self.give_up_a_dead_backend(now, flow);
                }
                let change = self.flows.observe(now, flow, direction, event_of(view), frame.packet().len());
                if change == Change::Reopen {
                    return self.unknown(now, frame, view, tuple, arrival, identification);
                }
                self.note(now, flow, change);
                self.hear_after(flow);
                self.forward(frame, view, flow, direction, identification, Reason::KnownFlow)
            }
            Lookup::Elsewhere(worker) => Verdict::HandOver(worker).into(),
            Lookup::Nowhere => self.unknown(now, frame, view, tuple, arrival, identification),
        }
    }

    /// Rewrites a packet as its flow's binding says.
    #[inline]
    fn forward(
        &mut self,
        frame: &mut Frame,
        view: &View,
        flow: FlowId,
        direction: Direction,
        identification: Option<u32>,
        reason: Reason,
    ) -> Handled {
        if rewrite::lacks_checksum(frame.packet(), view) {
            return Verdict::Drop(Reason::BadChecksum).into();
        }
        let Some((to, backend)) = self.flows.rewritten(flow, direction) else {
            return Verdict::Drop(Reason::NoFlow).into();
        };
        let identification = match identification {
            None if !view.dont_fragment => Some(self.fresh_identification(frame)),
            given => given,
        };
        let checksum = frame.offload.checksum;
        let passage = Passage { decrement_hops: true, identification };
        rewrite::translate(frame.packet_mut(), view, &to, checksum, passage);
        let traffic = match direction {
            Direction::Original => Traffic::To(backend),
            Direction::Reply => Traffic::From(backend),
        };
        self.count_traffic(traffic, frame.packet().len());
        Handled { verdict: Verdict::Forward(reason), translated: Some((to, traffic)) }
    }

    /// A packet of no flow that this worker knows: the start of one, or a stranger.
    #[cold]
    fn unknown(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        tuple: FiveTuple,
        arrival: Arrival,
        identification: Option<u32>,
    ) -> Handled {
        if let Some(reason) = self.impossible(view, &tuple) {
            return Verdict::Drop(reason).into();
        }
        let Some(vip) = self.balancer.find(tuple.protocol, tuple.destination) else {
            let reason = if self.balancer.is_vip(tuple.destination.address) {
                Reason::NoService
            } else if self.flows.shared().is_local(tuple.destination.address) {
                self.hear_backend_side();
                Reason::NoFlow
            } else {
                return self.not_for_us(frame, view, Reason::NotOurs).into();
            };
            return self.refuse(now, frame, view, reason).into();
        };
        self.hear_vip(vip);
        if view.hops <= 1 {
            return self.refuse(now, frame, view, Reason::TtlExpired).into();
        }
        let opens = opens(view) || !matches!(view.transport, Transport::Tcp { .. });
        match self.bind(now, &tuple, vip, opens) {
            Ok(flow) => {
                if identification.is_none() {
                    let queue = CameBy::Queue(arrival.queue(self.worker));
                    self.flows.set_came_by(flow, Direction::Original, queue);
                }
                let change =
                    self.flows.observe(now, flow, Direction::Original, event_of(view), frame.packet().len());
                self.note(now, flow, change);
                self.hear_opened(flow);
                self.hear_after(flow);
                let reason = if opens { Reason::NewFlow } else { Reason::AdoptedFlow };
                self.forward(frame, view, flow, Direction::Original, identification, reason)
            }
            // Whoever has seen it does not know it either: its flow has just ended, or two tuples look alike.
            // The client will try again.
            Err(Unbound::Elsewhere(worker)) if arrival.visited().contains(worker) => {
                Verdict::Drop(Reason::NoFlow).into()
            }
            Err(Unbound::Elsewhere(worker)) => Verdict::HandOver(worker).into(),
            Err(Unbound::Because(reason)) => self.refuse(now, frame, view, reason).into(),
        }
    }

    /// Has a packet wait that came by another queue than the one before it, if that may have left older ones behind.
    #[cold]
    fn waits(&mut self, now: Instant, frame: &Frame, lane: Lane, arrival: Arrival) -> bool {
        let ((flow, direction), queue) = (lane, arrival.queue(self.worker));
        let old = match self.flows.came_by(flow, direction) {
            CameBy::Waits if self.order.is_older(&lane, queue) => return false,
            // It joins those that wait.
            CameBy::Waits => WorkerSet::NONE,
            CameBy::Queue(_) if self.is_alone(lane) => WorkerSet::NONE.with(queue),
            CameBy::Queue(last) => WorkerSet::NONE.with(last),
            CameBy::None if self.is_first(lane) => WorkerSet::NONE.with(queue),
            CameBy::None => WorkerSet::first(self.workers),
        };
        if old == WorkerSet::NONE.with(queue) {
            self.flows.set_came_by(flow, direction, CameBy::Queue(queue));
            return false;
        }
        self.flows.set_came_by(flow, direction, CameBy::Waits);
        let mut copy = Frame::copy_of(frame.packet(), frame.offload);
        copy.tags = frame.tags;
        let parked = Parked { frame: copy, arrival };
        self.order.park(now, lane, old.without(queue), queue, parked);
        self.counters.held.add(1);
        self.counters.waited_for_order.add(1);
        true
    }

    /// Whether no packet that came before the first one of this direction can be on its way. Of the client's none can: until
    /// its flow is there and we write to it, the kernel has no reason to change its queue. An answer may come before the kernel
    /// has noted the queue of what it answers. It remains the only one until more has gone there, but for TCP, where it is the
    /// backend's SYN, and nothing follows that before the client has had it.
    fn is_first(&self, (flow, direction): Lane) -> bool {
        direction == Direction::Original
            || self.flows.state(flow) != Some(State::Udp)
            || self.flows.traffic(flow, Direction::Original).packets < 2
    }

    /// Whether what has come in this direction is nothing but a backend's SYN, with the same reason. Half of all
    /// connections would wait for that otherwise.
    fn is_alone(&self, (flow, direction): Lane) -> bool {
        direction == Direction::Reply
            && self.flows.state(flow) != Some(State::Udp)
            && self.flows.traffic(flow, Direction::Reply).packets < 2
    }

    /// Decides about the packets that need wait no longer, and asks for the fences that others wait for.
    #[cold]
    fn keep_order(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(Released { lane: (flow, direction), queue, frames, why }) = self.order.next_released()
        {
            if let Some(queue) = queue {
                self.flows.set_came_by(flow, direction, CameBy::Queue(queue));
            }
            if why == LetGo::GivenUp {
                self.counters.order_given_up.add(frames.len() as u64);
            }
            for Parked { mut frame, arrival } in frames {
                self.counters.released.add(1);
                match self.decide(now, &mut frame, arrival, out) {
                    Verdict::Held => {}
                    verdict => out.push(frame, verdict),
                }
            }
        }
        self.order.take_wanted().iter().for_each(|queue| out.ask_fence(queue));
    }

    /// Picks a backend for a new flow and enters its binding.
    fn bind(&mut self, now: Instant, tuple: &FiveTuple, vip: VipId, opens: bool) -> Result<FlowId, Unbound> {
        let nat = self
            .balancer
            .vip(vip)
            .and_then(|vip| self.balancer.service(vip.service))
            .map_or(Nat::Full, |service| service.nat);
        // In mid-flow only a backend that was reached with the same tuple before can go on.
        if !opens && nat == Nat::Full {
            return Err(Unbound::Because(Reason::NoFlow));
        }
        for _ in 0..PICKS {
            let picked = if opens {
                self.balancer.pick(now, vip, tuple, &mut self.chance).ok_or(Reason::NoBackend)
            } else {
                self.balancer.place(now, vip, tuple).ok_or(Reason::NoFlow)
            };
            let backend = picked.map_err(Unbound::Because)?;
            let nat = if self.is_backend(tuple.source.address) { Nat::Full } else { nat };
            let opened = match self.open(now, tuple, vip, backend, nat) {
                // The client's endpoint reaches this backend by another flow, and answers could be of either. The
                // kernel's NAT gives one of them another source in this case, and so do we.
                Err(OpenError::InUse) if opens && nat == Nat::Dnat => {
                    let full = self.open(now, tuple, vip, backend, Nat::Full);
                    full.map_err(|why| if why == OpenError::NoLocalPort { OpenError::InUse } else { why })
                }
                opened => opened,
            };
            match opened {
                Ok(flow) => {
                    self.balancer.opened(backend);
                    if let Some(counts) = self.counters.backend(backend) {
                        counts.flows.add(1);
                    }
                    return Ok(flow);
                }
                Err(OpenError::InUse) if opens => {}
                Err(OpenError::InUse | OpenError::NoLocalPort | OpenError::Mismatch) => break,
                Err(OpenError::TableFull) => return Err(Unbound::Because(Reason::TableFull)),
                Err(OpenError::ClientLimit) => return Err(Unbound::Because(Reason::ClientLimit)),
                Err(OpenError::Elsewhere(worker)) => return Err(Unbound::Elsewhere(worker)),
            }
        }
        Err(Unbound::Because(Reason::NoLocalPort))
    }

    fn open(
        &mut self,
        now: Instant,
        tuple: &FiveTuple,
        vip: VipId,
        backend: BackendId,
        nat: Nat,
    ) -> Result<FlowId, OpenError> {
        let Self { flows, balancer, counters, chance, .. } = self;
        let new = NewFlow { client: tuple.source, vip, backend, nat };
        flows.open(now, new, chance, |ended| settle(balancer, counters, &ended))
    }

    /// Whether a client is itself a backend: then its packets need a local source address even
    /// under DNAT, or the answer would take the short way back (RFC 4787 REQ-9).
    fn is_backend(&self, client: Address) -> bool {
        self.passes_others && self.balancer.is_backend(client)
    }

    /// Why a packet that belongs to no flow cannot have been meant: its addresses.
    fn impossible(&self, view: &View, tuple: &FiveTuple) -> Option<Reason> {
        if tuple.source == tuple.destination {
            return Some(Reason::Land);
        }
        self.impossible_source(view)
    }

    /// Tells the balancer what a flow's packet has shown about its backend.
    #[inline]
    pub(super) fn note(&mut self, now: Instant, flow: FlowId, change: Change) {
        match change {
            Change::Nothing | Change::Established | Change::Reopen | Change::Gone => {}
            Change::Accepted | Change::Refused | Change::Closed | Change::Revived => {
                self.tell(now, flow, change);
            }
        }
    }

    /// Lets a SYN that is sent again go elsewhere, where its backend never answered the first and has been found to be
    /// down since. The errors that say so need not come for each SYN: routers limit them (RFC 1812 §4.3.2.8).
    #[cold]
    fn give_up_a_dead_backend(&mut self, now: Instant, flow: FlowId) {
        let Some(Binding { backend, .. }) = self.flows.binding(flow) else { return };
        let health = self.balancer.backend(backend).map(Backend::health);
        if matches!(health, Some(Health::Down { .. })) && self.flows.unreachable(now, flow) == Change::Refused
        {
            // Not a refusal more: the backend has said nothing new.
            self.balancer.closed(backend);
        }
    }

    /// Tells the balancer of a change that is its business: a few in the life of a flow.
    #[cold]
    fn tell(&mut self, now: Instant, flow: FlowId, change: Change) {
        let Some(Binding { backend, .. }) = self.flows.binding(flow) else { return };
        let balancer = &self.balancer;
        match change {
            Change::Accepted => drop(balancer.accepted(backend)),
            Change::Revived => balancer.opened(backend),
            Change::Closed => balancer.closed(backend),
            Change::Refused => {
                balancer.closed(backend);
                balancer.refused(now, backend);
                if let Some(counts) = self.counters.backend(backend) {
                    counts.refused.add(1);
                }
            }
            Change::Nothing | Change::Established | Change::Reopen | Change::Gone => {}
        }
    }

    /// An identification that no packet from us has had for long. Packets of several senders
    /// share an address behind us, and one that may be cut on its way must not be
    /// mistaken for another's (RFC 6864 §5.3.1). A large segment takes one for each of its parts.
    pub(super) fn fresh_identification(&mut self, frame: &Frame) -> u32 {
        let parts = frame
            .offload
            .segments
            .map_or(1, |segments| frame.packet().len() / usize::from(segments.size.max(1)) + 1);
        self.identifications.take(u32::try_from(parts).unwrap_or(1))
    }

    #[inline]
    pub(super) fn count_traffic(&self, traffic: Traffic, bytes: usize) {
        let (Traffic::To(backend) | Traffic::From(backend)) = traffic;
        let Some(counts) = self.counters.backend(backend) else { return };
        let (packets, total) = match traffic {
            Traffic::To(_) => (&counts.packets_original, &counts.bytes_original),
            Traffic::From(_) => (&counts.packets_reply, &counts.bytes_reply),
        };
        packets.add(1);
        total.add(bytes as u64);
    }
}

impl Datapath for Translator {
    #[inline]
    fn handle_frame(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        arrival: Arrival,
        out: &mut Outbox,
    ) -> Verdict {
        let verdict = self.decide(now, frame, arrival, out);
        if verdict == Verdict::Held {
            self.keep_order(now, out);
        }
        verdict
    }

    fn listen(&mut self, listening: Listening) {
        self.set_listening(listening);
    }

    fn decision(&self) -> Decision {
        self.heard.as_deref().cloned().unwrap_or_default()
    }

    fn handle_fence(&mut self, now: Instant, queue: WorkerId, out: &mut Outbox) {
        self.order.passed(queue);
        self.keep_order(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let Self { flows, balancer, counters, fragments, .. } = self;
        flows.expire(now, EXPIRE_BUDGET, |ended| settle(balancer, counters, &ended));
        fragments.expire(now, |given_up| pieces::given_up(counters, &given_up));
        self.order.expire(now);
        self.keep_order(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let deadlines =
            [self.flows.next_deadline(), self.fragments.next_deadline(), self.order.next_deadline()];
        deadlines.into_iter().flatten().min()
    }
}

/// Why a packet could not be bound.
enum Unbound {
    Elsewhere(WorkerId),
    Because(Reason),
}

fn settle(balancer: &Balancer, counters: &Counters, ended: &Ended) {
    if ended.in_use {
        balancer.closed(ended.binding.backend);
    }
    counters.flows_ended.add(1);
    if ended.why == Why::Reclaimed {
        counters.flows_reclaimed.add(1);
    }
}

/// Whether a segment asks for a connection, and for nothing else.
fn opens(view: &View) -> bool {
    match view.transport {
        Transport::Tcp { flags, .. } => flags == TcpFlags::SYN,
        _ => false,
    }
}

fn event_of(view: &View) -> Event {
    match view.transport {
        Transport::Tcp { flags, .. } => Event::Tcp(flags),
        _ => Event::Udp,
    }
}

const fn reason_for(unreadable: Unreadable) -> Reason {
    match unreadable {
        Unreadable::Malformed => Reason::Malformed,
        Unreadable::HeaderChecksum => Reason::BadChecksum,
        Unreadable::TinyFragment => Reason::FragmentTiny,
        Unreadable::Unsupported => Reason::UnsupportedProtocol,
    }
}
