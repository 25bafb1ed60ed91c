//! `sh` and `mh`: the choice is a function of the packet.
//!
//! Both give every hash a fixed order of preference over all members, and pick the first in that
//! order that can be had. So a member that goes down moves the flows that prefer it and no others,
//! and gets them back when it is up again; and two balancers that do not think the same of
//! one member's health still agree about everybody else's flows.
//!
//! The Maglev paper makes a new table without the member instead. That would move some of the others'
//! flows as well, and cost a millisecond within some packet's pick, twice for each backend that
//! flaps. Here nothing is built or locked when health changes; only a new configuration makes a
//! new table.

use super::Member;
use crate::balance::hash::{self, Use};
use crate::balance::maglev::Maglev;
use crate::datapath::{BackendId, Instant};
use crate::packet::FiveTuple;

/// `sh`: by the client's address alone.
#[derive(Debug)]
pub(super) struct SourceHash {
    order: Rendezvous,
}

impl SourceHash {
    pub(super) fn new(members: &[Member]) -> Self {
        Self { order: Rendezvous::new(members) }
    }

    pub(super) fn pick(&self, members: &[Member], now: Instant, tuple: &FiveTuple) -> Option<usize> {
        take_first(members, now, || self.place(members, now, tuple))
    }

    pub(super) fn place(&self, members: &[Member], now: Instant, tuple: &FiveTuple) -> Option<usize> {
        self.order.first(members, now, hash::client(tuple.source.address), &[])
    }

    pub(super) fn pick_but(
        &self,
        members: &[Member],
        now: Instant,
        tuple: &FiveTuple,
        avoid: &[BackendId],
    ) -> Option<usize> {
        let hash = hash::client(tuple.source.address);
        take_first(members, now, || self.order.first(members, now, hash, avoid))
    }
}

/// How many slots of the table are tried before the members are ranked one by one. With half of
/// them down, one pick in 65,536 comes so far.
const PROBES: u64 = 16;

/// `mh`: by the five-tuple, through a Maglev table.
///
/// A hash prefers the owner of its slot, then the owners of other slots, drawn anew from the hash (the
/// next slots of the table would leave the flows of one member to a few neighbours), and in
/// the end whom rendezvous hashing says, which finds the one that is up among a thousand. Each of
/// these falls to members by weight, and so do the flows of one that is down.
#[derive(Debug)]
pub(super) struct MaglevHash {
    table: Maglev,
    rest: Rendezvous,
}

impl MaglevHash {
    pub(super) fn new(members: &[Member]) -> Self {
        let backends: Vec<_> = members.iter().map(|member| (member.endpoint, member.weight)).collect();
        Self { table: Maglev::new(&backends), rest: Rendezvous::new(members) }
    }

    pub(super) fn pick(&self, members: &[Member], now: Instant, tuple: &FiveTuple) -> Option<usize> {
        take_first(members, now, || self.place(members, now, tuple))
    }

    pub(super) fn place(&self, members: &[Member], now: Instant, tuple: &FiveTuple) -> Option<usize> {
        let hash = hash::flow(tuple);
        let mut owners = (0..PROBES).map_while(|n| self.table.owner(hash::again(hash, n)));
        let available = |place: &usize| members.get(*place).is_some_and(|member| member.is_available(now));
        owners.find(available).or_else(|| self.rest.first(members, now, hash, &[]))
    }

    /// Not by the table, whose next owners may all be among the avoided.
    pub(super) fn pick_but(
        &self,
        members: &[Member],
        now: Instant,
        tuple: &FiveTuple,
        avoid: &[BackendId],
    ) -> Option<usize> {
        let hash = hash::flow(tuple);
        take_first(members, now, || self.rest.first(members, now, hash, avoid))
    }
}

/// Takes what `first` gives, with its trial if it is down; and asks again where another worker
/// was quicker, after which that member is not available any more.
fn take_first(members: &[Member], now: Instant, first: impl Fn() -> Option<usize>) -> Option<usize> {
    loop {
        let place = first()?;
        let member = members.get(place)?;
        if member.is_up() || member.state.health.take_trial(now) {
            return Some(place);
        }
    }
}

/// Rendezvous hashing (Thaler and Ravishankar, 1998): every member draws a lot, which the hash and
/// its endpoint decide, and the best lot wins. Whoever is added or removed changes nothing between
/// the others: the least disruption that there can be, for a look at every member.
///
/// Weights come in by the logarithmic method (Schindelhauer and Schomaker, 2005): for `u` uniform
/// in (0, 1), `-ln u / weight` is the time of the first event at that rate, and who is first is
/// first in proportion to the rates. The logarithm is in floating point, whose last
/// bit may differ between platforms; two balancers of different kinds may then disagree
/// about a hash for which two lots are equal to fifteen digits, and about no other.
#[derive(Debug)]
struct Rendezvous {
    /// A hash of each member's endpoint.
    seats: Box<[u64]>,
}

impl Rendezvous {
    fn new(members: &[Member]) -> Self {
        Self { seats: members.iter().map(|member| hash::endpoint(Use::Seat, member.endpoint)).collect() }
    }

    /// The member with the best lot of those that are available and not avoided.
    fn first(&self, members: &[Member], now: Instant, hash: u64, avoid: &[BackendId]) -> Option<usize> {
        let lots = members.iter().zip(&self.seats).enumerate();
        lots.filter(|(_, (member, _))| member.is_available(now) && !avoid.contains(&member.id))
            .map(|(place, (member, seat))| (place, lot(hash::mix(hash ^ seat), member)))
            .min_by(|(_, lot), (_, other)| lot.total_cmp(other))
            .map(|(place, _)| place)
    }
}

fn lot(hash: u64, member: &Member) -> f64 {
    // The 53 bits that a float can hold, and half of the last one more, so that `u` is never 0 or 1.
    #[expect(clippy::cast_precision_loss)]
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -uniform.ln() / f64::from(member.weight.value())
}
