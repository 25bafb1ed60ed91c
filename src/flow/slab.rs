//! One worker's entries, in chunks that are allocated as they are needed and never move.
//!
//! ```text
//!   number  0 … 4095   4096 … 8191   …        entries: 64 bytes each, what every packet needs
//!           [chunk 0]  [chunk 1]              cold:    16 bytes each, beside them
//!              ▲ free ── next ──▶ free ── next ──▶ none
//! ```
//!
//! The last entry that was freed is the first to be used again, since its lines are likely to be in the
//! cache. Memory is kept for the next rush; it is bounded, as the number of flows is.

use super::entry::{Cold, Entry, Links};
use super::settings::Settings;

/// Entries in a chunk.
const CHUNK: usize = 4096;

/// The end of the list of free entries.
const NONE: u32 = u32::MAX;

/// Names a flow of one worker's table, and no other one ever: an id that is kept after its flow has ended finds
/// nothing. (A generation has 32 bits; whoever kept an id while its entry was used another
/// 2³² times would be wrong. At a million new flows a second, all in that one entry, that is over an hour.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    index: u32,
    generation: u32,
}

impl FlowId {
    /// The same as one number: the entry's, and in the upper half how many flows had it before.
    pub fn number(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// An id that names no flow, for tests that only compare them.
    #[cfg(test)]
    pub(crate) fn of_test(index: u32) -> Self {
        Self { index, generation: 0 }
    }

    /// The number of the entry.
    pub(super) fn index(self) -> u32 {
        self.index
    }
}

pub(super) struct Slab {
    entries: Vec<Box<[Entry; CHUNK]>>,
    cold: Vec<Box<[Cold; CHUNK]>>,
    free: u32,
    len: u32,
}

impl Slab {
    pub const fn new() -> Self {
        Self { entries: Vec::new(), cold: Vec::new(), free: NONE, len: 0 }
    }

    /// How many flows are in it.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        let chunk = size_of::<[Entry; CHUNK]>() + size_of::<[Cold; CHUNK]>();
        let lists = self.entries.capacity() + self.cold.capacity();
        self.entries.len() * chunk + lists * size_of::<usize>()
    }

    /// Puts a flow in; `None` when all numbers are taken, which the limit on flows rules out.
    pub fn insert(&mut self, entry: &Entry, opened: u32) -> Option<FlowId> {
        if self.free == NONE {
            self.grow()?;
        }
        let index = self.free;
        let next = self.cold(index)?.links.next;
        let place = self.entry_mut(index)?;
        let generation = place.generation;
        *place = Entry { generation, ..entry.clone() };
        *self.cold_mut(index)? = Cold { opened, ..Cold::default() };
        self.free = next;
        self.len += 1;
        Some(FlowId { index, generation })
    }

    /// Takes a flow out; the caller has unlinked it.
    pub fn remove(&mut self, index: u32) -> Option<(Entry, Cold)> {
        let free = self.free;
        let entry = self.entry_mut(index).filter(|entry| entry.live)?;
        let removed = entry.clone();
        entry.live = false;
        entry.generation = entry.generation.wrapping_add(1);
        let cold = self.cold_mut(index)?;
        let removed = (removed, cold.clone());
        cold.links.next = free;
        self.free = index;
        self.len -= 1;
        Some(removed)
    }

    fn grow(&mut self) -> Option<()> {
        let first = u32::try_from(self.entries.len() * CHUNK).ok().filter(|n| *n < Settings::MOST_FLOWS)?;
        let mut cold = vec![Cold::default(); CHUNK];
        for (next, cold) in (first + 1..).zip(&mut cold) {
            cold.links.next = next;
        }
        cold.last_mut()?.links.next = NONE;
        let entries = vec![Entry::vacant(); CHUNK].into_boxed_slice();
        self.entries.push(entries.try_into().ok()?);
        self.cold.push(cold.into_boxed_slice().try_into().ok()?);
        self.free = first;
        Some(())
    }

    /// The flow of this id, unless it has ended.
    #[inline]
    pub fn get(&self, id: FlowId) -> Option<&Entry> {
        self.entry(id.index).filter(|entry| entry.generation == id.generation)
    }

    /// The flow of this id, to be changed.
    #[inline]
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut Entry> {
        self.entry_mut(id.index).filter(|entry| entry.generation == id.generation)
    }

    /// The id of the flow in this entry.
    #[inline]
    pub fn id(&self, index: u32) -> Option<FlowId> {
        self.entry(index).map(|entry| FlowId { index, generation: entry.generation })
    }

    #[inline]
    pub fn entry(&self, index: u32) -> Option<&Entry> {
        self.entries.get(index as usize / CHUNK).map(|chunk| &chunk[index as usize % CHUNK])
    }

    #[inline]
    pub fn entry_mut(&mut self, index: u32) -> Option<&mut Entry> {
        self.entries.get_mut(index as usize / CHUNK).map(|chunk| &mut chunk[index as usize % CHUNK])
    }

    pub fn cold(&self, index: u32) -> Option<&Cold> {
        self.cold.get(index as usize / CHUNK).map(|chunk| &chunk[index as usize % CHUNK])
    }

    pub fn cold_mut(&mut self, index: u32) -> Option<&mut Cold> {
        self.cold.get_mut(index as usize / CHUNK).map(|chunk| &mut chunk[index as usize % CHUNK])
    }

    /// The neighbours of an entry.
    pub fn links_mut(&mut self, index: u32) -> Option<&mut Links> {
        self.cold_mut(index).map(|cold| &mut cold.links)
    }

    /// The entries of all flows.
    pub fn live(&self) -> impl Iterator<Item = u32> + '_ {
        let all = self.entries.iter().flat_map(|chunk| chunk.iter());
        (0..).zip(all).filter(|(_, entry)| entry.live).map(|(index, _)| index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(slab: &mut Slab) -> FlowId {
        slab.insert(&Entry { live: true, ..Entry::vacant() }, 0).unwrap()
    }

    #[test]
    fn an_id_of_a_flow_that_has_ended_finds_nothing() {
        let mut slab = Slab::new();
        let old = insert(&mut slab);
        assert!(slab.get(old).is_some());
        assert!(slab.remove(old.index).is_some());
        assert!(slab.get(old).is_none());
        let new = insert(&mut slab);
        assert_eq!(old.index, new.index, "the entry is used again");
        assert!(slab.get(old).is_none() && slab.get_mut(old).is_none() && slab.get(new).is_some());
    }

    #[test]
    fn entries_are_reused_before_more_are_allocated() {
        let mut slab = Slab::new();
        let ids: Vec<FlowId> = (0..=CHUNK).map(|_| insert(&mut slab)).collect();
        let memory = slab.memory();
        assert!(memory > 2 * CHUNK * 80);
        assert_eq!(ids.iter().map(|id| id.index).collect::<Vec<_>>(), (0..4097).collect::<Vec<_>>());
        for id in &ids {
            assert!(slab.remove(id.index).is_some());
            assert!(slab.remove(id.index).is_none(), "once only");
        }
        assert_eq!((slab.len(), slab.live().count()), (0, 0));
        for _ in 0..2 * CHUNK {
            insert(&mut slab);
        }
        assert_eq!((slab.memory(), slab.len() as usize), (memory, 2 * CHUNK));
    }

    #[test]
    fn an_entry_that_was_never_allocated_is_no_flow() {
        let mut slab = Slab::new();
        assert!(slab.entry(0).is_none() && slab.remove(5).is_none());
        insert(&mut slab);
        assert!(slab.remove(1).is_none());
        assert!(slab.entry(u32::MAX).is_none());
    }
}
