//! The body of a request on its way through, which may have to be sent again.
//!
//! A request's body can be read once. So that a request may be tried again, its [`Source`] keeps the frames that were taken
//! from it, as long as they may be wanted: their bytes are shared, not copied.
//!
//! | the request | frames are kept |
//! |---|---|
//! | nothing of it has left yet | all that hyper has taken, which its write buffer bounds |
//! | has left in part, and may be sent twice | up to [`KEPT`] bytes, until the answer's head comes |
//! | has left in part, and may not be sent twice | none |
//!
//! One attempt after another reads the same source. An attempt that was given up may still hold its end of it on a
//! connection's task: it reads an error from then on.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::wire::Upstream;
use crate::l7::exchange::RequestBody;

/// How much of a body is kept for another try once bytes have left.
pub(super) const KEPT: usize = 64 * 1024;

/// Whether a request may be sent a second time after the first may have been acted upon (RFC 9110 §9.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It may.
    Allowed,
    /// It may not.
    Forbidden,
}

/// A request's body, over all attempts.
pub(super) struct Source {
    state: Mutex<State>,
}

struct State {
    incoming: RequestBody,
    repeat: Repeat,
    /// What was taken from the client, from the start: as long as `whole`.
    kept: Vec<Kept>,
    kept_bytes: usize,
    whole: bool,
    ended: bool,
    /// Which attempt may read.
    attempt: u32,
    client: Client,
}

/// How the client is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Client {
    /// Frames that it has sent.
    pub frames: u64,
    /// Whether more is awaited from it.
    pub awaited: bool,
    /// Whether it is gone.
    pub gone: bool,
}

enum Kept {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl Source {
    pub(super) fn new(incoming: RequestBody, repeat: Repeat) -> Arc<Self> {
        let state = State {
            incoming,
            repeat,
            kept: Vec::new(),
            kept_bytes: 0,
            whole: true,
            ended: false,
            attempt: 0,
            client: Client::default(),
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// The body for one more attempt, from its start; earlier ones read no further.
    pub(super) fn attempt(self: &Arc<Self>, upstream: &Arc<Upstream>) -> Outgoing {
        let mut state = self.lock();
        state.attempt = state.attempt.wrapping_add(1);
        let hint = if state.kept.is_empty() { state.incoming.size_hint() } else { state.hint_from_start() };
        Outgoing::Streamed(Reader {
            source: Arc::clone(self),
            upstream: Arc::clone(upstream),
            attempt: state.attempt,
            next: 0,
            hint,
        })
    }

    /// Whether another attempt would find all of it.
    pub(super) fn is_whole(&self) -> bool {
        self.lock().whole
    }

    /// The answer has come: there will be no other attempt.
    pub(super) fn let_go(&self) {
        self.lock().let_go();
    }

    /// Whether hyper has taken all of it.
    pub(super) fn is_sent(&self) -> bool {
        let state = self.lock();
        state.ended || state.incoming.is_end_stream()
    }

    pub(super) fn client(&self) -> Client {
        self.lock().client
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn let_go(&mut self) {
        (self.kept, self.kept_bytes, self.whole) = (Vec::new(), 0, false);
    }

    /// What is kept and what is to come together: the client's own length, if it gave one.
    fn hint_from_start(&self) -> SizeHint {
        let rest = self.incoming.size_hint().exact();
        let whole = rest.and_then(|rest| rest.checked_add(u64::try_from(self.kept_bytes).ok()?));
        whole.map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// Takes note of a frame: whether the reader's place moves on in what is kept.
    fn keep(&mut self, frame: &Frame<Bytes>, upstream: &Upstream) {
        self.client.frames = self.client.frames.wrapping_add(1);
        if !self.whole {
            return;
        }
        let length = frame.data_ref().map_or(0, Bytes::len);
        let bytes = self.kept_bytes.saturating_add(length);
        // With streams nobody knows what has left; what the backend says it has not taken may always be sent again.
        let shared = upstream.sharing == super::wire::Sharing::Streams;
        let keep = !upstream.left() || ((self.repeat == Repeat::Allowed || shared) && bytes <= KEPT);
        if !keep {
            self.let_go();
            return;
        }
        if let Some(data) = frame.data_ref() {
            self.kept.push(Kept::Data(data.clone()));
            self.kept_bytes = bytes;
        } else if let Some(trailers) = frame.trailers_ref() {
            self.kept.push(Kept::Trailers(trailers.clone()));
        }
    }
}

/// A request's body as one attempt sends it.
pub(super) enum Outgoing {
    /// There is none.
    Empty,
    /// It comes from the client, or from what was kept.
    Streamed(Reader),
}

/// One attempt's place in a source.
pub(super) struct Reader {
    source: Arc<Source>,
    upstream: Arc<Upstream>,
    attempt: u32,
    next: usize,
    hint: SizeHint,
}

/// Why a request's body ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyLost;

impl fmt::Display for BodyLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's body is not to be had any more")
    }
}

impl std::error::Error for BodyLost {}

impl Reader {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        let mut state = self.source.lock();
        let state = &mut *state;
        if state.attempt != self.attempt {
            return Poll::Ready(Some(Err(BodyLost)));
        }
        if state.whole
            && let Some(kept) = state.kept.get(self.next)
        {
            self.next += 1;
            return Poll::Ready(Some(Ok(match kept {
                Kept::Data(data) => Frame::data(data.clone()),
                Kept::Trailers(trailers) => Frame::trailers(trailers.clone()),
            })));
        }
        if state.ended {
            return Poll::Ready(None);
        }
        state.client.awaited = true;
        let frame = ready!(Pin::new(&mut state.incoming).poll_frame(context));
        state.client.awaited = false;
        match frame {
            Some(Ok(frame)) => {
                state.keep(&frame, &self.upstream);
                self.next = state.kept.len();
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(_)) => {
                state.client.gone = true;
                state.let_go();
                Poll::Ready(Some(Err(BodyLost)))
            }
            None => {
                state.ended = true;
                Poll::Ready(None)
            }
        }
    }

    fn is_end(&self) -> bool {
        let state = self.source.lock();
        let behind = state.whole && self.next < state.kept.len();
        state.attempt == self.attempt && !behind && (state.ended || state.incoming.is_end_stream())
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BodyLost;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyLost>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streamed(reader) => reader.poll(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streamed(reader) => reader.is_end(),
        }
    }

    /// Asked for before the first frame is: it is what hyper takes the length of the whole body from.
    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streamed(reader) => reader.hint,
        }
    }
}
