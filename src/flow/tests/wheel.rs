//! The timer wheel alone, against a list that is looked through whole.

use proptest::prelude::*;

use crate::datapath::{BackendId, VipId};
use crate::flow::entry::Entry;
use crate::flow::ports::Local;
use crate::flow::slab::Slab;
use crate::flow::tcp::{Phase, State};
use crate::flow::timers::Timers;

use super::client;

#[derive(Clone, Debug)]
enum Step {
    /// Arms a new entry so many ticks ahead.
    Arm(u64),
    /// Moves an entry's deadline on, as a packet does: without telling the wheel.
    Refresh(usize, u64),
    Disarm(usize),
    /// Time goes on so many ticks, and so many entries may be looked at.
    Fire(u64, usize),
}

/// Ticks on all scales: some are next to each other, some years apart.
fn ticks() -> impl Strategy<Value = u64> {
    (0..31u32, any::<u64>()).prop_map(|(bits, random)| random % (1 << bits))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => ticks().prop_map(Step::Arm),
        2 => (any::<usize>(), ticks()).prop_map(|(which, ticks)| Step::Refresh(which, ticks)),
        1 => any::<usize>().prop_map(Step::Disarm),
        2 => (ticks(), prop_oneof![Just(1000), 0..4usize]).prop_map(|(ticks, budget)| Step::Fire(ticks, budget)),
    ]
}

struct Wheel {
    slab: Slab,
    timers: Timers,
    /// Entries and their true deadlines.
    armed: Vec<(u32, u64)>,
    now: u64,
}

impl Wheel {
    fn deadline(&self, index: u32) -> u64 {
        self.timers.whole(self.slab.entry(index).unwrap().deadline)
    }

    fn arm(&mut self, deadline: u64) {
        let entry = Entry::new(client(1), VipId(0), BackendId(0), Local::default(), State::Udp);
        let index = self.slab.insert(&entry, 0).unwrap().index();
        self.timers.arm(&mut self.slab, index, Phase::Open, deadline);
        self.armed.push((index, deadline));
    }

    fn disarm(&mut self, place: usize) {
        let (index, _) = self.armed.swap_remove(place);
        self.timers.disarm(&mut self.slab, index);
        self.slab.remove(index).unwrap();
    }

    fn fire(&mut self, budget: usize) {
        for _ in 0..budget {
            let Some(index) = self.timers.fire(self.now) else {
                let late = self.armed.iter().find(|(_, deadline)| *deadline <= self.now);
                assert_eq!(late, None, "all that were due have fired");
                return;
            };
            let place = self.armed.iter().position(|(armed, _)| *armed == index).unwrap();
            assert_eq!(self.deadline(index), self.armed[place].1);
            if self.armed[place].1 <= self.now {
                self.disarm(place);
            } else {
                self.timers.disarm(&mut self.slab, index);
                self.timers.arm(&mut self.slab, index, Phase::Open, self.armed[place].1);
            }
        }
    }

    fn audit(&mut self) {
        assert_eq!(self.timers.listed(&mut self.slab).len(), self.armed.len());
        let next = self.timers.next_tick(&self.slab);
        assert_eq!(next.is_some(), !self.armed.is_empty());
        for (index, deadline) in &self.armed {
            assert_eq!(self.deadline(*index), *deadline, "the low half is enough");
            assert!(next.is_some_and(|next| next <= *deadline));
        }
    }
}

fn run(start: u64, steps: &[Step]) {
    let mut wheel = Wheel { slab: Slab::new(), timers: Timers::new(), armed: Vec::new(), now: start };
    wheel.timers.skip_to(start);
    for step in steps {
        match *step {
            Step::Arm(ticks) => wheel.arm(wheel.now + ticks),
            Step::Refresh(which, ticks) if !wheel.armed.is_empty() => {
                let place = which % wheel.armed.len();
                let (index, deadline) = wheel.armed[place];
                let later = wheel.timers.hold(wheel.now + ticks).max(deadline);
                wheel.armed[place].1 = later;
                wheel.slab.entry_mut(index).unwrap().deadline = crate::flow::timers::low(later);
            }
            Step::Disarm(which) if !wheel.armed.is_empty() => wheel.disarm(which % wheel.armed.len()),
            Step::Refresh(..) | Step::Disarm(_) => {}
            Step::Fire(ticks, budget) => {
                wheel.now += ticks;
                wheel.fire(budget);
                // As the wheel may be years behind: what it holds is held from there.
                if wheel.timers.next_tick(&wheel.slab).is_some_and(|next| next + (1 << 30) < wheel.now) {
                    wheel.fire(usize::MAX);
                }
            }
        }
        wheel.audit();
    }
    // At the end every entry is looked at six times at most.
    let left = wheel.armed.len();
    wheel.now += 1 << 33;
    wheel.fire(left * 6);
    assert_eq!(wheel.armed.len(), 0);
    wheel.audit();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn the_wheel_fires_what_is_due_and_nothing_else(
        start in prop_oneof![Just(0u64), 0..1u64 << 20, 0..1u64 << 37],
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(start, &steps);
    }
}
