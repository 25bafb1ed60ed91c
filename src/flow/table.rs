//! One worker's flow table: find, follow, expire. ([`open`](super::open) has the opening of flows.)

use std::sync::Arc;
use std::time::Duration;

use super::binding::{Binding, Direction};
use super::entry::{CameBy, Entry, Traffic};
use super::index::{Key, Place};
use super::shared::Shared;
use super::slab::{FlowId, Slab};
use super::tcp::{Phase, State};
use super::timers::{Timers, duration, instant, low, tick, tick_after};
use crate::datapath::{BackendId, Instant, WorkerId, WorkerSet};
use crate::packet::FiveTuple;
use crate::packet::TcpFlags;

/// One worker's flows. See the [room](super).
pub struct FlowTable {
    pub(super) shared: Arc<Shared>,
    pub(super) worker: WorkerId,
    pub(super) slab: Slab,
    pub(super) timers: Timers,
    timeouts: Nanos,
    /// The latest time that was told.
    now: Instant,
    /// What the shared part has been told of this one's memory.
    memory: usize,
}

/// Where a tuple's flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// It is this worker's, and a packet with this tuple goes in that direction.
    Here(FlowId, Direction),
    /// It is probably that worker's, who can tell for certain.
    Elsewhere(WorkerId),
    /// It is nobody's, as far as is known here.
    Nowhere,
}

/// What a packet was, beside its tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// TCP, with these flags.
    Tcp(TcpFlags),
    /// UDP.
    Udp,
}

/// What a packet changed about its flow.
///
/// A flow is *in use* from when it is opened. [`Change::Refused`] and [`Change::Closed`] end that,
/// [`Change::Revived`] takes it back, and [`Ended::in_use`] says how it stood at the end; so a count of
/// flows in use can be kept exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "the packet may have to open a new flow"]
pub enum Change {
    /// Nothing that anybody else has to know.
    Nothing,
    /// The backend has answered for the first time: SYN-ACK, or its first datagram.
    Accepted,
    /// The handshake is complete, or a connection in mid-flow is known to the backend.
    Established,
    /// The backend refused the connection: a RST to the SYN.
    Refused,
    /// The connection is over: both FINs, or a RST.
    Closed,
    /// It is not over after all: something other than a RST came after one.
    Revived,
    /// The client begins anew with the tuple of a connection that is over: the packet must open a flow. The
    /// packet was not counted, and the old flow stays until [`FlowTable::open`] replaces it.
    Reopen,
    /// The flow has ended before; the id is an old one.
    Gone,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Nothing came for as long as it may stay idle, or be kept after its close.
    TimedOut,
    /// The table was full, and it was closed or half-open: it had to give way.
    Reclaimed,
    /// Its client used the tuple again after its close.
    Replaced,
    /// The caller closed it.
    Removed,
}

/// A flow that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// What it was bound to.
    pub binding: Binding,
    /// Why it ended.
    pub why: Why,
    /// Whether it was still in use, see [`Change`].
    pub in_use: bool,
    /// What went to the backend.
    pub original: Traffic,
    /// What came from it.
    pub reply: Traffic,
    /// The time from its opening, in steps of 250 ms.
    pub lasted: Duration,
}

impl FlowTable {
    /// A table for this worker.
    ///
    /// # Panics
    ///
    /// If the worker has a table already, or its number is not below [`WorkerId::MAX`]: two owners of one
    /// flow would be the end of every promise here.
    pub fn new(shared: Arc<Shared>, worker: WorkerId) -> Self {
        assert!(shared.claim(worker), "worker {worker} is one of 64 and has one table");
        let timeouts = Nanos::of(&shared);
        let mut table = Self {
            shared,
            worker,
            slab: Slab::new(),
            timers: Timers::new(),
            timeouts,
            now: Instant::START,
            memory: 0,
        };
        table.account();
        table
    }

    /// Where the flow of a packet with this tuple is. Workers in `visited` have said that they do not have it.
    #[inline]
    pub fn find(&self, tuple: &FiveTuple, visited: WorkerSet) -> Lookup {
        self.find_key(self.shared.index.key(tuple), tuple, visited)
    }

    #[inline]
    pub(super) fn find_key(&self, key: Key, tuple: &FiveTuple, visited: WorkerSet) -> Lookup {
        let mut elsewhere = Lookup::Nowhere;
        let here = self.shared.index.find_map(key, |place| {
            let worker = place.worker;
            if worker == self.worker {
                return self.verified(place, tuple);
            }
            if elsewhere == Lookup::Nowhere && !visited.contains(worker) {
                elsewhere = Lookup::Elsewhere(worker);
            }
            None
        });
        here.map_or(elsewhere, |(id, direction)| Lookup::Here(id, direction))
    }

    /// The flow in a place that is this worker's, if the tuple is its key.
    #[inline]
    pub(super) fn verified(&self, place: Place, tuple: &FiveTuple) -> Option<(FlowId, Direction)> {
        let entry = self.slab.entry(place.entry)?;
        let key = self.key(entry, place.direction)?;
        (key == *tuple).then_some((self.slab.id(place.entry)?, place.direction))
    }

    /// The tuple that a packet of this direction arrives with.
    #[inline]
    pub(super) fn key(&self, entry: &Entry, direction: Direction) -> Option<FiveTuple> {
        let (protocol, vip) = *self.shared.endpoints.vip(entry.vip)?;
        let (source, destination) = match direction {
            Direction::Original => (entry.client, vip),
            Direction::Reply => {
                let backend = self.shared.endpoints.backend(entry.backend)?.endpoint;
                (backend, self.shared.pool.endpoint(entry.local).unwrap_or(entry.client))
            }
        };
        Some(FiveTuple { protocol, source, destination })
    }

    /// The tuple that a packet of this flow leaves with, and whose traffic it is; `None` once the flow has
    /// ended.
    #[inline]
    pub fn rewritten(&self, id: FlowId, direction: Direction) -> Option<(FiveTuple, BackendId)> {
        let entry = self.slab.get(id)?;
        Some((self.key(entry, direction.reversed())?.reversed(), entry.backend))
    }

    /// What the flow is bound to; `None` once it has ended.
    pub fn binding(&self, id: FlowId) -> Option<Binding> {
        self.slab.get(id).map(|entry| self.binding_of(entry))
    }

    fn binding_of(&self, entry: &Entry) -> Binding {
        let Entry { client, vip, backend, local, .. } = *entry;
        Binding { client, vip, backend, local: self.shared.pool.endpoint(local) }
    }

    /// How far the flow has come; `None` once it has ended.
    pub fn state(&self, id: FlowId) -> Option<State> {
        self.slab.get(id).map(|entry| entry.state)
    }

    /// Whether the last packet of this direction came by that queue, as this one did.
    #[inline]
    pub fn is_on(&self, id: FlowId, direction: Direction, queue: WorkerId) -> bool {
        self.slab.get(id).is_some_and(|entry| entry.is_on(direction, queue))
    }

    /// How the last packet of this direction came. Nobody notes that but the caller, by [`FlowTable::set_came_by`].
    pub fn came_by(&self, id: FlowId, direction: Direction) -> CameBy {
        self.slab.get(id).map_or(CameBy::None, |entry| entry.came_by(direction))
    }

    /// Notes how the last packet of this direction came.
    pub fn set_came_by(&mut self, id: FlowId, direction: Direction, came_by: CameBy) {
        self.slab.get_mut(id).into_iter().for_each(|entry| entry.set_came_by(direction, came_by));
    }

    /// What a direction of the flow has carried so far.
    pub fn traffic(&self, id: FlowId, direction: Direction) -> Traffic {
        let ends = self.slab.get(id).zip(self.slab.cold(id.index()));
        ends.map_or_else(Traffic::default, |(entry, cold)| entry.traffic(cold, direction))
    }

    /// What this table has in common with those of other workers.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// How many flows this worker has.
    pub fn len(&self) -> u32 {
        self.slab.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Counts a packet of the flow, and follows what it does to it.
    ///
    /// Packets of both directions restart the idle timeout. The client's must (RFC 4787 REQ-6, with the client
    /// in the place of its internal host), the backend's may (REQ-6a): a backend is known, not
    /// somebody outside who could keep flows alive at will, and one-way streams from it are common.
    #[inline]
    pub fn observe(
        &mut self,
        now: Instant,
        id: FlowId,
        direction: Direction,
        event: Event,
        bytes: usize,
    ) -> Change {
        let now = self.moved_on_to(now);
        let Some(entry) = self.slab.get_mut(id) else { return Change::Gone };
        let state = entry.state;
        let steady = match event {
            Event::Tcp(flags) => !flags.any(TcpFlags::SYN | TcpFlags::FIN | TcpFlags::RST),
            Event::Udp => true,
        };
        if !(steady && state.phase() == Phase::Open) {
            return self.observe_change(now, id, direction, event, bytes);
        }
        let first = entry.is_silent(direction);
        entry.deadline = low(self.timers.hold(tick_after(now, self.timeouts.of_state(state))));
        if entry.count(direction, bytes as u64) {
            self.carry(id, direction);
        }
        if first && state == State::Udp && direction == Direction::Reply {
            Change::Accepted
        } else {
            Change::Nothing
        }
    }

    /// The same for packets that may change the state, and those that come in a state where nothing is lazy.
    fn observe_change(
        &mut self,
        now: Instant,
        id: FlowId,
        direction: Direction,
        event: Event,
        bytes: usize,
    ) -> Change {
        let Some(entry) = self.slab.get_mut(id) else { return Change::Gone };
        let state = entry.state;
        let next = match event {
            Event::Tcp(flags) if direction == Direction::Original && state.is_over() && flags.opens() => {
                return Change::Reopen;
            }
            Event::Tcp(flags) => state.next(direction, flags),
            Event::Udp => state,
        };
        if entry.count(direction, bytes as u64) {
            self.carry(id, direction);
        }
        self.settle(now, id.index(), next);
        Change::between(state, next, direction)
    }

    #[cold]
    fn carry(&mut self, id: FlowId, direction: Direction) {
        self.slab.cold_mut(id.index()).into_iter().for_each(|cold| cold.carry(direction));
    }

    /// Notes that an ICMP error says that the backend cannot be reached by this flow. The flow stays, as it
    /// must (RFC 5382 REQ-10), and an answer from the backend revives it; but where no connection
    /// was there yet, the client's next SYN may open another flow, to another backend.
    pub fn unreachable(&mut self, now: Instant, id: FlowId) -> Change {
        let now = self.moved_on_to(now);
        let Some(state) = self.state(id) else { return Change::Gone };
        if state != State::Opening {
            return Change::Nothing;
        }
        self.settle(now, id.index(), State::Refused);
        Change::Refused
    }

    /// Enters a state, and puts the flow where one of that state waits for its deadline.
    fn settle(&mut self, now: Instant, index: u32, next: State) {
        let deadline = self.timers.hold(tick_after(now, self.timeouts.of_state(next)));
        let Some(entry) = self.slab.entry_mut(index) else { return };
        let before = entry.state.phase();
        entry.state = next;
        let (same, phase) = (before == next.phase(), next.phase());
        // A closed flow is not refreshed, and a half-open one only once a tick.
        if same && (phase == Phase::Closed || phase == Phase::Opening && entry.deadline == low(deadline)) {
            return;
        }
        self.timers.disarm(&mut self.slab, index);
        self.timers.arm(&mut self.slab, index, phase, deadline);
    }

    /// Ends flows whose time is over, and tells `ended` of each. Looks at no more than `budget`
    /// flows; where that was not enough, [`FlowTable::next_deadline`] is a time that has passed.
    pub fn expire(&mut self, now: Instant, budget: usize, mut ended: impl FnMut(Ended)) {
        let now = self.moved_on_to(now);
        let target = tick(now);
        let mut left = budget;
        for phase in [Phase::Closed, Phase::Opening] {
            while let Some(index) = self.timers.front(phase).filter(|index| self.deadline(*index) <= target) {
                if left == 0 {
                    return;
                }
                left -= 1;
                self.end(now, index, Why::TimedOut).into_iter().for_each(&mut ended);
            }
        }
        while left > 0 {
            let Some(index) = self.timers.fire(target) else { return };
            left -= 1;
            let deadline = self.deadline(index);
            if deadline <= target {
                self.end(now, index, Why::TimedOut).into_iter().for_each(&mut ended);
            } else {
                self.timers.disarm(&mut self.slab, index);
                self.timers.arm(&mut self.slab, index, Phase::Open, deadline);
            }
        }
    }

    /// When [`FlowTable::expire`] must next be called, if ever.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_tick(&self.slab).map(instant)
    }

    /// Time only moves forward; the order of the queues and the lazy deadlines hang on that, so here it does so
    /// even if the driver's clock does not.
    #[inline]
    pub(super) fn moved_on_to(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn deadline(&self, index: u32) -> u64 {
        self.slab.entry(index).map_or(u64::MAX, |entry| self.timers.whole(entry.deadline))
    }

    /// Ends a flow at once.
    pub fn close(&mut self, now: Instant, id: FlowId) -> Option<Ended> {
        let now = self.moved_on_to(now);
        self.slab.get(id)?;
        self.end(now, id.index(), Why::Removed)
    }

    /// Takes a flow out of everything that knows it.
    pub(super) fn end(&mut self, now: Instant, index: u32, why: Why) -> Option<Ended> {
        let entry = self.slab.entry(index).filter(|entry| entry.live)?;
        let directions = [Direction::Original, Direction::Reply];
        let keys = directions.map(|direction| self.key(entry, direction));
        self.timers.disarm(&mut self.slab, index);
        let (entry, cold) = self.slab.remove(index)?;
        let shared = &*self.shared;
        self.leave_pool(&entry);
        for (direction, key) in directions.into_iter().zip(keys) {
            let place = Place { worker: self.worker, direction, entry: index };
            shared.index.remove(shared.index.key(&key?), place);
        }
        shared.clients.leave(entry.client.address);
        shared.release();
        Some(Ended {
            binding: self.binding_of(&entry),
            why,
            in_use: entry.state.phase() != Phase::Closed,
            original: entry.traffic(&cold, Direction::Original),
            reply: entry.traffic(&cold, Direction::Reply),
            lasted: duration(low(tick(now)).wrapping_sub(cold.opened)),
        })
    }

    /// Counts that the local endpoint of this flow will be free. Before its key leaves the index: see
    /// [`Uses`](super::ports::Uses).
    pub(super) fn leave_pool(&self, entry: &Entry) {
        let Shared { endpoints, uses, .. } = &*self.shared;
        let ends = (endpoints.vip(entry.vip), endpoints.backend(entry.backend));
        if let (Some((protocol, _)), Some(backend), true) = (ends.0, ends.1, entry.local.port != 0) {
            uses.take_off(backend.number, *protocol);
        }
    }

    /// Puts a new flow into the list where it waits.
    pub(super) fn begin(&mut self, now: Instant, index: u32, state: State) {
        if self.len() == 1 {
            self.timers.skip_to(tick(now));
        }
        let deadline = tick_after(now, self.timeouts.of_state(state));
        self.timers.arm(&mut self.slab, index, state.phase(), deadline);
    }

    /// Tells the shared part how much memory this part takes.
    pub(super) fn account(&mut self) {
        let memory = self.slab.memory() + self.timers.memory();
        if memory != self.memory {
            self.shared.allocated(memory - self.memory.min(memory));
            self.memory = memory;
        }
    }
}

/// A worker that goes takes its flows along; otherwise the index would name an owner that is not there.
impl Drop for FlowTable {
    fn drop(&mut self) {
        let all: Vec<u32> = self.slab.live().collect();
        self.shared.leave(all.len());
        for index in all {
            self.end(Instant::START, index, Why::Removed);
        }
        self.shared.freed(self.memory);
        self.shared.disclaim(self.worker);
    }
}

impl Change {
    /// What others have to know of a change of state.
    #[inline]
    fn between(before: State, after: State, direction: Direction) -> Self {
        if before == after {
            return Self::Nothing;
        }
        match (before.phase(), after.phase()) {
            (Phase::Closed, Phase::Closed) => Self::Nothing,
            (Phase::Closed, _) => Self::Revived,
            (Phase::Opening, Phase::Closed) if before == State::Opening && direction == Direction::Reply => {
                Self::Refused
            }
            (_, Phase::Closed) => Self::Closed,
            (Phase::Opening, Phase::Open) => Self::Established,
            (Phase::Opening, Phase::Opening) if after == State::Answered => Self::Accepted,
            (Phase::Opening | Phase::Open, Phase::Opening) | (Phase::Open, Phase::Open) => Self::Nothing,
        }
    }
}

/// The timeouts by state, in nanoseconds.
struct Nanos {
    opening: u64,
    established: u64,
    closing: u64,
    closed: u64,
    udp: u64,
}

impl Nanos {
    fn of(shared: &Shared) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let timeouts = shared.settings().timeouts;
        Self {
            opening: nanos(timeouts.tcp_opening),
            established: nanos(timeouts.tcp_established),
            closing: nanos(timeouts.tcp_closing),
            closed: nanos(timeouts.tcp_closed),
            udp: nanos(timeouts.udp),
        }
    }

    #[inline]
    fn of_state(&self, state: State) -> u64 {
        match state {
            State::Udp => self.udp,
            State::Opening | State::Answered | State::Resuming => self.opening,
            State::Established => self.established,
            State::Closing(_) => self.closing,
            State::Closed | State::Reset | State::Refused => self.closed,
        }
    }
}
