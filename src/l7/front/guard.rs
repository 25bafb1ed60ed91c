//! A stream of HTTP/1 requests that shows hyper only what can be read in one way, and only as long as there is patience.
//!
//! The guard looks at the bytes on their way into hyper's buffer. Heads are read by [`head`], bodies are counted off,
//! and nothing is copied unless a head comes in pieces. Where a head must be refused, hyper is given a head of ours
//! in its place, under a method that the session knows; so the refusal goes out as an answer like any other, behind those
//! to the requests before it. Nothing is read after that.
//!
//! ```text
//!            ┌── head ──whole──▶ length | chunks ──end──▶ head …
//!   bytes ──▶│    │ refused                    │ wrong: an error, which ends the exchange
//!            │    ▼                            ▼
//!            │  our own head, then nothing     (asks for an upgrade: the rest is held until the answer is known)
//! ```
//!
//! Invariants: `held` begins where hyper has not read yet; its first `cleared` bytes have passed; the next byte that is
//! looked at follows those.
//!
//! A client that ends its half of the connection behind a request still gets the answer: the end is told to hyper only
//! when no request is open and the last answer has been flushed, since hyper would drop them. A reset is told at once.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use memchr::memchr;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::chunks::{Chunks, Step};
use super::cut::Cut;
use super::head::{self, Framing};
use super::life::Life;
use super::refusal::Refusal;
use crate::l7::spec::{Patience, RequestLimits};

/// The method of the head that stands for a refused one. A client that sends it itself is answered like any other.
pub(super) const REFUSED: &str = "FOURSEVEN-REFUSED";

const REFUSED_HEAD: &[u8] = b"FOURSEVEN-REFUSED / HTTP/1.1\r\n\r\n";

/// A guarded stream.
pub(super) struct Guard<S> {
    stream: S,
    life: Rc<Life>,
    patience: Patience,
    limits: RequestLimits,
    place: Place,
    /// The request that is being read asks for another protocol.
    upgrade: bool,
    held: Vec<u8>,
    cleared: usize,
    /// When the head that is held began.
    head_since: Option<Instant>,
    end: Option<End>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Goes off when the client has taken nothing for too long.
    stall: Option<Pin<Box<Sleep>>>,
    /// The client is waited for, to take what is written.
    stalled: bool,
}

/// What the next byte belongs to.
#[derive(Debug)]
enum Place {
    Head,
    Length(u64),
    Chunks(Box<Chunks>),
    /// What the answer to an upgrade decides.
    Upgrade,
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// A head was refused.
    Refused,
    /// A body was not framed as it must be.
    Broken,
    /// The client has ended its half, or has had its time.
    Ended,
}

/// What becomes of the bytes behind those that pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// There are none.
    None,
    /// They wait for more.
    Wait,
    Refused(Refusal),
    Broken,
}

impl<S> Guard<S> {
    /// Guards a stream of which `read` was read already.
    pub(super) fn new(
        stream: S,
        read: Vec<u8>,
        life: Rc<Life>,
        patience: Patience,
        limits: RequestLimits,
    ) -> Self {
        Self {
            stream,
            life,
            patience,
            limits,
            place: Place::Head,
            upgrade: false,
            held: read,
            cleared: 0,
            head_since: None,
            end: None,
            timer: None,
            stall: None,
            stalled: false,
        }
    }

    /// The stream, and what was read from it that nobody has seen.
    pub(super) fn into_parts(self) -> (S, Vec<u8>) {
        (self.stream, self.held)
    }

    /// How many of these bytes pass, and what becomes of the others.
    fn pass(&mut self, bytes: &[u8]) -> (usize, Rest) {
        let mut at = 0;
        loop {
            let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) else { return (at, Rest::None) };
            match &mut self.place {
                Place::Head => match head::read(rest, &self.limits) {
                    Ok(None) => return (at, Rest::Wait),
                    Err(refusal) => return (at, Rest::Refused(refusal)),
                    Ok(Some(head)) => {
                        at += head.length;
                        self.life.begin();
                        self.upgrade = head.upgrade;
                        self.place = match head.framing {
                            Framing::Length(0) => self.behind(),
                            Framing::Length(length) => Place::Length(length),
                            Framing::Chunked => Place::Chunks(Box::default()),
                        };
                    }
                },
                Place::Length(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= taken as u64;
                    at += taken;
                    if *left == 0 {
                        self.place = self.behind();
                    }
                }
                Place::Chunks(chunks) => match chunks.step(rest) {
                    Step::More => return (bytes.len(), Rest::None),
                    Step::Ended(length) => {
                        at += length;
                        self.place = self.behind();
                    }
                    Step::Broken(length) => return (at + length, Rest::Broken),
                },
                Place::Upgrade => return (at, Rest::Wait),
            }
        }
    }

    /// What comes behind a message.
    fn behind(&self) -> Place {
        if self.upgrade { Place::Upgrade } else { Place::Head }
    }

    /// Lets as much as may pass of what is held.
    fn pass_held(&mut self) {
        let held = std::mem::take(&mut self.held);
        let (passed, rest) = self.pass(&held);
        self.held = held;
        self.cleared = passed;
        self.settle(rest);
    }

    /// Takes note of what is to become of the bytes behind the cleared ones.
    fn settle(&mut self, rest: Rest) {
        match rest {
            Rest::Wait if matches!(self.place, Place::Head) => {
                if self.cleared > 0 || self.head_since.is_none() {
                    self.head_since = Some(Instant::now());
                }
            }
            Rest::None | Rest::Wait => self.head_since = None,
            Rest::Refused(refusal) => self.refuse(refusal),
            Rest::Broken => {
                self.life.refused.set(Some(Refusal::BadChunk));
                self.held.truncate(self.cleared);
                self.end = Some(End::Broken);
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.life.begin();
        self.life.refused.set(Some(refusal));
        self.held.truncate(self.cleared);
        self.held.extend_from_slice(REFUSED_HEAD);
        self.cleared = self.held.len();
        self.end = Some(End::Refused);
    }

    /// Gives what has passed.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) {
        let length = self.cleared.min(buffer.remaining());
        buffer.put_slice(self.held.get(..length).unwrap_or_default());
        self.held.drain(..length);
        self.cleared -= length;
    }

    /// When patience ends, if anything is waited for.
    fn deadline(&self) -> Option<Instant> {
        let since = self.life.resting_since()?;
        match self.place {
            Place::Head if !self.life.has_begun() => Some(since + self.patience.head),
            Place::Head if self.held.is_empty() => Some(since + self.patience.keep_alive),
            Place::Head => Some(self.head_since? + self.patience.head),
            Place::Length(_) | Place::Chunks(_) | Place::Upgrade => None,
        }
    }

    /// Waits for the client to take something no longer than there is patience.
    fn wrote<T>(&mut self, context: &mut Context<'_>, wrote: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.stalled = false;
            return wrote;
        }
        let send = self.patience.send;
        let timer = self.stall.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        if !std::mem::replace(&mut self.stalled, true) {
            timer.as_mut().reset(Instant::now() + send);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.life.cut.set(Some(Cut::SendTimeout));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits for bytes no longer than there is patience.
    ///
    /// The timer is never later than patience could end, and is set again when it goes off, not with each request. While
    /// a request is open it runs too: hyper does not come back here just because that has ended.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline();
        let keep_alive = self.patience.keep_alive;
        let timer = self.timer.get_or_insert_with(|| {
            Box::pin(sleep_until(deadline.unwrap_or_else(|| Instant::now() + keep_alive)))
        });
        if let Some(deadline) = deadline.filter(|deadline| *deadline < timer.deadline()) {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            match deadline {
                Some(deadline) if now >= deadline => return Poll::Ready(()),
                Some(deadline) => timer.as_mut().reset(deadline),
                None => timer.as_mut().reset(now + keep_alive),
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        loop {
            if guard.cleared > 0 {
                guard.give(buffer);
                return Poll::Ready(Ok(()));
            }
            match guard.end {
                Some(End::Refused) => return Poll::Pending,
                Some(End::Broken) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                Some(End::Ended) => {
                    let in_body = matches!(guard.place, Place::Length(_) | Place::Chunks(_));
                    let over = in_body || guard.life.resting_since().is_some();
                    if over {
                        return Poll::Ready(Ok(()));
                    }
                    guard.life.wake_when_resting(context);
                    return Poll::Pending;
                }
                None => {}
            }
            if matches!(guard.place, Place::Upgrade) {
                if guard.life.resting_since().is_none() {
                    guard.life.wake_when_resting(context);
                    return Poll::Pending;
                }
                // The answer was no.
                guard.place = Place::Head;
            }
            if !guard.held.is_empty() && guard.head_since.is_none() {
                guard.pass_held();
                continue;
            }
            if buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            let before = buffer.filled().len();
            match Pin::new(&mut guard.stream).poll_read(context, buffer) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if guard.wait(context).is_pending() {
                        return Poll::Pending;
                    }
                    if guard.held.is_empty() {
                        if guard.life.has_begun() {
                            guard.life.cut.set(Some(Cut::KeepAlive));
                        }
                        guard.end = Some(End::Ended);
                    } else {
                        guard.refuse(Refusal::HeadTimeout);
                    }
                    continue;
                }
            }
            let read = buffer.filled().get(before..).unwrap_or_default();
            if read.is_empty() {
                guard.end = Some(End::Ended);
            } else if guard.held.is_empty() {
                let (passed, rest) = guard.pass(read);
                let waits = read.get(passed..).unwrap_or_default();
                if rest == Rest::Wait {
                    guard.held.extend_from_slice(waits);
                }
                let end = before + passed;
                buffer.set_filled(end);
                guard.settle(rest);
                if passed > 0 {
                    return Poll::Ready(Ok(()));
                }
            } else {
                // A head that comes byte by byte is read again when a line of it has ended, not with each byte.
                let worth =
                    memchr(b'\n', read).is_some() || guard.held.len() + read.len() > guard.limits.head;
                guard.held.extend_from_slice(read);
                buffer.set_filled(before);
                if worth {
                    guard.pass_held();
                }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let wrote = Pin::new(&mut guard.stream).poll_write(context, buffer);
        guard.wrote(context, wrote)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let wrote = Pin::new(&mut guard.stream).poll_write_vectored(context, buffers);
        guard.wrote(context, wrote)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        let flushed = Pin::new(&mut guard.stream).poll_flush(context);
        if flushed.is_ready() {
            guard.life.rest();
        }
        guard.wrote(context, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
