//! Order: packets of a flow leave as they came, also where they came by several queues.
//!
//! The kernel leads a flow to one queue, the one that we last wrote to, but it forgets: after some seconds of silence,
//! or where it has 4,096 tuples to remember, it goes by a hash. So the queue of a flow may change in the middle.
//! A frame on one queue can then be read before an older one on another. Where a packet comes by another queue than the one
//! before it, it waits, and with it all that follow it by that queue:
//!
//! ```text
//!   comes by the old queue ───────────────────────────────▶ passes: it is older than all that wait
//!   comes by a new queue ──▶ waits, in the order of coming
//!                             ├─ the old queue's fence has passed ──▶ decided, as if it came now
//!                             └─ too many wait, or too long ────────▶ the same, and counted
//! ```
//!
//! A *fence* of a queue has passed when all frames that lay in it when it was asked for have been given to this
//! core; the driver sees to that ([`Outbox::ask_fence`](crate::datapath::Outbox::ask_fence)). One of each queue is asked
//! for at a time, and serves all flows that waited when it was asked for. Those that came to wait later get the next.
//!
//! What this cannot know: where the kernel changes a flow's queue there and back before anything that it led there has been
//! read, frames of before and after lie in one queue, and nothing tells them apart. It learns a queue from what
//! we write, and forgets it three seconds later at the earliest, so both changes must fall into the time that a worker lags.
//!
//! The flow's entry says by which queue its last packet came ([`CameBy`](crate::flow::CameBy)); that a flow waits is
//! written there too, so a packet that has nothing to wait for costs one comparison.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::datapath::{Arrival, Instant, WorkerId, WorkerSet};
use crate::flow::{Direction, FlowId};
use crate::packet::Frame;

/// Packets that may wait in all.
const MOST_FRAMES: usize = 1024;
/// Bytes of memory that they may take.
const MOST_BYTES: usize = 4 * 1024 * 1024;
/// How long one may wait. A worker that reads nothing for so long is not merely behind.
const LONGEST: Duration = Duration::from_secs(1);

/// A flow's direction.
pub(super) type Lane = (FlowId, Direction);

/// A packet that waits.
#[derive(Debug)]
pub(super) struct Parked {
    pub frame: Frame,
    pub arrival: Arrival,
}

/// Packets of one lane that came by one queue, let go together.
#[derive(Debug)]
pub(super) struct Released {
    pub lane: Lane,
    /// The queue that the lane is on from now on; `None` where these have changed it once more, and must wait again.
    pub queue: Option<WorkerId>,
    pub frames: Vec<Parked>,
    pub why: Why,
}

/// Why they were let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// All that was before them has come.
    Passed,
    /// There was no room to wait longer, or no time.
    GivenUp,
}

/// The packets that wait.
#[derive(Debug, Default)]
pub(super) struct Order {
    lanes: HashMap<Lane, Waiting, foldhash::fast::RandomState>,
    /// Until when each may wait, by its serial, and so in order of age.
    ages: BTreeMap<u64, (Instant, Lane)>,
    fences: Vec<Fence>,
    /// The fences that are to be asked for.
    wanted: WorkerSet,
    released: VecDeque<Released>,
    frames: usize,
    bytes: usize,
    serial: u64,
}

/// One lane's.
#[derive(Debug)]
struct Waiting {
    /// The queues in which frames may lie that come first.
    old: WorkerSet,
    /// By the queue they came by, in the order in which those came up.
    parts: Vec<(WorkerId, Vec<Parked>)>,
}

/// What is known of one queue's fences, which are numbered as they are asked for.
#[derive(Debug, Default)]
struct Fence {
    asked: u64,
    passed: u64,
    /// Which is awaited by which lane's serial, in the order of both. What is let go before its time is the oldest, so what
    /// is stale here is in front.
    awaited: VecDeque<(u64, u64)>,
}

impl Order {
    /// Whether a packet of a lane that waits came by a queue from which older ones are awaited.
    pub fn is_older(&self, lane: &Lane, queue: WorkerId) -> bool {
        self.lanes.get(lane).is_none_or(|waiting| waiting.old.contains(queue))
    }

    /// Lets a packet wait until the fences of the `old` queues have passed, or with others of its lane.
    pub fn park(&mut self, now: Instant, lane: Lane, old: WorkerSet, queue: WorkerId, parked: Parked) {
        self.frames += 1;
        self.bytes += parked.frame.memory();
        if let Some(waiting) = self.lanes.get_mut(&lane) {
            waiting.park(queue, parked);
        } else {
            self.serial += 1;
            let serial = self.serial;
            self.ages.insert(serial, (now + LONGEST, lane));
            old.iter().for_each(|queue| self.await_fence(queue, serial));
            self.lanes.insert(lane, Waiting { old, parts: vec![(queue, vec![parked])] });
        }
        while self.frames > MOST_FRAMES || self.bytes > MOST_BYTES {
            let Some((&oldest, _)) = self.ages.first_key_value() else { break };
            self.release(oldest, Why::GivenUp);
        }
    }

    /// A fence of this queue has passed.
    pub fn passed(&mut self, queue: WorkerId) {
        let Some(fence) = self.fences.get_mut(queue.index()) else { return };
        fence.passed = fence.asked;
        let behind = fence.awaited.partition_point(|(number, _)| *number <= fence.passed);
        let before: Vec<_> = fence.awaited.drain(..behind).collect();
        if let Some((number, _)) = fence.awaited.front() {
            fence.asked = *number;
            self.wanted = self.wanted.with(queue);
        }
        for (_, serial) in before {
            let lane = self.ages.get(&serial).and_then(|(_, lane)| self.lanes.get_mut(lane));
            let Some(waiting) = lane else { continue };
            waiting.old = waiting.old.without(queue);
            if waiting.old.is_empty() {
                self.release(serial, Why::Passed);
            }
        }
    }

    /// Gives up those that have waited too long.
    pub fn expire(&mut self, now: Instant) {
        while let Some((&oldest, _)) = self.ages.first_key_value().filter(|(_, (due, _))| *due <= now) {
            self.release(oldest, Why::GivenUp);
        }
    }

    /// When [`Order::expire`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.ages.first_key_value().map(|(_, (due, _))| *due)
    }

    /// What is to be let go, in this order.
    pub fn next_released(&mut self) -> Option<Released> {
        self.released.pop_front()
    }

    /// The fences to be asked for now.
    pub fn take_wanted(&mut self) -> WorkerSet {
        std::mem::take(&mut self.wanted)
    }

    fn await_fence(&mut self, queue: WorkerId, serial: u64) {
        if self.fences.len() <= queue.index() {
            self.fences.resize_with(queue.index() + 1, Fence::default);
        }
        let Some(fence) = self.fences.get_mut(queue.index()) else { return };
        // One that is under way may have gone by what this lane waits for.
        let number = fence.asked + 1;
        if fence.asked == fence.passed {
            fence.asked = number;
            self.wanted = self.wanted.with(queue);
        }
        fence.awaited.push_back((number, serial));
    }

    /// Lets a lane go.
    fn release(&mut self, serial: u64, why: Why) {
        let lane = self.ages.remove(&serial).map(|(_, lane)| lane);
        if let Some((lane, Waiting { parts, .. })) = lane.and_then(|lane| self.lanes.remove_entry(&lane)) {
            for (place, (queue, frames)) in parts.into_iter().enumerate() {
                self.frames -= frames.len();
                self.bytes -= frames.iter().map(|parked| parked.frame.memory()).sum::<usize>();
                let queue = (place == 0 || why == Why::GivenUp).then_some(queue);
                self.released.push_back(Released { lane, queue, frames, why });
            }
        }
        if why == Why::GivenUp {
            for fence in &mut self.fences {
                let stale = fence.awaited.partition_point(|(_, waits)| *waits <= serial);
                fence.awaited.drain(..stale);
            }
        }
    }
}

impl Waiting {
    fn park(&mut self, queue: WorkerId, parked: Parked) {
        match self.parts.iter_mut().find(|(by, _)| *by == queue) {
            Some((_, frames)) => frames.push(parked),
            None => self.parts.push((queue, vec![parked])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Offload;

    fn lane(number: u32) -> Lane {
        (FlowId::of_test(number), Direction::Original)
    }

    fn parked(length: usize) -> Parked {
        Parked { frame: Frame::copy_of(&vec![0; length], Offload::default()), arrival: Arrival::Queue }
    }

    fn set(queues: &[u8]) -> WorkerSet {
        queues.iter().fold(WorkerSet::NONE, |set, queue| set.with(WorkerId(*queue)))
    }

    impl Order {
        fn let_go(&mut self) -> Vec<(Lane, Option<WorkerId>, usize, Why)> {
            std::iter::from_fn(|| self.next_released())
                .map(|released| (released.lane, released.queue, released.frames.len(), released.why))
                .collect()
        }

        fn is_empty(&self) -> bool {
            let awaited: usize = self.fences.iter().map(|fence| fence.awaited.len()).sum();
            (self.lanes.len(), self.ages.len(), self.frames, self.bytes, awaited) == (0, 0, 0, 0, 0)
        }
    }

    #[test]
    fn one_fence_serves_all_that_waited_when_it_was_asked_for_and_no_other() {
        let (mut order, now) = (Order::default(), Instant::START);
        order.park(now, lane(1), set(&[3]), WorkerId(0), parked(9));
        assert_eq!(order.take_wanted(), set(&[3]));
        for number in [2, 3, 2] {
            order.park(now, lane(number), set(&[3]), WorkerId(0), parked(9));
        }
        assert!(order.take_wanted().is_empty(), "one is under way");
        order.passed(WorkerId(3));
        assert_eq!(order.let_go(), [(lane(1), Some(WorkerId(0)), 1, Why::Passed)]);
        assert_eq!(order.take_wanted(), set(&[3]));
        order.passed(WorkerId(3));
        let rest =
            [(lane(2), Some(WorkerId(0)), 2, Why::Passed), (lane(3), Some(WorkerId(0)), 1, Why::Passed)];
        assert_eq!(order.let_go(), rest);
        assert!(order.take_wanted().is_empty() && order.is_empty());
        order.park(now, lane(4), set(&[3]), WorkerId(0), parked(9));
        assert_eq!(order.take_wanted(), set(&[3]), "and so on");
    }

    #[test]
    fn who_waits_for_several_queues_waits_for_all_and_lets_older_ones_pass() {
        let mut order = Order::default();
        order.park(Instant::START, lane(1), set(&[1, 2]), WorkerId(0), parked(9));
        assert_eq!(order.take_wanted(), set(&[1, 2]));
        assert!(order.is_older(&lane(1), WorkerId(1)) && !order.is_older(&lane(1), WorkerId(0)));
        order.passed(WorkerId(1));
        assert!(order.let_go().is_empty() && !order.is_older(&lane(1), WorkerId(1)));
        order.passed(WorkerId(2));
        assert_eq!(order.let_go().len(), 1);
    }

    #[test]
    fn each_queue_s_packets_are_let_go_together_and_only_the_first_are_sure() {
        let mut order = Order::default();
        for queue in [0, 2, 0, 2] {
            order.park(Instant::START, lane(1), set(&[1]), WorkerId(queue), parked(9));
        }
        order.passed(WorkerId(1));
        let want = [(lane(1), Some(WorkerId(0)), 2, Why::Passed), (lane(1), None, 2, Why::Passed)];
        assert_eq!(order.let_go(), want);
    }

    #[test]
    fn a_fence_that_never_passes_costs_bounded_time_and_memory() {
        for length in [100, 60_000] {
            let mut order = Order::default();
            let mut given_up = 0;
            for number in 0..100_000 {
                let now = Instant::START + Duration::from_micros(u64::from(number));
                order.park(now, lane(number / 2), set(&[1]), WorkerId(0), parked(length));
                assert!(order.frames <= MOST_FRAMES && order.bytes <= MOST_BYTES);
                given_up += order.let_go().iter().map(|let_go| let_go.2).sum::<usize>();
            }
            assert!(order.fences[1].awaited.len() <= order.lanes.len(), "what is stale is forgotten");
            let due = order.next_deadline().unwrap();
            order.expire(due + LONGEST);
            let last = order.let_go();
            assert!(last.iter().all(|let_go| let_go.3 == Why::GivenUp));
            assert_eq!(given_up + last.iter().map(|let_go| let_go.2).sum::<usize>(), 100_000);
            assert!(order.is_empty() && order.next_deadline().is_none());
        }
    }
}
