//! Opening a flow: both of its keys, or nothing.
//!
//! ```text
//!   lock the original key ─▶ look again ─▶ count the client ─▶ an entry ──────╮
//!                                                                             │
//!           unlock ◀─ enter the original key ◀─ count the flow ◀─ unlock ◀─ enter ◀─ look ◀─ lock a reply key
//!                                                                             └── taken: the next local endpoint
//! ```
//!
//! Two workers that get the first packets of one flow at once both come here; the lock lets one look, find nothing and
//! enter its key, and the other then finds that. Reply keys have locks of their own, each held for one look and one
//! insertion, and never while another lock is awaited, so there can be no deadlock.
//!
//! An original key and a reply key are never the same tuple: the former leads to a VIP, while the latter leads to a
//! local address, which is no VIP's ([`Shared::new`](super::Shared::new)), or to a client, which is no VIP either
//! (checked here). So two kinds of locks are enough for one index.
//!
//! **When the table is full**, this worker's oldest closed flow gives way, else its half-open flow that has
//! been silent longest, if that is at least [`HANDSHAKE`] old; else the new flow is refused. RFC 6888 REQ-11 forbids
//! to delete mappings in use to make room. These are not in use: a closed flow has both FINs or a RST behind it and is
//! kept for stragglers; a half-open one has carried no data yet and has had a handshake's time. If it did
//! live, its client's next SYN opens it again. Without this rule a flood of SYNs from invented addresses
//! would lock everybody out for the four minutes that RFC 5382 REQ-5 gives to half-open flows. With it, one of less than
//! a fifth of the table a second locks nobody out.
//!
//! **When a client has as many flows as it may have**, its oldest closed flow of this worker gives way, if it is among
//! the [`LOOKED_AT`] oldest. Else a client that opens and closes one connection after the other would be refused for
//! flows that are over, each kept for four minutes.
//!
//! **When the pool is used up** towards a backend, the oldest of this worker's closed flows to it gives way with its
//! port, if there is one among the [`LOOKED_AT`] oldest. That is the port that has rested longest, so
//! the backend's TIME-WAIT is the likeliest to be over (RFC 6888 REQ-8 asks for a rest, and lets it be cut short).

use rand::Rng;

use super::binding::Direction;
use super::clients::Clients;
use super::endpoints::Backend;
use super::entry::Entry;
use super::index::{Full, Key, Place};
use super::ports::Local;
use super::slab::FlowId;
use super::table::{Ended, FlowTable, Lookup, Why};
use super::tcp::{Phase, State};
use super::timers::{low, tick};
use crate::datapath::{BackendId, Instant, Nat, VipId, WorkerId, WorkerSet};
use crate::packet::{Address, Endpoint, FiveTuple, Protocol};

/// The time that a handshake gets before its flow may have to give way: SYNs are sent again after 1 s and 3 s
/// (RFC 6298 §2, §5.5), so by then three of them have had no answer. In ticks of 250 ms.
const HANDSHAKE: u32 = 5 * 4;

/// How many closed flows are looked at for one whose port can be taken over, or that is the client's own.
const LOOKED_AT: usize = 16;

/// A flow to be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewFlow {
    /// Who opens it.
    pub client: Endpoint,
    /// The VIP that the client sends to.
    pub vip: VipId,
    /// The backend that it gets.
    pub backend: BackendId,
    /// What the backend will see.
    pub nat: Nat,
}

/// Why a flow was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There are as many flows as there may be, and none that can give way.
    #[error("the flow table is full")]
    TableFull,
    /// The client has as many flows as one may have.
    #[error("the client has as many flows as one may have")]
    ClientLimit,
    /// Every local endpoint that was tried is in use towards this backend.
    #[error("no local port is free towards the backend")]
    NoLocalPort,
    /// One of the tuples belongs to another flow: in DNAT, the same client endpoint reaches the same
    /// backend through another VIP. Or the client's address is a VIP's.
    #[error("the tuple belongs to another flow")]
    InUse,
    /// Another worker has the flow, or has just opened it: hand the frame over. If the frame has been there
    /// already, drop it: either the flow has just ended, or two tuples look alike; the client will try again.
    #[error("worker {0} has this flow")]
    Elsewhere(WorkerId),
    /// There is no such VIP or backend here, or they are of different families. The caller's mistake.
    #[error("the VIP and the backend do not go together")]
    Mismatch,
}

impl FlowTable {
    /// Opens a flow, and makes this worker its owner. The packet that opens it must then be observed as any
    /// other: until then the flow counts as half-open.
    ///
    /// A flow of this client and VIP that is over is replaced, even where the new one then finds no room. `ended`
    /// is told of the flows that end by this: one that is replaced, those that give way.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why there is no flow; nothing of it is left then.
    pub fn open(
        &mut self,
        now: Instant,
        new: NewFlow,
        chance: &mut impl Rng,
        mut ended: impl FnMut(Ended),
    ) -> Result<FlowId, OpenError> {
        let now = self.moved_on_to(now);
        // The lock below is held while the rest of `self` changes.
        let shared = self.shared.clone();
        let (protocol, vip) = *shared.endpoints.vip(new.vip).ok_or(OpenError::Mismatch)?;
        let backend = shared.endpoints.backend(new.backend).ok_or(OpenError::Mismatch)?;
        let families = [new.client, vip, backend.endpoint].map(|endpoint| endpoint.address.family());
        if families != [families[0]; 3] {
            return Err(OpenError::Mismatch);
        }
        if shared.endpoints.is_vip_address(new.client.address) {
            return Err(OpenError::InUse);
        }
        let original = FiveTuple { protocol, source: new.client, destination: vip };
        let key = shared.index.key(&original);
        let lock = shared.originals.lock(key);

        let before = self.replace(now, key, &original, &mut ended)?;
        let client = new.client.address;
        if !shared.clients.enter(client) {
            self.closed_of_client(now, client, &mut ended);
            // There may have been none; or another worker's packet of this client was quicker.
            if !shared.clients.enter(client) {
                return Err(OpenError::ClientLimit);
            }
        }
        let opening = Opening { now, new, protocol, backend: *backend, before };
        let opened = self.enter(&opening, key, chance, &mut ended);
        if opened.is_err() {
            shared.clients.leave(client);
        }
        drop(lock);
        self.account();
        opened
    }

    /// Makes sure that nobody has the key. Ends the flow that has it if it is this worker's and over, and gives its local endpoint.
    fn replace(
        &mut self,
        now: Instant,
        key: Key,
        original: &FiveTuple,
        ended: &mut impl FnMut(Ended),
    ) -> Result<Option<Local>, OpenError> {
        match self.find_key(key, original, WorkerSet::default()) {
            Lookup::Nowhere => Ok(None),
            Lookup::Elsewhere(worker) => Err(OpenError::Elsewhere(worker)),
            Lookup::Here(id, Direction::Original) if self.state(id).is_some_and(State::is_over) => {
                let local = self.slab.get(id).map(|entry| entry.local);
                self.end(now, id.index(), Why::Replaced).into_iter().for_each(ended);
                Ok(local.filter(|local| local.port != 0))
            }
            Lookup::Here(..) => Err(OpenError::InUse),
        }
    }

    /// Takes an entry and both keys and counts the flow, or gives all back.
    fn enter(
        &mut self,
        opening: &Opening,
        original: Key,
        chance: &mut impl Rng,
        ended: &mut impl FnMut(Ended),
    ) -> Result<FlowId, OpenError> {
        let Opening { now, new, .. } = *opening;
        let state = match opening.protocol {
            Protocol::Tcp => State::Opening,
            Protocol::Udp => State::Udp,
        };
        let entry = Entry::new(new.client, new.vip, new.backend, Local::default(), state);
        let id = self.slab.insert(&entry, low(tick(now))).ok_or(OpenError::TableFull)?;
        let entered = self.enter_reply(opening, id, chance, ended).and_then(|reply| {
            let entered = self.enter_original(now, id, original, ended);
            if entered.is_err() {
                self.slab.get(id).into_iter().for_each(|entry| self.leave_pool(entry));
                self.shared.index.remove(reply, self.place(id, Direction::Reply));
            }
            entered
        });
        match entered {
            Ok(()) => self.begin(now, id.index(), state),
            Err(_) => drop(self.slab.remove(id.index())),
        }
        entered.map(|()| id)
    }

    /// Counts the flow, and enters its original key.
    fn enter_original(
        &mut self,
        now: Instant,
        id: FlowId,
        key: Key,
        ended: &mut impl FnMut(Ended),
    ) -> Result<(), OpenError> {
        if !self.shared.reserve() && !self.reclaim(now, ended) {
            return Err(OpenError::TableFull);
        }
        self.shared.index.insert(key, self.place(id, Direction::Original)).map_err(|Full| {
            self.shared.release();
            OpenError::TableFull
        })
    }

    /// Ends one flow that can give way, and counts a new one in its place. See the [module](self).
    fn reclaim(&mut self, now: Instant, ended: &mut impl FnMut(Ended)) -> bool {
        let age =
            |index: &u32| self.slab.cold(*index).map_or(0, |cold| low(tick(now)).wrapping_sub(cold.opened));
        let closed = self.timers.front(Phase::Closed);
        let half_open = || self.timers.front(Phase::Opening).filter(|index| age(index) >= HANDSHAKE);
        let Some(index) = closed.or_else(half_open) else { return false };
        self.end(now, index, Why::Reclaimed).into_iter().for_each(ended);
        // Another worker may have been quicker; then the table is full again.
        self.shared.reserve()
    }

    /// Ends a closed flow of this client, if one is among the oldest.
    fn closed_of_client(&mut self, now: Instant, client: Address, ended: &mut impl FnMut(Ended)) {
        let own = self.timers.closed(&self.slab).take(LOOKED_AT).find(|index| {
            let entry = self.slab.entry(*index);
            entry.is_some_and(|entry| Clients::same(entry.client.address, client))
        });
        if let Some(index) = own {
            self.end(now, index, Why::Reclaimed).into_iter().for_each(ended);
        }
    }

    /// Finds a reply key that nobody has, and enters it.
    fn enter_reply(
        &mut self,
        opening: &Opening,
        id: FlowId,
        chance: &mut impl Rng,
        ended: &mut impl FnMut(Ended),
    ) -> Result<Key, OpenError> {
        if opening.new.nat == Nat::Dnat {
            return self.try_reply(opening, id, opening.new.client).unwrap_or(Err(OpenError::InUse));
        }
        let found = self.free_local(opening, id, chance);
        let (local, entered) = match found {
            Some(found) => found,
            None => self.closed_local(opening, id, ended).ok_or(OpenError::NoLocalPort)?,
        };
        let key = entered?;
        self.shared.uses.add(opening.backend.number, opening.protocol);
        self.slab.get_mut(id).into_iter().for_each(|entry| entry.local = local);
        Ok(key)
    }

    /// Enters the reply key of a local endpoint that nobody has.
    fn free_local(
        &self,
        opening: &Opening,
        id: FlowId,
        chance: &mut impl Rng,
    ) -> Option<(Local, Result<Key, OpenError>)> {
        let (pool, uses) = (&self.shared.pool, &self.shared.uses);
        let family = opening.new.client.address.family();
        if uses.exhaust(opening.backend.number, opening.protocol, pool.capacity(family)) {
            return None;
        }
        // What an earlier flow of this tuple was sent from comes last: the backend may still be in
        // TIME-WAIT there.
        let candidates = pool.candidates(family, chance).filter(|local| Some(*local) != opening.before);
        candidates.chain(opening.before).find_map(|local| Some((local, self.try_local(opening, id, local)?)))
    }

    /// Enters the reply key of a local endpoint that a closed flow had, which ends.
    fn closed_local(
        &mut self,
        opening: &Opening,
        id: FlowId,
        ended: &mut impl FnMut(Ended),
    ) -> Option<(Local, Result<Key, OpenError>)> {
        let endpoints = &self.shared.endpoints;
        let index = self.timers.closed(&self.slab).take(LOOKED_AT).find(|index| {
            self.slab.entry(*index).is_some_and(|entry| {
                let backend = endpoints.backend(entry.backend).map(|backend| backend.number);
                let protocol = endpoints.vip(entry.vip).map(|(protocol, _)| *protocol);
                let same = (backend, protocol) == (Some(opening.backend.number), Some(opening.protocol));
                same && entry.local.port != 0
            })
        })?;
        let local = self.slab.entry(index)?.local;
        self.end(opening.now, index, Why::Reclaimed).into_iter().for_each(ended);
        Some((local, self.try_local(opening, id, local)?))
    }

    /// Enters the reply key that a local endpoint makes; `None` if that is taken.
    fn try_local(&self, opening: &Opening, id: FlowId, local: Local) -> Option<Result<Key, OpenError>> {
        self.try_reply(opening, id, self.shared.pool.endpoint(local)?)
    }

    /// Enters the reply key of a flow that the backend sees coming from `source`, unless it is taken, which
    /// gives `None`. A word of another worker cannot be looked into from here, so a likeness counts as
    /// taken: once in 2³² a free port is passed over.
    fn try_reply(&self, opening: &Opening, id: FlowId, source: Endpoint) -> Option<Result<Key, OpenError>> {
        let Opening { protocol, backend, .. } = *opening;
        let tuple = FiveTuple { protocol, source: backend.endpoint, destination: source };
        let index = &self.shared.index;
        let key = index.key(&tuple);
        let _lock = self.shared.replies.lock(key);
        let taken = index.find_map(key, |place| {
            let mine = place.worker == self.worker;
            (!mine || self.verified(place, &tuple).is_some()).then_some(())
        });
        if taken.is_some() {
            return None;
        }
        let entered = index.insert(key, self.place(id, Direction::Reply));
        Some(entered.map(|()| key).map_err(|Full| OpenError::TableFull))
    }

    fn place(&self, id: FlowId, direction: Direction) -> Place {
        Place { worker: self.worker, direction, entry: id.index() }
    }
}

/// What is known of a flow while it is being opened.
#[derive(Clone, Copy)]
struct Opening {
    now: Instant,
    new: NewFlow,
    protocol: Protocol,
    backend: Backend,
    /// What an earlier flow of the same tuple was sent from.
    before: Option<Local>,
}
