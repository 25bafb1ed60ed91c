//! What one thread has seen, and what all of them came to.

use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::check::Fault;
use super::{Kind, Load};
use crate::lab::clock;

/// What a load came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What was done.
    pub kind: Kind,
    /// Over how many connections at a time.
    pub connections: usize,
    /// How many requests at a time on each.
    pub streams: usize,
    /// How many a second were due, where that was given.
    pub rate: Option<f64>,
    /// For how long, in truth.
    pub seconds: f64,
    /// Exchanges that were completed, and rightly.
    pub done: u64,
    /// Exchanges that failed.
    pub errors: u64,
    /// Exchanges whose answer was not what had been asked for.
    pub wrong: u64,
    /// Completed exchanges a second.
    pub per_second: f64,
    /// Bytes of bodies a second, in millions.
    pub megabytes_per_second: f64,
    /// The time that half of them took at most, in microseconds.
    pub p50_us: f64,
    /// The time that 90 of a hundred took at most, in microseconds.
    pub p90_us: f64,
    /// The time that 99 of a hundred took at most, in microseconds.
    pub p99_us: f64,
    /// The time that 999 of a thousand took at most, in microseconds.
    pub p999_us: f64,
    /// The first error.
    pub first_error: Option<String>,
    /// What was wrong with the first wrong answer.
    pub first_wrong: Option<String>,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} connections", self.kind, self.connections)?;
        if self.streams > 1 {
            write!(f, " with {} streams each", self.streams)?;
        }
        if let Some(rate) = self.rate {
            write!(f, ", {rate} a second due")?;
        }
        write!(f, ", {:.1} s: {} done, {} errors, ", self.seconds, self.done, self.errors)?;
        if self.wrong > 0 {
            write!(f, "{} WRONG ANSWERS, ", self.wrong)?;
        }
        write!(f, "{:.0} a second, ", self.per_second)?;
        if self.kind == Kind::Bulk {
            write!(f, "{:.0} MB/s, ", self.megabytes_per_second)?;
        }
        write!(
            f,
            "p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, p99.9 {:.1} us",
            self.p50_us, self.p90_us, self.p99_us, self.p999_us
        )?;
        for (what, first) in [("error", &self.first_error), ("wrong answer", &self.first_wrong)] {
            if let Some(first) = first {
                write!(f, "\nthe first {what}: {first}")?;
            }
        }
        Ok(())
    }
}

/// What one thread has seen.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    /// Nanoseconds an exchange, to three digits.
    took: Histogram<u64>,
    bytes: u64,
    errors: u64,
    wrong: u64,
    first_error: Option<String>,
    first_wrong: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        let took = Histogram::new_with_bounds(100, 60_000_000_000, 3)
            .expect("100 ns to a minute at three digits are valid bounds");
        Self { took, bytes: 0, errors: 0, wrong: 0, first_error: None, first_wrong: None }
    }

    /// An exchange that began then came to its right end.
    pub(super) fn done(&mut self, began: Instant, ended: Instant, bytes: u64) {
        self.took(ended.saturating_duration_since(began));
        self.bytes = self.bytes.saturating_add(bytes);
    }

    fn took(&mut self, took: Duration) {
        self.took.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// An exchange that began now came to another end.
    pub(super) fn fault(&mut self, fault: &Fault) {
        let (count, first) = match fault {
            Fault::Failed(_) => (&mut self.errors, &mut self.first_error),
            Fault::Wrong(_) => (&mut self.wrong, &mut self.first_wrong),
        };
        *count = count.saturating_add(1);
        first.get_or_insert_with(|| fault.to_string());
    }

    /// So many exchanges that were due have no end.
    pub(super) fn unfinished(&mut self, count: u64) {
        if count > 0 {
            self.errors = self.errors.saturating_add(count);
            self.first_error.get_or_insert_with(|| "no answer by the end".into());
        }
    }

    /// How many exchanges have come to any end.
    pub(super) fn ended(&self) -> u64 {
        self.took.len().saturating_add(self.errors).saturating_add(self.wrong)
    }

    fn add(&mut self, other: Self) -> io::Result<()> {
        self.took.add(&other.took).map_err(io::Error::other)?;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.errors = self.errors.saturating_add(other.errors);
        self.wrong = self.wrong.saturating_add(other.wrong);
        self.first_error = self.first_error.take().or(other.first_error);
        self.first_wrong = self.first_wrong.take().or(other.first_wrong);
        Ok(())
    }
}

/// The tally of a thread, and how long it took.
#[derive(Debug)]
pub(super) struct Share {
    pub tally: Tally,
    pub seconds: f64,
}

impl Share {
    pub(super) fn since(started: Instant, tally: Tally) -> Self {
        Self { tally, seconds: started.elapsed().as_secs_f64() }
    }

    pub(super) fn begin() -> Instant {
        clock::now()
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(super) fn outcome(load: &Load, shares: Vec<Share>) -> io::Result<Outcome> {
    let mut all = Tally::new();
    let seconds = shares.iter().map(|share| share.seconds).fold(0.0, f64::max);
    for share in shares {
        all.add(share.tally)?;
    }
    let per_second = |count: u64| count as f64 / seconds.max(1e-9);
    let micros = |quantile| round(all.took.value_at_quantile(quantile) as f64 / 1000.0, 1);
    Ok(Outcome {
        kind: load.kind,
        connections: load.connections.get(),
        streams: load.streams().get(),
        rate: load.rate,
        seconds: round(seconds, 3),
        done: all.took.len(),
        errors: all.errors,
        wrong: all.wrong,
        per_second: round(per_second(all.took.len()), 1),
        megabytes_per_second: round(per_second(all.bytes) / 1e6, 2),
        p50_us: micros(0.5),
        p90_us: micros(0.9),
        p99_us: micros(0.99),
        p999_us: micros(0.999),
        first_error: all.first_error,
        first_wrong: all.first_wrong,
    })
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}
