//! Maglev hashing: a table of 65,537 slots, of which every backend has its share.
//!
//! From "Maglev: A Fast and Reliable Software Network Load Balancer" (Eisenbud and others, NSDI
//! 2016), §3.4. Every backend has a preference list, a permutation of all slots, and the
//! backends take turns, each taking the next slot on its list that is still free, until all are
//! taken. Since a list depends on its own backend alone, and turns are fair:
//!
//! - shares are even: with equal weights no two backends differ by more than one slot;
//! - disruption is small: with one backend fewer its slots are shared out among the others, and
//!   hardly any of the other slots change their owner: 0.6 % where one of 100 or of 1,000 goes, 3.5 % where
//!   50 of 1,000 go. (`cargo test maglev -- --nocapture` prints it.)
//!
//! A list is `offset, offset + skip, offset + 2 skip, …` modulo the number of slots. That is prime, so
//! that each step from 1 on visits every slot before it returns to the first.
//!
//! *Weights.* The paper leaves open how turns are made unequal. Here each backend earns its
//! weight in every round, and pays the greatest weight for a turn; so the heaviest has a turn in every
//! round, and one of half its weight in every other. All begin with enough for a turn in the
//! first round: every backend has at least one slot, however light.
//!
//! *Agreement.* The lists come from address and port through a fixed hash, and turns are
//! taken in the order of address and port, not of the configuration. Two balancers that have
//! the same backends have the same table.

use crate::packet::Endpoint;

use super::backend::Weight;
use super::hash::{self, Use};

/// How many slots a table has: a prime, and the smaller of the paper's two sizes.
///
/// More than 100 times as many slots as backends keep shares within 1 %, so this is for up to 655. The
/// turns being fair, 1,000 backends still have 65 or 66 slots each.
pub const SLOTS: usize = 65_537;

/// How many backends a table can name. The one number that is left over marks a free slot.
pub const MOST_BACKENDS: usize = u16::MAX as usize;

/// What stands in a slot that nobody has taken yet.
const FREE: u16 = u16::MAX;

/// Which backend owns which slot, in 128 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct Maglev {
    owners: Box<[u16]>,
}

impl Maglev {
    /// Fills the table for these backends, of whom no two may be at one endpoint. An owner is
    /// a place in this list, of which only the first [`MOST_BACKENDS`] count.
    pub fn new(backends: &[(Endpoint, Weight)]) -> Self {
        let mut turns = turns(backends);
        if turns.is_empty() {
            return Self { owners: Box::default() };
        }
        Self { owners: fill(&mut turns) }
    }

    /// Whose slot this hash falls into; `None` only if there are no backends.
    #[inline]
    pub fn owner(&self, hash: u64) -> Option<usize> {
        self.owners.get(below(SLOTS, hash)).map(|&owner| usize::from(owner))
    }

    /// The owner of every slot, in order.
    pub fn owners(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.owners.iter().map(|&owner| usize::from(owner))
    }
}

impl std::fmt::Debug for Maglev {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maglev").field("slots", &self.owners.len()).finish_non_exhaustive()
    }
}

/// One backend while the table is filled.
struct Turn {
    /// Its place in the list that was given.
    backend: u16,
    /// The slot that its list names next.
    slot: usize,
    /// From there to the one after.
    skip: usize,
    /// What it earns in a round.
    weight: u32,
    /// What it has earned and not spent.
    credit: u32,
}

fn turns(backends: &[(Endpoint, Weight)]) -> Vec<Turn> {
    let most = backends.iter().map(|backend| backend.1).max().unwrap_or_default().value();
    let mut order: Vec<_> = backends.iter().zip(0..FREE).collect();
    order.sort_by_key(|((endpoint, _), _)| *endpoint);
    order
        .into_iter()
        .map(|(&(endpoint, weight), backend)| Turn {
            backend,
            slot: below(SLOTS, hash::endpoint(Use::Offset, endpoint)),
            skip: 1 + below(SLOTS - 1, hash::endpoint(Use::Skip, endpoint)),
            weight: weight.value().into(),
            credit: u32::from(most) - u32::from(weight.value()),
        })
        .collect()
}

/// The hash modulo `bound`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a remainder is less than its divisor, a usize")]
fn below(bound: usize, hash: u64) -> usize {
    (hash % bound as u64) as usize
}

fn fill(turns: &mut [Turn]) -> Box<[u16]> {
    let price = turns.iter().map(|turn| turn.weight).max().unwrap_or(1);
    let mut owners = vec![FREE; SLOTS].into_boxed_slice();
    let mut left = SLOTS;
    loop {
        for turn in &mut *turns {
            turn.credit += turn.weight;
            if turn.credit < price {
                continue;
            }
            turn.credit -= price;
            take_next_free(&mut owners, turn);
            left -= 1;
            if left == 0 {
                return owners;
            }
        }
    }
}

/// Takes the first free slot on the list from where it stands. There is one while slots are left,
/// as the list names them all.
fn take_next_free(owners: &mut [u16], turn: &mut Turn) {
    loop {
        let owner = owners.get_mut(turn.slot);
        turn.slot += turn.skip;
        if turn.slot >= SLOTS {
            turn.slot -= SLOTS;
        }
        if let Some(owner) = owner.filter(|owner| **owner == FREE) {
            *owner = turn.backend;
            return;
        }
    }
}

#[cfg(test)]
mod tests;
