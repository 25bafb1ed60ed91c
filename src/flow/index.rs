//! The index that all workers share: from a five-tuple to the worker and the entry that have it.
//!
//! ```text
//!                        ┌── bucket: one cache line, eight slots ──┐
//!   tuple ─ hash ─┬─▶ first   [ word ][ word ][  0  ][ word ] …
//!                 ├─▶ second  [  0  ][ word ] …
//!                 └─▶ tag                 │
//!                                         ▼
//!                       │ tag 32 │ worker 6 │ direction 1 │ entry 25 │      0: empty
//! ```
//!
//! Every flow has two words here, one for each key. A word names the worker that owns the flow, the number of its entry, and
//! which of its two keys it stands for; the key itself is in the entry, which only the owner may look at. So a
//! word that is mine is a fact once my entry agrees, and a word that is another's is a hint, right but for
//! one in 2³² for each word looked at: the frame is handed over, and the owner knows for certain.
//!
//! **Where a word goes.** Into the first bucket while that has few, else into the emptier of the
//! two. (The emptier of two always would find 63 % of the keys in the first bucket; this rule finds
//! 76 % there in a full table, nearly all in one that is half full, and fails no oftener, which means not
//! at all in 10⁷ insertions.) Both full is the same to the caller as a full table.
//!
//! **Why relaxed atomics suffice.** Nothing hangs on a word but itself: no other memory is published
//! by it, since nobody reads another worker's entries. A worker sees its own stores in order. For
//! opening, what must not happen is two words for one key; both openers hold the key's lock
//! ([`Stripes`]) from looking to inserting, and the lock orders the first one's insertion before
//! the second one's look. Removal takes no lock: whoever still sees the word is sent to the owner, and
//! learns there that the flow is gone. Slots are taken by compare-and-swap, so two keys never take
//! the same one.

use std::hash::Hasher;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

use super::binding::Direction;
use crate::datapath::WorkerId;
use crate::packet::FiveTuple;

/// Slots in a bucket: as many as a cache line has words.
const SLOTS: usize = 8;

/// A key's first bucket is taken while it holds fewer words than this.
const FEW: u32 = 5;

/// A small table gets more room than it needs, so that chance cannot fill two of its buckets.
const FEWEST_BUCKETS: usize = 64;

#[derive(Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

impl Bucket {
    #[inline]
    fn words(&self) -> [u64; SLOTS] {
        std::array::from_fn(|slot| self.0[slot].load(Relaxed))
    }

    fn load(&self) -> u32 {
        self.words().iter().map(|word| u32::from(*word != 0)).sum()
    }
}

/// What stands in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word(u64);

/// What a word says of its key: whose flow it is, and which of the flow's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub worker: WorkerId,
    pub direction: Direction,
    pub entry: u32,
}

impl Word {
    const ENTRY_BITS: u32 = 25;
    const DIRECTION: u64 = 1 << Self::ENTRY_BITS;
    const WORKER_AT: u32 = Self::ENTRY_BITS + 1;

    fn new(tag: u32, place: Place) -> Self {
        let Place { worker, direction, entry } = place;
        let worker = u64::from(worker.0 & 0x3f) << Self::WORKER_AT;
        let direction = (direction as u64) << Self::ENTRY_BITS;
        Self(u64::from(tag) << 32 | worker | direction | u64::from(entry) & (Self::DIRECTION - 1))
    }

    #[inline]
    const fn tag(self) -> u32 {
        (self.0 >> 32) as u32
    }

    #[inline]
    const fn place(self) -> Place {
        Place {
            worker: WorkerId((self.0 >> Self::WORKER_AT & 0x3f) as u8),
            direction: if self.0 & Self::DIRECTION == 0 { Direction::Original } else { Direction::Reply },
            entry: (self.0 & (Self::DIRECTION - 1)) as u32,
        }
    }
}

/// Where a tuple's word may be, and how to know it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    first: usize,
    second: usize,
    tag: u32,
}

/// Both of a key's buckets are full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The shared index. See the [module](self).
pub(super) struct Index {
    buckets: Box<[Bucket]>,
    seed: u64,
    shared_seed: SharedSeed,
}

impl Index {
    /// An index for `flows` flows, two words each, that is then half full. The seed must not be known to
    /// who sends packets: it decides which tuples collide.
    pub fn new(flows: u32, seed: u64) -> Self {
        let buckets = (flows as usize * 2 * 2).div_ceil(SLOTS).max(FEWEST_BUCKETS);
        Self {
            buckets: (0..buckets).map(|_| Bucket::default()).collect(),
            seed: seed.rotate_left(32),
            shared_seed: SharedSeed::from_u64(seed),
        }
    }

    /// Where `tuple` is, if it is here. The halves of one 64-bit hash choose the buckets. Whatever one
    /// half says about another key in a bucket, the other half is still unknown; so the tag is both.
    #[inline]
    pub fn key(&self, tuple: &FiveTuple) -> Key {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.shared_seed);
        hasher.write_u128(u128::from_le_bytes(tuple.source.address.octets()));
        hasher.write_u128(u128::from_le_bytes(tuple.destination.address.octets()));
        hasher.write_u64(
            u64::from(tuple.source.port)
                | u64::from(tuple.destination.port) << 16
                | (tuple.protocol as u64) << 32,
        );
        let hash = hasher.finish();
        let (low, high) = (hash & 0xffff_ffff, hash >> 32);
        let buckets = self.buckets.len();
        let first = ((low * buckets as u64) >> 32) as usize;
        let second = ((high * buckets as u64) >> 32) as usize;
        Key {
            first,
            second: if first == second { (first + 1) % buckets } else { second },
            tag: (((low ^ high) & 0xffff_ffff) as u32).max(1),
        }
    }

    #[inline]
    fn bucket(&self, number: usize) -> &Bucket {
        &self.buckets[number]
    }

    /// Calls `look` with the places that may be this key's, until it gives something.
    #[inline]
    pub fn find_map<R>(&self, key: Key, mut look: impl FnMut(Place) -> Option<R>) -> Option<R> {
        for number in [key.first, key.second] {
            let words = self.bucket(number).words();
            // Compare all eight before branching: where the match stands is chance, and a branch
            // on it would be mispredicted nearly always.
            let mut matches = 0u32;
            for (slot, word) in words.iter().enumerate() {
                matches |= u32::from(Word(*word).tag() == key.tag) << slot;
            }
            while matches != 0 {
                let slot = matches.trailing_zeros() as usize;
                matches &= matches - 1;
                if let Some(found) = look(Word(words[slot % SLOTS]).place()) {
                    return Some(found);
                }
            }
        }
        None
    }

    /// Puts a word in for this key. The caller has made sure, under the key's lock, that it has none.
    pub fn insert(&self, key: Key, place: Place) -> Result<(), Full> {
        let word = Word::new(key.tag, place).0;
        let (first, second) = (self.bucket(key.first), self.bucket(key.second));
        loop {
            let load = first.load();
            let bucket = if load < FEW || load <= second.load() { first } else { second };
            let slot = bucket.0.iter().find(|slot| slot.load(Relaxed) == 0).ok_or(Full)?;
            if slot.compare_exchange(0, word, Relaxed, Relaxed).is_ok() {
                return Ok(());
            }
        }
    }

    /// Takes a key's word out again. Only the worker in it may do that.
    pub fn remove(&self, key: Key, place: Place) {
        let word = Word::new(key.tag, place).0;
        let slots = [key.first, key.second].into_iter().flat_map(|number| &self.bucket(number).0);
        let slot = slots.into_iter().find(|slot| slot.load(Relaxed) == word);
        debug_assert!(slot.is_some(), "both keys of a live flow are in the index");
        if let Some(slot) = slot {
            slot.store(0, Relaxed);
        }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// How many words there are, counted one by one.
    #[cfg(test)]
    pub fn words(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.load() as usize).sum()
    }
}

/// Locks over keys: whoever opens a flow holds its key's lock, so that no other worker opens it too.
pub(super) struct Stripes(Box<[Stripe]>);

#[derive(Default)]
#[repr(align(64))]
struct Stripe(Mutex<()>);

impl Stripes {
    const COUNT: usize = 256;

    pub fn new() -> Self {
        Self((0..Self::COUNT).map(|_| Stripe::default()).collect())
    }

    /// Locks this key, and those that share its stripe. There is nothing behind the lock that
    /// could be left half done, so one that a panic has poisoned is as good as new.
    pub fn lock(&self, key: Key) -> MutexGuard<'_, ()> {
        self.0[key.tag as usize % Self::COUNT].0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that they take.
    pub fn memory(&self) -> usize {
        self.0.len() * size_of::<Stripe>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Address, Endpoint, Protocol};

    fn tuple(number: u32) -> FiveTuple {
        let [a, b, c, d] = number.to_be_bytes();
        FiveTuple {
            protocol: Protocol::Tcp,
            source: Endpoint { address: Address::v4([a, b, c, d]), port: 40_000 },
            destination: Endpoint { address: Address::v4([203, 0, 113, 1]), port: 80 },
        }
    }

    fn place(worker: u8, entry: u32) -> Place {
        Place { worker: WorkerId(worker), direction: Direction::Reply, entry }
    }

    fn found(index: &Index, tuple: &FiveTuple) -> Option<Place> {
        index.find_map(index.key(tuple), Some)
    }

    #[test]
    fn a_word_holds_what_was_put_in() {
        for direction in [Direction::Original, Direction::Reply] {
            for (tag, worker, entry) in [(u32::MAX, 63, (1 << 25) - 1), (1, 0, 0), (7, 0, 9), (7, 9, 0)] {
                let place = Place { direction, ..place(worker, entry) };
                let word = Word::new(tag, place);
                assert_eq!((word.tag(), word.place()), (tag, place));
                assert_ne!(word.0, 0);
            }
        }
    }

    #[test]
    fn what_is_inserted_is_found_and_what_is_removed_is_not() {
        let index = Index::new(1000, 7);
        for number in 0..2000 {
            index.insert(index.key(&tuple(number)), place(5, number)).unwrap();
        }
        for number in 0..2000 {
            assert_eq!(found(&index, &tuple(number)), Some(place(5, number)));
        }
        assert_eq!(index.words(), 2000);
        for number in 0..2000 {
            index.remove(index.key(&tuple(number)), place(5, number));
            assert_eq!(found(&index, &tuple(number)), None);
        }
        assert_eq!(index.words(), 0);
    }

    #[test]
    fn a_full_table_fails_no_insertion_and_finds_three_of_four_in_the_first_bucket() {
        let flows = 100_000;
        let index = Index::new(flows, 0x0123_4567_89ab_cdef);
        // All keys, then each replaced twice.
        for number in 0..flows * 6 {
            if let Some(old) = number.checked_sub(flows * 2) {
                index.remove(index.key(&tuple(old)), place(0, old));
            }
            let key = index.key(&tuple(number));
            assert_eq!(index.insert(key, place(0, number)), Ok(()), "{number}");
        }
        let first = (flows * 4..flows * 6).filter(|number| {
            let key = index.key(&tuple(*number));
            index.bucket(key.first).words().contains(&Word::new(key.tag, place(0, *number)).0)
        });
        assert!(first.count() > flows as usize * 14 / 10);
    }

    #[test]
    fn two_full_buckets_are_full() {
        let index = Index::new(1, 3);
        let key = index.key(&tuple(1));
        for number in 0..16 {
            assert_eq!(index.insert(key, place(1, number)), Ok(()));
        }
        assert_eq!(index.insert(key, place(1, 16)), Err(Full));
        index.remove(key, place(1, 3));
        assert_eq!(index.insert(key, place(1, 16)), Ok(()));
    }

    #[test]
    fn another_seed_is_another_order() {
        let (one, two) = (Index::new(100_000, 1), Index::new(100_000, 2));
        let same = (0..1000).filter(|number| {
            let tuple = tuple(*number);
            one.key(&tuple).first == two.key(&tuple).first
        });
        assert!(same.count() < 10);
    }
}
