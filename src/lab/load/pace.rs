//! When the next exchange begins.
//!
//! In a **closed loop** that is when the last one has ended: a slow server is asked less, and its figures flatter
//! it. In an **open loop** exchanges are due at a fixed rate, whatever the server does. Whoever is free takes the
//! oldest that is due, and its time counts from when it was due, not from when somebody came to it: waiting that
//! the server causes is waiting that its users would have (Tene's *coordinated omission*).
//!
//! tokio's timers know whole milliseconds only, which is more than an exchange takes; so the kernel's do it.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::lab::clock;

/// When the exchanges of one thread begin.
#[derive(Debug)]
pub(super) enum Pace {
    /// As soon as the last one has ended.
    Closed,
    /// When they are due.
    Open(Arrivals),
}

impl Pace {
    /// Waits for the next exchange, and says since when it has been due; `None` when there is none any more.
    pub(super) async fn next(&self) -> Option<Instant> {
        match self {
            Self::Closed => Some(clock::now()),
            Self::Open(arrivals) => arrivals.next().await,
        }
    }
}

/// Exchanges at a fixed rate. They are counted, not kept, so a server that stands still costs no memory.
#[derive(Debug)]
pub(super) struct Arrivals {
    start: Instant,
    interval: Duration,
    due: Cell<u64>,
    taken: Cell<u64>,
    over: Cell<bool>,
    news: Notify,
}

impl Arrivals {
    pub(super) fn new(start: Instant, interval: Duration) -> Self {
        let interval = interval.max(Duration::from_nanos(100));
        let (due, taken, over) = (Cell::new(0), Cell::new(0), Cell::new(false));
        Self { start, interval, due, taken, over, news: Notify::new() }
    }

    /// How many have been due so far.
    pub(super) fn due(&self) -> u64 {
        self.due.get()
    }

    /// Lets exchanges become due until then.
    pub(super) async fn run(&self, until: Instant) -> io::Result<()> {
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        // Once in ten microseconds is as often as anybody can be woken.
        let step = TimeSpec::from_duration(self.interval.max(Duration::from_micros(10)));
        timer.set(Expiration::Interval(step), TimerSetTimeFlags::empty())?;
        #[expect(
            deprecated,
            reason = "what takes its place is unsafe to call; an OwnedFd is all that it asks for"
        )]
        let timer = AsyncFd::new(OwnedFd::from(timer))?;
        loop {
            let now = clock::now();
            self.release(now.min(until));
            if now >= until {
                break;
            }
            let mut ready = timer.readable().await?;
            // How often it has rung does not matter: the clock says how many are due.
            let _ = nix::unistd::read(timer.get_ref(), &mut [0; 8]);
            ready.clear_ready();
        }
        self.over.set(true);
        self.news.notify_waiters();
        Ok(())
    }

    fn release(&self, now: Instant) {
        let due = now.saturating_duration_since(self.start).as_nanos() / self.interval.as_nanos().max(1);
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        for _ in self.due.get()..due {
            self.news.notify_one();
        }
        self.due.set(due.max(self.due.get()));
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let number = self.taken.get();
            if number < self.due.get() {
                self.taken.set(number + 1);
                let nanos = self.interval.as_nanos().saturating_mul(u128::from(number) + 1);
                return self.start.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?));
            }
            if self.over.get() {
                return None;
            }
            // Nothing runs between the look above and this, as all of it is in one thread.
            self.news.notified().await;
        }
    }
}
