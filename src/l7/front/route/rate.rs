//! How many requests are taken: a token bucket for each source, and one for all.
//!
//! A bucket is one number, the time at which it is full again: each token that is taken puts that off by the time that one
//! token needs to come back (GCRA, as in ATM). A full bucket says nothing, and need not be kept. So the table of sources is
//! of a fixed size: a source belongs to one set of eight, and a new one takes the place that is full first. Who comes
//! from very many addresses can so have its own debts forgotten early, and never has memory grow. Sets are chosen by a
//! keyed hash.
//!
//! All of it is shared by the workers. A refused request costs its source nothing.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use siphasher::sip::SipHasher24;
use tokio::time::Instant;

use crate::l7::spec::{Rate, RateLimits};
use crate::packet::Address;

/// How many sets there are, and sources in a set: 65,536 in all.
const SETS: usize = 8192;
const WAYS: usize = 8;

/// The buckets of all sources of one site, for all its limits.
#[derive(Debug)]
pub(super) struct Sources {
    seed: u64,
    start: Instant,
    sets: Box<[Mutex<Vec<Entry>>]>,
}

/// One source's bucket for one limit.
#[derive(Clone, Copy, Debug)]
struct Entry {
    limit: u32,
    source: u128,
    full: u64,
}

/// The limits of one route, or of a site.
#[derive(Debug)]
pub(super) struct Limits {
    /// Which of the site's limits it is.
    number: u32,
    source: Option<Bucket>,
    total: Option<(Bucket, AtomicU64)>,
}

/// How fast tokens come, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    /// For one token.
    each: u64,
    /// For all that it holds.
    depth: u64,
}

/// A request that comes too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::l7::front) struct TooEarly {
    /// Whose bucket is empty.
    pub by: By,
    /// When a token will be there.
    pub wait: Duration,
}

/// Whose bucket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::l7::front) enum By {
    Source,
    Total,
}

impl Bucket {
    fn new(rate: Rate) -> Self {
        let each = rate.per.seconds().saturating_mul(1_000_000_000) / u64::from(rate.requests.max(1));
        let each = each.max(1);
        Self { each, depth: each.saturating_mul(rate.burst.max(1).into()) }
    }

    /// When it is full again, once a token is taken; how long to wait where there is none.
    fn take(self, full: u64, now: u64) -> Result<u64, Duration> {
        let next = full.max(now).saturating_add(self.each);
        let latest = now.saturating_add(self.depth);
        if next > latest { Err(Duration::from_nanos(next - latest)) } else { Ok(next) }
    }
}

impl Sources {
    pub(super) fn new(seed: u64) -> Self {
        Self { sets: (0..SETS).map(|_| Mutex::default()).collect(), ..Self::none(seed) }
    }

    /// For a site that limits no source: there is room for none.
    pub(super) fn none(seed: u64) -> Self {
        Self { seed, start: Instant::now(), sets: Box::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn take(&self, bucket: Bucket, limit: u32, source: u128, now: u64) -> Result<(), Duration> {
        let mut bytes = [0; 20];
        let (of_source, of_limit) = bytes.split_at_mut(16);
        of_source.copy_from_slice(&source.to_be_bytes());
        of_limit.copy_from_slice(&limit.to_be_bytes());
        let hash = SipHasher24::new_with_keys(self.seed, limit.into()).hash(&bytes);
        let place = usize::try_from(hash % SETS as u64).unwrap_or_default();
        let Some(set) = self.sets.get(place) else { return Ok(()) };
        let mut set = set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = set.iter_mut().find(|entry| entry.limit == limit && entry.source == source) {
            entry.full = bucket.take(entry.full, now)?;
            return Ok(());
        }
        let entry = Entry { limit, source, full: bucket.take(0, now)? };
        let first = if set.len() < WAYS { None } else { set.iter_mut().min_by_key(|entry| entry.full) };
        match first {
            Some(first) => *first = entry,
            None => set.push(entry),
        }
        Ok(())
    }
}

impl Limits {
    pub(super) fn new(number: u32, limits: &RateLimits) -> Self {
        Self {
            number,
            source: limits.source.map(Bucket::new),
            total: limits.total.map(|rate| (Bucket::new(rate), AtomicU64::new(0))),
        }
    }

    /// Takes a token for a request from this address.
    pub(super) fn take(&self, sources: &Sources, address: Address) -> Result<(), TooEarly> {
        if self.source.is_none() && self.total.is_none() {
            return Ok(());
        }
        let now = sources.now();
        if let Some(bucket) = self.source {
            let taken = sources.take(bucket, self.number, source(address), now);
            taken.map_err(|wait| TooEarly { by: By::Source, wait })?;
        }
        if let Some((bucket, full)) = &self.total {
            let mut wait = Duration::ZERO;
            let next = |full| bucket.take(full, now).map_err(|early| wait = early).ok();
            if full.fetch_update(Relaxed, Relaxed, next).is_err() {
                return Err(TooEarly { by: By::Total, wait });
            }
        }
        Ok(())
    }
}

/// What counts as one source: an address, and of IPv6 the network that a customer has at least.
fn source(address: Address) -> u128 {
    match IpAddr::from(address) {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::l7::spec::RatePeriod;

    fn rate(requests: u32, per: RatePeriod, burst: u32) -> Rate {
        Rate { requests, per, burst }
    }

    fn address(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    /// The same, slowly: tokens that are counted one by one, in nanoseconds.
    #[test]
    fn a_bucket_gives_what_counting_tokens_gives() {
        let bucket = Bucket::new(Rate { requests: 4, per: RatePeriod::Second, burst: 3 });
        let (mut full, mut tokens, mut last) = (0, 3.0f64, 0u64);
        let mut now = 1_000_000_000;
        for step in [0u64, 0, 0, 0, 1, 125, 125, 250, 1, 249, 1000, 0, 0, 0, 5000, 0, 0, 0, 0, 249, 251] {
            now += step * 1_000_000;
            tokens = (tokens + Duration::from_nanos(now - last).as_secs_f64() * 4.0).min(3.0);
            last = now;
            match bucket.take(full, now) {
                Ok(next) => {
                    assert!(tokens > 0.999_999, "at {now}: {tokens}");
                    tokens -= 1.0;
                    full = next;
                }
                Err(wait) => {
                    assert!(tokens < 0.999_999, "at {now}: {tokens}");
                    let missing = (1.0 - tokens) / 4.0;
                    assert!((wait.as_secs_f64() - missing).abs() < 1e-6, "{wait:?} {missing}");
                }
            }
        }
    }

    /// Runs a test on a clock that stands still.
    fn paused(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn each_source_has_its_own_bucket_and_the_total_is_of_all() {
        paused(async {
            let sources = Sources::new(7);
            let spec = RateLimits {
                source: Some(rate(2, RatePeriod::Second, 2)),
                total: Some(rate(5, RatePeriod::Minute, 5)),
            };
            let (one, other) = (Limits::new(0, &spec), Limits::new(1, &spec));
            let (a, b, c) = (address("198.51.100.1"), address("2001:db8::1"), address("2001:db8::ffff:2"));
            let by = |limits: &Limits, from| limits.take(&sources, from).map_err(|early| early.by);
            assert_eq!([by(&one, a), by(&one, a), by(&one, a)], [Ok(()), Ok(()), Err(By::Source)]);
            assert_eq!([by(&one, b), by(&one, c), by(&one, b)], [Ok(()), Ok(()), Err(By::Source)], "one /64");
            assert_eq!(by(&other, a), Ok(()), "another limit");
            assert_eq!(
                [by(&one, address("2001:db8:0:1::")), by(&one, address("198.51.100.2"))],
                [Ok(()), Err(By::Total)]
            );
            let early = one.take(&sources, address("198.51.100.3")).unwrap_err();
            assert_eq!(early, TooEarly { by: By::Total, wait: Duration::from_secs(12) });
            tokio::time::advance(Duration::from_secs(12)).await;
            assert_eq!(by(&one, a), Ok(()));
        });
    }

    #[test]
    fn sources_without_end_take_a_bounded_room_and_who_owes_most_is_remembered() {
        paused(async {
            let sources = Sources::new(7);
            let limits =
                Limits::new(0, &RateLimits { source: Some(rate(1, RatePeriod::Hour, 100)), total: None });
            let busy = address("198.51.100.1");
            for _ in 0..100 {
                limits.take(&sources, busy).unwrap();
            }
            for number in 0..300_000u32 {
                limits.take(&sources, IpAddr::from(Ipv4Addr::from_bits(number)).into()).unwrap();
            }
            assert!(sources.sets.iter().all(|set| set.lock().unwrap().len() <= WAYS));
            assert_eq!(limits.take(&sources, busy).unwrap_err().by, By::Source);
        });
    }
}
