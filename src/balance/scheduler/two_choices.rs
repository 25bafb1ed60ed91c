//! `p2c`: the power of two choices.

use rand::{Rng, RngExt};

use super::Member;
use super::least::by_load;

/// How often a draw may fall on a member that cannot be had before those that can are counted.
const DRAWS: usize = 4;

/// Two different members that are up, drawn in proportion to their weights; of these the one with fewer
/// flows for its weight, or the first if they are equal.
///
/// Looking at two instead of one takes the greatest load from `log n / log log n` down to
/// `log log n` (Mitzenmacher, 1996), and unlike looking at all, it does not send
/// every worker to the same idle backend at once.
#[derive(Debug)]
pub(super) struct TwoChoices {
    /// The sum of the weights up to and with each member.
    sums: Box<[u64]>,
}

impl TwoChoices {
    pub(super) fn new(members: &[Member]) -> Self {
        let sums = members.iter().scan(0, |sum, member| {
            *sum += weight(member);
            Some(*sum)
        });
        Self { sums: sums.collect() }
    }

    pub(super) fn pick<R: Rng + ?Sized>(&self, members: &[Member], chance: &mut R) -> Option<usize> {
        let first = self.draw(members, None, chance)?;
        let Some(second) = self.draw(members, Some(first), chance) else {
            return Some(first);
        };
        let load = |place: usize| members.get(place).map(|member| (member.state.live(), member.weight));
        Some(if by_load(load(second)?, load(first)?).is_lt() { second } else { first })
    }

    /// A member that is up and not the other one, each by its weight.
    ///
    /// To draw from all and to draw again when it cannot be had gives the same chances as to draw
    /// from those that can, and with few down needs no look at the others.
    fn draw<R: Rng + ?Sized>(
        &self,
        members: &[Member],
        other: Option<usize>,
        chance: &mut R,
    ) -> Option<usize> {
        let sum = *self.sums.last()?;
        for _ in 0..DRAWS {
            let point = chance.random_range(0..sum);
            let place = self.sums.partition_point(|sum| *sum <= point);
            if other != Some(place) && members.get(place).is_some_and(Member::is_up) {
                return Some(place);
            }
        }
        let candidates = members
            .iter()
            .enumerate()
            .filter(|(place, member)| other != Some(*place) && member.is_up())
            .map(|(place, member)| (place, weight(member)));
        let sum: u64 = candidates.clone().map(|(_, weight)| weight).sum();
        if sum == 0 {
            return None;
        }
        let mut point = chance.random_range(0..sum);
        let mut last = None;
        for (place, weight) in candidates {
            last = Some(place);
            match point.checked_sub(weight) {
                Some(rest) => point = rest,
                None => break,
            }
        }
        last
    }
}

fn weight(member: &Member) -> u64 {
    member.weight.value().into()
}
