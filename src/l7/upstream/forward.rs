//! How a request gets its answer: an upstream, a try, and what is done when that fails.
//!
//! | the try ended | then |
//! |---|---|
//! | nothing had left, on a reused upstream | again, on the next; that is not a retry, and costs nothing |
//! | nothing had left, on a fresh one | a retry, for every method |
//! | the backend could not be reached | a retry elsewhere, for every method |
//! | the backend refused the stream (RFC 9113 §8.7) | a retry, for every method |
//! | it had left, and no byte of an answer came | a retry for idempotent methods (RFC 9110 §9.2.2): on a fresh upstream, and after a second failure elsewhere |
//! | an answer has come, with a status of `retry_on` | a retry for idempotent methods, elsewhere; where none brings a better one, that answer it is |
//! | anything else | the request fails |
//!
//! A retry must be within the group's budget, must find the request's body whole, and is the third try at most.

use std::future::Future;

use hyper::Response;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};
use tokio::time::{Instant, timeout};

use super::Upstreams;
use super::answer::{AnswerBody, Patience};
use super::books::{Grant, Want, Wish};
use super::call::{Call, Lost, is_stale};
use super::hedge::may_hedge;
use super::lease::Lease;
use super::open::open;
use super::pool::{Acquired, Group};
use super::reason::{DropReason, OpenReason};
use super::wire::{Reuse, Sharing};
use crate::datapath::BackendId;
use crate::l7::exchange::{Answer, Exchange, Failure, Forward};
use crate::l7::spec::{ProxyProtocol, UpstreamLimits, UpstreamMode};
use crate::l7::trace::Trace;
use crate::packet::{FiveTuple, Protocol};

/// How often a request is tried.
const TRIES: u32 = 3;

/// How many upstreams may be found dead in the pool by one request before it has one opened.
const STALE: u32 = 3;

/// Why there is no upstream.
struct Missed {
    failure: Failure,
    /// The backend that could not be reached.
    backend: Option<BackendId>,
}

impl From<Failure> for Missed {
    fn from(failure: Failure) -> Self {
        Self { failure, backend: None }
    }
}

impl Forward for Upstreams {
    type Body = AnswerBody;

    async fn forward(&self, exchange: Exchange) -> Result<Answer<AnswerBody>, Failure> {
        let place = exchange.group.0;
        let group = self.shared.groups.get(place).ok_or(Failure::NoBackend)?;
        let trace = exchange.trace.clone();
        // What few groups want is boxed, so that the others' requests have no room for it.
        let outcome = match group.limits {
            UpstreamLimits { hedge: None, total: None, .. } => {
                self.serve(group, place, exchange, Role::First).await
            }
            _ => Box::pin(self.serve_in_time(group, place, exchange)).await,
        };
        if let Err(failure) = &outcome {
            self.shared.note_failure(place, *failure);
            trace.fail(*failure);
        }
        outcome
    }
}

/// Which of a request's two ways one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The only one, or the first.
    First,
    /// The second, while the first is with this backend.
    Second(BackendId),
}

/// One request, while it is served.
struct Serving<'a> {
    group: &'a Group,
    place: usize,
    call: Call,
    trace: Trace,
    wish: Wish,
    reuse: Reuse,
    /// An answer that is no better than none, for want of a better one.
    poor: Option<Box<Answer<AnswerBody>>>,
}

impl Upstreams {
    /// Serves a request of a group that wants more than that.
    async fn serve_in_time(
        &self,
        group: &Group,
        place: usize,
        exchange: Exchange,
    ) -> Result<Answer<AnswerBody>, Failure> {
        let serving = async {
            match group.limits.hedge {
                Some(delay) if may_hedge(&exchange) => self.serve_hedged(group, place, exchange, delay).await,
                _ => self.serve(group, place, exchange, Role::First).await,
            }
        };
        match group.limits.total {
            None => serving.await,
            Some(total) => timeout(total, serving).await.unwrap_or(Err(Failure::TotalTimeout)),
        }
    }

    /// Serves a request. The exchange is taken apart before there is a future, which then has no room for it.
    pub(super) fn serve<'a>(
        &'a self,
        group: &'a Group,
        place: usize,
        exchange: Exchange,
        role: Role,
    ) -> impl Future<Output = Result<Answer<AnswerBody>, Failure>> + use<'a> {
        let Exchange { request, backend: prefer, mode, client, vip, trace, .. } = exchange;
        let (reuse, because) = match (group.proxy_protocol, mode) {
            (ProxyProtocol::V2, _) => (Reuse::Single, Some(OpenReason::ProxyProtocol)),
            (ProxyProtocol::None, UpstreamMode::New) => (Reuse::Single, Some(OpenReason::ModeNew)),
            (ProxyProtocol::None, UpstreamMode::Pool) => (Reuse::Pooled, None),
        };
        let (avoid, first, because) = match role {
            Role::First => (Vec::new(), true, because),
            Role::Second(backend) => (vec![backend], false, because.or(Some(OpenReason::Hedge))),
        };
        let wish = Wish {
            tuple: FiveTuple { protocol: Protocol::Tcp, source: client, destination: vip },
            worker: self.worker,
            want: if reuse == Reuse::Single { Want::Fresh } else { Want::Pool },
            prefer,
            avoid,
            first,
            because,
        };
        let call = Call::new(request);
        let mut serving = Serving { group, place, call, trace, wish, reuse, poor: None };
        async move {
            let outcome = self.try_often(&mut serving).await;
            serving.call.let_go();
            outcome.or_else(|failure| serving.poor.take().map(|poor| *poor).ok_or(failure))
        }
    }

    async fn try_often(&self, serving: &mut Serving<'_>) -> Result<Answer<AnswerBody>, Failure> {
        let Serving { group, place, reuse, .. } = *serving;
        if group.sharing() == Sharing::Streams && serving.call.wants_websocket() {
            return Err(Failure::NoUpgrade);
        }
        let (mut tries, mut stale) = (0, 0);
        // What a retry that finds no backend left falls back to.
        let mut last = Failure::NoBackend;
        loop {
            let mut lease = match self.take(group, place, &serving.wish, reuse, &serving.trace).await {
                Ok(lease) => lease,
                Err(Missed { failure: Failure::NoBackend, backend: None }) => return Err(last),
                Err(Missed { failure, backend: None }) => return Err(failure),
                Err(Missed { failure, backend: Some(backend) }) => {
                    tries += 1;
                    serving.trace.note(|noted| noted.tries = tries);
                    if tries >= TRIES || !self.shared.may_retry(place) {
                        return Err(failure);
                    }
                    last = failure;
                    serving.wish.avoid.push(backend);
                    (serving.wish.first, serving.wish.want, serving.wish.because) =
                        (false, fresh(reuse), Some(OpenReason::Retry));
                    continue;
                }
            };
            serving.wish.first = false;
            tries += 1;
            let (origin, backend) = (lease.origin, lease.upstream.backend);
            serving.trace.note(|noted| (noted.tries, noted.upstream) = (tries, Some(origin)));
            let lost = match serving.call.send(&mut lease, group.limits.response).await {
                Ok(response) => {
                    group.balance.accepted(backend);
                    let again = group.limits.retry_on.contains(response.status().as_u16())
                        && serving.call.may_repeat()
                        && serving.call.is_sent()
                        && tries < TRIES
                        && self.shared.may_retry(place);
                    let at = group.endpoint(backend).unwrap_or(serving.wish.tuple.destination);
                    let response = hand_over(response, lease, group, &serving.trace);
                    let (at, upstream) = (Some(at), Some(origin));
                    let answer = Answer { response, backend: at, upstream, tries, cache: None };
                    if !again {
                        return Ok(answer);
                    }
                    serving.poor = Some(Box::new(answer));
                    serving.wish.avoid.push(backend);
                    (serving.wish.want, serving.wish.because) = (fresh(reuse), Some(OpenReason::Retry));
                    continue;
                }
                Err(lost) => lost,
            };
            self.shared.note_lost(&lease.upstream);
            lose(lease, lost);
            if is_stale(lost, origin) && serving.call.is_whole() {
                tries -= 1;
                stale += 1;
                serving.wish.because = Some(OpenReason::ReplacedStale);
                if stale >= STALE {
                    serving.wish.want = Want::Fresh;
                }
                continue;
            }
            let (failure, again) = match lost {
                Lost::Unsent | Lost::Refused => (Failure::ClosedEarly, serving.call.is_whole()),
                Lost::Unanswered => (Failure::ClosedEarly, serving.call.may_repeat()),
                Lost::CutOff => (Failure::ClosedEarly, false),
                Lost::Garbled => (Failure::BadAnswer, false),
                Lost::Client => (Failure::ClientGone, false),
                Lost::Late => (Failure::ResponseTimeout, false),
            };
            if !again || tries >= TRIES || !self.shared.may_retry(place) {
                return Err(failure);
            }
            last = failure;
            serving.wish.because = Some(OpenReason::Retry);
            serving.wish.want = if tries == 1 {
                Want::FreshAt(backend)
            } else {
                serving.wish.avoid.push(backend);
                Want::Fresh
            };
        }
    }

    /// An upstream that is fit to use. What is seldom waited for is boxed, so that a request's future, of which there is one
    /// for each of them, has no room for it.
    async fn take(
        &self,
        group: &Group,
        place: usize,
        wish: &Wish,
        reuse: Reuse,
        trace: &Trace,
    ) -> Result<Lease, Missed> {
        let mut wish = std::borrow::Cow::Borrowed(wish);
        loop {
            let grant = match self.shared.acquire(place, &wish) {
                Acquired::Now(grant) => grant,
                Acquired::Never(failure) => return Err(failure.into()),
                Acquired::Later(waiting) => {
                    let since = Instant::now();
                    let served = Box::pin(timeout(group.limits.wait, waiting)).await;
                    trace.note(|noted| noted.wait += since.elapsed());
                    served.map_err(|_| Failure::QueueTimeout)?.ok_or(Failure::NoBackend)?
                }
            };
            match grant {
                Grant::Lease(lease) => match lease.upstream.unfit() {
                    None => {
                        let at = group.endpoint(lease.upstream.backend);
                        trace.note(|noted| noted.backend = at);
                        return Ok(lease);
                    }
                    Some(reason) => {
                        lease.end(reason);
                        let wish = wish.to_mut();
                        (wish.first, wish.because) = (false, Some(OpenReason::ReplacedStale));
                    }
                },
                Grant::Slot(slot) => {
                    let backend = slot.backend;
                    let (at, since) = (group.endpoint(backend), Instant::now());
                    trace.note(|noted| noted.backend = at);
                    let opened = Box::pin(open(&*self.connect, slot, self.worker, &wish.tuple, reuse)).await;
                    trace.note(|noted| noted.connect += since.elapsed());
                    return opened.map_err(|failure| Missed { failure, backend: Some(backend) });
                }
            }
        }
    }
}

fn fresh(reuse: Reuse) -> Want {
    match reuse {
        Reuse::Single => Want::Fresh,
        Reuse::Pooled => Want::Pool,
    }
}

/// Ends what a try held, when it brought no answer.
fn lose(lease: Lease, lost: Lost) {
    match lost {
        Lost::Unsent | Lost::Unanswered | Lost::CutOff | Lost::Refused | Lost::Garbled => {
            let reason = lease.upstream.why_broken();
            lease.cut_off(reason);
        }
        Lost::Late => lease.cut_off(DropReason::TimedOut),
        Lost::Client => drop(lease),
    }
}

/// Joins an answer to its upstream, which is given back when the answer has ended.
fn hand_over(
    response: Response<Incoming>,
    lease: Lease,
    group: &Group,
    trace: &Trace,
) -> Response<AnswerBody> {
    let upgraded =
        response.status() == StatusCode::SWITCHING_PROTOCOLS && lease.upstream.sharing == Sharing::OneByOne;
    let patience = Patience::new(group.limits.body, trace.clone());
    response.map(|incoming| {
        let lease = if upgraded {
            lease.upgrade();
            None
        } else if incoming.is_end_stream() {
            lease.give_back();
            None
        } else {
            Some(lease)
        };
        AnswerBody::new(incoming, lease, patience)
    })
}
