//! `rr` and `wrr`: each in turn.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use super::Member;

/// Round robin. Every pick draws a ticket, and ticket `t` goes to the `t mod k`th of the `k`
/// members that are up.
///
/// Over any time in which the same members are up, the tickets of all workers together are
/// consecutive, so that the members' counts differ by at most one, whichever worker picked. Walking
/// on from a member that is down to the next would be simpler, and give its neighbour its share.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    ticket: AtomicU64,
}

impl RoundRobin {
    pub(super) fn pick(&self, members: &[Member], all_up: bool) -> Option<usize> {
        let ticket = self.ticket.fetch_add(1, Relaxed);
        if all_up {
            let place = turn(ticket, members.len())?;
            if members.get(place).is_some_and(Member::is_up) {
                return Some(place);
            }
        }
        let mut up = members.iter().enumerate().filter(|(_, member)| member.is_up()).map(|(place, _)| place);
        let nth = turn(ticket, up.clone().count())?;
        // One may have gone down since they were counted, and leave the last turn without a taker.
        up.clone().nth(nth).or_else(|| up.next())
    }
}

/// `ticket mod count`, if there are any.
fn turn(ticket: u64, count: usize) -> Option<usize> {
    usize::try_from(ticket.checked_rem(u64::try_from(count).ok()?)?).ok()
}

/// Smooth weighted round robin, as nginx has it: in every pick each member that is up earns its weight,
/// and the one that has most pays for the pick with the weights of all.
///
/// What is earned and paid adds up to zero, and after as many picks as the weights' sum
/// everybody is back at zero: so each cycle gives every member exactly its weight, and the
/// picks of one member are spread over the cycle, not in a block. When a member comes up or goes
/// down, a new cycle begins for those that are up then.
///
/// The balances depend on each other, hence the lock. It is held for one pass over the members, by
/// those who open a flow and by nobody else.
#[derive(Debug)]
pub(super) struct WeightedRoundRobin {
    cycle: Mutex<Box<[Turn]>>,
}

#[derive(Clone, Debug)]
struct Turn {
    /// What the member has earned and not yet paid.
    balance: i64,
    /// Whether the cycle counts on it.
    up: bool,
}

impl WeightedRoundRobin {
    pub(super) fn new(members: usize) -> Self {
        Self { cycle: Mutex::new(vec![Turn { balance: 0, up: true }; members].into()) }
    }

    pub(super) fn pick(&self, members: &[Member]) -> Option<usize> {
        // Nothing below can panic half way; and if it could, the next pick would begin a sane cycle.
        let mut cycle = self.cycle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for (turn, member) in cycle.iter_mut().zip(members) {
            let up = member.is_up();
            changed |= turn.up != up;
            turn.up = up;
        }
        let mut sum = 0;
        let mut richest: Option<(usize, &mut Turn)> = None;
        for (place, (turn, member)) in cycle.iter_mut().zip(members).enumerate() {
            if changed {
                turn.balance = 0;
            }
            if turn.up {
                let weight = i64::from(member.weight.value());
                sum += weight;
                turn.balance += weight;
                if richest.as_ref().is_none_or(|(_, most)| turn.balance > most.balance) {
                    richest = Some((place, turn));
                }
            }
        }
        let (place, turn) = richest?;
        turn.balance -= sum;
        Some(place)
    }
}
