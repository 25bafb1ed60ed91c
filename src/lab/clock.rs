//! The real clock, which only drivers and the lab may ask.
#![expect(clippy::disallowed_methods, reason = "the lab measures what really happens")]

use std::time::Instant;

/// Now.
pub fn now() -> Instant {
    Instant::now()
}
