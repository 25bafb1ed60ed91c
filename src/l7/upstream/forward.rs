//! How a request gets its answer: an upstream, a try, and what is done when that fails.
//!
//! | the try ended | then |
//! |---|---|
//! | nothing had left, on a reused upstream | again, on the next; that is not a retry, and costs nothing |
//! | nothing had left, on a fresh one | a retry, for every method |
//! | the backend could not be reached | a retry elsewhere, for every method |
//! | the backend refused the stream (RFC 9113 §8.7) | a retry, for every method |
//! | it had left, and no byte of an answer came | a retry for idempotent methods (RFC 9110 §9.2.2): on a fresh upstream, and after a second failure elsewhere |
//! | anything else | the request fails |
//!
//! A retry must be within the group's budget, must find the request's body whole, and is the third try at most.

use hyper::Response;
use hyper::StatusCode;
use hyper::body::{Body as _, Incoming};

use super::Upstreams;
use super::body::AnswerBody;
use super::books::{Grant, Want, Wish};
use super::call::{Call, Lost, is_stale};
use super::lease::Lease;
use super::open::open;
use super::pool::{Acquired, Group};
use super::reason::{DropReason, OpenReason};
use super::wire::{Reuse, Sharing};
use crate::datapath::BackendId;
use crate::l7::exchange::{Answer, Exchange, Failure, Forward};
use crate::l7::spec::{ProxyProtocol, UpstreamMode};
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
        let outcome = self.serve(group, place, exchange).await;
        if let Err(failure) = &outcome {
            self.shared.note_failure(place, *failure);
        }
        outcome
    }
}

impl Upstreams {
    async fn serve(
        &self,
        group: &Group,
        place: usize,
        exchange: Exchange,
    ) -> Result<Answer<AnswerBody>, Failure> {
        let Exchange { request, backend: prefer, mode, client, vip, .. } = exchange;
        let (reuse, because) = match (group.proxy_protocol, mode) {
            (ProxyProtocol::V2, _) => (Reuse::Single, Some(OpenReason::ProxyProtocol)),
            (ProxyProtocol::None, UpstreamMode::New) => (Reuse::Single, Some(OpenReason::ModeNew)),
            (ProxyProtocol::None, UpstreamMode::Pool) => (Reuse::Pooled, None),
        };
        let mut wish = Wish {
            tuple: FiveTuple { protocol: Protocol::Tcp, source: client, destination: vip },
            worker: self.worker,
            want: if reuse == Reuse::Single { Want::Fresh } else { Want::Pool },
            prefer,
            avoid: Vec::new(),
            first: true,
            because,
        };
        let call = Call::new(request);
        let (mut tries, mut stale) = (0, 0);
        // What a retry that finds no backend left falls back to.
        let mut last = Failure::NoBackend;
        loop {
            let mut lease = match self.take(group, place, &wish, reuse).await {
                Ok(lease) => lease,
                Err(Missed { failure: Failure::NoBackend, backend: None }) => return Err(last),
                Err(Missed { failure, backend: None }) => return Err(failure),
                Err(Missed { failure, backend: Some(backend) }) => {
                    tries += 1;
                    if tries >= TRIES || !self.shared.may_retry(place) {
                        return Err(failure);
                    }
                    last = failure;
                    wish.avoid.push(backend);
                    (wish.first, wish.want, wish.because) = (false, fresh(reuse), Some(OpenReason::Retry));
                    continue;
                }
            };
            wish.first = false;
            tries += 1;
            let (origin, backend) = (lease.origin, lease.upstream.backend);
            let lost = match call.send(&mut lease, group.limits.response).await {
                Ok(response) => {
                    group.balance.accepted(backend);
                    let endpoint = group.balance.backends().get(backend.index()).map(|it| it.endpoint);
                    let backend = endpoint.unwrap_or(vip);
                    let response = hand_over(response, lease);
                    let (backend, upstream) = (Some(backend), Some(origin));
                    return Ok(Answer { response, backend, upstream, tries, cache: None });
                }
                Err(lost) => lost,
            };
            self.shared.note_lost(&lease.upstream);
            lose(lease, lost);
            if is_stale(lost, origin) && call.is_whole() {
                tries -= 1;
                stale += 1;
                wish.because = Some(OpenReason::ReplacedStale);
                if stale >= STALE {
                    wish.want = Want::Fresh;
                }
                continue;
            }
            let (failure, again) = match lost {
                Lost::Unsent | Lost::Refused => (Failure::ClosedEarly, call.is_whole()),
                Lost::Unanswered => (Failure::ClosedEarly, call.may_repeat()),
                Lost::CutOff => (Failure::ClosedEarly, false),
                Lost::Garbled => (Failure::BadAnswer, false),
                Lost::Client => (Failure::ClientGone, false),
                Lost::Late => (Failure::ResponseTimeout, false),
            };
            if !again || tries >= TRIES || !self.shared.may_retry(place) {
                return Err(failure);
            }
            last = failure;
            wish.because = Some(OpenReason::Retry);
            wish.want = if tries == 1 {
                Want::FreshAt(backend)
            } else {
                wish.avoid.push(backend);
                Want::Fresh
            };
        }
    }

    /// An upstream that is fit to use.
    async fn take(&self, group: &Group, place: usize, wish: &Wish, reuse: Reuse) -> Result<Lease, Missed> {
        let mut wish = std::borrow::Cow::Borrowed(wish);
        loop {
            let grant = match self.shared.acquire(place, &wish) {
                Acquired::Now(grant) => grant,
                Acquired::Never(failure) => return Err(failure.into()),
                Acquired::Later(waiting) => {
                    let served = tokio::time::timeout(group.limits.wait, waiting).await;
                    served.map_err(|_| Failure::QueueTimeout)?.ok_or(Failure::NoBackend)?
                }
            };
            match grant {
                Grant::Lease(lease) => match lease.upstream.unfit() {
                    None => return Ok(lease),
                    Some(reason) => {
                        lease.end(reason);
                        let wish = wish.to_mut();
                        (wish.first, wish.because) = (false, Some(OpenReason::ReplacedStale));
                    }
                },
                Grant::Slot(slot) => {
                    let backend = slot.backend;
                    let opened = open(&*self.connect, slot, self.worker, &wish.tuple, reuse).await;
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
fn hand_over(response: Response<Incoming>, lease: Lease) -> Response<AnswerBody> {
    let upgraded =
        response.status() == StatusCode::SWITCHING_PROTOCOLS && lease.upstream.sharing == Sharing::OneByOne;
    response.map(|incoming| {
        if upgraded {
            lease.upgrade();
            AnswerBody::new(incoming, None)
        } else if incoming.is_end_stream() {
            lease.give_back();
            AnswerBody::new(incoming, None)
        } else {
            AnswerBody::new(incoming, Some(lease))
        }
    })
}
