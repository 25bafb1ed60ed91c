//! The load generator: so many connections, each as fast as its answers come.
//!
//! This is a closed loop: a connection sends its next request when it has the whole answer to the
//! last one. It measures what a path can carry and how long one exchange takes on it; it does not
//! say how a service feels under arrivals that do not wait (for that, use an open-loop tool).
//!
//! HTTP runs on threads with one event loop each, half as many as there are processors, so that
//! there is room for what is measured. Ping-pong runs on one blocking thread a connection, which
//! keeps every scheduler but the kernel's out of its figures. What is under way when the time
//! is up is not counted.

mod http;
mod ping_pong;
mod target;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

pub use target::{Target, TargetError};

use super::clock;

/// An exchange that takes longer counts as an error.
const PATIENCE: Duration = Duration::from_secs(5);
/// After an error a connection rests this long, so that a dead target does not cost a processor.
const REST: Duration = Duration::from_millis(10);

/// What is done over and over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// HTTP requests over connections that are kept.
    Http,
    /// HTTP requests over a new connection each.
    HttpNew,
    /// 64 bytes there and back, over a TCP echo.
    PingPong,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Http, Self::HttpNew, Self::PingPong];

    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpNew => "http-new",
            Self::PingPong => "ping-pong",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.word() == text)
            .ok_or_else(|| format!("`{text}` is none of http, http-new, ping-pong"))
    }
}

/// How much load, of what kind, for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// What.
    pub kind: Kind,
    /// How many connections at a time.
    pub connections: NonZeroUsize,
    /// For how long.
    pub duration: Duration,
}

/// What a load came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What was done.
    pub kind: Kind,
    /// Over how many connections at a time.
    pub connections: usize,
    /// For how long, in truth.
    pub seconds: f64,
    /// Exchanges that were completed.
    pub done: u64,
    /// Exchanges that failed.
    pub errors: u64,
    /// Completed exchanges a second.
    pub per_second: f64,
    /// The time that half of them took at most, in microseconds.
    pub p50_us: f64,
    /// The time that 99 of a hundred took at most, in microseconds.
    pub p99_us: f64,
}

impl Load {
    /// Puts the load on, and says what came of it.
    ///
    /// # Errors
    ///
    /// Threads or event loops cannot be made, or the first connection of a thread failed: a
    /// target that is not there at all is told apart from one that fails under load.
    pub fn run(&self) -> io::Result<Outcome> {
        let workers = match self.kind {
            Kind::PingPong => self.connections.get(),
            Kind::Http | Kind::HttpNew => {
                let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
                (processors / 2).clamp(1, self.connections.get())
            }
        };
        let started = clock::now();
        let until = started + self.duration;
        let tallies = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    // Connections are dealt out; the first threads take one more where it does not divide.
                    let share = (self.connections.get() + workers - 1 - worker) / workers;
                    thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn_scoped(scope, move || self.work(share, until))
                })
                .collect::<io::Result<_>>()?;
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a load thread panicked")))
                })
                .collect::<io::Result<Vec<_>>>()
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let mut all = Tally::new();
        for tally in &tallies {
            all.errors += tally.errors;
            all.took.add(&tally.took).map_err(io::Error::other)?;
        }
        Ok(self.outcome(&all, seconds))
    }

    fn work(&self, share: usize, until: Instant) -> io::Result<Tally> {
        match self.kind {
            Kind::PingPong => ping_pong::run(self.target.address, until),
            Kind::Http => http::run(&self.target, share, until, http::Connections::Kept),
            Kind::HttpNew => http::run(&self.target, share, until, http::Connections::New),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn outcome(&self, all: &Tally, seconds: f64) -> Outcome {
        let micros = |quantile| all.took.value_at_quantile(quantile) as f64 / 1000.0;
        Outcome {
            kind: self.kind,
            connections: self.connections.get(),
            seconds: round(seconds, 3),
            done: all.took.len(),
            errors: all.errors,
            per_second: round(all.took.len() as f64 / seconds.max(1e-9), 1),
            p50_us: round(micros(0.5), 1),
            p99_us: round(micros(0.99), 1),
        }
    }
}

fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}, {} connections, {:.1} s: {} done, {} errors, {:.0} a second, p50 {:.1} us, p99 {:.1} us",
            self.kind,
            self.connections,
            self.seconds,
            self.done,
            self.errors,
            self.per_second,
            self.p50_us,
            self.p99_us
        )
    }
}

/// What one thread has seen.
#[derive(Clone, Debug)]
struct Tally {
    /// Nanoseconds an exchange, to three digits.
    took: Histogram<u64>,
    errors: u64,
}

impl Tally {
    fn new() -> Self {
        let took = Histogram::new_with_bounds(100, 60_000_000_000, 3)
            .expect("100 ns to a minute at three digits are valid bounds");
        Self { took, errors: 0 }
    }

    fn done(&mut self, took: Duration) {
        self.took.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::serve::{Serve, Serving};
    use std::net::SocketAddr;

    fn free() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn every_kind_completes_exchanges_without_errors() {
        let (http, echo) = (free(), free());
        let what = Serve { name: "t".into(), http: vec![http], tcp_echo: vec![echo], udp_echo: vec![] };
        let _serving = Serving::start(what).unwrap();
        for (kind, target) in [
            (Kind::Http, format!("http://{http}/x")),
            (Kind::HttpNew, format!("http://{http}/")),
            (Kind::PingPong, format!("tcp/{echo}")),
        ] {
            let load = Load {
                target: target.parse().unwrap(),
                kind,
                connections: NonZeroUsize::new(3).unwrap(),
                duration: Duration::from_millis(200),
            };
            let outcome = load.run().unwrap();
            assert!(outcome.done > 3 && outcome.errors == 0, "{outcome}");
            assert!(outcome.p50_us > 0.0 && outcome.p50_us <= outcome.p99_us, "{outcome}");
        }
    }

    #[test]
    fn a_target_that_is_not_there_is_an_error_at_once() {
        let load = Load {
            target: format!("http://{}/", free()).parse().unwrap(),
            kind: Kind::Http,
            connections: NonZeroUsize::MIN,
            duration: Duration::from_mins(1),
        };
        assert!(load.run().unwrap_err().to_string().contains("refused"));
    }
}
