//! Whether a worker that finds nothing to do asks again at once, or sleeps.

use std::time::Duration;

use crate::datapath::Instant;

/// Decides whether to ask again or to sleep.
///
/// Spinning pays where the next frame comes sooner than a sleeper wakes, and is waste elsewhere. So
/// it is on credit: spins that end in nothing use it up, and frames that come soon after one
/// another renew it.
pub(super) struct Spinner {
    limit: Duration,
    credit: u8,
    /// When frames last came.
    last: Instant,
}

impl Spinner {
    pub const MOST: u8 = 4;

    pub fn new(limit: Duration) -> Self {
        Self { limit, credit: 0, last: Instant::START }
    }

    /// Frames have come.
    pub fn frames(&mut self, now: Instant) {
        if now.since(self.last) < self.limit {
            self.credit = Self::MOST;
        }
        self.last = now;
    }

    /// Nothing is there: whether to ask again.
    pub fn again(&mut self, now: Instant) -> bool {
        if self.credit == 0 {
            return false;
        }
        let within = now.since(self.last) < self.limit;
        if !within {
            self.credit -= 1;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spinning_is_on_credit() {
        let at = |micros| Instant::START + Duration::from_micros(micros);
        let mut spinner = Spinner::new(Duration::from_micros(50));
        assert!(!spinner.again(at(1000)), "nobody has lent yet");
        spinner.frames(at(1000));
        assert!(!spinner.again(at(1001)), "one frame after a long silence is not worth it");
        spinner.frames(at(1040));
        assert!(spinner.again(at(1041)) && spinner.again(at(1089)));
        for round in 1..=u64::from(Spinner::MOST) {
            assert!(!spinner.again(at(1000 * round + 200)));
            spinner.frames(at(1000 * round + 500));
        }
        assert!(!spinner.again(at(1_000_000)), "the credit is used up");
    }
}
