//! The one clock of a live run.

use crate::datapath::Instant;

/// Tells cores the time: nanoseconds since it was started.
///
/// All workers of a run share one, so that their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// Starts a clock; the time is now [`Instant::START`].
    #[expect(clippy::disallowed_methods, reason = "this is where the time comes from")]
    pub fn start() -> Self {
        Self { start: std::time::Instant::now() }
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
