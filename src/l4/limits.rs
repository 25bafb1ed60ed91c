//! How many packets the balancer may send in its own name.
//!
//! An answer to whoever knocks is a gift to those who knock with somebody else's address, so
//! there is a bound (RFC 1812 §4.3.2.8, RFC 4443 §2.4 (f)). Resets are no larger than the segments
//! that they answer and get a wide one; ICMP errors are larger and get the usual one.

use crate::datapath::Instant;

const NANOS: u64 = 1_000_000_000;

/// A token bucket: so many a second, so many at once.
#[derive(Debug)]
pub struct Bucket {
    nanos_each: u64,
    depth_nanos: u64,
    /// When the bucket would be full again: the later, the emptier it is.
    full_at: u64,
}

impl Bucket {
    /// A full bucket. Both numbers are at least one.
    pub fn new(per_second: u64, at_once: u64) -> Self {
        let nanos_each = NANOS / per_second.clamp(1, NANOS);
        Self { nanos_each, depth_nanos: nanos_each.saturating_mul(at_once.max(1)), full_at: 0 }
    }

    /// Takes one, if there is one.
    pub fn take(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now.as_nanos()).saturating_add(self.nanos_each);
        let granted = full_at - now.as_nanos().min(full_at) <= self.depth_nanos;
        if granted {
            self.full_at = full_at;
        }
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate_and_never_more() {
        let mut bucket = Bucket::new(1000, 50);
        let start = Instant::from_nanos(5 * NANOS);
        assert_eq!((0..200).filter(|_| bucket.take(start)).count(), 50);
        let mut granted = 0;
        for millisecond in 1..=1000u64 {
            for _ in 0..10 {
                granted += u32::from(bucket.take(Instant::from_nanos(5 * NANOS + millisecond * 1_000_000)));
            }
        }
        assert_eq!(granted, 1000);
    }

    #[test]
    fn silence_fills_it_again_but_not_beyond_its_depth() {
        let mut bucket = Bucket::new(1000, 50);
        let later = Instant::from_nanos(u64::MAX / 2);
        assert_eq!((0..200).filter(|_| bucket.take(later)).count(), 50);
    }
}
