//! A body that is read by many while it comes.
//!
//! ```text
//!   backend ──▶ pump ──push──▶ chunks  [0][1][2][3]…  ──▶ end: whole, or broken off
//!                                 ▲     ▲        ▲
//!                            reader  reader   reader        each at its own place, each woken when there is more
//! ```
//!
//! As long as the body is *kept*, all chunks stay, so a slow reader holds nobody up: the pump takes what the backend gives.
//! The chunks are charged to the cache's bound. Once there is no room for more, the body is kept no longer, and what is
//! charged by then is a window: chunks that all have read go, and the pump waits where it is full. A reader that keeps
//! the window full for too long, while another one has read everything, is cut off; so it costs the others a bounded time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};

use super::budget::Charge;
use super::entry::{CHUNK, Whole};
use crate::l7::front::BodyError;

/// A body on its way.
#[derive(Debug)]
pub(super) struct Flow {
    /// Its length, where that was said beforehand.
    length: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chunks: VecDeque<Bytes>,
    /// How many chunks have gone.
    gone: usize,
    /// What the chunks that are there cost.
    cost: usize,
    length: u64,
    kept: bool,
    /// `None` once it is the whole's.
    charge: Option<Charge>,
    end: Option<End>,
    readers: Vec<Option<Place>>,
    /// Who pushes.
    pump: Option<Waker>,
}

/// How a body ended.
#[derive(Clone, Debug)]
enum End {
    /// It is all there; its charge lives as long as this.
    Whole(Arc<Whole>),
    /// All has come, and it is not kept.
    Past(Option<HeaderMap>),
    Broken,
}

/// A reader's place.
#[derive(Debug)]
struct Place {
    next: usize,
    /// It was too slow.
    cut: bool,
    waker: Option<Waker>,
}

/// Why a body ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BodyEnded {
    #[error("the backend's answer ended early")]
    Broken,
    #[error("the client was too slow for the others that read the same answer")]
    TooSlow,
}

impl Flow {
    pub(super) fn new(length: Option<u64>, charge: Charge) -> Arc<Self> {
        let state = State {
            chunks: VecDeque::new(),
            gone: 0,
            cost: 0,
            length: 0,
            kept: true,
            charge: Some(charge),
            end: None,
            readers: Vec::new(),
            pump: None,
        };
        Arc::new(Self { length, state: Mutex::new(state) })
    }

    /// One more reader, from the first byte, if that is still there.
    pub(super) fn reader(self: &Arc<Self>) -> Option<Reader> {
        let mut state = self.lock();
        if state.gone > 0 {
            return None;
        }
        let place = Some(Place { next: 0, cut: false, waker: None });
        let id = state.readers.iter().position(Option::is_none).unwrap_or(state.readers.len());
        match state.readers.get_mut(id) {
            Some(free) => *free = place,
            None => state.readers.push(place),
        }
        drop(state);
        Some(Reader { flow: Arc::clone(self), id, left: self.length, ended: false })
    }

    /// What is missing to keep a chunk of this length as well; `None` where the body is not kept.
    pub(super) fn lacks(&self, length: usize) -> Option<usize> {
        let state = self.lock();
        let charged = state.charge.as_ref().map_or(0, Charge::bytes);
        state.kept.then(|| state.cost.saturating_add(length).saturating_add(CHUNK).saturating_sub(charged))
    }

    /// How many bytes have come.
    pub(super) fn so_far(&self) -> u64 {
        self.lock().length
    }

    pub(super) fn grow(&self, more: Charge) {
        if let Some(charge) = &mut self.lock().charge {
            charge.join(more);
        }
    }

    /// Keeps the body no longer.
    pub(super) fn let_go(&self) {
        let mut state = self.lock();
        state.kept = false;
        state.trim();
    }

    pub(super) fn push(&self, chunk: Bytes) {
        let mut state = self.lock();
        state.length = state.length.saturating_add(chunk.len() as u64);
        state.cost = state.cost.saturating_add(chunk.len()).saturating_add(CHUNK);
        state.chunks.push_back(chunk);
        state.trim();
        state.wake_readers();
    }

    /// Waits until the window has room for a chunk, or is empty; `false` where nobody reads any more.
    pub(super) async fn room(&self, length: usize) -> bool {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.is_abandoned() {
                return Poll::Ready(false);
            }
            let charged = state.charge.as_ref().map_or(0, Charge::bytes);
            if state.kept || state.cost == 0 || state.cost.saturating_add(length + CHUNK) <= charged {
                return Poll::Ready(true);
            }
            state.pump = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nobody wants the rest.
    pub(super) fn poll_abandoned(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_abandoned() {
            return Poll::Ready(());
        }
        state.pump = Some(context.waker().clone());
        Poll::Pending
    }

    /// The window has been full for too long: cuts off who has more than half of it before him, where another one has
    /// nothing.
    pub(super) fn cut_laggards(&self) {
        let mut state = self.lock();
        let (first, half) = (state.gone, state.cost / 2);
        let end = first + state.chunks.len();
        if !state.readers.iter().flatten().any(|place| place.next >= end) {
            return;
        }
        // The place up to which half of the window lies.
        let mut cost = 0;
        let middle = state.chunks.iter().take_while(|chunk| {
            cost += chunk.len() + CHUNK;
            cost <= half
        });
        let middle = first + middle.count().max(1);
        for place in state.readers.iter_mut().flatten().filter(|place| place.next < middle) {
            place.cut = true;
        }
        state.trim();
        state.wake_readers();
    }

    /// All has come. Gives it whole, where it was kept.
    pub(super) fn finish(&self, trailers: Option<HeaderMap>) -> Option<Arc<Whole>> {
        let mut state = self.lock();
        let whole = state.kept.then(|| state.charge.take()).flatten().map(|mut charge| {
            charge.shrink_to(state.cost);
            Arc::new(Whole {
                chunks: state.chunks.iter().cloned().collect(),
                length: state.length,
                trailers: trailers.clone(),
                charge: Arc::new(charge),
            })
        });
        state.end = Some(whole.clone().map_or(End::Past(trailers), End::Whole));
        state.wake_readers();
        whole
    }

    /// It ended early.
    pub(super) fn break_off(&self) {
        let mut state = self.lock();
        if state.end.is_none() {
            state.end = Some(End::Broken);
            state.wake_readers();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_abandoned(&self) -> bool {
        !self.kept && self.readers.iter().flatten().all(|place| place.cut)
    }

    fn wake_readers(&mut self) {
        for place in self.readers.iter_mut().flatten() {
            if let Some(waker) = place.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops the chunks that nobody will read any more.
    fn trim(&mut self) {
        if self.kept {
            return;
        }
        let end = self.gone + self.chunks.len();
        let places = self.readers.iter().flatten().filter(|place| !place.cut);
        let first = places.map(|place| place.next).min().unwrap_or(end);
        while self.gone < first
            && let Some(chunk) = self.chunks.pop_front()
        {
            self.gone += 1;
            self.cost = self.cost.saturating_sub(chunk.len() + CHUNK);
        }
        if let Some(pump) = self.pump.take() {
            pump.wake();
        }
    }
}

/// One reader of a flow.
#[derive(Debug)]
pub(super) struct Reader {
    flow: Arc<Flow>,
    id: usize,
    /// What is still to come, where that is known.
    left: Option<u64>,
    ended: bool,
}

impl Reader {
    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyEnded>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.flow.lock();
        let state = &mut *state;
        let Some(Some(place)) = state.readers.get_mut(self.id) else { return Poll::Ready(None) };
        if place.cut {
            return Poll::Ready(Some(Err(BodyEnded::TooSlow)));
        }
        let chunk = place.next.checked_sub(state.gone).and_then(|at| state.chunks.get(at)).cloned();
        if let Some(chunk) = chunk {
            place.next += 1;
            self.left = self.left.map(|left| left.saturating_sub(chunk.len() as u64));
            state.trim();
            return Poll::Ready(Some(Ok(Frame::data(chunk))));
        }
        let end = match &state.end {
            None => {
                if !place.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    place.waker = Some(context.waker().clone());
                }
                return Poll::Pending;
            }
            Some(End::Broken) => Some(Err(BodyEnded::Broken)),
            Some(End::Whole(whole)) => whole.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))),
            Some(End::Past(trailers)) => trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))),
        };
        self.ended = true;
        Poll::Ready(end)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut state = self.flow.lock();
        if let Some(place) = state.readers.get_mut(self.id) {
            *place = None;
        }
        state.trim();
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.poll(context).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
