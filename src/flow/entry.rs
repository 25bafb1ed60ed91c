//! What is remembered of one flow.

use super::binding::Direction;
use super::ports::Local;
use super::tcp::State;
use crate::datapath::{BackendId, VipId};
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
    pub bytes: [u64; 2],
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
            bytes: [0; 2],
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
        let sum = &mut self.bytes[direction as usize];
        *sum = sum.saturating_add(bytes);
        let packets = &mut self.packets[direction as usize];
        *packets = packets.wrapping_add(1);
        *packets == 0
    }

    /// Whether nothing of this direction has been counted. (Or 2³² packets have, which is as good as nothing to those who ask.)
    #[inline]
    pub fn is_silent(&self, direction: Direction) -> bool {
        self.packets[direction as usize] == 0
    }

    /// What a direction has carried.
    pub fn traffic(&self, cold: &Cold, direction: Direction) -> Traffic {
        let high = u64::from(cold.packets[direction as usize]);
        Traffic {
            packets: high << 32 | u64::from(self.packets[direction as usize]),
            bytes: self.bytes[direction as usize],
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

#[cfg(test)]
mod tests {
    use super::*;

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
