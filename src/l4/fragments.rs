//! Fragments: later ones follow the way of their first, in whatever order they come.
//!
//! Only the first fragment of a datagram has ports. What was decided about it is kept under
//! the fields that all its fragments share (RFC 791 §3.2, RFC 8200 §4.5), and applied to the rest.
//! Later ones that come before it wait. Nothing is reassembled: fragments leave as
//! they were cut, except that all of one datagram get a new identification, since datagrams of
//! several senders now share one source address (RFC 6864 §5.3.1).
//!
//! ```text
//!   first comes first   ─▶ decide, remember route ─▶ later ones take it
//!   later comes first   ─▶ wait ─▶ first comes ─▶ decide ─▶ all that wait are let go
//! ```
//!
//! All bounds are fixed: so many datagrams that wait, so many bytes that wait, so many routes,
//! and one time for both. What exceeds them pushes out the oldest of its own kind, so that a flood of
//! orphans costs no memory and takes nothing from whole packets (RFC 4787 REQ-14a).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::datapath::{BackendId, Instant, Reason, WorkerId};
use crate::packet::{Address, Family, FragmentInfo, Frame, View};

/// Datagrams that may wait for their first fragment.
const MAX_WAITING: usize = 1024;
/// Bytes of memory that waiting packets may take in all.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// Fragments of one datagram that may wait: 64 KB in pieces of 1,000 bytes.
const MAX_WAITING_EACH: usize = 64;
/// Datagrams whose route is remembered.
const MAX_ROUTES: usize = 8192;

/// What all fragments of a datagram have in common. Over IPv6 that is not the protocol: only the first one's next
/// header counts, and the others may have another (RFC 8200 §4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DatagramKey {
    source: Address,
    destination: Address,
    id: u32,
    protocol: u8,
}

impl DatagramKey {
    /// Of a fragment.
    pub fn of(view: &View, fragment: &FragmentInfo) -> Self {
        Self {
            source: view.source,
            destination: view.destination,
            id: fragment.id,
            protocol: match view.family {
                Family::V4 => fragment.protocol,
                Family::V6 => 0,
            },
        }
    }
}

/// What was decided about a datagram's first fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It belongs to a flow of this worker: these are its new addresses and identification.
    Translated {
        /// The source that its packets leave with.
        source: Address,
        /// The destination that its packets leave with.
        destination: Address,
        /// The identification that all its fragments leave with.
        id: u32,
        /// Whose traffic it is, for the counts.
        traffic: Traffic,
    },
    /// The flow lives with another worker.
    Elsewhere(WorkerId),
    /// It is a ping to a VIP, answered piece by piece.
    Echo,
    /// It is not ours, and goes on as it is.
    Unchanged,
    /// It was refused; so are the rest.
    Refused(Reason),
}

/// A backend and a direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// From a client to this backend.
    To(BackendId),
    /// From this backend to a client.
    From(BackendId),
}

/// What the table says about a later fragment.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its first fragment has been here.
    Known(Route),
    /// It was copied and waits now.
    Waits,
    /// Its datagram has more pieces waiting than one may have.
    Refused,
}

/// A fragment that had waited and was given up.
#[derive(Debug)]
pub struct GivenUp {
    /// How many packets.
    pub packets: u64,
    /// Why.
    pub reason: Reason,
}

/// The datagrams that are on their way in pieces.
#[derive(Debug)]
pub struct FragmentTable {
    lifetime: Duration,
    entries: HashMap<DatagramKey, Entry, foldhash::fast::RandomState>,
    /// In order of age. An item whose serial is not its entry's any more is stale.
    waiting: VecDeque<Aged>,
    routes: VecDeque<Aged>,
    waiting_bytes: usize,
    serial: u64,
}

#[derive(Clone, Copy, Debug)]
struct Aged {
    deadline: Instant,
    key: DatagramKey,
    serial: u64,
}

#[derive(Debug)]
struct Entry {
    serial: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Waiting(Vec<Frame>),
    Known(Route),
}

impl FragmentTable {
    /// An empty table whose entries live that long.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            entries: HashMap::default(),
            waiting: VecDeque::new(),
            routes: VecDeque::new(),
            waiting_bytes: 0,
            serial: 0,
        }
    }

    /// What was decided about this datagram, if its first fragment has been here.
    pub fn route(&self, key: &DatagramKey) -> Option<Route> {
        match self.entries.get(key)?.state {
            State::Known(route) => Some(route),
            State::Waiting(_) => None,
        }
    }

    /// Takes the route of a later fragment, or a copy of it to wait. `given_up` hears of
    /// older ones that had to make room.
    pub fn follow(
        &mut self,
        now: Instant,
        key: DatagramKey,
        frame: &Frame,
        mut given_up: impl FnMut(GivenUp),
    ) -> Fate {
        if let Some(route) = self.route(&key) {
            return Fate::Known(route);
        }
        let mut copy = Frame::copy_of(frame.packet(), frame.offload);
        copy.tags = frame.tags;
        let bytes = copy.memory();
        if !self.entries.contains_key(&key) {
            while self.waiting.len() >= MAX_WAITING || self.waiting_bytes + bytes > MAX_WAITING_BYTES {
                if !self.give_up_oldest(Reason::FragmentOverflow, &mut given_up) {
                    break;
                }
            }
            let aged = self.aged(now, key);
            self.waiting.push_back(aged);
            self.entries.insert(key, Entry { serial: aged.serial, state: State::Waiting(Vec::new()) });
        }
        match self.entries.get_mut(&key).map(|entry| &mut entry.state) {
            Some(State::Waiting(frames))
                if frames.len() < MAX_WAITING_EACH && self.waiting_bytes + bytes <= MAX_WAITING_BYTES =>
            {
                frames.push(copy);
                self.waiting_bytes += bytes;
                Fate::Waits
            }
            Some(_) | None => Fate::Refused,
        }
    }

    /// Remembers what was decided about a first fragment, and gives back the ones that had
    /// waited for it, in the order in which they came.
    pub fn decide(&mut self, now: Instant, key: DatagramKey, route: Route) -> Vec<Frame> {
        while self.routes.len() >= MAX_ROUTES {
            self.forget_oldest_route();
        }
        let aged = self.aged(now, key);
        self.routes.push_back(aged);
        let known = Entry { serial: aged.serial, state: State::Known(route) };
        match self.entries.insert(key, known).map(|entry| entry.state) {
            Some(State::Waiting(frames)) => {
                self.waiting_bytes -= bytes_of(&frames);
                frames
            }
            Some(State::Known(_)) | None => Vec::new(),
        }
    }

    /// Gives up what has waited too long. At most 64 datagrams a call.
    pub fn expire(&mut self, now: Instant, mut given_up: impl FnMut(GivenUp)) {
        for _ in 0..64 {
            if self.waiting.front().is_none_or(|oldest| oldest.deadline > now) {
                break;
            }
            self.give_up_oldest(Reason::FragmentTimeout, &mut given_up);
        }
        for _ in 0..64 {
            if self.routes.front().is_none_or(|oldest| oldest.deadline > now) {
                break;
            }
            self.forget_oldest_route();
        }
    }

    /// When [`FragmentTable::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.waiting.front(), self.routes.front()];
        deadlines.into_iter().flatten().map(|oldest| oldest.deadline).min()
    }

    fn aged(&mut self, now: Instant, key: DatagramKey) -> Aged {
        self.serial += 1;
        Aged { deadline: now + self.lifetime, key, serial: self.serial }
    }

    fn give_up_oldest(&mut self, reason: Reason, given_up: &mut impl FnMut(GivenUp)) -> bool {
        let Some(oldest) = self.waiting.pop_front() else { return false };
        if self.is_current(&oldest)
            && let Some(Entry { state: State::Waiting(frames), .. }) = self.entries.remove(&oldest.key)
        {
            self.waiting_bytes -= bytes_of(&frames);
            given_up(GivenUp { packets: frames.len() as u64, reason });
        }
        true
    }

    fn forget_oldest_route(&mut self) {
        if let Some(oldest) = self.routes.pop_front()
            && self.is_current(&oldest)
        {
            self.entries.remove(&oldest.key);
        }
    }

    fn is_current(&self, aged: &Aged) -> bool {
        self.entries.get(&aged.key).is_some_and(|entry| entry.serial == aged.serial)
    }
}

fn bytes_of(frames: &[Frame]) -> usize {
    frames.iter().map(Frame::memory).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Offload;

    fn key(id: u32) -> DatagramKey {
        let address = Address::v4([198, 51, 100, 1]);
        DatagramKey { source: address, destination: address, id, protocol: 17 }
    }

    fn frame(length: usize) -> Frame {
        Frame::copy_of(&vec![0; length], Offload::default())
    }

    const LIFETIME: Duration = Duration::from_secs(15);

    #[test]
    fn what_waits_is_let_go_in_order_when_the_first_comes() {
        let mut table = FragmentTable::new(LIFETIME);
        let now = Instant::START;
        for length in [100, 200, 300] {
            assert_eq!(table.follow(now, key(1), &frame(length), |_| unreachable!()), Fate::Waits);
        }
        let let_go = table.decide(now, key(1), Route::Echo);
        assert_eq!(let_go.iter().map(|f| f.packet().len()).collect::<Vec<_>>(), [100, 200, 300]);
        assert_eq!(table.follow(now, key(1), &frame(1), |_| unreachable!()), Fate::Known(Route::Echo));
        assert_eq!(table.waiting_bytes, 0);
    }

    #[test]
    fn a_flood_of_orphans_is_bounded_and_every_packet_is_accounted_for() {
        let mut table = FragmentTable::new(LIFETIME);
        let (mut waits, mut lost) = (0u64, 0u64);
        for id in 0..100_000 {
            let mut count = |given_up: GivenUp| {
                assert_eq!(given_up.reason, Reason::FragmentOverflow);
                lost += given_up.packets;
            };
            match table.follow(Instant::START, key(id), &frame(8000), &mut count) {
                Fate::Waits => waits += 1,
                fate => panic!("{fate:?}"),
            }
            assert!(table.waiting.len() <= MAX_WAITING && table.waiting_bytes <= MAX_WAITING_BYTES);
        }
        assert_eq!(waits, 100_000);
        while table.next_deadline().is_some() {
            table.expire(Instant::START + LIFETIME, |given_up| lost += given_up.packets);
        }
        assert_eq!(lost, 100_000);
        assert_eq!((table.entries.len(), table.waiting_bytes), (0, 0));
    }

    #[test]
    fn pieces_of_one_datagram_are_bounded() {
        let mut table = FragmentTable::new(LIFETIME);
        for _ in 0..MAX_WAITING_EACH {
            assert_eq!(table.follow(Instant::START, key(1), &frame(8), |_| ()), Fate::Waits);
        }
        assert_eq!(table.follow(Instant::START, key(1), &frame(8), |_| ()), Fate::Refused);
    }

    #[test]
    fn routes_are_forgotten_after_their_time_and_when_there_are_too_many() {
        let mut table = FragmentTable::new(LIFETIME);
        for id in 0..100_000 {
            assert!(table.decide(Instant::START, key(id), Route::Unchanged).is_empty());
            assert!(table.entries.len() <= MAX_ROUTES);
        }
        assert_eq!(table.route(&key(99_999)), Some(Route::Unchanged));
        while table.next_deadline().is_some() {
            table.expire(Instant::START + LIFETIME, |_| unreachable!());
        }
        assert_eq!(table.route(&key(99_999)), None);
        assert!(table.entries.is_empty());
    }

    #[test]
    fn a_first_fragment_seen_again_keeps_its_datagram_alive() {
        let mut table = FragmentTable::new(LIFETIME);
        let half = Instant::START + LIFETIME / 2;
        assert!(table.decide(Instant::START, key(1), Route::Echo).is_empty());
        assert!(table.decide(half, key(1), Route::Echo).is_empty());
        table.expire(Instant::START + LIFETIME, |_| unreachable!());
        assert_eq!(table.route(&key(1)), Some(Route::Echo));
    }
}
