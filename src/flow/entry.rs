//! What is remembered of one flow.

use super::binding::Direction;
use super::ports::Local;
use super::tcp::State;
use crate::datapath::{BackendId, VipId, WorkerId};
use crate::packet::Endpoint;

/// The part of a flow that every packet needs: one cache line. It holds the client, and ids for all else.
#[derive(Clone, Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    pub client: Endpoint,
    pub vip: VipId,
    pub backend: BackendId,
    pub local: Local,
    pub state: State,
    pub live: bool,
    /// When the flow ends if nothing comes: the low half of a tick's number ([`super::timers`]).
    pub deadline: u32,
    /// How often this entry has been used, so that an id of an earlier flow is not taken for this one.
    pub generation: u32,
    pub(super) tallies: [Tally; 2],
    /// The low halves; the rest is in [`Cold`].
    pub packets: [u32; 2],
}

/// The part that is needed when a flow opens, changes state or ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Cold {
    pub links: Links,
    /// When the flow was opened: the low half of a tick's number.
    pub opened: u32,
    pub packets: [u16; 2],
}

/// Neighbours in the list that an entry is in. In a free entry, `next` is the next free one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    pub previous: u32,
    pub next: u32,
}

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 64, "an entry is one cache line");
const _: () = assert!(size_of::<Cold>() == 16, "128 bytes a flow are 64 + 16, 32 in the index, and some");

/// What one direction of a flow has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Packets; a large segment counts once.
    pub packets: u64,
    /// Bytes of those, as the caller counted them.
    pub bytes: u64,
}

impl Entry {
    /// A flow that has carried nothing yet.
    pub fn new(client: Endpoint, vip: VipId, backend: BackendId, local: Local, state: State) -> Self {
        Self {
            client,
            vip,
            backend,
            local,
            state,
            live: true,
            deadline: 0,
            generation: 0,
            tallies: [Tally::default(); 2],
            packets: [0; 2],
        }
    }

    /// An entry of no flow.
    pub fn vacant() -> Self {
        let nobody = Endpoint { address: crate::packet::Address::v6([0; 16]), port: 0 };
        let vacant = Self::new(nobody, VipId(0), BackendId(0), Local::default(), State::Closed);
        Self { live: false, ..vacant }
    }

    /// Counts a packet; says whether the low half of the number of packets has overflowed, so that [`Cold::carry`] must follow.
    #[inline]
    pub fn count(&mut self, direction: Direction, bytes: u64) -> bool {
        self.tallies[direction as usize].add(bytes);
        let packets = &mut self.packets[direction as usize];
        *packets = packets.wrapping_add(1);
        *packets == 0
    }

    /// Whether nothing of this direction has been counted. (Or 2³² packets have, which is as good as nothing to those who ask.)
    #[inline]
    pub fn is_silent(&self, direction: Direction) -> bool {
        self.packets[direction as usize] == 0
    }

    /// Whether the last packet of this direction came by that queue.
    #[inline]
    pub fn is_on(&self, direction: Direction, queue: WorkerId) -> bool {
        self.tallies[direction as usize].is_on(queue)
    }

    /// How the last packet of this direction came.
    pub fn came_by(&self, direction: Direction) -> CameBy {
        self.tallies[direction as usize].came_by()
    }

    /// Notes how the last packet of this direction came.
    pub fn set_came_by(&mut self, direction: Direction, came_by: CameBy) {
        self.tallies[direction as usize].set_came_by(came_by);
    }

    /// What a direction has carried.
    pub fn traffic(&self, cold: &Cold, direction: Direction) -> Traffic {
        let high = u64::from(cold.packets[direction as usize]);
        Traffic {
            packets: high << 32 | u64::from(self.packets[direction as usize]),
            bytes: self.tallies[direction as usize].bytes(),
        }
    }
}

impl Cold {
    /// Counts 2³² packets.
    pub fn carry(&mut self, direction: Direction) {
        let high = &mut self.packets[direction as usize];
        *high = high.saturating_add(1);
    }
}

/// By which worker's queue the packets of one direction of a flow come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CameBy {
    /// None has come.
    None,
    /// The last one came by this worker's.
    Queue(WorkerId),
    /// Some wait until those before them have come by another queue: whoever lets them wait knows more.
    Waits,
}

/// Bytes of one direction, and above them in one byte how the last packet of it came: the entry has no room for
/// two words, and this one is written for each packet anyway. 56 bits of bytes are 72 petabytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally(u64);

impl Tally {
    const SHIFT: u32 = 56;
    const MOST: u64 = (1 << Self::SHIFT) - 1;
    /// No worker has a number of [`WorkerId::MAX`] or more.
    const NONE: u64 = 0xff;
    const WAITS: u64 = 0xfe;

    #[inline]
    fn add(&mut self, bytes: u64) {
        let sum = self.bytes().saturating_add(bytes).min(Self::MOST);
        self.0 = self.0 & !Self::MOST | sum;
    }

    #[inline]
    const fn bytes(self) -> u64 {
        self.0 & Self::MOST
    }

    #[inline]
    fn is_on(self, queue: WorkerId) -> bool {
        self.0 >> Self::SHIFT == u64::from(queue.0)
    }

    fn came_by(self) -> CameBy {
        match self.0 >> Self::SHIFT {
            Self::NONE => CameBy::None,
            Self::WAITS => CameBy::Waits,
            queue => u8::try_from(queue).map_or(CameBy::None, |queue| CameBy::Queue(WorkerId(queue))),
        }
    }

    fn set_came_by(&mut self, came_by: CameBy) {
        let came_by = match came_by {
            CameBy::None => Self::NONE,
            CameBy::Waits => Self::WAITS,
            CameBy::Queue(queue) => u64::from(queue.0),
        };
        self.0 = came_by << Self::SHIFT | self.bytes();
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self(Self::NONE << Self::SHIFT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_the_queue_leave_each_other_alone() {
        let mut tally = Tally::default();
        assert_eq!((tally.bytes(), tally.came_by()), (0, CameBy::None));
        for came_by in [CameBy::Queue(WorkerId(0)), CameBy::Queue(WorkerId(63)), CameBy::Waits, CameBy::None]
        {
            let before = tally.bytes();
            tally.set_came_by(came_by);
            tally.add(1500);
            assert_eq!((tally.bytes(), tally.came_by()), (before + 1500, came_by));
            for queue in (0..64).map(WorkerId) {
                assert_eq!(tally.is_on(queue), came_by == CameBy::Queue(queue));
            }
        }
        tally.set_came_by(CameBy::Queue(WorkerId(5)));
        for more in [u64::MAX, 1] {
            tally.add(more);
            assert_eq!((tally.bytes(), tally.came_by()), (Tally::MOST, CameBy::Queue(WorkerId(5))));
        }
    }

    #[test]
    fn packets_are_counted_past_32_bits() {
        let (mut entry, mut cold) = (Entry::vacant(), Cold::default());
        entry.packets = [u32::MAX - 1, 0];
        for _ in 0..3 {
            if entry.count(Direction::Original, 1000) {
                cold.carry(Direction::Original);
            }
        }
        let want = Traffic { packets: (1 << 32) + 1, bytes: 3000 };
        assert_eq!(entry.traffic(&cold, Direction::Original), want);
        assert_eq!(entry.traffic(&cold, Direction::Reply), Traffic::default());
    }
}
