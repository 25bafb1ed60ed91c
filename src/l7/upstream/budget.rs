//! How many requests may be tried again: some percent of all, and ten a second beside.
//!
//! Retries without a bound make an outage worse: every failing backend gets its load several times over. The percentage is
//! saved up by requests as they come, to a bound, so that a quiet hour does not pay for a storm; the ten a second are
//! for groups with so few requests that the percentage would round to nothing.

use std::time::Duration;

/// Retries that are always allowed in one second.
const A_SECOND: u32 = 10;

/// What one retry costs, in the hundredths that requests save up.
const PRICE: u64 = 100;

/// The most that is saved: so many retries at once.
const MOST: u64 = 100 * PRICE;

/// The retries of one group.
#[derive(Debug)]
pub(super) struct Budget {
    percent: u64,
    saved: u64,
    /// The second that `used` is about.
    second: u64,
    used: u32,
}

impl Budget {
    pub(super) fn new(percent: u32) -> Self {
        Self { percent: percent.into(), saved: 0, second: 0, used: 0 }
    }

    /// A request has come.
    pub(super) fn earn(&mut self) {
        self.saved = self.saved.saturating_add(self.percent).min(MOST);
    }

    /// Whether a request may be tried again at this time, which it then is.
    pub(super) fn spend(&mut self, since_start: Duration) -> bool {
        if self.second != since_start.as_secs() {
            (self.second, self.used) = (since_start.as_secs(), 0);
        }
        if self.used < A_SECOND {
            self.used += 1;
            return true;
        }
        match self.saved.checked_sub(PRICE) {
            Some(rest) => {
                self.saved = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spend_all(budget: &mut Budget, at: u64) -> usize {
        (0..10_000).filter(|_| budget.spend(Duration::from_secs(at))).count()
    }

    #[test]
    fn ten_a_second_are_always_allowed() {
        let mut budget = Budget::new(0);
        (0..1000).for_each(|_| budget.earn());
        assert_eq!(
            [spend_all(&mut budget, 0), spend_all(&mut budget, 0), spend_all(&mut budget, 1)],
            [10, 0, 10]
        );
    }

    #[test]
    fn requests_save_up_their_percentage_to_a_bound() {
        for (name, percent, requests, want) in [
            ("a fifth of a hundred", 20, 100, 10 + 20),
            ("nothing of nothing", 20, 0, 10),
            ("all of them", 100, 50, 10 + 50),
            ("never more than a hundred", 20, 1_000_000, 10 + 100),
        ] {
            let mut budget = Budget::new(percent);
            (0..requests).for_each(|_| budget.earn());
            assert_eq!(spend_all(&mut budget, 7), want, "{name}");
        }
    }
}
