//! Small cores for tests, and a run of them on a device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::thread::JoinHandle;

use fourseven::datapath::{Arrival, Counters, Datapath, Instant, Outbox, Reason, Totals, Verdict};
use fourseven::io::{Clock, IoError, Opened, Stop, WorkerOptions, run_workers};
use fourseven::packet::Frame;

/// What cores have seen together.
#[derive(Default)]
pub struct Seen {
    /// The longest packet.
    pub longest: AtomicUsize,
    /// Packets that were described as segments.
    pub large: AtomicU64,
}

/// Sends packets back with their addresses exchanged, which no checksum notices. To a socket of the same
/// host it looks as if the other side of the device sent what it sends itself.
#[derive(Clone, Default)]
pub struct Reflector {
    pub seen: Arc<Seen>,
}

impl Datapath for Reflector {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, _: Arrival, _: &mut Outbox) -> Verdict {
        self.seen.longest.fetch_max(frame.packet().len(), SeqCst);
        self.seen.large.fetch_add(u64::from(frame.offload.segments.is_some()), SeqCst);
        let packet = frame.packet_mut();
        let (from, length) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
        // Neighbour discovery and listener reports would only confuse their sender.
        if packet[from + length] & 0xf0 == 0xe0 && length == 4 || packet[from + length] == 0xff {
            return Verdict::Drop(Reason::Martian);
        }
        let (left, right) = packet.split_at_mut(from + length);
        left[from..].swap_with_slice(&mut right[..length]);
        Verdict::Answer(Reason::EchoRequest)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Passes everything on as it is.
#[derive(Clone, Default)]
pub struct PassThrough;

impl Datapath for PassThrough {
    fn handle_frame(&mut self, _: Instant, _: &mut Frame, _: Arrival, _: &mut Outbox) -> Verdict {
        Verdict::Forward(Reason::NotOurs)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Workers on a device.
pub struct Run {
    counters: Vec<Arc<Counters>>,
    stop: Stop,
    thread: JoinHandle<Result<(), IoError>>,
}

impl Run {
    pub fn start<D: Datapath + Clone + Send + 'static>(
        opened: Opened,
        core: &D,
        options: WorkerOptions,
    ) -> Self {
        let cores = vec![core.clone(); opened.queues.len()];
        let counters: Vec<_> = opened.queues.iter().map(|_| Arc::new(Counters::new(0))).collect();
        let stop = Stop::new();
        let theirs = (counters.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            run_workers(cores, opened.queues, theirs.0, Clock::start(), &theirs.1, &options).map(drop)
        });
        Self { counters, stop, thread }
    }

    /// What one worker received.
    pub fn received(&self, worker: usize) -> u64 {
        self.counters[worker].received.value()
    }

    pub fn totals(&self) -> Totals {
        Totals::of(self.counters.iter().map(|counters| &**counters))
    }

    /// Stops it, and gives the totals, which must agree.
    pub fn stop(self) -> Totals {
        self.stop.trigger();
        self.thread.join().unwrap().unwrap();
        let totals = Totals::of(self.counters.iter().map(|counters| &**counters));
        assert!(totals.agree(), "{totals:?}");
        totals
    }

    /// Waits until it ends by itself.
    pub fn end(self) -> IoError {
        self.thread.join().unwrap().unwrap_err()
    }
}
