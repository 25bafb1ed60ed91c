//! Which group gets a request: by weights and chance, unless the client stays with a backend.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::l7::spec::{GroupId, Share};

/// Chance that all workers share: the draws of one seed, each from its own number.
#[derive(Debug)]
pub(in crate::l7::front) struct Chance {
    seed: u64,
    drawn: AtomicU64,
}

impl Chance {
    pub(in crate::l7::front) fn new(seed: u64) -> Self {
        Self { seed, drawn: AtomicU64::new(0) }
    }

    /// A number below this one, which is not 0.
    pub(in crate::l7::front) fn below(&self, end: u32) -> u32 {
        let number = self.drawn.fetch_add(1, Relaxed);
        SmallRng::seed_from_u64(self.seed ^ number).random_range(0..end.max(1))
    }
}

/// Groups that share requests.
#[derive(Debug)]
pub(super) struct Choice {
    shares: Box<[Share]>,
    total: u32,
    chance: Chance,
}

impl Choice {
    pub(super) fn new(shares: &[Share], seed: u64) -> Self {
        let total = shares.iter().fold(0u32, |sum, share| sum.saturating_add(share.weight.into()));
        Self { shares: shares.into(), total, chance: Chance::new(seed) }
    }

    /// The group for a request.
    pub(super) fn draw(&self) -> GroupId {
        let first = self.shares.first().map_or(GroupId(0), |share| share.group);
        if self.shares.len() < 2 {
            return first;
        }
        let mut drawn = self.chance.below(self.total);
        for share in &self.shares {
            let weight = u32::from(share.weight);
            if drawn < weight {
                return share.group;
            }
            drawn -= weight;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choice(weights: &[u16], seed: u64) -> Choice {
        let share = |(group, weight): (usize, &u16)| Share { group: GroupId(group), weight: *weight };
        Choice::new(&weights.iter().enumerate().map(share).collect::<Vec<_>>(), seed)
    }

    #[test]
    fn a_canary_gets_its_share_and_the_same_again_with_the_same_seed() {
        for seed in [0, 1, 47, u64::MAX] {
            let (one, other) = (choice(&[9, 1, 0], seed), choice(&[9, 1, 0], seed));
            let mut counts = [0; 3];
            for _ in 0..10_000 {
                let group = one.draw();
                assert_eq!(group, other.draw());
                counts[group.0] += 1;
            }
            assert!((850..1150).contains(&counts[1]), "seed {seed}: {counts:?}");
            assert_eq!(counts[2], 0);
        }
    }

    #[test]
    fn who_is_alone_gets_all() {
        let choice = choice(&[1], 7);
        assert!((0..100).all(|_| choice.draw() == GroupId(0)));
        assert_eq!(choice.chance.drawn.load(Relaxed), 0);
    }
}
