//! One upstream: what is known about it, and its bytes with a guard around them.
//!
//! The bytes belong to hyper's connection task on the worker that opened the upstream; the requests may come from any
//! worker. What both need is in [`Upstream`]: marks that the guard sets as it sees bytes pass, and that the requests read when
//! something has gone wrong.
//!
//! ```text
//!   check-out: ARMED, BUSY ──▶ first write: probe says Quiet ──▶ bytes go: LEFT ──▶ bytes come: ANSWERED
//!                                    │ anything else
//!                                    ▼
//!                              the write fails: nothing has left
//! ```
//!
//! All of it is relaxed: a request that leaves for the task, and its result that comes back, go through channels,
//! which order everything that was marked before.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::pool::Shared;
use super::reason::DropReason;
use crate::datapath::BackendId;
use crate::l7::connect::{Duplex, Probe, Standing};
use crate::l7::spec::UpstreamLimits;
use crate::l7::tls::BackendStream;

/// A request is in flight.
const BUSY: u8 = 1;
/// The upstream has served others: before the first byte of this request leaves, its standing is asked for.
const ARMED: u8 = 2;
/// Bytes have left since the check-out.
const LEFT: u8 = 4;
/// Bytes have come since the check-out.
const ANSWERED: u8 = 8;

/// What has been seen of the other end, in `Upstream::seen`.
const SEEN_CLOSED: u8 = 1;
const SEEN_FAILED: u8 = 2;
const SEEN_UNSOLICITED: u8 = 3;
const SEEN_UPGRADED: u8 = 4;

/// Whether an upstream serves one request or many at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    /// HTTP/1.1: one at a time.
    OneByOne,
    /// HTTP/2: as many as the backend allows.
    Streams,
}

/// How often an upstream may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reuse {
    /// For one request.
    Single,
    /// Until the pool's limits say otherwise.
    Pooled,
}

/// What is known about one upstream, by all who have to do with it.
pub(super) struct Upstream {
    /// Its group's place.
    pub group: usize,
    pub backend: BackendId,
    /// The worker that it lives on.
    pub worker: usize,
    pub sharing: Sharing,
    pub reuse: Reuse,
    /// Whether its bytes say nothing to those who do not have its keys.
    pub sealed: bool,
    pub opened: Instant,
    pub probe: Arc<dyn Probe>,
    marks: AtomicU8,
    seen: AtomicU8,
    /// Requests that it was given; counted under the pool's lock.
    pub uses: AtomicU64,
    /// Requests that it carries now; counted under the pool's lock.
    pub streams: AtomicUsize,
    /// How many it may carry, as its backend last said.
    pub most_streams: AtomicUsize,
    /// Whether its bytes are dropped; set under the pool's lock.
    pub gone: AtomicBool,
    /// Whether it is off the pool's books, as it is until it is open; set under the pool's lock.
    pub ended: AtomicBool,
}

impl Upstream {
    /// Why it takes no more requests, by its age and use.
    pub(super) fn worn(&self, limits: &UpstreamLimits, now: Instant) -> Option<DropReason> {
        if limits.age.is_some_and(|age| now.saturating_duration_since(self.opened) >= age) {
            return Some(DropReason::Age);
        }
        let uses = self.uses.load(Relaxed);
        limits.uses.is_some_and(|most| uses >= most).then_some(DropReason::Uses)
    }

    #[expect(clippy::too_many_arguments)]
    pub(super) fn new(
        group: usize,
        backend: BackendId,
        worker: usize,
        sharing: Sharing,
        reuse: Reuse,
        sealed: bool,
        opened: Instant,
        probe: Arc<dyn Probe>,
    ) -> Self {
        Self {
            group,
            backend,
            worker,
            sharing,
            reuse,
            sealed,
            opened,
            probe,
            marks: AtomicU8::new(0),
            seen: AtomicU8::new(0),
            uses: AtomicU64::new(0),
            streams: AtomicUsize::new(0),
            // RFC 9113 §6.5.2 recommends no less; until the backend has spoken, hyper assumes it as well.
            most_streams: AtomicUsize::new(100),
            gone: AtomicBool::new(false),
            ended: AtomicBool::new(true),
        }
    }

    /// A request is about to be handed over. Marks are for one at a time.
    pub(super) fn check_out(&self, reused: bool) {
        if self.sharing == Sharing::OneByOne {
            self.marks.store(if reused { BUSY | ARMED } else { BUSY }, Relaxed);
        }
    }

    /// The request and its answer are through.
    pub(super) fn check_in(&self) {
        self.marks.store(0, Relaxed);
    }

    /// Whether a request holds it alone, and will say what is to become of it.
    pub(super) fn is_busy(&self) -> bool {
        self.marks.load(Relaxed) & BUSY != 0
    }

    /// Whether bytes of the request may have left. With many streams on one connection nobody can tell.
    pub(super) fn left(&self) -> bool {
        self.sharing == Sharing::Streams || self.marks.load(Relaxed) & LEFT != 0
    }

    /// Whether bytes of the answer have come.
    pub(super) fn answered(&self) -> bool {
        self.marks.load(Relaxed) & ANSWERED != 0
    }

    /// Why it cannot be given a request, if so. Asks the kernel, where nobody will with the first bytes in hand.
    pub(super) fn unfit(&self) -> Option<DropReason> {
        if self.sharing == Sharing::OneByOne {
            return None;
        }
        let standing = self.probe.standing();
        // On a connection of many streams the backend may speak first: settings, pings, windows.
        if standing == Standing::Quiet
            || (standing == Standing::Unsolicited && self.sharing == Sharing::Streams)
        {
            return None;
        }
        self.saw(standing);
        Some(self.why_gone())
    }

    fn saw(&self, standing: Standing) {
        let seen = match standing {
            Standing::Quiet => return,
            // What comes unasked behind TLS is a farewell or keys for next time; only the former comes late.
            Standing::Unsolicited if self.sealed => SEEN_CLOSED,
            Standing::Unsolicited => SEEN_UNSOLICITED,
            Standing::Closed => SEEN_CLOSED,
            Standing::Failed => SEEN_FAILED,
        };
        // What was seen first is the cause of what is seen later.
        let _ = self.seen.compare_exchange(0, seen, Relaxed, Relaxed);
    }

    /// Its bytes belong to an upgraded connection from now on.
    pub(super) fn saw_upgrade(&self) {
        self.seen.store(SEEN_UPGRADED, Relaxed);
        self.check_in();
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.seen.load(Relaxed) == SEEN_UPGRADED
    }

    /// Why it ends, where nobody has decided that it should.
    pub(super) fn why_gone(&self) -> DropReason {
        match self.seen.load(Relaxed) {
            SEEN_UPGRADED => DropReason::Upgraded,
            SEEN_FAILED => DropReason::Failed,
            _ if self.reuse == Reuse::Single => DropReason::SingleUse,
            SEEN_UNSOLICITED => DropReason::UnsolicitedBytes,
            _ => DropReason::ClosedByBackend,
        }
    }

    /// Why it ends in the middle of a request: where nothing was seen of the backend, what it sent made no sense.
    pub(super) fn why_broken(&self) -> DropReason {
        match self.seen.load(Relaxed) {
            SEEN_CLOSED => DropReason::ClosedByBackend,
            SEEN_UNSOLICITED => DropReason::UnsolicitedBytes,
            _ => DropReason::Failed,
        }
    }

    fn mark(&self, mark: u8) {
        if self.marks.load(Relaxed) & mark == 0 {
            self.marks.fetch_or(mark, Relaxed);
        }
    }

    /// Asks how it stands, with the first bytes of a request in hand.
    fn before_write(&self) -> io::Result<()> {
        if self.marks.load(Relaxed) & (ARMED | LEFT) != ARMED || self.sharing == Sharing::Streams {
            return Ok(());
        }
        match self.probe.standing() {
            Standing::Quiet => Ok(()),
            standing => {
                self.saw(standing);
                Err(io::ErrorKind::NotConnected.into())
            }
        }
    }
}

/// The bytes of an upstream. When they are dropped, the upstream is gone.
pub(super) struct Wire {
    bytes: Box<dyn Duplex>,
    upstream: Arc<Upstream>,
    shared: Arc<Shared>,
}

impl Wire {
    pub(super) fn new(bytes: Box<dyn Duplex>, upstream: Arc<Upstream>, shared: Arc<Shared>) -> Self {
        Self { bytes, upstream, shared }
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &result {
            Poll::Ready(Ok(1..)) => self.upstream.mark(LEFT),
            Poll::Ready(Err(_)) => self.upstream.saw(Standing::Failed),
            Poll::Ready(Ok(0)) | Poll::Pending => {}
        }
        result
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.shared.gone(&self.upstream);
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let room = buffer.remaining() > 0;
        let result = Pin::new(&mut self.bytes).poll_read(context, buffer);
        match &result {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                if self.upstream.is_busy() {
                    self.upstream.mark(ANSWERED);
                } else if self.upstream.sharing == Sharing::OneByOne && !self.upstream.sealed {
                    self.upstream.saw(Standing::Unsolicited);
                }
            }
            Poll::Ready(Ok(())) if room => self.upstream.saw(Standing::Closed),
            Poll::Ready(Err(_)) => self.upstream.saw(Standing::Failed),
            Poll::Ready(Ok(())) | Poll::Pending => {}
        }
        result
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.upstream.before_write()?;
        let result = Pin::new(&mut self.bytes).poll_write(context, buffer);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.upstream.before_write()?;
        let result = Pin::new(&mut self.bytes).poll_write_vectored(context, buffers);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(context)
    }
}

/// What hyper speaks over.
pub(super) enum Transport {
    /// Cleartext.
    Plain(Wire),
    /// TLS.
    Tls(BackendStream<Wire>),
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_read(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write(context, buffer),
            Self::Tls(tls) => Pin::new(tls).poll_write(context, buffer),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_write_vectored(context, buffers),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(context, buffers),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(wire) => wire.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_flush(context),
            Self::Tls(tls) => Pin::new(tls).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(wire) => Pin::new(wire).poll_shutdown(context),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(context),
        }
    }
}
