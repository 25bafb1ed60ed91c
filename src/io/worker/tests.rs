//! Threads on queues in memory: waking, handing over, stopping, failing.

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use super::*;
use crate::datapath::{Arrival, Instant, Outbox, Outcome, Reason, Totals, Verdict, WorkerId};
use crate::io::memory::{MemoryQueue, pair};
use crate::packet::{Frame, Offload};

/// Hands a frame to the worker that its first byte names, and sends it back from there; panics at 255. Its
/// timer ticks every millisecond.
struct Relay {
    id: u8,
    due: Instant,
    ticks: Arc<AtomicU64>,
}

impl Datapath for Relay {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, arrival: Arrival, _: &mut Outbox) -> Verdict {
        match frame.packet().first() {
            Some(255) => panic!("as it was told"),
            Some(&to) if to != self.id && arrival == Arrival::Queue => Verdict::HandOver(WorkerId(to)),
            _ => Verdict::Forward(Reason::KnownFlow),
        }
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Outbox) {
        self.due = now + Duration::from_millis(1);
        self.ticks.fetch_add(1, SeqCst);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        Some(self.due)
    }
}

struct Run {
    far: Vec<MemoryQueue>,
    counters: Vec<Arc<Counters>>,
    ticks: Arc<AtomicU64>,
    stop: Stop,
    thread: thread::JoinHandle<Result<Vec<Relay>, IoError>>,
}

fn start(workers: u8, spin: Duration) -> Run {
    let ticks = Arc::<AtomicU64>::default();
    let (near, far): (Vec<_>, Vec<_>) = (0..workers).map(|_| pair(64)).unzip();
    let cores = (0..workers).map(|id| Relay { id, due: Instant::START, ticks: Arc::clone(&ticks) }).collect();
    let queues = near.into_iter().map(|near| Box::new(near) as Box<dyn Queue>).collect();
    let counters: Vec<_> = (0..workers).map(|_| Arc::new(Counters::new(0))).collect();
    let stop = Stop::new();
    let (theirs, options) =
        ((counters.clone(), stop.clone()), WorkerOptions { spin, ..WorkerOptions::default() });
    let thread =
        thread::spawn(move || run_workers(cores, queues, theirs.0, Clock::start(), &theirs.1, &options));
    Run { far, counters, ticks, stop, thread }
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
fn frames_wake_sleeping_workers_be_it_by_queue_or_by_mailbox() {
    for spin in [Duration::ZERO, Duration::from_micros(50)] {
        let mut run = start(2, spin);
        for round in 0..50 {
            let to = round % 2;
            put(&mut run.far[0], &[to, round]);
            assert_eq!(await_one(&mut run.far[usize::from(to)]), [to, round]);
        }
        run.stop.trigger();
        assert_eq!(run.thread.join().unwrap().unwrap().len(), 2);
        let totals = Totals::of(run.counters.iter().map(|counters| &**counters));
        assert_eq!((totals.received, totals.handed_over), (50, 25));
        assert!(totals.agree());
    }
}

#[test]
fn timers_fire_without_frames() {
    let run = start(1, Duration::ZERO);
    while run.ticks.load(SeqCst) < 10 {
        thread::sleep(Duration::from_millis(1));
    }
    run.stop.trigger();
    run.thread.join().unwrap().unwrap();
}

#[test]
fn a_panic_stops_all_and_is_returned_with_what_it_said() {
    let mut run = start(2, Duration::ZERO);
    put(&mut run.far[1], &[255]);
    let error = run.thread.join().unwrap().map(|_| ()).unwrap_err();
    assert_eq!(error.to_string(), "worker 1 panicked: as it was told");
}

#[test]
fn a_device_that_is_gone_stops_all_and_is_named() {
    let mut run = start(2, Duration::ZERO);
    drop(run.far.pop());
    let error = run.thread.join().unwrap().map(|_| ()).unwrap_err();
    assert!(matches!(error, IoError::DeviceGone { .. }), "{error}");
}

#[test]
fn counts_agree_when_a_run_is_stopped_in_full_flight() {
    for _ in 0..20 {
        let mut run = start(2, Duration::from_micros(20));
        for round in 0..200_u8 {
            let [first, second] = &mut run.far[..] else { unreachable!() };
            for far in [first, second] {
                // A full queue is no matter here.
                let _ = far.send(&mut Frame::copy_of(&[round % 2, round], Offload::default()));
            }
        }
        run.stop.trigger();
        run.thread.join().unwrap().unwrap();
        let totals = Totals::of(run.counters.iter().map(|counters| &**counters));
        assert!(totals.agree(), "{totals:?}");
        assert_eq!(totals.ended(Outcome::Answered), 0);
    }
}
