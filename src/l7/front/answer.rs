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
use http::header::{CONTENT_LENGTH, HeaderName, HeaderValue};
use http::uri::{Scheme, Uri};
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};

use super::guard::REFUSED;
use super::headers::{self, Change, Security};
use super::life::Open;
use super::refusal::{Refusal, fail, refuse};
use super::refused::Text;
use super::session::Session;
use super::{path, target, tunnel};
use crate::l7::exchange::{Exchange, Failure, Forward, RequestBody};
use crate::l7::trace::Trace;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");
const SEC_WEBSOCKET_ACCEPT: HeaderName = HeaderName::from_static("sec-websocket-accept");

/// What a body may fail with.
pub type BodyError = Box<dyn Error + Send + Sync>;

/// What is to happen where the backend changes protocols.
enum Wish {
    /// It may not.
    Nothing,
    /// The client's connection changes too, behind the head of the answer.
    Connection,
    /// The client has a stream of its HTTP/2 connection for it (RFC 8441).
    Stream(OnUpgrade, StreamOf),
}

/// What a stream is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum StreamOf {
    WebSocket,
    Other,
}

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
        Err(refusal) => {
            counters.count_refusal(refusal);
            let response = refuse(refusal, version).map(|text| Text::of(refusal, version, text));
            response.map(|text| Either::Right(held(text, open.take())))
        }
        Ok((exchange, wish)) => {
            let answered = session.site.forward.forward(exchange).await;
            match answered.and_then(|answer| given(&session, answer.response, wish, &mut open)) {
                Ok(response) => response.map(|body| match body {
                    Some(body) => Either::Left(held(body, open.take())),
                    None => Either::Right(held(Text::whole(Bytes::new()), open.take())),
                }),
                Err(failure) => {
                    counters.count_failure(failure);
                    fail(failure, version).map(|text| Either::Right(held(Text::whole(text), open.take())))
                }
            }
        }
    };
    counters.count_answer(response.status());
    Ok(response)
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

/// Checks a request, finds its route and writes its head.
fn exchange<F>(session: &Session<F>, request: Request<Incoming>) -> Result<(Exchange, Wish), Refusal> {
    let (mut parts, body) = request.into_parts();
    if parts.method.as_str() == REFUSED
        && let Some(refusal) = session.life.refused.get()
    {
        return Err(refusal);
    }
    if parts.version == Version::HTTP_2 {
        headers::check_values(&parts.headers)?;
    }
    let path = target::path(&parts)?;
    let host = target::host(&parts)?;
    let named = session.last.borrow_mut().name(host, session.arrived.vip, &session.told.element)?;
    // `OPTIONS *` is about the whole of a server.
    let asked = if path.as_str() == "*" { "/" } else { path.path() };
    let meant = path::normal(asked).map_err(|_| Refusal::PathAboveRoot)?;
    let group = session.site.routes.find(&named.host, &meant).ok_or(Refusal::NoRoute)?;
    drop(meant);

    let (wish, change) = match parts.extensions.remove::<Protocol>() {
        Some(protocol) => {
            let (of, change) = from_stream(&mut parts.headers, &protocol).ok_or(Refusal::BadMethod)?;
            parts.method = Method::GET;
            parts.version = Version::HTTP_11;
            let client = parts.extensions.remove::<OnUpgrade>().ok_or(Refusal::BadMethod)?;
            (Wish::Stream(client, of), change)
        }
        None => match headers::change(&parts.headers, parts.version) {
            Change::None => (Wish::Nothing, Change::None),
            change @ Change::To(_) => (Wish::Connection, change),
        },
    };
    parts.extensions.clear();

    let version = if matches!(wish, Wish::Stream(..)) { Version::HTTP_2 } else { parts.version };
    if version == Version::HTTP_2 {
        target::join_cookies(&mut parts.headers);
    }
    headers::outgoing(&mut parts.headers, version, change, &named, &session.told);
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        headers::chunked(&mut parts.headers);
    }
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(match session.arrived.security {
        Security::Clear => Scheme::HTTP,
        Security::Tls => Scheme::HTTPS,
    });
    uri.authority = Some(named.authority.clone());
    uri.path_and_query = Some(path);
    parts.uri = Uri::from_parts(uri).map_err(|_| Refusal::BadTarget)?;
    let asked = target::normal(&parts.uri).ok_or(Refusal::BadTarget)?;
    let exchange = Exchange {
        request: Request::from_parts(parts, RequestBody::Client(body)),
        asked,
        group,
        mode: session.site.mode,
        client: session.arrived.client,
        vip: session.arrived.vip,
        trace: Trace::default(),
    };
    Ok((exchange, wish))
}

/// Makes an extended CONNECT (RFC 8441) what HTTP/1.1 has for it.
///
/// HTTP/2 needs no key to prove that a server means WebSocket. HTTP/1.1 does, so that no server is tricked by a
/// script in a browser; there is none here, so any key will do, and that of RFC 6455 §1.3 is one whose answer is known.
fn from_stream(headers: &mut http::HeaderMap, protocol: &Protocol) -> Option<(StreamOf, Change)> {
    let name = HeaderValue::from_str(protocol.as_str()).ok()?;
    headers.remove(CONTENT_LENGTH);
    if !protocol.as_str().eq_ignore_ascii_case("websocket") {
        return Some((StreamOf::Other, Change::To(name)));
    }
    headers.insert(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="));
    Some((StreamOf::WebSocket, Change::To(name)))
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
