//! Threads for workers: one each, on a processor of its own, awake when there is something to do.
//!
//! This is the loop for cores that have no tasks beside them; [`run_with_tasks`](super::tasks::run_with_tasks) has the
//! other. Both make the same system calls and move bulk at the same speed, but a sleep in a runtime costs more than one
//! in a bare epoll: over 20,000 exchanges of single datagrams at layer 4, 10 % more processor time.
//!
//! ```text
//!        ┌──────────── more ───────────┐
//!        ▼                             │      spin: ask again, a while, where that has paid
//!     a turn ── nothing now ──▶ spin ──┴─▶ sleep until a frame, a letter, the deadline or the stop
//!        ▲                                  │
//!        └──────────────────────────────────┘
//! ```
//!
//! A turn reads the queue until it is empty, which edge-triggered epoll asks for: a frame that comes after that
//! is an edge. Before it sleeps a worker says so in its mailbox and looks into it once more.

use std::sync::Arc;
use std::task;
use std::thread;
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::IoError;
use super::clock::Clock;
use super::drive::{More, Worker, settle_mail};
use super::mailbox::Mailbox;
use super::queue::Queue;
use super::spinner::Spinner;
use super::stop::Stop;
use super::tap::Taps;
use crate::datapath::{Counters, Datapath};

/// How workers run.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// How long a worker that has nothing to do asks again before it sleeps. It does so only while frames come
    /// closer together than this, so an idle worker costs nothing.
    pub spin: Duration,
    /// Where workers run.
    pub pinning: Pinning,
    /// Who is told what becomes of each frame.
    pub taps: Option<Taps>,
}

/// Where workers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    /// Each of several on a processor of its own, where there are that many. One alone has nobody to be kept apart
    /// from, and is better off wherever there is room.
    Own,
    /// Where the kernel puts them.
    Free,
}

impl Default for WorkerOptions {
    /// As measured on two processors: 20 µs of spin take 1 µs off a round trip of 33 µs, and nothing off throughput; more do
    /// not take off more.
    fn default() -> Self {
        Self { spin: Duration::from_micros(20), pinning: Pinning::Own, taps: None }
    }
}

/// Drives one core a queue, each on a thread of its own, until `stop` is triggered; gives the cores back.
///
/// At the end no frame is on its way between two workers, so that the counters agree.
///
/// # Errors
/// A worker that fails or panics stops the others, and the first such error is returned.
pub fn run_workers<D: Datapath + Send>(
    cores: Vec<D>,
    queues: Vec<Box<dyn Queue>>,
    counters: Vec<Arc<Counters>>,
    clock: Clock,
    stop: &Stop,
    options: &WorkerOptions,
) -> Result<Vec<D>, IoError> {
    let mut team = Worker::team(cores, queues, counters)?;
    for worker in &mut team {
        worker.tell(options.taps.as_ref());
    }
    let processors = options.pinning.processors(team.len());
    let mut first_error = None;
    let mut team: Vec<Worker<D>> = thread::scope(|scope| {
        let threads: Vec<_> = team
            .into_iter()
            .map(|worker| {
                let id = worker.id().index();
                let processor = processors.get(id).copied();
                let body = move || {
                    let _stops = StopOnPanic(stop);
                    run(worker, clock, stop, options.spin, processor)
                };
                let thread = thread::Builder::new().name(format!("worker-{id}")).spawn_scoped(scope, body);
                if thread.is_err() {
                    stop.trigger();
                }
                (id, thread)
            })
            .collect();
        let mut join = |(id, thread): (usize, std::io::Result<thread::ScopedJoinHandle<'_, _>>)| {
            let (worker, error) = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok((worker, Ok(())))) => return Some(worker),
                Ok(Ok((worker, Err(error)))) => (Some(worker), error),
                Ok(Err(panic)) => (None, IoError::Panicked { worker: id, message: message(panic.as_ref()) }),
                Err(source) => (None, IoError::Worker { worker: id, what: "start its thread", source }),
            };
            first_error.get_or_insert(error);
            worker
        };
        threads.into_iter().filter_map(&mut join).collect()
    });
    settle_mail(&mut team, clock.now());
    match first_error {
        Some(error) => Err(error),
        None => Ok(team.into_iter().map(Worker::into_core).collect()),
    }
}

/// One worker's life. It comes back in any case, so that its mail can be read to the end.
fn run<D: Datapath>(
    mut worker: Worker<D>,
    clock: Clock,
    stop: &Stop,
    spin: Duration,
    processor: Option<usize>,
) -> (Worker<D>, Result<(), IoError>) {
    pin(processor);
    let result = Bed::new(&mut worker, stop).and_then(|mut bed| {
        let mut spinner = Spinner::new(spin);
        while !stop.is_triggered() {
            let now = clock.now();
            let turn = worker.turn(now)?;
            if turn.frames > 0 {
                spinner.frames(now);
            }
            worker.speak(now)?;
            if turn.more == More::Perhaps {
                continue;
            }
            if spinner.again(now) {
                thread::yield_now();
                continue;
            }
            bed.sleep(&mut worker, clock)?;
        }
        Ok(())
    });
    if result.is_err() {
        stop.trigger();
    }
    (worker, result)
}

/// What a worker sleeps on.
struct Bed {
    poll: Poll,
    events: Events,
}

const QUEUE: Token = Token(0);
const WAKER: Token = Token(1);

impl Bed {
    fn new<D: Datapath>(worker: &mut Worker<D>, stop: &Stop) -> Result<Self, IoError> {
        let id = worker.id().index();
        let failed = |what| move |source| IoError::Worker { worker: id, what, source };
        let poll = Poll::new().map_err(failed("get an epoll"))?;
        let bell = Bell(Waker::new(poll.registry(), WAKER).map_err(failed("get a waker"))?);
        let waker = task::Waker::from(Arc::new(bell));
        stop.wakes(waker.clone());
        if let Some(mailbox) = worker.mailbox() {
            mailbox.wake_with(waker.clone());
        }
        let queue = worker.queue_mut();
        if let Some(fd) = queue.raw_fd() {
            let register = poll.registry().register(&mut SourceFd(&fd), QUEUE, Interest::READABLE);
            register.map_err(failed("wait for its queue"))?;
        }
        queue.wake_with(waker);
        Ok(Self { poll, events: Events::with_capacity(4) })
    }

    /// Sleeps until there may be something to do. The queue must have been found empty before.
    fn sleep<D: Datapath>(&mut self, worker: &mut Worker<D>, clock: Clock) -> Result<(), IoError> {
        let timeout = worker.deadline().map(|due| due.since(clock.now()));
        if timeout.is_some_and(|timeout| timeout.is_zero())
            || !worker.mailbox().is_none_or(Mailbox::fall_asleep)
        {
            return Ok(());
        }
        let slept = self.poll.poll(&mut self.events, timeout);
        if let Some(mailbox) = worker.mailbox() {
            mailbox.wake_up();
        }
        match slept {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(source) => return Err(IoError::Worker { worker: worker.id().index(), what: "wait", source }),
            Ok(()) => {}
        }
        // A TUN descriptor reports an error only when its device is being removed, and then never
        // becomes readable again.
        if self.events.iter().any(|event| event.token() == QUEUE && event.is_error()) {
            return Err(IoError::DeviceGone { name: worker.queue_mut().device().to_owned() });
        }
        Ok(())
    }
}

/// Wakes a poll from any thread.
struct Bell(Waker);

impl task::Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // An eventfd takes a wake-up unless 2^64 of them wait.
        let _ = self.0.wake();
    }
}

/// Stops everybody when a worker's thread ends by a panic.
pub(super) struct StopOnPanic<'a>(pub &'a Stop);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.trigger();
        }
    }
}

/// What a panic said.
pub(super) fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "it did not say why".into())
}

impl Pinning {
    /// A processor for each of several workers, or none where there are too few.
    pub(super) fn processors(self, workers: usize) -> Vec<usize> {
        if self == Self::Free || workers < 2 {
            return Vec::new();
        }
        let Ok(allowed) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
        let allowed: Vec<usize> =
            (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
        if allowed.len() < workers { Vec::new() } else { allowed.into_iter().take(workers).collect() }
    }
}

/// Keeps this thread on its processor, if it has one.
pub(super) fn pin(processor: Option<usize>) {
    let Some(processor) = processor else { return };
    let mut set = CpuSet::new();
    // Where this is not allowed the worker runs all the same.
    let _ = set.set(processor).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set));
}

#[cfg(test)]
mod tests;
