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
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Incoming};
use hyper::{Request, Response, StatusCode, Version};

use super::counters::FrontCounters;
use super::headers::{self, Change};
use super::life::Open;
use super::refusal::{fail, refuse, show};
use super::refused::Text;
use super::request::{Early, Going, StreamOf, Wish, exchange};
use super::route::Stay;
use super::session::Session;
use super::shape::{self, Shaped};
use super::tunnel;
use crate::l7::exchange::{Failure, Forward};

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
    let mut open = Some(session.life.hold());
    let response = match exchange(&session, request) {
        Err(early) => own(&session, early, version).map(|text| Either::Right(held(text, open.take()))),
        Ok(Going { exchange, wish, route, forwarding, destination }) => {
            let answered = session.site.forward.forward(exchange).await;
            let backend = answered.as_ref().ok().and_then(|answer| answer.backend);
            match answered.and_then(|answer| given(&session, answer.response, wish, &mut open)) {
                Ok(mut response) => {
                    if let Some(stay) =
                        backend.and_then(|at| forwarding.stay(destination, at, session.arrived.security))
                    {
                        stick(response.headers_mut(), stay, counters);
                    }
                    shape::change(response.headers_mut(), &route.response_headers);
                    response.map(|body| match body {
                        Some(body) => Either::Left(held(body, open.take())),
                        None => Either::Right(held(Text::whole(Bytes::new()), open.take())),
                    })
                }
                Err(failure) => {
                    counters.count_failure(failure);
                    let response = show(fail(failure, version), failure.word(), session.site.reasons);
                    response.map(|text| Either::Right(held(Text::whole(text), open.take())))
                }
            }
        }
    };
    counters.count_answer(response.status());
    Ok(response)
}

/// An answer that needs no backend.
fn own<F>(session: &Session<F>, early: Early<'_>, version: Version) -> Response<Text> {
    let counters = &session.site.counters;
    let (refusal, wait) = match early {
        Early::Answered(route, shaped, mut response) => {
            counters.count_shaped(shaped);
            shape::change(response.headers_mut(), &route.response_headers);
            return response.map(Text::whole);
        }
        Early::Refused(refusal) => (refusal, None),
        Early::Limited(refusal, wait) => (refusal, Some(wait)),
    };
    counters.count_refusal(refusal);
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

/// A body with which a request ends.
fn held<B>(body: B, open: Option<Open>) -> impl Body<Data = B::Data, Error = BodyError>
where
    B: Body,
    B::Error: Into<BodyError>,
{
    body.map_err(move |error| {
        let _held = &open;
        error.into()
    })
}

/// The backend's proof for that key.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Writes the head of a backend's answer. Where protocols change, `open` goes with the tunnel, and there is no body.
fn given<F, B>(
    session: &Rc<Session<F>>,
    mut response: Response<B>,
    wish: Wish,
    open: &mut Option<Open>,
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
            session.tunnel.replace(Some((backend, open.take())));
        }
        Wish::Stream(client, of) => {
            let proof = response.headers_mut().remove(SEC_WEBSOCKET_ACCEPT);
            if of == StreamOf::WebSocket && proof.is_none_or(|proof| proof != ACCEPT) {
                return Err(Failure::BadAnswer);
            }
            headers::incoming(response.headers_mut(), version, Change::None);
            *response.status_mut() = StatusCode::OK;
            let open = open.take();
            tokio::task::spawn_local(async move {
                tunnel::between_upgraded(client, backend).await;
                drop(open);
            });
        }
    }
    session.site.counters.upgrades.add(1);
    Ok(response.map(|_| None))
}
