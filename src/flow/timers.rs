//! When each flow's time is over: a timer wheel, and two queues beside it.
//!
//! Time is counted in ticks of 250 ms from the driver's epoch. A flow is in one list at any time:
//!
//! ```text
//!   wheel    level 0   64 slots of 1 tick      [ ][ ][•]─▶ a ─▶ b          open flows
//!            level 1   64 slots of 64 ticks    [ ][•]─▶ c
//!            …  to level 5                      └ one bit a slot says whether it is occupied
//!
//!   opening  d ─▶ e ─▶ f                       half-open ones, oldest packet first
//!   closed   g ─▶ h                            closed ones, first closed first
//! ```
//!
//! **The wheel is lazy.** A packet only writes its flow's `deadline`. A flow stays in the slot where it
//! was put, and when that slot's time comes, one whose deadline has moved on is put in again. A flow with a
//! packet a second and a timeout of two hours is touched about once in two hours by the wheel. This is right as long
//! as a deadline only moves later; a change of state, which may make it earlier, moves the flow at once.
//!
//! **Six levels** rather than one ring: then any deadline has its place, and no flow is touched more than six
//! times before it ends, however long its timeout, and however far time jumps. (In a ring of 4,096 slots
//! a flow with a timeout of a year would come round 30,000 times, and a jump of a year would take as many turns.) A
//! slot of a higher level begins where a slot of the next lower one does, so flows go down level by level
//! and never fire late. The next occupied slot is found by one bit count a level.
//!
//! **The queues** are in order of deadline, since all flows in one have the same timeout: a packet moves its
//! half-open flow to the back, and a closed flow is not refreshed. So expiry looks at their fronts only, and
//! the front is also who must give way first when the table is full.
//!
//! Invariants: every live flow is in exactly one list; no flow's deadline is before the `cursor`, so 32
//! bits of it are enough, counted from there; the cursor never passes an occupied slot. Deadlines are
//! held to 17 years (2³¹ ticks) after the cursor.

use std::time::Duration;

use super::entry::Links;
use super::slab::Slab;
use super::tcp::Phase;
use crate::datapath::Instant;

/// Nanoseconds of a tick.
const TICK: u64 = 250_000_000;

const LEVELS: usize = 6;
const TOP: u32 = 5;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;

/// Lists: all slots, then the two queues.
const LISTS: usize = LEVELS * SLOTS + 2;
const OPENING: usize = LEVELS * SLOTS;
const CLOSED: usize = OPENING + 1;

/// Marks a link that leads to a list's head instead of an entry.
const HEAD: u32 = 1 << 31;

/// The farthest deadline, in ticks after the cursor.
const FARTHEST: u64 = 1 << 31;

/// The last tick that has begun at `now`.
#[inline]
pub(super) fn tick(now: Instant) -> u64 {
    now.as_nanos() / TICK
}

/// The first tick that begins at `now + timeout` or later: a flow never ends early, and less than a
/// tick late.
#[inline]
pub(super) fn tick_after(now: Instant, timeout_nanos: u64) -> u64 {
    now.as_nanos().saturating_add(timeout_nanos).div_ceil(TICK)
}

/// When a tick begins.
pub(super) fn instant(tick: u64) -> Instant {
    Instant::from_nanos(tick.saturating_mul(TICK))
}

/// That many ticks.
pub(super) fn duration(ticks: u32) -> Duration {
    Duration::from_nanos(u64::from(ticks).saturating_mul(TICK))
}

/// The low half of a tick's number, which is what entries keep.
#[inline]
pub(super) const fn low(tick: u64) -> u32 {
    (tick & 0xffff_ffff) as u32
}

/// The lists of one worker's flows. See the [module](self).
pub(super) struct Timers {
    heads: Box<[Links; LISTS]>,
    occupied: [u64; LEVELS],
    cursor: u64,
}

impl Timers {
    pub fn new() -> Self {
        let head = |list: usize| Links { previous: link_to(list), next: link_to(list) };
        Self { heads: Box::new(std::array::from_fn(head)), occupied: [0; LEVELS], cursor: 0 }
    }

    /// Bytes that it takes.
    pub fn memory(&self) -> usize {
        size_of_val(&*self.heads)
    }

    /// Moves the cursor while no flow is in any list: however long there were none, time goes on from here.
    pub fn skip_to(&mut self, tick: u64) {
        self.cursor = self.cursor.max(tick);
    }

    /// Holds a deadline to what can be kept of it.
    #[inline]
    pub fn hold(&self, deadline: u64) -> u64 {
        deadline.clamp(self.cursor, self.cursor.saturating_add(FARTHEST))
    }

    /// The whole number of the tick that an entry's deadline is the low half of.
    #[inline]
    pub fn whole(&self, deadline: u32) -> u64 {
        self.cursor.saturating_add(u64::from(deadline.wrapping_sub(low(self.cursor))))
    }

    /// Puts an entry, which is in no list, where flows of this phase wait, and sets its deadline.
    pub fn arm(&mut self, slab: &mut Slab, index: u32, phase: Phase, deadline: u64) {
        let deadline = self.hold(deadline);
        if let Some(entry) = slab.entry_mut(index) {
            entry.deadline = low(deadline);
        }
        let list = match phase {
            Phase::Opening => OPENING,
            Phase::Closed => CLOSED,
            Phase::Open => self.slot(deadline),
        };
        self.push(slab, list, index);
    }

    /// The slot for a deadline: of the level of the highest digit, in base 64, in which it
    /// differs from the cursor.
    fn slot(&mut self, deadline: u64) -> usize {
        let level = (((deadline ^ self.cursor) | 1).ilog2() / SLOT_BITS).min(TOP);
        let slot = digit(deadline, level);
        self.occupied[level as usize] |= 1 << slot;
        level as usize * SLOTS + slot
    }

    fn push(&mut self, slab: &mut Slab, list: usize, index: u32) {
        let head = link_to(list);
        let previous = std::mem::replace(&mut self.heads[list].previous, index);
        if let Some(links) = slab.links_mut(index) {
            *links = Links { previous, next: head };
        }
        if let Some(links) = self.links(slab, previous) {
            links.next = index;
        }
    }

    /// Takes an entry out of its list.
    pub fn disarm(&mut self, slab: &mut Slab, index: u32) {
        let Some(Links { previous, next }) = slab.links_mut(index).copied() else { return };
        if let Some(links) = self.links(slab, previous) {
            links.next = next;
        }
        if let Some(links) = self.links(slab, next) {
            links.previous = previous;
        }
        let list = (next & !HEAD) as usize;
        if next == previous && next & HEAD != 0 && list < OPENING {
            self.occupied[list / SLOTS] &= !(1 << (list % SLOTS));
        }
    }

    /// The links of an entry or of a list's head.
    fn links<'a>(&'a mut self, slab: &'a mut Slab, link: u32) -> Option<&'a mut Links> {
        if link & HEAD == 0 { slab.links_mut(link) } else { self.heads.get_mut((link & !HEAD) as usize) }
    }

    /// The flow that has waited longest in a queue; there is no such thing in the wheel.
    pub fn front(&self, phase: Phase) -> Option<u32> {
        let list = match phase {
            Phase::Opening => OPENING,
            Phase::Closed => CLOSED,
            Phase::Open => return None,
        };
        Some(self.heads[list].next).filter(|link| link & HEAD == 0)
    }

    /// The closed flows, first closed first.
    pub fn closed<'a>(&'a self, slab: &'a Slab) -> impl Iterator<Item = u32> + 'a {
        std::iter::successors(self.front(Phase::Closed), |index| {
            slab.cold(*index).map(|cold| cold.links.next).filter(|link| link & HEAD == 0)
        })
    }

    /// An entry from the wheel whose slot's time has come by `target`, still in its list; `None` when there
    /// is none left. Moves the cursor, so the caller must have ended all flows in the queues that were due.
    pub fn fire(&mut self, target: u64) -> Option<u32> {
        let due = self.next_slot().filter(|(start, _)| *start <= target);
        self.cursor = self.cursor.max(due.map_or(target, |(start, _)| start));
        let (_, list) = due?;
        Some(self.heads[list].next).filter(|link| link & HEAD == 0)
    }

    /// When the wheel's next occupied slot begins, and which it is. All levels are asked: a slot of a higher one
    /// whose flows are on their way down begins no later than any slot below it.
    fn next_slot(&self) -> Option<(u64, usize)> {
        let starts = (0..=TOP).zip(&self.occupied).filter(|(_, occupied)| **occupied != 0);
        let slots = starts.map(|(level, occupied)| {
            let at = self.cursor >> (level * SLOT_BITS);
            let ahead = occupied.rotate_right((at % 64) as u32).trailing_zeros();
            let start = at.saturating_add(u64::from(ahead)).saturating_mul(1 << (level * SLOT_BITS));
            (start.max(self.cursor), level as usize * SLOTS + digit(start, level))
        });
        slots.min_by_key(|(start, _)| *start)
    }

    /// The first tick at which there may be something to do.
    pub fn next_tick(&self, slab: &Slab) -> Option<u64> {
        let queues = [Phase::Opening, Phase::Closed].into_iter().filter_map(|phase| self.front(phase));
        let fronts = queues.filter_map(|index| slab.entry(index)).map(|entry| self.whole(entry.deadline));
        fronts.chain(self.next_slot().map(|(start, _)| start)).min()
    }

    /// The entries of all lists, each with whether it is in the wheel.
    #[cfg(test)]
    pub fn listed(&mut self, slab: &mut Slab) -> Vec<(u32, Phase)> {
        let mut found = Vec::new();
        for list in 0..LISTS {
            let phase = match list {
                OPENING => Phase::Opening,
                CLOSED => Phase::Closed,
                _ => Phase::Open,
            };
            let mut link = self.heads[list].next;
            let mut before = link_to(list);
            if list < OPENING {
                let bit = self.occupied[list / SLOTS] >> (list % SLOTS) & 1 == 1;
                assert_eq!(bit, link & HEAD == 0, "slot {list}'s bit says whether it is occupied");
            }
            while link & HEAD == 0 {
                let links = *slab.links_mut(link).unwrap();
                assert_eq!(links.previous, before);
                found.push((link, phase));
                (before, link) = (link, links.next);
            }
            assert_eq!((link, self.heads[list].previous), (link_to(list), before));
        }
        found
    }
}

/// The digit of a tick's number, in base 64, that chooses its slot on a level.
fn digit(tick: u64, level: u32) -> usize {
    ((tick >> (level * SLOT_BITS)) & 0x3f) as usize
}

/// The link that leads to a list's head.
fn link_to(list: usize) -> u32 {
    HEAD | u32::try_from(list).unwrap_or(0)
}
