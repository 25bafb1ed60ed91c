//! Counts, written by one worker and read by anybody at any time.
//!
//! Each worker has its own [`Counters`], so that counting is a plain load and store; a
//! [`Totals`] is the sum over the workers. The invariant that every report can be checked
//! against: `received = forwarded + answered + delivered + dropped + held`. Beside it stands what the
//! balancer has said on its own, which no packet came in for.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::reason::Reason;
use super::verdict::Outcome;

/// A count that one thread adds to and others may read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. Only the owner may call this: two writers would lose counts.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(more), Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What went to and came from one backend.
#[derive(Debug, Default)]
pub struct BackendCounters {
    /// Flows that were given to it.
    pub flows: Count,
    /// Packets from clients to it. A large segment counts once.
    pub packets_original: Count,
    /// Packets from it to clients.
    pub packets_reply: Count,
    /// Bytes of IP packets from clients to it.
    pub bytes_original: Count,
    /// Bytes of IP packets from it to clients.
    pub bytes_reply: Count,
    /// Handshakes that it refused by RST or that ended in an ICMP unreachable.
    pub refused: Count,
}

/// One worker's counts. Aligned so that two workers never write to one cache line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    /// Packets that came in.
    pub received: Count,
    /// Bytes of those.
    pub received_bytes: Count,
    /// Packets that the balancer sent on its own, for connections that end in it. A large segment counts once.
    pub originated: Count,
    /// Bytes of those.
    pub originated_bytes: Count,
    /// Packets of its own that the kernel did not take.
    pub originated_lost: Count,
    /// Packets that came on a queue whose worker does not own the flow, and were handed over.
    pub handed_over: Count,
    /// Answers that were due but not sent, because of the rate limit.
    pub answers_suppressed: Count,
    /// Packets that waited because those before them of their flow came by another queue.
    pub waited_for_order: Count,
    /// Those of them that were let go before it was certain that nothing of their flow is behind.
    pub order_given_up: Count,
    /// Packets that wait, for their first fragment or for those before them: added when they are held …
    pub held: Count,
    /// … and added here when they are let go.
    pub released: Count,
    /// Flows that ended, by close or by idle timeout.
    pub flows_ended: Count,
    /// Closed and half-open flows that were removed before their time to make room.
    pub flows_reclaimed: Count,
    ends: [[Count; Reason::COUNT]; Outcome::COUNT],
    backends: Box<[BackendCounters]>,
}

impl Counters {
    /// All zero, for that many backends.
    pub fn new(backends: usize) -> Self {
        Self {
            received: Count::default(),
            received_bytes: Count::default(),
            originated: Count::default(),
            originated_bytes: Count::default(),
            originated_lost: Count::default(),
            handed_over: Count::default(),
            answers_suppressed: Count::default(),
            waited_for_order: Count::default(),
            order_given_up: Count::default(),
            held: Count::default(),
            released: Count::default(),
            flows_ended: Count::default(),
            flows_reclaimed: Count::default(),
            ends: std::array::from_fn(|_| std::array::from_fn(|_| Count::default())),
            backends: (0..backends).map(|_| BackendCounters::default()).collect(),
        }
    }

    /// Counts the end that one packet came to.
    #[inline]
    pub fn count(&self, outcome: Outcome, reason: Reason) {
        self.ends[outcome as usize][reason as usize].add(1);
    }

    /// The counts of one backend.
    #[inline]
    pub fn backend(&self, backend: super::BackendId) -> Option<&BackendCounters> {
        self.backends.get(backend.index())
    }
}

/// What all workers counted together, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Packets that came in.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Packets that the balancer sent on its own.
    pub originated: u64,
    /// Bytes of those.
    pub originated_bytes: u64,
    /// Packets of its own that the kernel did not take.
    pub originated_lost: u64,
    /// Packets handed from one worker to another.
    pub handed_over: u64,
    /// Answers not sent because of the rate limit.
    pub answers_suppressed: u64,
    /// Packets that waited because those before them of their flow came by another queue.
    pub waited_for_order: u64,
    /// Those of them that were let go before it was certain that nothing of their flow is behind.
    pub order_given_up: u64,
    /// Packets that wait now.
    pub held: u64,
    /// Flows that ended.
    pub flows_ended: u64,
    /// Closed and half-open flows removed early to make room.
    pub flows_reclaimed: u64,
    /// How often each end was come to, for each reason; only what happened, in report order.
    pub ends: Vec<(Outcome, Reason, u64)>,
    /// One a backend, by its id.
    pub backends: Vec<BackendTotals>,
}

/// What went to and came from one backend, over all workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendTotals {
    /// Flows that were given to it.
    pub flows: u64,
    /// Packets from clients to it.
    pub packets_original: u64,
    /// Packets from it to clients.
    pub packets_reply: u64,
    /// Bytes from clients to it.
    pub bytes_original: u64,
    /// Bytes from it to clients.
    pub bytes_reply: u64,
    /// Handshakes refused.
    pub refused: u64,
}

impl Totals {
    /// Sums over the workers.
    pub fn of<'a>(workers: impl IntoIterator<Item = &'a Counters>) -> Self {
        let mut totals = Self::default();
        let mut ends = [[0u64; Reason::COUNT]; Outcome::COUNT];
        let workers: Vec<_> = workers.into_iter().collect();
        for worker in &workers {
            totals.originated += worker.originated.value();
            totals.originated_bytes += worker.originated_bytes.value();
            totals.originated_lost += worker.originated_lost.value();
            totals.handed_over += worker.handed_over.value();
            totals.answers_suppressed += worker.answers_suppressed.value();
            totals.waited_for_order += worker.waited_for_order.value();
            totals.order_given_up += worker.order_given_up.value();
            totals.held += worker.held.value().saturating_sub(worker.released.value());
            totals.flows_ended += worker.flows_ended.value();
            totals.flows_reclaimed += worker.flows_reclaimed.value();
            for (sum, counts) in ends.iter_mut().zip(&worker.ends) {
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum += count.value();
                }
            }
            totals
                .backends
                .resize(totals.backends.len().max(worker.backends.len()), BackendTotals::default());
            for (sum, backend) in totals.backends.iter_mut().zip(&worker.backends) {
                sum.flows += backend.flows.value();
                sum.packets_original += backend.packets_original.value();
                sum.packets_reply += backend.packets_reply.value();
                sum.bytes_original += backend.bytes_original.value();
                sum.bytes_reply += backend.bytes_reply.value();
                sum.refused += backend.refused.value();
            }
        }
        // Last, so that what workers do meanwhile can only make these more than what is accounted for.
        for worker in &workers {
            totals.received += worker.received.value();
            totals.received_bytes += worker.received_bytes.value();
        }
        for outcome in Outcome::ALL {
            for &reason in Reason::ALL {
                let count = ends[outcome as usize][reason as usize];
                if count > 0 {
                    totals.ends.push((outcome, reason, count));
                }
            }
        }
        totals
    }

    /// How many packets came to this end, for all reasons.
    pub fn ended(&self, outcome: Outcome) -> u64 {
        self.ends.iter().filter(|end| end.0 == outcome).map(|end| end.2).sum()
    }

    /// How many packets came to this end for this reason.
    pub fn count(&self, outcome: Outcome, reason: Reason) -> u64 {
        self.ends.iter().find(|end| end.0 == outcome && end.1 == reason).map_or(0, |end| end.2)
    }

    /// Whether every packet that came in is accounted for. Workers that are running have some in their hands, and
    /// some are under way between two; stopped ones have none.
    pub fn agree(&self) -> bool {
        self.received == self.accounted()
    }

    /// How many packets have come to an end, or wait for a fragment.
    pub fn accounted(&self) -> u64 {
        Outcome::ALL.iter().map(|&outcome| self.ended(outcome)).sum::<u64>() + self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_the_sum_over_the_workers_and_agree() {
        let workers = [Counters::new(2), Counters::new(2)];
        for worker in &workers {
            worker.received.add(3);
            worker.count(Outcome::Forwarded, Reason::KnownFlow);
            worker.count(Outcome::Dropped, Reason::Malformed);
            worker.held.add(1);
        }
        workers[1].released.add(1);
        workers[1].count(Outcome::Forwarded, Reason::Fragment);
        let totals = Totals::of(&workers);
        assert_eq!((totals.received, totals.held, totals.ended(Outcome::Forwarded)), (6, 1, 3));
        assert_eq!(totals.count(Outcome::Dropped, Reason::Malformed), 2);
        assert!(totals.agree());
        workers[0].received.add(1);
        assert!(!Totals::of(&workers).agree());
    }
}
