//! A second way for a request whose first one takes long: to another backend, and the first answer wins.
//!
//! Only what may be done twice is done twice: idempotent requests without a body. A second way is a retry as far as the
//! group's budget goes, so that a backend in trouble is not given twice the work; and it is not taken while the first one still
//! waits for an upstream, since the second one would wait behind it.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Body as _;
use hyper::header::UPGRADE;
use tokio::time::timeout;

use super::Upstreams;
use super::answer::AnswerBody;
use super::forward::Role;
use super::pool::Group;
use crate::datapath::BackendId;
use crate::l7::exchange::{Answer, Exchange, Failure, Purpose};
use crate::l7::trace::Trace;

/// Whether a request may be sent to two backends.
pub(super) fn may_hedge(exchange: &Exchange) -> bool {
    let Exchange { request, backend, purpose, .. } = exchange;
    // Nobody waits for the answer to a copy, and who stays with a backend has a reason to.
    *purpose == Purpose::Answer
        && backend.is_none()
        && request.method().is_idempotent()
        && request.body().is_end_stream()
        && !request.headers().contains_key(UPGRADE)
}

impl Upstreams {
    /// Serves a request, and has a second one served beside it when the first has not been answered after a while.
    pub(super) async fn serve_hedged(
        &self,
        group: &Group,
        place: usize,
        exchange: Exchange,
        delay: Duration,
    ) -> Result<Answer<AnswerBody>, Failure> {
        let (trace, twin) = (exchange.trace.clone(), Trace::default());
        let again = Exchange { backend: None, ..exchange.again(twin.clone()) };
        let mut first = pin!(self.serve(group, place, exchange, Role::First));
        if let Ok(outcome) = timeout(delay, first.as_mut()).await {
            return outcome;
        }
        let Some(backend) = backend_of(group, &trace).filter(|_| self.shared.may_retry(place)) else {
            return first.await;
        };
        self.shared.note_hedge(place, false);
        let mut second = pin!(self.serve(group, place, again, Role::Second(backend)));
        let (mut failed, mut second_failed) = (None, false);
        poll_fn(|context| {
            if failed.is_none()
                && let Poll::Ready(outcome) = first.as_mut().poll(context)
            {
                match outcome {
                    Ok(answer) => return Poll::Ready(Ok(answer)),
                    Err(failure) => failed = Some(failure),
                }
            }
            if !second_failed && let Poll::Ready(outcome) = second.as_mut().poll(context) {
                match outcome {
                    Ok(answer) => {
                        self.shared.note_hedge(place, true);
                        trace.follow(&twin);
                        return Poll::Ready(Ok(answer));
                    }
                    Err(_) => second_failed = true,
                }
            }
            match (failed, second_failed) {
                (Some(failure), true) => Poll::Ready(Err(failure)),
                (Some(_), false) | (None, true | false) => Poll::Pending,
            }
        })
        .await
    }
}

/// The backend that a request is with.
fn backend_of(group: &Group, trace: &Trace) -> Option<BackendId> {
    let at = trace.noted().backend?;
    let place = group.balance.backends().iter().position(|backend| backend.endpoint == at)?;
    u32::try_from(place).ok().map(BackendId)
}
