//! A fetch: what is asked of a backend for all who wait, and what becomes of its answer.
//!
//! It runs as a task of its own, so that it does not end with the client that began it. Without a client it goes on as long as it
//! fills the cache.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AGE, CONTENT_LENGTH, TRANSFER_ENCODING};
use hyper::body::Body;
use hyper::{Response, StatusCode, Version};
use tokio::sync::oneshot;

use super::clock::Moment;
use super::directives::OfRequest;
use super::entry::{CHUNK, Head, Stored, pack};
use super::flight::{Flight, Given, Phase, Sharing, Source};
use super::flow::Flow;
use super::rules::{Policy, storable};
use super::status::Detail;
use super::store::Cache;
use super::{validate, vary};
use crate::l7::exchange::{Answer, Exchange, Failure, Forward};
use crate::l7::front::BodyError;

/// How much room is taken at once for a body whose length is not known.
const STEP: usize = 256 << 10;

/// The longest piece in which a body is kept.
const PIECE: usize = 256 << 10;

/// How long one reader of a body that is not kept may hold up the others.
const PATIENCE: Duration = Duration::from_secs(2);

/// An answer that is for nobody but whom it was fetched for.
pub(super) type Own<B> = oneshot::Sender<Answer<B>>;

/// Who wants what a fetch brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    /// Those who wait; without them it ends.
    Clients,
    /// The cache.
    Cache,
}

/// One fetch, to be run.
pub(super) struct Task<F: Forward> {
    pub cache: Arc<Cache>,
    pub inner: Rc<F>,
    pub flight: Arc<Flight>,
    /// The request as its client sent it, without a body.
    pub exchange: Exchange,
    pub wish: OfRequest,
    /// What is stored, and may be validated.
    pub stored: Option<Stored>,
    pub wanted: For,
    pub own: Option<Own<F::Body>>,
}

/// Ends a flight, however its task ends.
struct Landing(Arc<Cache>, Arc<Flight>);

impl Drop for Landing {
    fn drop(&mut self) {
        self.0.land(&self.1);
        if matches!(self.1.phase(), Phase::Fetching) {
            self.1.reach(Phase::Failed(Failure::ClosedEarly));
        }
    }
}

impl<F> Task<F>
where
    F: Forward + 'static,
    F::Body: Body<Data = Bytes> + Unpin + 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    /// Runs it.
    pub(super) async fn run(mut self) {
        let landing = Landing(Arc::clone(&self.cache), Arc::clone(&self.flight));
        let stored = self.stored.take();
        let validates = match &stored {
            Some(stored) => validate::ask(self.exchange.request.headers_mut(), &stored.head.headers),
            None => false,
        };
        let asked = self.cache.clock.now();
        let Some(answered) = self.forward().await else { return };
        let mut answer = match answered {
            Ok(answer) => answer,
            Err(failure) => return self.flight.reach(Phase::Failed(failure)),
        };
        let mut received = self.cache.clock.now();
        if let Some(stored) = stored {
            let status = answer.response.status();
            if validates && status == StatusCode::NOT_MODIFIED {
                if validate::is_about(&stored.head.headers, answer.response.headers()) {
                    return self.revalidated(&stored, &answer, asked, received);
                }
                // RFC 9111 §4.3.4: it is about something else, and says nothing about what is stored.
                self.cache.remove(&self.flight, &stored);
                validate::forget(self.exchange.request.headers_mut());
                let Some(answered) = self.forward().await else { return };
                answer = match answered {
                    Ok(answer) => answer,
                    Err(failure) => return self.flight.reach(Phase::Failed(failure)),
                };
                received = self.cache.clock.now();
            } else if is_error(status) && stored.head.policy.serves_on_error(&self.wish, None, received) {
                return self.flight.reach(Phase::Refused(status));
            } else if !is_error(status) {
                // There is something new, whether or not it can be kept.
                self.cache.remove(&self.flight, &stored);
            }
        }
        self.take(answer, asked, received, landing).await;
    }

    /// Asks the backend; `None` where nobody waits for it any more.
    async fn forward(&self) -> Option<Result<Answer<F::Body>, Failure>> {
        let exchange = self.exchange.again(self.exchange.trace.clone());
        let mut answered = pin!(self.inner.forward(exchange));
        if self.wanted == For::Cache {
            return Some(answered.await);
        }
        let mut deserted = pin!(self.flight.deserted());
        loop {
            let next = poll_fn(|context| match answered.as_mut().poll(context) {
                Poll::Ready(answered) => Poll::Ready(Some(answered)),
                Poll::Pending => deserted.as_mut().poll(context).map(|()| None),
            });
            let next = next.await;
            if next.is_some() || self.cache.land_deserted(&self.flight) {
                return next;
            }
            deserted.set(self.flight.deserted());
        }
    }

    /// The backend says that what is stored is still right.
    fn revalidated(&self, stored: &Stored, answer: &Answer<F::Body>, asked: Moment, received: Moment) {
        let update = answer.response.headers();
        let (head, kept) = freshen(&self.cache, &self.flight, &self.wish, stored, update, (asked, received));
        self.cache.land(&self.flight);
        self.flight.reach(Phase::Given(Given {
            head,
            body: Source::Whole(Arc::clone(&stored.body)),
            status: StatusCode::NOT_MODIFIED,
            detail: Some(Detail::Revalidated),
            stored: kept,
            from: (answer.backend, answer.upstream, answer.tries),
        }));
    }

    /// An answer of its own has come: to be kept, or to be handed on.
    async fn take(self, answer: Answer<F::Body>, asked: Moment, received: Moment, landing: Landing) {
        let response = &answer.response;
        let (status, version) = (response.status(), response.version());
        let policy = Policy::new(status, response.headers(), asked, received);
        let mut may = storable(&self.flight.request, &self.wish, status, response.headers(), &policy);
        // Whoever joins could not tell one answer from two.
        if may.is_ok() && !is_framed(response) {
            may = Err(Detail::Unframed);
        }
        let length = response.body().size_hint().exact();
        if may.is_ok() && length.is_some_and(|length| length > self.cache.spec.max_body as u64) {
            may = Err(Detail::TooLarge);
        }
        let refused = match may {
            Err(detail) => detail,
            Ok(()) => {
                let headers = pack(response.headers(), &policy.said, received);
                let selecting = vary::selecting(&self.flight.request, &headers);
                let cost = Head::cost(&headers, &selecting, &self.flight.place) + self.flight.key.len();
                let first = length.map_or(STEP.min(self.cache.spec.max_body), |length| {
                    usize::try_from(length).unwrap_or(usize::MAX).saturating_add(CHUNK)
                });
                let charges = self.cache.charge(cost).zip(self.cache.charge(first));
                if let Some((charge, body)) = charges {
                    let place = self.flight.place.clone();
                    let charge = Some(charge);
                    let head = Head { place, status, version, headers, policy, selecting, charge };
                    return self.pour(answer, Arc::new(head), Flow::new(length, body), landing).await;
                }
                Detail::TooLarge
            }
        };
        // From what the client asked for on its own terms nothing follows for others.
        let for_all = status != StatusCode::NOT_MODIFIED && refused != Detail::RequestNoStore;
        if for_all && self.flight.sharing == Sharing::Open {
            self.cache.remember_lone(&self.flight, received);
        }
        self.flight.reach(Phase::Declined(refused));
        drop(landing);
        if let Some(own) = self.own {
            // Where the client is gone, the answer is dropped, and its upstream told so.
            let _gone = own.send(answer);
        }
    }

    /// Hands a body to all who wait, and keeps it.
    async fn pour(self, answer: Answer<F::Body>, head: Arc<Head>, flow: Arc<Flow>, landing: Landing) {
        let from = (answer.backend, answer.upstream, answer.tries);
        let doomed = self.flight.is_doomed();
        self.flight.reach(Phase::Given(Given {
            head: Arc::clone(&head),
            body: Source::Flow(Arc::clone(&flow)),
            status: head.status,
            detail: doomed.then_some(Detail::Invalidated),
            stored: !doomed,
            from,
        }));
        drop(self.own);
        let _broken = Broken(Arc::clone(&flow));
        let mut body = pin!(answer.response.into_body());
        let mut trailers = None;
        let max = self.cache.spec.max_body as u64;
        loop {
            let frame = poll_fn(|context| {
                if let Poll::Ready(frame) = body.as_mut().poll_frame(context) {
                    return Poll::Ready(Some(frame));
                }
                flow.poll_abandoned(context).map(|()| None)
            });
            let frame = match frame.await {
                None => return,
                Some(None) => break,
                Some(Some(Err(_))) => {
                    self.cache.counters.count_detail(Detail::CutOff);
                    return;
                }
                Some(Some(Ok(frame))) => frame,
            };
            let data = match frame.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    trailers = frame.into_trailers().ok();
                    continue;
                }
            };
            for piece in data.chunks(PIECE) {
                if let Some(lacks) = flow.lacks(piece.len())
                    && lacks > 0
                {
                    let over = flow.so_far().saturating_add(piece.len() as u64) > max;
                    let step = lacks.max(STEP.min(self.cache.spec.max_body));
                    let more = (!over).then(|| self.cache.charge(step).or_else(|| self.cache.charge(lacks)));
                    match more.flatten() {
                        Some(more) => flow.grow(more),
                        None => {
                            // From now on it is for those who read it, and nobody joins them.
                            self.cache.land(&self.flight);
                            flow.let_go();
                            self.cache.counters.count_detail(Detail::TooLarge);
                        }
                    }
                }
                loop {
                    match tokio::time::timeout(PATIENCE, flow.room(piece.len())).await {
                        Ok(true) => break,
                        Ok(false) => return,
                        Err(_) => flow.cut_laggards(),
                    }
                }
                flow.push(Bytes::copy_from_slice(piece));
            }
        }
        if let Some(body) = flow.finish(trailers) {
            self.cache.insert(&self.flight, Stored { head, body });
        }
        drop(landing);
    }
}

/// What is stored, with what a backend says of it now (RFC 9111 §4.3.4); and whether that is kept.
pub(super) fn freshen(
    cache: &Cache,
    flight: &Flight,
    wish: &OfRequest,
    stored: &Stored,
    update: &HeaderMap,
    (asked, received): (Moment, Moment),
) -> (Arc<Head>, bool) {
    let old = &stored.head;
    let mut merged = validate::freshened(&old.headers, update, received);
    // The age is that of the update: what is stored has none.
    if let Some(age) = update.get(AGE) {
        merged.insert(AGE, age.clone());
    }
    let policy = Policy::new(old.status, &merged, asked, received);
    let may = storable(&flight.request, wish, old.status, &merged, &policy);
    let headers = pack(&merged, &policy.said, received);
    let selecting = vary::selecting(&flight.request, &headers);
    let cost = Head::cost(&headers, &selecting, &old.place) + flight.key.len();
    let charge = may.ok().and_then(|()| cache.charge(cost));
    let keeps = charge.is_some();
    let (place, status, version) = (old.place.clone(), old.status, old.version);
    let head = Arc::new(Head { place, status, version, headers, policy, selecting, charge });
    cache.remove(flight, stored);
    let fresh = Stored { head: Arc::clone(&head), body: Arc::clone(&stored.body) };
    let kept = keeps && cache.insert(flight, fresh);
    (head, kept)
}

/// Whether an answer is one for which something older may be given (RFC 5861 §4).
fn is_error(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Whether a body tells where it ends. One that ends with its connection is as long as the backend lived: it may be
/// whole, and nobody can know (RFC 9112 §8).
fn is_framed<B: Body>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.version() == Version::HTTP_2
        || headers.contains_key(CONTENT_LENGTH)
        || headers.contains_key(TRANSFER_ENCODING)
        || response.body().is_end_stream()
}

/// Breaks a flow off that is not finished.
struct Broken(Arc<Flow>);

impl Drop for Broken {
    fn drop(&mut self) {
        self.0.break_off();
    }
}
