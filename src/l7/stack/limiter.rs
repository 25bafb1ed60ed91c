//! A token bucket: so many at once, so many a second.

use crate::datapath::Instant;

/// One token costs this many units; a unit comes back every nanosecond for each token a second.
const TOKEN: u64 = 1_000_000_000;

/// A token bucket. It starts full.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limiter {
    per_second: u64,
    units: u64,
    filled_at: Instant,
}

impl Limiter {
    /// So many a second, and as many at once.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = u64::from(per_second);
        Self { per_second, units: per_second * TOKEN, filled_at: Instant::START }
    }

    /// Takes a token if there is one.
    pub(super) fn allows(&mut self, now: Instant) -> bool {
        let passed = now.as_nanos().saturating_sub(self.filled_at.as_nanos());
        self.units =
            self.units.saturating_add(passed.saturating_mul(self.per_second)).min(self.per_second * TOKEN);
        self.filled_at = now;
        if self.units >= TOKEN {
            self.units -= TOKEN;
            true
        } else {
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_burst_is_bounded_and_tokens_come_back() {
        let mut limiter = Limiter::new(10);
        let now = Instant::from_nanos(5);
        assert_eq!((0..100).filter(|_| limiter.allows(now)).count(), 10);
        let later = now + Duration::from_millis(350);
        assert_eq!((0..100).filter(|_| limiter.allows(later)).count(), 3);
    }
}
