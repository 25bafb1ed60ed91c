//! A worker's turn: frames in, verdicts obeyed, ends counted. It needs no thread and no clock.
//!
//! ```text
//!    mailbox ─┐          ┌─ Forward, Answer ─▶ queue ─▶ forwarded, answered; or write_failed
//!    queue ───┼─▶ core ──┼─ Drop ──────────────────────▶ dropped
//!    timers ──┘          ├─ HandOver ─▶ another worker's mailbox; or handover_full
//!                        └─ Held ─▶ comes out of the core later, through its outbox
//! ```
//!
//! A core may ask for a fence of a queue, its own or another worker's: to be told when all has been read that lay there.
//! Whoever has that queue reads it until it is empty, or until it has read as much as a queue can hold:
//!
//! ```text
//!    asker ── FenceAsked ──▶ reads on, and hands over ── FencePassed, behind all that ──▶ asker's core
//! ```
//!
//! [`run_workers`](super::worker::run_workers) gives each worker a thread, [`run_with_tasks`](super::tasks::run_with_tasks)
//! a runtime for tasks as well; tests and the lab in memory let several take turns in one. Each frame
//! from the queue is counted once as received, by the worker that read it, and once with its end, by the
//! worker where it came to it. Over a team whose mailboxes are empty,
//! `received = forwarded + answered + delivered + dropped + held`. What a core says on its own comes out behind the
//! turn, by [`Worker::speak`], and is counted apart.

use std::collections::VecDeque;
use std::sync::Arc;

use super::IoError;
use super::mailbox::{Letter, Mail, Mailbox, Post};
use super::queue::{LENGTH, Queue, is_gone};
use super::tap::{Tap, Taps};
use crate::datapath::{
    Arrival, Counters, Datapath, Decision, Instant, Listening, Outbox, Outcome, Reason, Verdict, WorkerId,
};
use crate::packet::Frame;

/// At most this many frames are read in one turn, so that mail and timers are not kept waiting.
const BURST: usize = 64;

/// One core with its queue.
pub struct Worker<D> {
    core: D,
    /// The frame that is read into, again and again.
    frame: Frame,
    /// Mail on its way from the mailbox to the core; empty between turns.
    mail: VecDeque<Mail>,
    out: Outbox,
    ends: Ends,
}

/// What a turn came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a turn says whether there is more to do"]
pub struct Turn {
    /// How many frames were taken from the queue and the mailbox.
    pub frames: usize,
    /// Whether another turn would find something to do at once.
    pub more: More,
}

/// Whether there is more to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// The queue may hold more frames.
    Perhaps,
    /// Nothing until a frame comes or [`Worker::deadline`] is reached.
    Nothing,
}

impl<D: Datapath> Worker<D> {
    /// A team of workers that hand frames over to each other: one a core, in the order of their ids.
    ///
    /// # Errors
    /// Where there are not as many queues and counters as cores, or more than there can be.
    pub fn team(
        cores: Vec<D>,
        queues: Vec<Box<dyn Queue>>,
        counters: Vec<Arc<Counters>>,
    ) -> Result<Vec<Self>, IoError> {
        let seats = Seat::team(cores.len(), queues, counters)?;
        Ok(cores.into_iter().zip(seats).map(|(core, seat)| Self::new(core, seat)).collect())
    }

    pub(super) fn new(core: D, Seat(ends): Seat) -> Self {
        Self { core, frame: Frame::new(), mail: VecDeque::new(), out: Outbox::default(), ends }
    }

    /// Has what becomes of each frame told, where somebody listens.
    pub(super) fn tell(&mut self, taps: Option<&Taps>) {
        let Some(taps) = taps else { return };
        self.core.listen(Listening::Yes);
        self.ends.tap = Some(Box::new(taps.tap(self.ends.id)));
    }

    /// Does what there is to do now: the mail, a burst of frames, and what has fallen due.
    ///
    /// # Errors
    /// Where the queue's device is gone or the queue failed. All that was taken in is counted even then.
    pub fn turn(&mut self, now: Instant) -> Result<Turn, IoError> {
        self.turn_over(now, BURST)
    }

    /// The same for a worker that knows its queue to be empty, and need not ask.
    pub(super) fn turn_without_queue(&mut self, now: Instant) -> Result<Turn, IoError> {
        self.turn_over(now, 0)
    }

    #[inline]
    fn turn_over(&mut self, now: Instant, burst: usize) -> Result<Turn, IoError> {
        let mail = self.read_mail(now);
        // A fence has to know that the queue is empty now, and not that it was a moment ago.
        let burst = if self.ends.fences.is_empty() { burst } else { BURST };
        let mut read = 0;
        let mut more = if burst == 0 { More::Nothing } else { More::Perhaps };
        for _ in 0..burst {
            match self.ends.queue.receive(&mut self.frame) {
                Ok(true) => self.take_in(now),
                Ok(false) => {
                    more = More::Nothing;
                    break;
                }
                Err(error) => {
                    self.ends.fail(error);
                    break;
                }
            }
            read += 1;
        }
        if !self.ends.fences.is_empty() {
            self.pass_fences(now, read, more);
        }
        if self.deadline().is_some_and(|due| due <= now) {
            self.core.handle_timeout(now, &mut self.out);
            self.ends.empty(now, &mut self.out, Arrival::Queue, Decision::default);
        }
        if !self.ends.fences.is_empty() {
            more = More::Perhaps;
        }
        self.ends.take_failure().map(|()| Turn { frames: mail + read, more })
    }

    /// Writes what the core has to say on its own.
    ///
    /// # Errors
    /// Where the queue's device is gone or the queue failed.
    pub fn speak(&mut self, now: Instant) -> Result<(), IoError> {
        let Self { core, ends, .. } = self;
        core.poll_egress(now, &mut |frame| ends.originate(now, frame));
        if let Some(tap) = &mut ends.tap {
            tap.send();
        }
        ends.take_failure()
    }

    /// When the next turn is due, if no frame comes before.
    pub fn deadline(&self) -> Option<Instant> {
        self.core.poll_timeout()
    }

    /// The core.
    pub fn core(&self) -> &D {
        &self.core
    }

    /// The core, to be asked or told something.
    pub fn core_mut(&mut self) -> &mut D {
        &mut self.core
    }

    /// Gives the core back; the queue is closed.
    pub fn into_core(self) -> D {
        self.core
    }

    /// Reads the mail that is left when the queues are read no more, and lets the fences pass; says how many both were.
    pub(super) fn settle_mail(&mut self, now: Instant) -> usize {
        let count = self.read_mail(now) + self.ends.fences.len();
        self.pass_fences(now, 0, More::Nothing);
        count
    }

    fn read_mail(&mut self, now: Instant) -> usize {
        match self.ends.post.mailbox(self.ends.id) {
            Some(mailbox) if !mailbox.is_empty() => mailbox.take(&mut self.mail),
            _ => return 0,
        }
        let count = self.mail.len();
        while let Some(mail) = self.mail.pop_front() {
            let Self { core, ends, out, .. } = self;
            match mail {
                Mail::Letter(Letter { mut frame, visited, queue }) => {
                    handle(core, ends, out, now, &mut frame, Arrival::HandedOver { visited, queue });
                }
                Mail::FenceAsked(asker) => ends.fences.push(Fence::asked_by(asker)),
                Mail::FencePassed(queue) => {
                    core.handle_fence(now, queue, out);
                    ends.empty(now, out, Arrival::Queue, Decision::default);
                }
            }
        }
        count
    }

    /// Says of those fences of this worker's queue that they have passed that have, now that so many frames have been read
    /// and so much is left.
    #[cold]
    fn pass_fences(&mut self, now: Instant, read: usize, left: More) {
        // The core may ask for another one when it hears of this.
        for mut fence in std::mem::take(&mut self.ends.fences) {
            fence.frames = fence.frames.saturating_sub(read);
            if left == More::Perhaps && fence.frames > 0 {
                self.ends.fences.push(fence);
            } else if fence.asker == self.ends.id {
                self.core.handle_fence(now, self.ends.id, &mut self.out);
                self.ends.empty(now, &mut self.out, Arrival::Queue, Decision::default);
            } else if let Some(mailbox) = self.ends.post.mailbox(fence.asker) {
                mailbox.pass_fence(self.ends.id);
            }
        }
    }

    fn take_in(&mut self, now: Instant) {
        let Ends { counters, .. } = &self.ends;
        counters.received.add(1);
        counters.received_bytes.add(self.frame.packet().len() as u64);
        if self.frame.packet().is_empty() {
            counters.count(Outcome::Dropped, Reason::Malformed);
            if let Some(tap) = &mut self.ends.tap {
                tap.came(&mut self.frame);
                let verdict = Verdict::Drop(Reason::Malformed);
                tap.decided(now, &mut self.frame, verdict, Decision::default());
            }
            return;
        }
        let Self { core, ends, out, frame, .. } = self;
        handle(core, ends, out, now, frame, Arrival::Queue);
    }

    pub(super) fn id(&self) -> WorkerId {
        self.ends.id
    }

    pub(super) fn queue_mut(&mut self) -> &mut dyn Queue {
        &mut *self.ends.queue
    }

    pub(super) fn mailbox(&self) -> Option<&Mailbox> {
        self.ends.post.mailbox(self.ends.id)
    }
}

/// Gives a frame to the core, and obeys.
#[inline]
fn handle<D: Datapath>(
    core: &mut D,
    ends: &mut Ends,
    out: &mut Outbox,
    now: Instant,
    frame: &mut Frame,
    arrival: Arrival,
) {
    if let Some(tap) = &mut ends.tap {
        tap.came(frame);
    }
    let verdict = core.handle_frame(now, frame, arrival, out);
    let verdict = ends.settle(frame, verdict, arrival);
    if let Some(tap) = &mut ends.tap {
        tap.decided(now, frame, verdict, core.decision());
    }
    if !out.is_empty() {
        ends.empty(now, out, arrival, || core.decision());
    }
}

/// Has all workers of a team read their mail until none is left, once none of them reads its
/// queue any more. A letter visits each worker once at most, and what waits for fences has come by each queue once at
/// most, which bounds the rounds.
pub fn settle_mail<D: Datapath>(team: &mut [Worker<D>], now: Instant) {
    for _ in 0..ROUNDS {
        let read: usize = team.iter_mut().map(|worker| worker.settle_mail(now)).sum();
        if read == 0 {
            break;
        }
    }
}

/// Rounds of letters, and of notes there and back for each queue.
pub(super) const ROUNDS: usize = 4 * WorkerId::MAX;

/// A worker's place in its team, before its core is there.
pub(super) struct Seat(Ends);

impl Seat {
    /// One a core, in the order of their ids.
    pub fn team(
        cores: usize,
        queues: Vec<Box<dyn Queue>>,
        counters: Vec<Arc<Counters>>,
    ) -> Result<Vec<Self>, IoError> {
        if cores != queues.len() || cores != counters.len() || cores > WorkerId::MAX {
            let counters = counters.len();
            let why = format!("they need as many cores and counters, and there are {cores} and {counters}");
            return Err(IoError::Queues { queues: queues.len(), why });
        }
        let post = Post::new(cores);
        let seat = |((id, queue), counters)| {
            let (id, post) = (WorkerId(id), Arc::clone(&post));
            Self(Ends {
                id,
                queue,
                counters,
                post,
                fences: Vec::new(),
                failed: None,
                warned: Warned::No,
                tap: None,
            })
        };
        Ok((0..).zip(queues).zip(counters).map(seat).collect())
    }

    pub fn id(&self) -> WorkerId {
        self.0.id
    }
}

/// Where frames come to their ends.
struct Ends {
    id: WorkerId,
    queue: Box<dyn Queue>,
    counters: Arc<Counters>,
    post: Arc<Post>,
    /// Fences of this worker's queue that have not passed.
    fences: Vec<Fence>,
    /// What ended the queue, until the turn is over.
    failed: Option<IoError>,
    warned: Warned,
    /// Who is told, where anybody is.
    tap: Option<Box<Tap>>,
}

/// A fence of a queue.
struct Fence {
    /// Whose core wants to know when it has passed: this worker's or another's.
    asker: WorkerId,
    /// So many frames lie before it at most.
    frames: usize,
}

impl Fence {
    /// One that is asked for now. What is read in this turn counts whole, though part of it may have been read before.
    fn asked_by(asker: WorkerId) -> Self {
        Self { asker, frames: LENGTH as usize + BURST }
    }
}

/// Whether a write that failed has been told about. The first is news, the rest is a count.
#[derive(PartialEq, Eq)]
enum Warned {
    No,
    Yes,
}

impl Ends {
    /// Obeys a verdict about a frame that came so; says what became of it in the end.
    #[inline]
    fn settle(&mut self, frame: &mut Frame, verdict: Verdict, arrival: Arrival) -> Verdict {
        let settled = match verdict {
            Verdict::Forward(_) | Verdict::Answer(_) => self.write(frame, verdict),
            Verdict::HandOver(to) => self.hand_over(frame, to, arrival),
            Verdict::Drop(_) | Verdict::Deliver(_) | Verdict::Held => verdict,
        };
        if let Some((outcome, reason)) = settled.outcome() {
            self.counters.count(outcome, reason);
        }
        settled
    }

    /// Obeys the verdicts about the frames that the core let go, and asks for the fences that it wants.
    fn empty(&mut self, now: Instant, out: &mut Outbox, arrival: Arrival, decision: impl Fn() -> Decision) {
        for (mut frame, verdict) in out.drain() {
            let settled = self.settle(&mut frame, verdict, arrival);
            if let Some(tap) = &mut self.tap {
                tap.let_go(now, &frame, settled, decision());
            }
        }
        for queue in out.take_fences().iter() {
            if queue == self.id {
                self.fences.push(Fence::asked_by(self.id));
            } else if let Some(mailbox) = self.post.mailbox(queue) {
                mailbox.ask_fence(self.id);
            }
        }
    }

    fn write(&mut self, frame: &mut Frame, verdict: Verdict) -> Verdict {
        match self.queue.send(frame) {
            Ok(()) => verdict,
            Err(error) => {
                self.not_taken(frame, error);
                Verdict::Drop(Reason::WriteFailed)
            }
        }
    }

    /// Writes a frame of the core's own.
    fn originate(&mut self, now: Instant, frame: &mut Frame) {
        match self.queue.send(frame) {
            Ok(()) => {
                if let Some(tap) = &mut self.tap {
                    tap.originated(now, frame);
                }
                self.counters.originated.add(1);
                self.counters.originated_bytes.add(frame.packet().len() as u64);
            }
            Err(error) => {
                self.counters.originated_lost.add(1);
                self.not_taken(frame, error);
            }
        }
    }

    #[cold]
    fn not_taken(&mut self, frame: &Frame, error: std::io::Error) {
        if is_gone(&error) {
            self.fail(error);
        } else if self.warned == Warned::No {
            self.warned = Warned::Yes;
            tracing::warn!(
                "{} did not take a packet of {} bytes back: {error} (counted as {} from now on)",
                self.queue.device(),
                frame.packet().len(),
                Reason::WriteFailed,
            );
        }
    }

    fn hand_over(&mut self, frame: &Frame, to: WorkerId, arrival: Arrival) -> Verdict {
        let mut copy = Frame::copy_of(frame.packet(), frame.offload);
        copy.tags = frame.tags;
        let letter =
            Letter { frame: copy, visited: arrival.visited().with(self.id), queue: arrival.queue(self.id) };
        let posted = self.post.mailbox(to).is_some_and(|mailbox| mailbox.post(letter).is_ok());
        if posted {
            self.counters.handed_over.add(1);
            Verdict::HandOver(to)
        } else {
            Verdict::Drop(Reason::HandoverFull)
        }
    }

    fn take_failure(&mut self) -> Result<(), IoError> {
        self.failed.take().map_or(Ok(()), Err)
    }

    fn fail(&mut self, source: std::io::Error) {
        let name = self.queue.device().to_owned();
        let error = if is_gone(&source) {
            IoError::DeviceGone { name }
        } else {
            IoError::QueueFailed { name, source }
        };
        self.failed.get_or_insert(error);
    }
}

#[cfg(test)]
mod tests;
