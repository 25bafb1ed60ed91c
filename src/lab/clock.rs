//! The real clock, which only drivers and the lab may ask.
#![expect(clippy::disallowed_methods, reason = "the lab measures what really happens")]

use std::time::{Duration, Instant};

use crate::datapath;

/// Now.
pub fn now() -> Instant {
    Instant::now()
}

/// A clock that runs with the real one, and can be set forward besides.
#[derive(Clone, Copy, Debug)]
pub(super) struct Skipping {
    started: Instant,
    skipped: Duration,
}

impl Skipping {
    pub(super) fn start() -> Self {
        Self { started: now(), skipped: Duration::ZERO }
    }

    pub(super) fn now(&self) -> datapath::Instant {
        datapath::Instant::START + self.started.elapsed().saturating_add(self.skipped)
    }

    /// Sets the clock forward, never back.
    pub(super) fn skip_to(&mut self, then: datapath::Instant) {
        self.skipped = self.skipped.saturating_add(then.since(self.now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_is_set_forward_and_never_back() {
        let mut clock = Skipping::start();
        let later = datapath::Instant::START + Duration::from_hours(1);
        clock.skip_to(later);
        clock.skip_to(datapath::Instant::START);
        assert!(clock.now() >= later && clock.now() < later + Duration::from_mins(1));
    }
}
