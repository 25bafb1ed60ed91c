//! The time of day for the cache: told once, and counted on from there by tokio's clock, which may be a virtual one.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;
use tokio::time::Instant;

/// Time since 1970.
pub(super) type Moment = Duration;

/// Tells the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    at_start: Moment,
}

impl Clock {
    /// A clock for which it is `since_1970` now.
    pub fn starting_at(since_1970: Duration) -> Self {
        Self { start: Instant::now(), at_start: since_1970 }
    }

    /// Now.
    pub(super) fn now(&self) -> Moment {
        self.at_start.saturating_add(self.start.elapsed())
    }
}

/// Reads an HTTP date, in any of its three forms (RFC 9110 §5.6.7).
pub(super) fn date(value: &HeaderValue) -> Option<Moment> {
    // A date before 1970 is as old as one can be.
    httpdate::parse_http_date(value.to_str().ok()?)
        .ok()
        .map(|date| date.duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Writes one.
pub(super) fn field(moment: Moment) -> HeaderValue {
    // Past the year 9999 there are no dates of this form.
    let moment = moment.min(Duration::from_secs(253_402_300_799));
    HeaderValue::try_from(httpdate::fmt_http_date(UNIX_EPOCH + moment)).expect("a date is ASCII")
}
