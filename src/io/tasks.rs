//! Workers with tasks beside them: for a core that ends connections and has each served by a task.
//!
//! ```text
//!                           thread of one worker: one tokio runtime
//!        ┌────────────────────────────────────────────────────────────────────────┐
//!        │  ┌─▶ turn: mail, frames, timers ──▶ let tasks run ──▶ the core's frames │
//!        │  │                                    │ sessions: read, think, write     │
//!        │  └──── more, spin, or sleep ◀─────────┴──────────────────────────────── │
//!        └────────────────────────────────────────────────────────────────────────┘
//!          sleeps on: queue, mailbox, deadline, stop, core dirty │ what the tasks wait for
//! ```
//!
//! The loop is a task like those beside it, in the same run queue, which is worked off in order. So after a turn that
//! has woken sessions it goes to the end of that queue, and when its time comes again all of them have run, and what they
//! wrote leaves together. While all wait, the runtime sleeps in one `epoll_wait` for the queue's descriptor and
//! for the sessions' sockets alike. A session that writes at another time makes the core dirty, which wakes the loop.
//!
//! A core lives and dies on its thread, and so may hold what is not `Send`; it is built there, within the
//! runtime. That leaves one matter for the end: frames that are on their way between two workers when the
//! stop comes. Each worker leaves its loop, stops reading its queue and waits to be asked; the starting thread asks one
//! after the other to read its mail, until in one round nobody had any.

use std::future::{pending, poll_fn};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::{spawn_local, yield_now};
use tokio::time::{Sleep, sleep};

use super::IoError;
use super::clock::Clock;
use super::drive::{More, ROUNDS, Seat, Worker};
use super::mailbox::Mailbox;
use super::queue::Queue;
use super::spinner::Spinner;
use super::stop::Stop;
use super::worker::{StopOnPanic, WorkerOptions, message, pin};
use crate::datapath::{Counters, Datapath, Instant, WorkerId};

/// Drives one core a queue, each on a thread of its own with a runtime for its tasks, until `stop` is triggered.
/// Each of `builders` makes its core on that thread and within that runtime, so that it can hold what is not `Send`,
/// and spawn tasks by `tokio::task::spawn_local`, then and later. All of them are gone when this returns.
///
/// At the end no frame is on its way between two workers, so that the counters agree.
///
/// # Errors
/// A worker that fails or panics stops the others, and the first such error is returned. A task that panics
/// ends alone.
pub fn run_with_tasks<D, F>(
    builders: Vec<F>,
    queues: Vec<Box<dyn Queue>>,
    counters: Vec<Arc<Counters>>,
    clock: Clock,
    stop: &Stop,
    options: &WorkerOptions,
) -> Result<(), IoError>
where
    D: Datapath + 'static,
    F: FnOnce(WorkerId) -> D + Send,
{
    let seats = Seat::team(builders.len(), queues, counters)?;
    let processors = options.pinning.processors(seats.len());
    let mut first_error = None;
    thread::scope(|scope| {
        let (mut threads, mut asked) = (Vec::new(), Vec::new());
        for (seat, build) in seats.into_iter().zip(builders) {
            let id = seat.id().index();
            let (ask, desk) = Asked::pair();
            let processor = processors.get(id).copied();
            let body = move || {
                let _stops = StopOnPanic(stop);
                pin(processor);
                let result = live(seat, build, clock, stop, options, &desk);
                if result.is_err() {
                    stop.trigger();
                }
                result
            };
            let thread = thread::Builder::new().name(format!("worker-{id}")).spawn_scoped(scope, body);
            if thread.is_err() {
                stop.trigger();
            }
            threads.push((id, thread));
            asked.push(ask);
        }
        settle(&asked);
        drop(asked);
        for (id, thread) in threads {
            let error = match thread.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(error))) => error,
                Ok(Err(panic)) => IoError::Panicked { worker: id, message: message(panic.as_ref()) },
                Err(source) => IoError::Worker { worker: id, what: "start its thread", source },
            };
            first_error.get_or_insert(error);
        }
    });
    first_error.map_or(Ok(()), Err)
}

/// One worker's life, from its core's first moment to its last.
fn live<D: Datapath + 'static>(
    seat: Seat,
    build: impl FnOnce(WorkerId) -> D,
    clock: Clock,
    stop: &Stop,
    options: &WorkerOptions,
    desk: &Desk,
) -> Result<(), IoError> {
    let id = seat.id();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .map_err(|source| IoError::Worker { worker: id.index(), what: "get a runtime", source })?;
    runtime.block_on(async {
        let mut worker = Worker::new(build(id), seat);
        worker.tell(options.taps.as_ref());
        let rounds = spawn_local(run(worker, clock, stop.clone(), options.spin));
        let (mut worker, result) = match rounds.await {
            Ok(ended) => ended,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        // Nothing else may run meanwhile, so that this may block.
        while desk.requests.recv().is_ok() {
            // Whoever asked waits for the answer.
            let _ = desk.answers.send(worker.settle_mail(clock.now()));
        }
        result
    })
}

/// The rounds of one worker. It comes back in any case, so that its mail can be read to the end.
async fn run<D: Datapath>(
    mut worker: Worker<D>,
    clock: Clock,
    stop: Stop,
    spin: Duration,
) -> (Worker<D>, Result<(), IoError>) {
    let result = rounds(&mut worker, clock, &stop, spin).await;
    if result.is_err() {
        stop.trigger();
    }
    (worker, result)
}

async fn rounds<D: Datapath>(
    worker: &mut Worker<D>,
    clock: Clock,
    stop: &Stop,
    spin: Duration,
) -> Result<(), IoError> {
    let mut bed = Bed::new(worker, stop).await?;
    let mut spinner = Spinner::new(spin);
    let mut queue = Perhaps::Filled;
    while !stop.is_triggered() {
        let now = clock.now();
        let turn = match queue {
            Perhaps::Filled => worker.turn(now)?,
            Perhaps::Empty => worker.turn_without_queue(now)?,
        };
        if turn.frames > 0 {
            spinner.frames(now);
            let_others_run().await;
        }
        worker.speak(clock.now())?;
        queue = Perhaps::Filled;
        if turn.more == More::Perhaps {
            yield_now().await;
        } else if spinner.again(now) {
            thread::yield_now();
            // Unlike `let_others_run` this looks for what other tasks wait for.
            yield_now().await;
        } else {
            queue = bed.sleep(worker, clock, stop).await?;
        }
    }
    Ok(())
}

/// What is known about a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Perhaps {
    /// It may hold frames.
    Filled,
    /// It holds none.
    Empty,
}

/// Goes to the end of the run queue.
async fn let_others_run() {
    let mut been_there = false;
    poll_fn(|context| {
        if been_there {
            return Poll::Ready(());
        }
        been_there = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// What a worker sleeps on.
struct Bed {
    descriptor: Option<AsyncFd<Descriptor>>,
    timer: Pin<Box<Sleep>>,
    /// When the timer rings, at the latest at the deadline that is slept for. Deadlines mostly move on from one sleep to the
    /// next, and one wake-up too early is cheaper than setting the timer for each.
    rings_at: Option<Instant>,
}

/// The queue's descriptor, which stays the queue's.
struct Descriptor(RawFd);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl Bed {
    async fn new<D: Datapath>(worker: &mut Worker<D>, stop: &Stop) -> Result<Self, IoError> {
        // A task has the same waker all its life.
        let waker = poll_fn(|context| Poll::Ready(context.waker().clone())).await;
        stop.wakes(waker.clone());
        if let Some(mailbox) = worker.mailbox() {
            mailbox.wake_with(waker.clone());
        }
        let id = worker.id().index();
        let queue = worker.queue_mut();
        queue.wake_with(waker);
        // Of an error epoll tells in any case, but tokio only those who ask.
        let interest = Interest::READABLE | Interest::ERROR;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; the queue outlives this and keeps its descriptor open"
        )]
        let registered =
            queue.raw_fd().map(|fd| AsyncFd::with_interest(Descriptor(fd), interest)).transpose();
        let descriptor = registered.map_err(|source| IoError::Worker {
            worker: id,
            what: "wait for its queue",
            source,
        })?;
        Ok(Self { descriptor, timer: Box::pin(sleep(Duration::ZERO)), rings_at: None })
    }

    /// Sleeps until there may be something to do, and says what is known of the queue then. The queue must
    /// have been found empty before.
    async fn sleep<D: Datapath>(
        &mut self,
        worker: &mut Worker<D>,
        clock: Clock,
        stop: &Stop,
    ) -> Result<Perhaps, IoError> {
        let Self { descriptor, timer, rings_at } = self;
        if let Some(due) = worker.deadline() {
            let left = due.since(clock.now());
            if left.is_zero() {
                return Ok(Perhaps::Empty);
            }
            if rings_at.is_none_or(|rings_at| due < rings_at) {
                timer.as_mut().reset(tokio::time::Instant::now() + left);
                *rings_at = Some(due);
            }
        }
        let descriptor = descriptor.as_ref();
        let mut readable = pin!(async {
            match descriptor {
                Some(descriptor) => descriptor.ready(Interest::READABLE | Interest::ERROR).await,
                None => pending().await,
            }
        });
        let mut woken = false;
        let event = poll_fn(|context| {
            if let Poll::Ready(event) = readable.as_mut().poll(context) {
                return Poll::Ready(Some(event));
            }
            if rings_at.is_some() && timer.as_mut().poll(context).is_ready() {
                *rings_at = None;
                return Poll::Ready(None);
            }
            // Whatever woke this task, a round finds it. Only the first look must find that there is nothing.
            let stay = !std::mem::replace(&mut woken, true)
                && !stop.is_triggered()
                && worker.core().poll_dirty(context).is_pending()
                && worker.mailbox().is_none_or(Mailbox::fall_asleep);
            if stay { Poll::Pending } else { Poll::Ready(None) }
        })
        .await;
        if let Some(mailbox) = worker.mailbox() {
            mailbox.wake_up();
        }
        match event {
            // A TUN descriptor reports an error only when its device is being removed, and then
            // never becomes readable again.
            Some(Ok(event)) if event.ready().is_error() => {
                Err(IoError::DeviceGone { name: worker.queue_mut().device().to_owned() })
            }
            Some(Ok(mut event)) => {
                // Before the queue is read: what comes after that is a new event.
                event.clear_ready();
                Ok(Perhaps::Filled)
            }
            Some(Err(source)) => {
                Err(IoError::Worker { worker: worker.id().index(), what: "wait for its queue", source })
            }
            None if descriptor.is_none() => Ok(Perhaps::Filled),
            None => Ok(Perhaps::Empty),
        }
    }
}

/// The end of a worker that is asked to read its mail.
struct Desk {
    requests: Receiver<()>,
    answers: Sender<usize>,
}

/// The end of whoever asks.
struct Asked {
    requests: Sender<()>,
    answers: Receiver<usize>,
}

impl Asked {
    fn pair() -> (Self, Desk) {
        let ((ask, requests), (answer, answers)) = (channel(), channel());
        (Self { requests: ask, answers }, Desk { requests, answers: answer })
    }

    /// Has a worker read its mail, once it has left its rounds; says how many letters there were. One that is
    /// gone had none.
    fn read_mail(&self) -> usize {
        self.requests.send(()).ok().and_then(|()| self.answers.recv().ok()).unwrap_or(0)
    }
}

/// Has the workers read their mail until none is left, as [`settle_mail`](super::drive::settle_mail) does; in the first
/// round later workers may still have been reading their queues.
fn settle(workers: &[Asked]) {
    let round = || workers.iter().map(Asked::read_mail).sum::<usize>();
    round();
    for _ in 0..ROUNDS {
        if round() == 0 {
            break;
        }
    }
}

#[cfg(test)]
mod tests;
