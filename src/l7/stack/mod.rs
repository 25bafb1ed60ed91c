//! TCP, ended in smoltcp: frames and time in, frames and a deadline out.
//!
//! # The order to call it in
//!
//! A worker's turn is: take what frames there are and give each to [`Stack::handle_frame`]; take
//! the connections that were opened by [`Stack::accept`]; let the tasks of the streams run;
//! then ask [`Stack::poll_egress`] for frames. All that a connection wrote in one turn leaves
//! together, as one large segment where the device can cut it. [`Stack::poll_timeout`] says when
//! [`Stack::handle_timeout`] must be called at the latest, and [`Stack::poll_dirty`] wakes the
//! worker when a stream has something to say between two frames.
//!
//! # What there is for each client
//!
//! ```text
//!            ┌─ half open: a record ──ACK──▶ flow: engine, two rings ──both closed──▶ (nothing)
//!   SYN ─────┤                               ▲            │
//!            └─ too many: a cookie ──ACK─────┘            └─we closed first──▶ tombstone
//! ```
//!
//! One table finds all three by five-tuple. Invariants:
//!
//! - A tuple has at most one entry, and each entry a record, flow or tombstone behind it.
//! - Each of these has exactly one timer.
//! - Rings are held only by flows whose client has proved its address, and only while bytes
//!   are under way or were a moment ago (see `parking`).
//! - A flow that may have something to say is in the list of dirty flows, once.
//!
//! A packet costs one look-up and one smoltcp socket, however many connections there are.
//!
//! # Which worker
//!
//! All of a flow lives on one thread, so with several workers each tuple needs one owner. That
//! is a seeded hash of the tuple, not the worker whose queue the SYN came on: it
//! needs no table that the workers share, any worker can tell it from any packet (also from a
//! cookie's ACK, a stranger's segment or an ICMP error), and it does not change when the kernel
//! forgets which queue a flow was on. The price is small, since the kernel sends a flow to the
//! queue that wrote to it last: as soon as the owner has answered the SYN, the rest comes to it.

mod egress;
mod engine;
pub(super) mod flow;
mod guess;
mod handshake;
mod icmp;
mod ingress;
mod limiter;
mod liveness;
mod parking;
mod pool;
mod segment;
mod segmentation;
mod sequence;
mod settings;
mod slab;
mod telling;
mod timers;
mod tombstone;
mod waiting_ack;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use foldhash::fast::FixedState;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::engine::Reply;
use self::flow::{End, Flow, Holder, Seating, Shared};
use self::handshake::{HalfOpen, Numbers};
use self::limiter::Limiter;
use self::slab::{Key, Slab};
use self::timers::Timers;
use self::tombstone::Tombstone;
use super::stream::FlowStream;
use crate::datapath::{Arrival, Datapath, Decision, Instant, Listening, Outbox, Verdict, WorkerId};
use crate::packet::{Address, Endpoint, Family, FiveTuple, Frame};

pub use self::settings::{
    Congestion, DeviceTraits, Limits, Listener, Offloads, RingSize, Rings, StackSettings, Timeouts,
};

/// A connection that a client has opened.
pub struct Accepted {
    /// Who opened it.
    pub client: Endpoint,
    /// What it was opened to.
    pub vip: Endpoint,
    /// Its bytes.
    pub stream: FlowStream,
}

/// Which of the workers this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// This worker.
    pub worker: WorkerId,
    /// How many there are, at least one.
    pub workers: u8,
}

impl Share {
    /// The only worker.
    pub const ALL: Self = Self { worker: WorkerId(0), workers: 1 };
}

/// What has happened since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCounts {
    /// Connections that were opened.
    pub opened: u64,
    /// Those that ended, for all reasons together.
    pub ended: u64,
    /// Those of them that the client reset,
    pub reset: u64,
    /// that ended because nothing came for too long,
    pub timed_out: u64,
    /// and that were given up on this side.
    pub aborted: u64,
    /// SYNs that were answered by a cookie,
    pub cookies_sent: u64,
    /// and those that came back.
    pub cookies_taken: u64,
    /// Answers that were due but not sent, because of the rate limit.
    pub answers_suppressed: u64,
    /// Frames that were sent.
    pub frames_sent: u64,
}

/// What there is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Connections, up to the last byte that their stream has not read.
    pub flows: usize,
    /// Handshakes that are remembered.
    pub half_open: usize,
    /// Connections that are over and wait for late segments.
    pub tombstones: usize,
    /// Entries of the table.
    pub listed: usize,
    /// Timers.
    pub timers: usize,
    /// Clients that are counted.
    pub clients: usize,
    /// Pairs of rings in use.
    pub rings: usize,
    /// Bytes of rings not in use.
    pub idle_ring_bytes: usize,
}

/// What the table finds under a tuple.
#[derive(Clone, Copy, Debug)]
enum Entry {
    Flow(Key),
    HalfOpen(Key),
    Tombstone(Key),
}

/// Whose a timer is.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Flow(Key),
    HalfOpen(Key),
    Tombstone(Key),
}

/// What one client has.
#[derive(Clone, Copy, Debug, Default)]
struct Held {
    flows: usize,
    half_open: usize,
}

/// TCP for one worker.
pub struct Stack {
    settings: StackSettings,
    share: Share,
    listeners: HashMap<Endpoint, Listener, FixedState>,
    table: HashMap<FiveTuple, Entry, FixedState>,
    flows: Slab<Rc<Flow>>,
    half_open: Slab<HalfOpen>,
    tombstones: Slab<Tombstone>,
    timers: Timers<Owner>,
    clients: HashMap<Address, Held, FixedState>,
    shared: Rc<Shared>,
    accepted: VecDeque<Accepted>,
    replies: Vec<Reply>,
    /// The frame that all others are written in, and one for the pieces of it.
    frames: [Frame; 2],
    /// The list of dirty flows that is being worked off.
    turn: Vec<Key>,
    owners: FixedState,
    numbers: Numbers,
    /// When a cookie was sent last: without one there is no ACK of one.
    cookie_at: Option<Instant>,
    answers: Limiter,
    counts: StackCounts,
    listening: Listening,
    heard: Option<telling::Heard>,
}

impl Stack {
    /// A stack without listeners.
    ///
    /// All that must not be predictable comes from `seed`, which all workers of one balancer
    /// share, so that they agree whose a flow is.
    pub fn new(settings: StackSettings, share: Share, seed: [u8; 32]) -> Self {
        let mut common = StdRng::from_seed(seed);
        let mut secret = [0; 32];
        common.fill_bytes(&mut secret);
        let owners = FixedState::with_seed(common.next_u64());
        let mut own = [0; 32];
        for _ in 0..=share.worker.0 {
            common.fill_bytes(&mut own);
        }
        let mut chance = StdRng::from_seed(own);
        let mut state = || FixedState::with_seed(chance.next_u64());
        Self {
            settings,
            share,
            listeners: HashMap::with_hasher(state()),
            table: HashMap::with_hasher(state()),
            flows: Slab::new(),
            half_open: Slab::new(),
            tombstones: Slab::new(),
            timers: Timers::new(),
            clients: HashMap::with_hasher(state()),
            shared: Rc::new(Shared::new(settings.limits.idle_ring_bytes)),
            accepted: VecDeque::new(),
            replies: Vec::new(),
            frames: [Frame::new(), Frame::new()],
            turn: Vec::new(),
            owners,
            numbers: Numbers::new(secret),
            cookie_at: None,
            answers: Limiter::new(settings.limits.answers_per_second),
            counts: StackCounts::default(),
            listening: Listening::No,
            heard: None,
        }
    }

    /// Takes connections to this endpoint from now on.
    pub fn listen(&mut self, endpoint: Endpoint, listener: Listener) {
        self.listeners.insert(endpoint, listener);
    }

    /// Takes no new connections to this endpoint. Those that are open go on.
    pub fn unlisten(&mut self, endpoint: Endpoint) {
        self.listeners.remove(&endpoint);
    }

    /// Whether connections to this endpoint are taken.
    pub fn listens(&self, endpoint: Endpoint) -> bool {
        self.listeners.contains_key(&endpoint)
    }

    /// A connection that a client has opened, the first one first.
    pub fn accept(&mut self) -> Option<Accepted> {
        self.accepted.pop_front()
    }

    /// Ready when [`Stack::poll_egress`] has something to say; wakes whoever asked last.
    pub fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        if self.replies.is_empty() { self.shared.poll_dirty(context) } else { Poll::Ready(()) }
    }

    /// What has happened.
    pub const fn counts(&self) -> StackCounts {
        self.counts
    }

    /// What there is.
    pub fn occupancy(&self) -> Occupancy {
        Occupancy {
            flows: self.flows.len(),
            half_open: self.half_open.len(),
            tombstones: self.tombstones.len(),
            listed: self.table.len(),
            timers: self.timers.len(),
            clients: self.clients.len(),
            rings: self.shared.pool.borrow().taken(),
            idle_ring_bytes: self.shared.pool.borrow().idle_bytes(),
        }
    }

    /// The worker that owns a flow, by the tuple from client to VIP.
    pub fn owner(&self, tuple: &FiveTuple) -> WorkerId {
        if self.share.workers <= 1 {
            return self.share.worker;
        }
        let hash = self.owners.hash_one((tuple.source, tuple.destination));
        // The upper half of a product takes a hash to a range without a division.
        let owner = (u128::from(hash) * u128::from(self.share.workers)) >> 64;
        WorkerId(u8::try_from(owner).unwrap_or(0))
    }

    fn held(&self, client: Address) -> Held {
        self.clients.get(&client).copied().unwrap_or_default()
    }

    /// Changes what a client has, and forgets one that has nothing.
    fn count_client(&mut self, client: Address, change: impl FnOnce(&mut Held)) {
        let held = self.clients.entry(client).or_default();
        change(held);
        if held.flows == 0 && held.half_open == 0 {
            self.clients.remove(&client);
        }
    }
}

/// Whom a client is counted as: in IPv6, a /64 is what one subscriber is given (RFC 6177).
fn client_of(tuple: &FiveTuple) -> Address {
    let address = tuple.source.address;
    match address.family() {
        Family::V4 => address,
        Family::V6 => {
            let mut octets = address.octets();
            octets[8..].fill(0);
            Address::v6(octets)
        }
    }
}

/// The contract that drivers know. A stack puts nothing into the outbox.
impl Datapath for Stack {
    fn handle_frame(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival, _: &mut Outbox) -> Verdict {
        Self::handle_frame(self, now, frame, arrival)
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Outbox) {
        Self::handle_timeout(self, now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Self::poll_timeout(self)
    }

    fn poll_egress(&mut self, now: Instant, mut sink: &mut dyn FnMut(&mut Frame)) {
        Self::poll_egress(self, now, &mut sink);
    }

    fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        Self::poll_dirty(self, context)
    }

    fn listen(&mut self, listening: Listening) {
        self.set_listening(listening);
    }

    fn decision(&self) -> Decision {
        self.told()
    }
}

impl Drop for Stack {
    /// Ends all streams that are still held: nobody will carry their bytes any more.
    fn drop(&mut self) {
        for flow in self.flows.iter() {
            let mut state = flow.state.borrow_mut();
            state.end.get_or_insert(End::Aborted);
            state.holder = Holder::Nobody;
            match std::mem::replace(&mut state.seating, Seating::Over) {
                Seating::Seated(mut engine) => engine.socket().abort(),
                Seating::Parked(reader) => reader.into_iter().for_each(Waker::wake),
                Seating::Over => {}
            }
        }
    }
}
