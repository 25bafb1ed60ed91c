//! Timers: a heap in which each timer knows its place, so that it can be moved or removed.
//!
//! The deadline of a busy connection moves with every packet, nearly always further away. Its
//! timer is not touched for that: when it fires too early, the owner finds so and sets it
//! anew. It is moved only when a deadline comes *nearer*, about once for each burst. So a packet
//! costs the same however many timers there are, and each owner has exactly one.

use crate::datapath::Instant;

/// Names a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimerId(u32);

#[derive(Clone, Copy, Debug)]
struct Armed {
    at: Instant,
    timer: TimerId,
}

/// All timers of one stack. `O` says whose a timer is.
#[derive(Debug)]
pub(super) struct Timers<O> {
    /// A binary heap: none is later than its children, at `2i + 1` and `2i + 2`.
    heap: Vec<Armed>,
    /// By timer: its place in the heap, and whose it is. Places of removed timers are stale.
    owners: Vec<(usize, O)>,
    free: Vec<TimerId>,
}

impl<O: Copy> Timers<O> {
    pub(super) const fn new() -> Self {
        Self { heap: Vec::new(), owners: Vec::new(), free: Vec::new() }
    }

    /// Adds a timer.
    pub(super) fn add(&mut self, at: Instant, owner: O) -> TimerId {
        let place = self.heap.len();
        let timer = if let Some(timer) = self.free.pop() {
            timer
        } else {
            let number = u32::try_from(self.owners.len()).expect("a stack is bounded far below 2^32 timers");
            self.owners.push((place, owner));
            TimerId(number)
        };
        self.owners[timer.0 as usize] = (place, owner);
        self.heap.push(Armed { at, timer });
        self.rise(place);
        timer
    }

    /// Sets a timer to another time.
    pub(super) fn set(&mut self, timer: TimerId, at: Instant) {
        let place = self.place(timer);
        let before = self.heap[place].at;
        self.heap[place].at = at;
        if at < before {
            self.rise(place);
        } else {
            self.sink(place);
        }
    }

    /// When a timer is set to fire.
    #[cfg(test)]
    pub(super) fn at(&self, timer: TimerId) -> Instant {
        self.heap[self.place(timer)].at
    }

    /// Removes a timer, whose id must not be used again.
    pub(super) fn remove(&mut self, timer: TimerId) {
        let place = self.place(timer);
        self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place).copied() {
            self.owners[moved.timer.0 as usize].0 = place;
            self.rise(place);
            self.sink(place);
        }
        self.free.push(timer);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    /// When the first timer fires.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.first().map(|armed| armed.at)
    }

    /// Whose timer is due, if any is. It stays armed: the owner sets or removes it.
    pub(super) fn due(&self, now: Instant) -> Option<(TimerId, O)> {
        let first = self.heap.first().filter(|armed| armed.at <= now)?;
        Some((first.timer, self.owners[first.timer.0 as usize].1))
    }

    fn place(&self, timer: TimerId) -> usize {
        self.owners[timer.0 as usize].0
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.owners[self.heap[a].timer.0 as usize].0 = a;
        self.owners[self.heap[b].timer.0 as usize].0 = b;
    }

    fn rise(&mut self, mut place: usize) {
        while place > 0 {
            let parent = (place - 1) / 2;
            if self.heap[parent].at <= self.heap[place].at {
                return;
            }
            self.swap(parent, place);
            place = parent;
        }
    }

    fn sink(&mut self, mut place: usize) {
        loop {
            let mut least = place;
            for child in [2 * place + 1, 2 * place + 2] {
                if child < self.heap.len() && self.heap[child].at < self.heap[least].at {
                    least = child;
                }
            }
            if least == place {
                return;
            }
            self.swap(least, place);
            place = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn timers_fire_in_the_order_of_a_sorted_list(
            steps in prop::collection::vec((0u8..4, 0usize..50, 0u64..1000), 1..400)
        ) {
            let mut timers = Timers::new();
            let mut slow: BTreeSet<(u64, usize)> = BTreeSet::new();
            let mut live: Vec<(usize, TimerId)> = Vec::new();
            for (number, (what, which, at)) in steps.into_iter().enumerate() {
                let which = (!live.is_empty()).then(|| which % live.len());
                match (what, which) {
                    (0, Some(which)) => {
                        let (owner, id) = live.swap_remove(which);
                        slow.retain(|entry| entry.1 != owner);
                        timers.remove(id);
                    }
                    (1, Some(which)) => {
                        let (owner, id) = live[which];
                        slow.retain(|entry| entry.1 != owner);
                        slow.insert((at, owner));
                        timers.set(id, Instant::from_nanos(at));
                        prop_assert_eq!(timers.at(id).as_nanos(), at);
                    }
                    _ => {
                        live.push((number, timers.add(Instant::from_nanos(at), number)));
                        slow.insert((at, number));
                    }
                }
                prop_assert_eq!(timers.next().map(Instant::as_nanos), slow.first().map(|entry| entry.0));
            }
            while let Some((id, owner)) = timers.due(Instant::from_nanos(u64::MAX)) {
                let at = timers.at(id).as_nanos();
                prop_assert!(slow.remove(&(at, owner)));
                prop_assert!(slow.first().is_none_or(|next| next.0 >= at));
                timers.remove(id);
            }
            prop_assert!(slow.is_empty());
        }
    }
}
