//! The one clock of a live run.

use crate::datapath::Instant;

/// Tells cores the time: nanoseconds since it was started.
///
/// All workers of a run share one, so that their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
    /// When that was, since 1970.
    since_1970: std::time::Duration,
}

impl Clock {
    /// Starts a clock; the time is now [`Instant::START`].
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn start() -> Self {
        let today = std::time::SystemTime::now();
        let since_1970 = today.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { start: std::time::Instant::now(), since_1970 }
    }

    /// When this clock was started, in nanoseconds since 1970: what people call that time. The host's date may be set
    /// meanwhile; this clock goes on.
    pub fn started_at(&self) -> u64 {
        u64::try_from(self.since_1970.as_nanos()).unwrap_or(u64::MAX)
    }

    /// The time now. It never runs backwards.
    pub fn now(&self) -> Instant {
        Instant::START + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_starts_at_zero_and_only_moves_forward() {
        let clock = Clock::start();
        let (first, second) = (clock.now(), clock.now());
        assert!(Instant::START <= first && first <= second);
        assert!(second.since(Instant::START).as_secs() < 60);
    }
}
