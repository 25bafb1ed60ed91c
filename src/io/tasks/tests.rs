//! Threads with tasks, on queues in memory: cores that cannot leave their thread, tasks that speak through
//! them, stopping, failing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Waker};

use super::*;
use crate::datapath::{Arrival, Outbox, Outcome, Reason, Totals, Verdict};
use crate::io::memory::{MemoryQueue, pair};
use crate::packet::{Frame, Offload};

/// Hands a frame to the worker that its first byte names, whose task sends it back a moment later as a frame of its
/// own; panics at 255, lets its task do so at 254, and forwards at 253.
struct Echoes {
    id: u8,
    said: Rc<Said>,
}

#[derive(Default)]
struct Said {
    frames: RefCell<VecDeque<Frame>>,
    waker: RefCell<Option<Waker>>,
}

/// Counts the tasks that are there.
struct Task(Arc<AtomicUsize>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Echoes {
    fn build(id: WorkerId, tasks: &Arc<AtomicUsize>) -> Self {
        tasks.fetch_add(1, SeqCst);
        let task = Task(Arc::clone(tasks));
        spawn_local(async move {
            let _task = task;
            pending::<()>().await;
        });
        Self { id: id.0, said: Rc::default() }
    }
}

impl Datapath for Echoes {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, arrival: Arrival, _: &mut Outbox) -> Verdict {
        let (said, copy) = (Rc::clone(&self.said), Frame::copy_of(frame.packet(), frame.offload));
        match frame.packet().first() {
            Some(255) => panic!("as it was told"),
            Some(254) => drop(spawn_local(async { panic!("a task, as it was told") })),
            Some(253) => return Verdict::Forward(Reason::KnownFlow),
            Some(&to) if to != self.id && arrival == Arrival::Queue => {
                return Verdict::HandOver(WorkerId(to));
            }
            _ => drop(spawn_local(async move {
                sleep(Duration::from_millis(1)).await;
                said.frames.borrow_mut().push_back(copy);
                said.waker.take().into_iter().for_each(Waker::wake);
            })),
        }
        Verdict::Deliver(Reason::KnownFlow)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_egress(&mut self, _: Instant, sink: &mut dyn FnMut(&mut Frame)) {
        while let Some(mut frame) = self.said.frames.borrow_mut().pop_front() {
            sink(&mut frame);
        }
    }

    fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        if self.said.frames.borrow().is_empty() {
            self.said.waker.replace(Some(context.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

struct Run {
    far: Vec<MemoryQueue>,
    counters: Vec<Arc<Counters>>,
    tasks: Arc<AtomicUsize>,
    stop: Stop,
    thread: thread::JoinHandle<Result<(), IoError>>,
}

fn start(workers: u8, spin: Duration) -> Run {
    let tasks = Arc::<AtomicUsize>::default();
    let (near, far): (Vec<_>, Vec<_>) = (0..workers).map(|_| pair(64)).unzip();
    let builders = (0..workers)
        .map(|_| {
            let tasks = Arc::clone(&tasks);
            move |id| Echoes::build(id, &tasks)
        })
        .collect();
    let queues = near.into_iter().map(|near| Box::new(near) as Box<dyn Queue>).collect();
    let counters: Vec<_> = (0..workers).map(|_| Arc::new(Counters::new(0))).collect();
    let stop = Stop::new();
    let (theirs, options) = ((counters.clone(), stop.clone()), WorkerOptions { spin, ..Default::default() });
    let thread = thread::spawn(move || {
        run_with_tasks(builders, queues, theirs.0, Clock::start(), &theirs.1, &options)
    });
    Run { far, counters, tasks, stop, thread }
}

fn put(queue: &mut MemoryQueue, packet: &[u8]) {
    queue.send(&mut Frame::copy_of(packet, Offload::default())).unwrap();
}

fn await_one(queue: &mut MemoryQueue) -> Vec<u8> {
    let mut frame = Frame::new();
    for _ in 0..10_000 {
        if queue.receive(&mut frame).unwrap() {
            return frame.packet().to_vec();
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("nothing came");
}

#[test]
fn tasks_speak_through_their_core_while_the_worker_sleeps() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let mut run = start(2, spin);
        for round in 0..50 {
            let to = round % 2;
            put(&mut run.far[0], &[to, round]);
            assert_eq!(await_one(&mut run.far[usize::from(to)]), [to, round]);
        }
        run.stop.trigger();
        let (totals, tasks) = (run.counters.clone(), Arc::clone(&run.tasks));
        run.thread.join().unwrap().unwrap();
        let totals = Totals::of(totals.iter().map(|counters| &**counters));
        assert_eq!((totals.received, totals.ended(Outcome::Delivered)), (50, 50));
        assert_eq!((totals.originated, totals.originated_bytes, totals.handed_over), (50, 100, 25));
        assert!(totals.agree(), "{totals:?}");
        assert_eq!(tasks.load(SeqCst), 0, "all tasks are gone with the run");
    }
}

#[test]
fn a_panic_stops_all_and_is_returned_with_what_it_said() {
    let mut run = start(2, Duration::ZERO);
    put(&mut run.far[1], &[255]);
    let error = run.thread.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "worker 1 panicked: as it was told");
}

#[test]
fn a_task_that_panics_ends_alone() {
    let mut run = start(1, Duration::ZERO);
    put(&mut run.far[0], &[254]);
    put(&mut run.far[0], &[0, 7]);
    assert_eq!(await_one(&mut run.far[0]), [0, 7]);
    run.stop.trigger();
    run.thread.join().unwrap().unwrap();
}

#[test]
fn a_device_that_is_gone_stops_all_and_is_named() {
    let mut run = start(2, Duration::ZERO);
    drop(run.far.pop());
    let error = run.thread.join().unwrap().unwrap_err();
    assert!(matches!(error, IoError::DeviceGone { .. }), "{error}");
}

#[test]
fn counts_agree_when_a_run_is_stopped_in_full_flight() {
    for _ in 0..20 {
        let mut run = start(3, Duration::from_micros(20));
        for round in 0..200_u8 {
            for far in &mut run.far {
                // A full queue is no matter here.
                let _ = far.send(&mut Frame::copy_of(
                    &[[0, 1, 2, 253][usize::from(round % 4)], round],
                    Offload::default(),
                ));
            }
        }
        run.stop.trigger();
        let counters = run.counters.clone();
        run.thread.join().unwrap().unwrap();
        let totals = Totals::of(counters.iter().map(|counters| &**counters));
        assert!(totals.agree(), "{totals:?}");
    }
}

#[test]
fn a_team_needs_a_queue_and_counters_for_each_core() {
    let builders: Vec<fn(WorkerId) -> Echoes> = Vec::new();
    let queues: Vec<Box<dyn Queue>> = vec![Box::new(pair(1).0)];
    let options = WorkerOptions::default();
    let error = run_with_tasks(builders, queues, vec![], Clock::start(), &Stop::new(), &options).unwrap_err();
    assert!(matches!(error, IoError::Queues { queues: 1, .. }), "{error}");
}
