//! The load generator: so many connections, as fast as answers come or at a given rate.
//!
//! ```text
//!   Load ─▶ Job (what is asked) ─▶ a thread each: Pace (when) ─▶ Asker (over what) ─▶ Check ─▶ Tally ─▶ Outcome
//! ```
//!
//! In a closed loop a connection sends its next request when it has the whole answer to the last one; that
//! measures what a path can carry, and what is under way when the time is up is not counted. With a rate the
//! loop is open (see `pace`), which measures how a service feels under arrivals that do not wait.
//!
//! Every answer is checked. One that is not what was asked for is worse than none, and is counted by itself: a figure
//! beside which there are wrong answers says nothing.
//!
//! HTTP runs on threads with one event loop each, as a rule half as many as there are processors, so that
//! there is room for what is measured. Ping-pong runs on one blocking thread a connection, which
//! keeps every scheduler but the kernel's out of its figures.

mod check;
mod drive;
mod http1;
mod http2;
mod idle;
mod job;
mod pace;
mod ping_pong;
mod stream;
mod tally;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use job::Job;
pub use stream::Trust;
pub use tally::Outcome;
use tally::Share;
pub use target::{Scheme, Target, TargetError};

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
    /// HTTP requests for long bodies, over connections that are kept.
    Bulk,
    /// Full TLS 1.3 handshakes, a connection each.
    Handshake,
    /// TLS 1.3 handshakes that take a session up again, a connection each.
    HandshakeResumed,
    /// Connections that ask once and are then held.
    Idle,
    /// 64 bytes there and back, over a TCP echo.
    PingPong,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Http,
        Self::HttpNew,
        Self::Bulk,
        Self::Handshake,
        Self::HandshakeResumed,
        Self::Idle,
        Self::PingPong,
    ];

    /// The one word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpNew => "http-new",
            Self::Bulk => "bulk",
            Self::Handshake => "handshake",
            Self::HandshakeResumed => "handshake-resumed",
            Self::Idle => "idle",
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
            .ok_or_else(|| format!("`{text}` is none of {}", Self::ALL.map(Self::word).join(", ")))
    }
}

/// Which HTTP is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2; without TLS, with prior knowledge.
    Http2,
}

/// When idle connections are let go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// After the duration.
    #[default]
    Duration,
    /// When the process is told to end (`SIGINT`, `SIGTERM`).
    Signal,
}

/// How much load, of what kind, for how long.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// Where to.
    pub target: Target,
    /// What.
    pub kind: Kind,
    /// Over which HTTP.
    pub version: Version,
    /// How many connections at a time.
    pub connections: NonZeroUsize,
    /// How many requests at a time on each, over HTTP/2.
    pub streams: NonZeroUsize,
    /// How many exchanges are due a second; `None` for as many as it takes.
    pub rate: Option<f64>,
    /// For how long.
    pub duration: Duration,
    /// When idle connections are let go.
    pub until: Until,
    /// The host that is asked for, by SNI and in the request; `None` for the address.
    pub host: Option<String>,
    /// Whose certificates are good.
    pub trust: Trust,
    /// How many threads; `None` is half as many as there are processors.
    pub threads: Option<NonZeroUsize>,
}

/// Why a load makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The target speaks something else.
    #[error("ping-pong goes to tcp/ADDRESS:PORT, and all else to http(s)://ADDRESS:PORT/PATH")]
    Scheme,
    /// There is no TLS to shake hands for.
    #[error("handshakes go to https://ADDRESS:PORT/")]
    NoTls,
    /// Streams are of HTTP/2.
    #[error("several streams on a connection take --http2")]
    Streams,
    /// That is not done over HTTP/2.
    #[error("over HTTP/2 there are the kinds http and bulk")]
    Http2,
    /// That has no rate.
    #[error("a rate is above 0, at most 1,000,000, and for the kinds http, http-new, bulk and handshakes")]
    Rate,
}

impl Load {
    /// HTTP/1.1 for five seconds over sixteen connections, or a ping-pong where the target is an echo.
    pub fn to(target: Target) -> Self {
        let kind = if target.scheme == Scheme::Tcp { Kind::PingPong } else { Kind::Http };
        Self {
            target,
            kind,
            version: Version::Http1,
            connections: NonZeroUsize::MIN.saturating_add(15),
            streams: NonZeroUsize::MIN,
            rate: None,
            duration: Duration::from_secs(5),
            until: Until::Duration,
            host: None,
            trust: Trust::Anybody,
            threads: None,
        }
    }

    /// Whether this is a load that there can be.
    ///
    /// # Errors
    ///
    /// It is not, and why.
    pub fn check(&self) -> Result<(), LoadError> {
        let has_rate = !matches!(self.kind, Kind::Idle | Kind::PingPong);
        if (self.kind == Kind::PingPong) != (self.target.scheme == Scheme::Tcp) {
            Err(LoadError::Scheme)
        } else if matches!(self.kind, Kind::Handshake | Kind::HandshakeResumed)
            && self.target.scheme != Scheme::Https
        {
            Err(LoadError::NoTls)
        } else if self.version == Version::Http1 && self.streams.get() > 1 {
            Err(LoadError::Streams)
        } else if self.version == Version::Http2 && !matches!(self.kind, Kind::Http | Kind::Bulk) {
            Err(LoadError::Http2)
        } else if self.rate.is_some_and(|rate| !(has_rate && rate > 0.0 && rate <= 1e6)) {
            Err(LoadError::Rate)
        } else {
            Ok(())
        }
    }

    /// How many requests at a time on each connection.
    pub const fn streams(&self) -> NonZeroUsize {
        match self.version {
            Version::Http1 => NonZeroUsize::MIN,
            Version::Http2 => self.streams,
        }
    }

    /// Puts the load on, and says what came of it.
    ///
    /// # Errors
    ///
    /// It makes no sense; threads or event loops cannot be made; or the first connection of a thread failed: a
    /// target that is not there at all is told apart from one that fails under load.
    pub fn run(&self) -> io::Result<Outcome> {
        self.check().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let job = Job::of(self)?;
        let workers = match self.kind {
            Kind::PingPong => self.connections.get(),
            Kind::Idle => 1,
            _ => {
                let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
                let threads = self.threads.map_or(processors / 2, NonZeroUsize::get);
                threads.clamp(1, self.connections.get())
            }
        };
        let shares = thread::scope(|scope| {
            let threads: Vec<_> = (0..workers)
                .map(|worker| {
                    // Connections are dealt out; the first threads take one more where it does not divide.
                    let share = (self.connections.get() + workers - 1 - worker) / workers;
                    let job = &job;
                    thread::Builder::new()
                        .stack_size(256 * 1024)
                        .spawn_scoped(scope, move || self.work(job, share, workers))
                })
                .collect::<io::Result<_>>()?;
            threads
                .into_iter()
                .map(|thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a load thread panicked")))
                })
                .collect::<io::Result<Vec<_>>>()
        })?;
        tally::outcome(self, shares)
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of threads")]
    fn work(&self, job: &Job, share: usize, workers: usize) -> io::Result<Share> {
        let interval = self.rate.map(|rate| Duration::from_secs_f64(workers as f64 / rate));
        match self.kind {
            Kind::PingPong => ping_pong::run(self.target.address, self.duration),
            Kind::Idle => idle::run(self, job),
            Kind::Http | Kind::HttpNew | Kind::Bulk | Kind::Handshake | Kind::HandshakeResumed => {
                drive::run(self, job, share, interval)
            }
        }
    }
}
