//! Schedulers: which of a service's backends gets a new flow.
//!
//! A scheduler works on a [`Group`]: the backends of one service and one family, without those that
//! drain, who take no new flows and so have no seat. Which of the others are up changes with
//! every report from the traffic; every pick looks for itself, and what it gives was up when it
//! looked.
//!
//! | word | picks | looks at | state |
//! |---|---|---|---|
//! | `rr` | each in turn | – | a ticket counter |
//! | `wrr` | each in turn, by weight, interleaved | weights | a cycle, behind a lock |
//! | `lc` | the one with the fewest live flows | flows | whose turn it is among equals |
//! | `wlc` | the one with the fewest live flows for its weight | flows, weights | the same |
//! | `sh` | the same for a client, always | client address, weights | – |
//! | `mh` | the same for a five-tuple, always | five-tuple, weights | a Maglev table, never changed |
//! | `p2c` | the less busy of two drawn by chance | chance, flows, weights | – |
//!
//! *Trials.* When a backend that was down is due for its trial flow (see `health`), the next pick
//! of the group is the trial, for those schedulers that may give any flow to any backend.
//! `sh` and `mh` may not: there the trial is the next flow that prefers this backend.

mod hashed;
mod least;
mod round_robin;
mod two_choices;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rand::Rng;

use crate::datapath::{BackendId, Instant};
use crate::packet::{Endpoint, FiveTuple};

use self::hashed::{MaglevHash, SourceHash};
use self::least::{Least, by_load};
use self::round_robin::{RoundRobin, WeightedRoundRobin};
use self::two_choices::TwoChoices;
use super::backend::{Backend, State, Weight};
use super::error::BalanceError;
use super::health::Health;

macro_rules! schedulers {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal,)+) => {
        /// How backends are picked. The words are those of IPVS where it has them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum SchedulerKind {
            #[default]
            $($(#[doc = $doc])+ $name,)+
        }

        impl SchedulerKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word for it.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)+ }
            }
        }
    };
}

schedulers! {
    /// Round robin: each in turn.
    Rr = "rr",
    /// Weighted round robin: each in turn, the heavier ones more often, spread over the cycle.
    Wrr = "wrr",
    /// Least connection: the fewest live flows.
    Lc = "lc",
    /// Weighted least connection: the fewest live flows for its weight.
    Wlc = "wlc",
    /// Source hashing: by the client's address, so that a client stays where it is.
    Sh = "sh",
    /// Maglev hashing: by the five-tuple, the same on every balancer.
    Mh = "mh",
    /// Power of two choices: two by chance, and of these the less busy one.
    P2c = "p2c",
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for SchedulerKind {
    type Err = BalanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|kind| kind.word() == text);
        known.copied().ok_or_else(|| BalanceError::UnknownScheduler { word: text.to_owned() })
    }
}

/// A backend's seat in a group.
#[derive(Debug)]
pub(super) struct Member {
    id: BackendId,
    endpoint: Endpoint,
    weight: Weight,
    state: Arc<State>,
}

impl Member {
    /// A seat for this backend.
    pub(super) fn new(id: BackendId, backend: &Backend) -> Self {
        let Backend { endpoint, weight, ref state, .. } = *backend;
        Self { id, endpoint, weight, state: Arc::clone(state) }
    }

    #[inline]
    fn is_up(&self) -> bool {
        self.state.health.is_up()
    }

    /// Whether it is up, or down and due for its trial.
    #[inline]
    fn is_available(&self, now: Instant) -> bool {
        self.state.health.is_available(now)
    }
}

/// The backends among which a scheduler shares out the flows of one service and one family.
/// Members are named by their place, from 0.
#[derive(Debug)]
pub(super) struct Group {
    members: Box<[Member]>,
    scheduler: Scheduler,
    /// How many members are down. A hint: it follows the members' own records with a moment's
    /// delay, so zero means "probably all are up", and who acts on it checks the one it picks.
    down: AtomicU32,
}

#[derive(Debug)]
enum Scheduler {
    Rr(RoundRobin),
    Wrr(WeightedRoundRobin),
    /// `lc` and `wlc`: the first is the second with all weights alike.
    Least(Least),
    Sh(SourceHash),
    Mh(MaglevHash),
    P2c(TwoChoices),
}

impl Group {
    pub(super) fn new(kind: SchedulerKind, members: Vec<Member>) -> Self {
        let scheduler = match kind {
            SchedulerKind::Rr => Scheduler::Rr(RoundRobin::default()),
            SchedulerKind::Wrr => Scheduler::Wrr(WeightedRoundRobin::new(members.len())),
            SchedulerKind::Lc => Scheduler::Least(Least::new(members.iter().map(|_| Weight::ONE))),
            SchedulerKind::Wlc => Scheduler::Least(Least::new(members.iter().map(|member| member.weight))),
            SchedulerKind::Sh => Scheduler::Sh(SourceHash::new(&members)),
            SchedulerKind::Mh => Scheduler::Mh(MaglevHash::new(&members)),
            SchedulerKind::P2c => Scheduler::P2c(TwoChoices::new(&members)),
        };
        Self { members: members.into(), scheduler, down: AtomicU32::new(0) }
    }

    /// The backend for a new flow; `None` when all are down, or there are none.
    pub(super) fn pick<R: Rng + ?Sized>(
        &self,
        now: Instant,
        tuple: &FiveTuple,
        chance: &mut R,
    ) -> Option<BackendId> {
        let members = &*self.members;
        let place = match &self.scheduler {
            Scheduler::Sh(source_hash) => source_hash.pick(members, now, tuple),
            Scheduler::Mh(maglev) => maglev.pick(members, now, tuple),
            Scheduler::Rr(rr) => self.trial(now).or_else(|| rr.pick(members, self.all_up())),
            Scheduler::Wrr(wrr) => self.trial(now).or_else(|| wrr.pick(members)),
            Scheduler::Least(least) => self.trial(now).or_else(|| least.pick(members)),
            Scheduler::P2c(two) => self.trial(now).or_else(|| two.pick(members, chance)),
        }?;
        self.members.get(place).map(|member| member.id)
    }

    /// The backend for a flow that was turned away by those to be avoided; `None` when no other is up.
    ///
    /// `sh` and `mh` send all flows of one backend to the others by their hashes, and each always to the same. All
    /// other schedulers give the least busy one for its weight here: turns and draws are for flows that come anew,
    /// and what one backend could not take should go where there is room. No trial is made of such a flow.
    pub(super) fn pick_but(&self, now: Instant, tuple: &FiveTuple, avoid: &[BackendId]) -> Option<BackendId> {
        let members = &*self.members;
        match &self.scheduler {
            Scheduler::Sh(source_hash) => source_hash.pick_but(members, now, tuple, avoid),
            Scheduler::Mh(maglev) => maglev.pick_but(members, now, tuple, avoid),
            Scheduler::Rr(_) | Scheduler::Wrr(_) | Scheduler::Least(_) | Scheduler::P2c(_) => {
                let candidates = members.iter().enumerate();
                candidates
                    .filter(|(_, member)| member.is_up() && !avoid.contains(&member.id))
                    .map(|(place, member)| (place, (member.state.live(), member.weight)))
                    .min_by(|(_, load), (_, other)| by_load(*load, *other))
                    .map(|(place, _)| place)
            }
        }
        .and_then(|place| members.get(place))
        .map(|member| member.id)
    }

    /// The backend that [`Group::pick`] would give to this tuple now, without taking a trial;
    /// `None` also where the scheduler's choice depends on more than the tuple.
    pub(super) fn place(&self, now: Instant, tuple: &FiveTuple) -> Option<BackendId> {
        let place = match &self.scheduler {
            Scheduler::Sh(source_hash) => source_hash.place(&self.members, now, tuple),
            Scheduler::Mh(maglev) => maglev.place(&self.members, now, tuple),
            Scheduler::Rr(_) | Scheduler::Wrr(_) | Scheduler::Least(_) | Scheduler::P2c(_) => None,
        }?;
        self.members.get(place).map(|member| member.id)
    }

    /// Notes that a member has come up or gone down.
    pub(super) fn changed(&self, health: Health) {
        // Two opposite changes may be noted in the wrong order, so this may pass below zero for a
        // moment; wrapped, that reads as "some are down", which is the careful side.
        match health {
            Health::Up => self.down.fetch_sub(1, Relaxed),
            Health::Down { .. } => self.down.fetch_add(1, Relaxed),
        };
    }

    fn all_up(&self) -> bool {
        self.down.load(Relaxed) == 0
    }

    /// A member whose trial is due, and with it the right to try it.
    fn trial(&self, now: Instant) -> Option<usize> {
        if self.all_up() {
            return None;
        }
        self.members.iter().position(|member| member.state.health.take_trial(now))
    }
}

#[cfg(test)]
mod tests;
