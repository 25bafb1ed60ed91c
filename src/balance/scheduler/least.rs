//! `lc` and `wlc`: the fewest live flows, for its weight.

use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::Member;
use crate::balance::backend::Weight;

/// Which of two members is less busy: the one with fewer flows for its weight. Fractions are compared by
/// cross-multiplication, which is exact: 32 bits times 16 fit into 64.
pub(super) fn by_load(
    (flows, weight): (u32, Weight),
    (other_flows, other_weight): (u32, Weight),
) -> Ordering {
    let this = u64::from(flows) * u64::from(other_weight.value());
    let other = u64::from(other_flows) * u64::from(weight.value());
    this.cmp(&other)
}

/// How far a member of weight 1 moves its turn when it is picked. 2^24 keeps the turns of heavy
/// members apart to within 0.4 %, and lasts for 2^40 picks: at a thousand a second, 34 years.
const STRIDE: u64 = 1 << 24;

/// Least connection. Equals are common (with short flows, most of the time all are idle), and
/// are told apart by whose turn it is: the one whose last pick is longest ago, by weight.
///
/// In detail this is start-time fair queueing (Goyal, Vin and Cheng, 1996): a pick moves a member's turn on
/// by `STRIDE / weight`, counted from the group's clock if its turn is long past, so that being busy
/// for a while saves up nothing; and the clock follows the latest turn that was taken.
///
/// Flows are counted when the flow table has taken them, a moment after the pick. Workers that
/// pick at the same moment may so choose the same member, and it has one flow too many until
/// the next pick sees it. Turns are read and written without a lock for the same reason: a lost
/// update repeats a turn, and upsets nothing else.
#[derive(Debug)]
pub(super) struct Least {
    seats: Box<[Seat]>,
    clock: AtomicU64,
}

#[derive(Debug)]
struct Seat {
    weight: Weight,
    turn: AtomicU64,
}

impl Least {
    /// With these weights, which need not be those of the members.
    pub(super) fn new(weights: impl Iterator<Item = Weight>) -> Self {
        let seats = weights.map(|weight| Seat { weight, turn: AtomicU64::new(0) }).collect();
        Self { seats, clock: AtomicU64::new(0) }
    }

    pub(super) fn pick(&self, members: &[Member]) -> Option<usize> {
        let candidates = members.iter().zip(&self.seats).enumerate();
        let (place, seat, ..) = candidates
            .filter(|(_, (member, _))| member.is_up())
            .map(|(place, (member, seat))| (place, seat, member.state.live(), seat.turn.load(Relaxed)))
            .min_by(|(_, seat, flows, turn), (_, other, other_flows, other_turn)| {
                by_load((*flows, seat.weight), (*other_flows, other.weight)).then(turn.cmp(other_turn))
            })?;
        let start = seat.turn.load(Relaxed).max(self.clock.load(Relaxed));
        self.clock.fetch_max(start, Relaxed);
        seat.turn.store(start.saturating_add(STRIDE / u64::from(seat.weight.value())), Relaxed);
        Some(place)
    }
}
