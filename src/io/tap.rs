//! Taps: what a worker tells of its frames to whoever writes them down.
//!
//! ```text
//!   worker 0: turn, tasks, own frames ─▶ batch ─┐ bounded
//!   worker 1: …                       ─▶ batch ─┴────────▶ Listener ── writes
//! ```
//!
//! A worker never waits for the listener: what finds no room is counted as lost. There is room for so many batches, and each
//! worker has so many bytes on their way at most. What is told of a turn is kept together until tasks have run
//! and the core has had its say, and then sent: so a TLS secret that came of these packets, and is told elsewhere at
//! once, is there before them.
//!
//! Where nobody listens a worker has no tap, and pays for one look at a field that says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::datapath::{Decision, FlowNumber, Instant, Verdict, WorkerId};
use crate::packet::{Frame, Offload};

/// Batches that may be on their way from all workers.
const MOST_BATCHES: usize = 4096;

/// Bytes that may be on their way from one worker.
const MOST_BYTES: usize = 16 << 20;

/// What a packet costs beside its bytes.
const OVERHEAD: usize = 256;

/// Which packets are told of: those that pass as they came or as they left.
pub type Wanted = Arc<dyn Fn(&[u8]) -> bool + Send + Sync>;

/// What is told of one frame.
#[derive(Debug)]
pub struct Told {
    /// When.
    pub time: Instant,
    /// The packet's number, the same for what came and what left.
    pub id: u64,
    /// As it came; `None` for what the core sent on its own, or let go later.
    pub came: Option<Copied>,
    /// As it left; `None` where it did not.
    pub left: Option<Copied>,
    /// What was decided.
    pub decision: Decision,
}

/// A packet, copied.
#[derive(Debug)]
pub struct Copied {
    /// Its bytes.
    pub bytes: Box<[u8]>,
    /// What was unfinished about it.
    pub offload: Offload,
}

impl Copied {
    fn of(frame: &Frame) -> Self {
        Self { bytes: frame.packet().into(), offload: frame.offload }
    }
}

impl Told {
    fn size(&self) -> usize {
        let bytes = [&self.came, &self.left].into_iter().flatten().map(|copied| copied.bytes.len());
        OVERHEAD + bytes.sum::<usize>()
    }
}

/// What was told in one turn.
#[derive(Debug)]
struct Batch {
    told: Vec<Told>,
    bytes: usize,
    /// What the worker has on its way.
    under_way: Arc<AtomicUsize>,
}

/// What all taps and the listener have in common.
#[derive(Default)]
struct Common {
    ids: AtomicU64,
    lost: AtomicU64,
}

/// Makes a tap for each worker.
#[derive(Clone)]
pub struct Taps {
    sender: SyncSender<Batch>,
    common: Arc<Common>,
    wanted: Option<Wanted>,
}

impl std::fmt::Debug for Taps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Taps")
    }
}

/// Hears what is told.
pub struct Listener {
    receiver: Receiver<Batch>,
    common: Arc<Common>,
}

/// What came of listening.
#[derive(Debug)]
pub enum Heard {
    /// This.
    Batch(Vec<Told>),
    /// Nothing, for so long as one would wait.
    Nothing,
    /// All taps and what makes them are gone.
    End,
}

/// Taps, and who hears them. Only packets that are `wanted` are told of, where it says which.
pub fn taps(wanted: Option<Wanted>) -> (Taps, Listener) {
    let (sender, receiver) = sync_channel(MOST_BATCHES);
    let common = Arc::new(Common::default());
    (Taps { sender, common: Arc::clone(&common), wanted }, Listener { receiver, common })
}

impl Listener {
    /// What is told next.
    pub fn hear(&self, patience: Duration) -> Heard {
        match self.receiver.recv_timeout(patience) {
            Ok(Batch { told, bytes, under_way }) => {
                under_way.fetch_sub(bytes, Relaxed);
                Heard::Batch(told)
            }
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }

    /// How many packets found no room.
    pub fn lost(&self) -> u64 {
        self.common.lost.load(Relaxed)
    }
}

impl Taps {
    pub(super) fn tap(&self, worker: WorkerId) -> Tap {
        Tap {
            taps: self.clone(),
            worker,
            under_way: Arc::default(),
            came: Vec::new(),
            came_offload: Offload::default(),
            came_wanted: false,
            told: Vec::new(),
            bytes: 0,
        }
    }
}

/// The tap of one worker.
pub(super) struct Tap {
    taps: Taps,
    worker: WorkerId,
    under_way: Arc<AtomicUsize>,
    /// The frame in hand, as it came.
    came: Vec<u8>,
    came_offload: Offload,
    came_wanted: bool,
    /// What was told since the last batch.
    told: Vec<Told>,
    bytes: usize,
}

impl Tap {
    /// A frame has come, and will be given to the core.
    pub fn came(&mut self, frame: &mut Frame) {
        frame.tags.flow = None;
        if frame.tags.packet == 0 {
            frame.tags.packet = self.fresh();
        }
        self.came.clear();
        self.came.extend_from_slice(frame.packet());
        self.came_offload = frame.offload;
        self.came_wanted = self.wants(frame.packet());
    }

    /// The frame that [came](Self::came) has come to this end, or waits.
    pub fn decided(&mut self, now: Instant, frame: &mut Frame, verdict: Verdict, decision: Decision) {
        let id = std::mem::take(&mut frame.tags.packet);
        let left = leaves(verdict);
        // Whoever it is handed to tells of it.
        if matches!(verdict, Verdict::HandOver(_))
            || !(self.came_wanted || left && self.wants(frame.packet()))
        {
            return;
        }
        let came = Copied { bytes: self.came.as_slice().into(), offload: self.came_offload };
        let decision = Decision { verdict: Some(verdict), ..decision };
        let left = left.then(|| Copied::of(frame));
        self.tell(Told { time: now, id, came: Some(came), left, decision });
    }

    /// A frame that had waited in the core was let go.
    pub fn let_go(&mut self, now: Instant, frame: &Frame, verdict: Verdict, decision: Decision) {
        if leaves(verdict) && self.wants(frame.packet()) {
            let decision = Decision { verdict: Some(verdict), ..decision };
            let id = if frame.tags.packet == 0 { self.fresh() } else { frame.tags.packet };
            self.tell(Told { time: now, id, came: None, left: Some(Copied::of(frame)), decision });
        }
    }

    /// The core has sent a frame on its own.
    pub fn originated(&mut self, now: Instant, frame: &Frame) {
        if !self.wants(frame.packet()) {
            return;
        }
        let flow = frame.tags.flow.map(|number| FlowNumber { worker: self.worker, number });
        let decision = Decision { flow, ..Decision::default() };
        let id = self.fresh();
        self.tell(Told { time: now, id, came: None, left: Some(Copied::of(frame)), decision });
    }

    /// Sends what was told.
    pub fn send(&mut self) {
        if self.told.is_empty() {
            return;
        }
        let batch = Batch {
            told: std::mem::take(&mut self.told),
            bytes: std::mem::take(&mut self.bytes),
            under_way: Arc::clone(&self.under_way),
        };
        if let Err(error) = self.taps.sender.try_send(batch) {
            let (std::sync::mpsc::TrySendError::Full(batch)
            | std::sync::mpsc::TrySendError::Disconnected(batch)) = error;
            self.under_way.fetch_sub(batch.bytes, Relaxed);
            self.lose(batch.told.len() as u64);
        }
    }

    fn tell(&mut self, told: Told) {
        let size = told.size();
        if self.under_way.load(Relaxed).saturating_add(size) > MOST_BYTES {
            return self.lose(1);
        }
        self.under_way.fetch_add(size, Relaxed);
        self.bytes += size;
        self.told.push(told);
    }

    fn lose(&self, packets: u64) {
        self.taps.common.lost.fetch_add(packets, Relaxed);
    }

    fn wants(&self, packet: &[u8]) -> bool {
        self.taps.wanted.as_ref().is_none_or(|wanted| wanted(packet))
    }

    /// Numbers begin at 1, as those of packets in a file do.
    fn fresh(&self) -> u64 {
        self.taps.common.ids.fetch_add(1, Relaxed) + 1
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.send();
    }
}

/// Whether a frame leaves with this verdict.
const fn leaves(verdict: Verdict) -> bool {
    matches!(verdict, Verdict::Forward(_) | Verdict::Answer(_))
}

#[cfg(test)]
mod tests;
