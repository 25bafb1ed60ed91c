//! From a request to its answer: check, route, rewrite, forward, rewrite.
//!
//! Bodies are handed on, never collected: the client's goes to the backend as hyper reads it, and the backend's is
//! polled by hyper as the client takes it. An error in one of them ends the other by a reset, since hyper drops both.
//!
//! **`Expect: 100-continue`** (RFC 9110 §10.1.1) is forwarded with the head, so that the backend can refuse before the body
//! has come. `100 Continue` is said to the client when its body is first asked for, which is when an upstream
//! has been found; without one, the client is told so instead and keeps its body.

use std::convert::Infallible;
use std::error::Error;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, SET_COOKIE};
use http_body_util::Either;
use hyper::body::{Body, Incoming};
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::answered::Answered;
use super::counters::FrontCounters;
use super::entry::Entry;
use super::headers::{self, Change};
use super::refusal::{Refusal, fail, refuse, show};
use super::refused::Text;
use super::request::{Early, Going, StreamOf, Wish, exchange};
use super::route::Stay;
use super::session::Session;
use super::shape::{self, Shaped};
use super::tunnel;
use crate::l7::exchange::{Failure, Forward};
use crate::l7::trace::BodyEnd;

const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What a body may fail with.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// Answers a request.
pub(super) async fn answer<F>(
    session: Rc<Session<F>>,
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = BodyError> + use<F>>, Infallible>
where
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    let version = request.version();
    let counters = &session.site.counters;
    counters.count_request(version);
    if version == Version::HTTP_2 {
        session.life.begin();
    }
    let entry = Entry::new(&session, &request, session.life.hold());
    let is_head = request.method() == Method::HEAD;
    let exchanged = exchange(&session, request, &entry.trace);
    let mut entry = Some(entry);
    let response = match exchanged {
        Err(early) => own(&session, early, version, &mut entry).map(Either::Right),
        Ok(Going { mut exchange, wish, route, forwarding, destination, offer }) => {
            note(&mut entry, |entry| entry.takes(&route.label));
            // What becomes a tunnel has no copy: two ends cannot be spoken to as one.
            if let (Some(mirror), Wish::Nothing) = (&forwarding.mirror, &wish) {
                mirror.copy(&mut exchange, &session.site);
            }
            // Boxed where it is rare, so that the others' requests have no room for it.
            let forward = &session.site.forward;
            let answered = match deadline(&session, entry.as_ref()) {
                None => forward.forward(exchange).await,
                Some(at) => Box::pin(timeout_at(at, forward.forward(exchange)))
                    .await
                    .unwrap_or(Err(Failure::TotalTimeout)),
            };
            let answered = answered.inspect(|answer| note(&mut entry, |entry| entry.came(answer)));
            let backend = answered.as_ref().ok().and_then(|answer| answer.backend);
            match answered.and_then(|answer| given(&session, answer.response, wish, &mut entry)) {
                Ok(mut response) => {
                    if let Some(stay) =
                        backend.and_then(|at| forwarding.stay(destination, at, session.arrived.security))
                    {
                        stick(response.headers_mut(), stay, counters);
                    }
                    shape::change(response.headers_mut(), &route.response_headers);
                    let slots = &session.site.routes.compressing;
                    shape::compressed(response, offer, slots, counters).map(|body| match body {
                        Some(body) => Either::Left(body),
                        None => Either::Right(Text::whole(Bytes::new())),
                    })
                }
                Err(failure) => match no_body(&session, failure, entry.as_ref()) {
                    Some(refusal) => own(&session, refusal.into(), version, &mut entry).map(Either::Right),
                    None => {
                        counters.count_failure(failure);
                        note(&mut entry, |entry| entry.fails(failure.word()));
                        let response = show(fail(failure, version), failure.word(), session.site.reasons);
                        response.map(|text| Either::Right(Text::whole(text)))
                    }
                },
            }
        }
    };
    counters.count_answer(response.status());
    note(&mut entry, |entry| {
        entry.answered(response.status().as_u16());
        if is_head {
            entry.ends();
        }
    });
    let deadline = deadline(&session, entry.as_ref()).map(|at| Box::pin(sleep_until(at)));
    Ok(response.map(|body| Answered::new(body, entry, &session.life, deadline)))
}

/// When a request has had its time. What has become a tunnel has no bound.
fn deadline<F>(session: &Session<F>, entry: Option<&Entry>) -> Option<Instant> {
    Some(entry?.began() + session.site.patience.total?)
}

/// Of a request's body, upstreams and hyper say only that it cannot be had. The guard and the body know why, where that was
/// decided here.
fn no_body<F>(session: &Session<F>, failure: Failure, entry: Option<&Entry>) -> Option<Refusal> {
    if failure != Failure::ClientGone {
        return None;
    }
    match entry.and_then(|entry| entry.trace.noted().body) {
        Some(BodyEnd::TooLarge) => Some(Refusal::BodyTooLarge),
        Some(BodyEnd::TimedOut) => Some(Refusal::BodyTimeout),
        None => session.life.refused.get().filter(|refusal| *refusal == Refusal::BadChunk),
    }
}

/// Notes something of a request, unless that has become a tunnel.
fn note(entry: &mut Option<Entry>, note: impl FnOnce(&mut Entry)) {
    if let Some(entry) = entry {
        note(entry);
    }
}

/// An answer that needs no backend.
fn own<F>(
    session: &Session<F>,
    early: Early<'_>,
    version: Version,
    entry: &mut Option<Entry>,
) -> Response<Text> {
    let counters = &session.site.counters;
    let (refusal, wait) = match early {
        Early::Answered(route, shaped, mut response) => {
            note(entry, |entry| entry.takes(&route.label));
            counters.count_shaped(shaped);
            shape::change(response.headers_mut(), &route.response_headers);
            return response.map(Text::whole);
        }
        Early::Refused(refusal) => (refusal, None),
        Early::Limited(refusal, wait) => (refusal, Some(wait)),
    };
    counters.count_refusal(refusal);
    note(entry, |entry| entry.fails(refusal.word()));
    let mut response = show(refuse(refusal, version), refusal.word(), session.site.reasons);
    if let Some(wait) = wait {
        // In whole seconds, of which the last one has begun.
        let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.map(|text| Text::of(refusal, version, text))
}

/// Tells a client with which backend it stays.
fn stick(headers: &mut HeaderMap, stay: Stay, counters: &FrontCounters) {
    let (shaped, cookie) = match stay {
        Stay::Kept => (Shaped::StickyKept, None),
        Stay::New(cookie) => (Shaped::StickyNew, Some(cookie)),
        Stay::Moved(cookie) => (Shaped::StickyMoved, Some(cookie)),
    };
    counters.count_shaped(shaped);
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
}

/// The backend's proof for that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Writes the head of a backend's answer. Where protocols change, the entry goes with the tunnel, and there is no body.
fn given<F, B>(
    session: &Rc<Session<F>>,
    mut response: Response<B>,
    wish: Wish,
    entry: &mut Option<Entry>,
) -> Result<Response<Option<B>>, Failure> {
    let version = std::mem::replace(response.version_mut(), Version::HTTP_11);
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        // A stream that was asked for by CONNECT would be open with 2xx.
        let opens = matches!(wish, Wish::Stream(..)) && status.is_success();
        if status.is_informational() || opens {
            return Err(Failure::BadAnswer);
        }
        headers::incoming(response.headers_mut(), version, Change::None);
        return Ok(response.map(Some));
    }
    let backend = hyper::upgrade::on(&mut response);
    match wish {
        Wish::Nothing => return Err(Failure::BadAnswer),
        Wish::Connection => {
            let protocol = response.headers().get(http::header::UPGRADE).cloned();
            headers::incoming(response.headers_mut(), version, protocol.map_or(Change::None, Change::To));
            switched(entry);
            session.tunnel.replace(Some((backend, entry.take())));
        }
        Wish::Stream(client, of) => {
            let proof = response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            if of == StreamOf::WebSocket && proof.is_none_or(|proof| proof != ACCEPT) {
                return Err(Failure::BadAnswer);
            }
            headers::incoming(response.headers_mut(), version, Change::None);
            *response.status_mut() = StatusCode::OK;
            switched(entry);
            let entry = entry.take();
            tokio::task::spawn_local(async move {
                let carried = tunnel::between_upgraded(client, backend).await;
                if let Some(mut entry) = entry {
                    entry.carried(carried);
                }
            });
        }
    }
    session.site.counters.upgrades.add(1);
    Ok(response.map(|_| None))
}

/// What becomes a tunnel is answered before it leaves here.
fn switched(entry: &mut Option<Entry>) {
    note(entry, |entry| entry.answered(StatusCode::SWITCHING_PROTOCOLS.as_u16()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l7::upstream::Upstreams;

    fn size<A, B, F: Future>(_: impl Fn(A, B) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_takes_little_memory_while_it_is_answered() {
        let bytes = size(answer::<Upstreams>);
        assert!(bytes <= 4 << 10, "{bytes}");
    }
}
