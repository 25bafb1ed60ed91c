//! Passive health: what a backend's own traffic says about it.
//!
//! Nothing is probed here. The translator reports how the handshakes of real flows end, and
//! this is what a backend's record makes of it:
//!
//! ```text
//!              refused, fewer than `fall` in a row
//!                  ┌───┐
//!                  │   ▼       the `fall`th refusal in a row
//!    accepted ──▶ ┌──────┐ ───────────────────────────────────▶ ┌────────────────┐ ◀──┐ refused:
//!   (count = 0)   │  Up  │                                      │ Down { until } │    │ until =
//!                 └──────┘ ◀─────────────────────────────────── └────────────────┘ ───┘ now + retry
//!                                        accepted                 │           ▲
//!                                                                 └───────────┘
//!                                     a pick at `until` or later takes the trial: until = now + retry
//! ```
//!
//! A backend that is down gets no flow before `until`. The first pick after that is the *trial*
//! (the half-open state of a circuit breaker), and taking it moves `until` on by `retry`: so
//! there is one trial at a time, and one whose outcome nobody ever reports (the flow could not
//! be opened after all, or the backend is silent) gives way to another after `retry`.
//! Whatever is accepted, by the trial or by a flow from before, is proof that the backend lives.
//!
//! The whole record is one atomic word: the refusals in a row while up, and the top bit with `until`
//! while down. Every transition is one read-modify-write of that word, so no reader can see half
//! of one, and of two workers that want the trial exactly one gets it. Relaxed ordering is
//! enough, since the word announces nothing but itself. Races that remain are harmless: an
//! acceptance and a refusal that two workers report at once count in either order, for there is no
//! other truth about which came first; and a worker whose clock reading is some microseconds old
//! may set `until` back by as much.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::datapath::Instant;

/// When a backend is thought to be down because of what its traffic shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    /// After so many refused flows in a row, with none accepted between. Zero: never.
    pub fall: u32,
    /// For so long, before one flow may try it again.
    pub retry: Duration,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { fall: 3, retry: Duration::from_secs(10) }
    }
}

/// Whether a backend is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes flows.
    Up,
    /// It has refused too often.
    Down {
        /// The earliest time at which one flow tries it again.
        until: Instant,
    },
}

/// Set while down; the other 63 bits are then `until`, which lasts 292 years.
const DOWN: u64 = 1 << 63;

/// One backend's health, shared by all workers.
#[derive(Debug)]
pub(super) struct HealthRecord {
    word: AtomicU64,
    passive: PassiveHealth,
}

impl HealthRecord {
    /// Up, with nothing refused yet.
    pub(super) fn new(passive: PassiveHealth) -> Self {
        Self { word: AtomicU64::new(0), passive }
    }

    pub(super) fn health(&self) -> Health {
        health_of(self.word.load(Relaxed))
    }

    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.word.load(Relaxed) & DOWN == 0
    }

    /// Whether a pick may have it: it is up, or a trial is due.
    pub(super) fn is_available(&self, now: Instant) -> bool {
        is_available(self.word.load(Relaxed), now)
    }

    /// Takes the trial if one is due: true for exactly one of those who ask at the same time.
    pub(super) fn take_trial(&self, now: Instant) -> bool {
        let word = self.word.load(Relaxed);
        word & DOWN != 0
            && is_available(word, now)
            && self.word.compare_exchange(word, self.down_from(now), Relaxed, Relaxed).is_ok()
    }

    /// A flow was accepted. The new health, where this changed it.
    pub(super) fn accepted(&self) -> Option<Health> {
        // Nearly always zero already: then the line is only read, and stays shared.
        let changed = self.word.load(Relaxed) != 0 && self.word.swap(0, Relaxed) & DOWN != 0;
        changed.then_some(Health::Up)
    }

    /// A flow was refused. The new health, where this changed it from up to down.
    pub(super) fn refused(&self, now: Instant) -> Option<Health> {
        let fall = u64::from(self.passive.fall);
        if fall == 0 {
            return None;
        }
        let down = self.down_from(now);
        let before = self.word.update(Relaxed, Relaxed, |word| {
            if word & DOWN != 0 || word + 1 >= fall { down } else { word + 1 }
        });
        (before & DOWN == 0 && before + 1 >= fall).then(|| health_of(down))
    }

    fn down_from(&self, now: Instant) -> u64 {
        DOWN | (now + self.passive.retry).as_nanos().min(!DOWN)
    }
}

fn health_of(word: u64) -> Health {
    if word & DOWN == 0 { Health::Up } else { Health::Down { until: Instant::from_nanos(word & !DOWN) } }
}

fn is_available(word: u64, now: Instant) -> bool {
    word & DOWN == 0 || word & !DOWN <= now.as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of the table below, at a second of the story.
    enum Step {
        Accepted,
        Refused,
        /// A pick asks for the backend; whether it gets it.
        Asks(bool),
    }
    use Health::Up;
    use Step::{Accepted, Asks, Refused};

    fn seconds(at: u64) -> Instant {
        Instant::START + Duration::from_secs(at)
    }

    fn asks(record: &HealthRecord, now: Instant) -> bool {
        record.is_up() || record.take_trial(now)
    }

    /// A name, `fall`, and what happens: the second, the step, and the health after it.
    type Story = (&'static str, u32, &'static [(u64, Step, Health)]);

    const fn down(until: u64) -> Health {
        Health::Down { until: Instant::from_nanos(until * 1_000_000_000) }
    }

    const STORIES: &[Story] = &[
        (
            "three refusals in a row, and not two, end it",
            3,
            &[(0, Refused, Up), (1, Refused, Up), (2, Asks(true), Up), (3, Refused, down(13))],
        ),
        (
            "a success between starts the count again",
            3,
            &[(0, Refused, Up), (0, Refused, Up), (1, Accepted, Up), (2, Refused, Up), (2, Refused, Up)],
        ),
        (
            "down means no flow before the retry, and then one",
            1,
            &[
                (0, Refused, down(10)),
                (0, Asks(false), down(10)),
                (9, Asks(false), down(10)),
                (10, Asks(true), down(20)),
                (10, Asks(false), down(20)),
                (19, Asks(false), down(20)),
            ],
        ),
        (
            "an accepted trial brings it back for all",
            1,
            &[
                (0, Refused, down(10)),
                (12, Asks(true), down(22)),
                (13, Accepted, Up),
                (13, Asks(true), Up),
                (13, Asks(true), Up),
            ],
        ),
        (
            "after a trial the count starts at nothing",
            2,
            &[
                (0, Refused, Up),
                (0, Refused, down(10)),
                (10, Asks(true), down(20)),
                (11, Accepted, Up),
                (12, Refused, Up),
                (13, Refused, down(23)),
            ],
        ),
        (
            "a refused trial waits the whole retry again",
            2,
            &[
                (0, Refused, Up),
                (0, Refused, down(10)),
                (10, Asks(true), down(20)),
                (15, Refused, down(25)),
                (24, Asks(false), down(25)),
                (25, Asks(true), down(35)),
            ],
        ),
        (
            "a trial that nobody reports gives way to another",
            1,
            &[
                (0, Refused, down(10)),
                (10, Asks(true), down(20)),
                (20, Asks(true), down(30)),
                (20, Asks(false), down(30)),
            ],
        ),
        (
            "a flow from before that is accepted late is proof enough",
            1,
            &[(0, Refused, down(10)), (1, Accepted, Up), (1, Asks(true), Up)],
        ),
        (
            "a fall of zero disables all of it",
            0,
            &[(0, Refused, Up), (0, Refused, Up), (0, Refused, Up), (0, Refused, Up), (0, Asks(true), Up)],
        ),
    ];

    #[test]
    fn a_backend_falls_and_is_tried_again_as_its_traffic_says() {
        for (name, fall, steps) in STORIES {
            let record = HealthRecord::new(PassiveHealth { fall: *fall, retry: Duration::from_secs(10) });
            for (number, (at, step, want)) in steps.iter().enumerate() {
                let now = seconds(*at);
                let before = record.health();
                match step {
                    Accepted => {
                        let told = record.accepted();
                        assert_eq!(told, (before != Up).then_some(Up), "{name}, step {number}");
                    }
                    Refused => {
                        let told = record.refused(now);
                        let changed = before == Up && *want != Up;
                        assert_eq!(told, changed.then_some(*want), "{name}, step {number}");
                    }
                    Asks(gets) => {
                        assert_eq!(record.is_available(now), *gets, "{name}, step {number}");
                        assert_eq!(asks(&record, now), *gets, "{name}, step {number}");
                    }
                }
                assert_eq!(record.health(), *want, "{name}, step {number}");
            }
        }
    }

    #[test]
    fn the_end_of_time_neither_wraps_nor_brings_a_backend_up() {
        let record = HealthRecord::new(PassiveHealth { fall: 1, retry: Duration::MAX });
        record.refused(Instant::from_nanos(u64::MAX));
        assert_eq!(record.health(), Health::Down { until: Instant::from_nanos(!DOWN) });
        assert!(!record.is_available(seconds(1 << 20)));
    }
}
