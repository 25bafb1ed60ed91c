//! A request on its way to its route: checked, admitted, written anew.
//!
//! ```text
//!   checks ─▶ limits of the site ─▶ route ─▶ its limits ─┬─▶ rewrite ─▶ Exchange
//!      │ refused      │ 429           │ 404      │ 429    └─▶ redirect, respond: answered here
//! ```

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme, Uri};
use hyper::body::{Body, Incoming};
use hyper::ext::Protocol;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, Version};

use super::guard::REFUSED;
use super::headers::{self, Change, Security};
use super::refusal::Refusal;
use super::route::{Asked, By, Destination, Does, Forwarding, RedirectFrom, Route, TooEarly};
use super::session::Session;
use super::shape::{self, Offer, Shaped};
use super::{path, target};
use crate::l7::client_body::ClientBody;
use crate::l7::exchange::{Exchange, Purpose, RequestBody};
use crate::l7::trace::Trace;

const SEC_WEBSOCKET_KEY: HeaderName = HeaderName::from_static("sec-websocket-key");

/// A request that goes to a backend.
pub(super) struct Going<'a> {
    pub exchange: Exchange,
    pub wish: Wish,
    pub route: &'a Route,
    pub forwarding: &'a Forwarding,
    pub destination: Destination,
    /// How the answer may be compressed.
    pub offer: Option<Offer<'a>>,
}

/// One that does not.
pub(super) enum Early<'a> {
    /// It is refused.
    Refused(Refusal),
    /// It comes too early, by so much.
    Limited(Refusal, Duration),
    /// Its route has the answer.
    Answered(&'a Route, Shaped, Box<Response<Bytes>>),
}

impl From<Refusal> for Early<'_> {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<TooEarly> for Early<'_> {
    fn from(early: TooEarly) -> Self {
        let refusal = match early.by {
            By::Source => Refusal::SourceRate,
            By::Total => Refusal::TotalRate,
        };
        Self::Limited(refusal, early.wait)
    }
}

/// What is to happen where the backend changes protocols.
pub(super) enum Wish {
    /// It may not.
    Nothing,
    /// The client's connection changes too, behind the head of the answer.
    Connection,
    /// The client has a stream of its HTTP/2 connection for it (RFC 8441).
    Stream(OnUpgrade, StreamOf),
}

/// What a stream is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum StreamOf {
    WebSocket,
    Other,
}

/// Checks a request, finds its route, and does what that says.
pub(super) fn exchange<'a, F>(
    session: &'a Session<F>,
    request: Request<Incoming>,
    trace: &Trace,
) -> Result<Going<'a>, Early<'a>> {
    let (mut parts, body) = request.into_parts();
    if parts.method.as_str() == REFUSED
        && let Some(refusal) = session.life.refused.get()
    {
        return Err(refusal.into());
    }
    let limits = &session.site.requests;
    if parts.version == Version::HTTP_2 {
        headers::check_values(&parts.headers)?;
        // What comes over HTTP/1 has been counted by its lines.
        if parts.headers.len() > limits.fields {
            return Err(Refusal::HeadTooLarge.into());
        }
    }
    if limits.body.is_some_and(|most| body.size_hint().lower() > most) {
        return Err(Refusal::BodyTooLarge.into());
    }
    let path = target::path(&parts)?;
    let host = target::host(&parts)?;
    let named = session.last.borrow_mut().name(host, session.arrived.vip, &session.told.element)?;
    // `OPTIONS *` is about the whole of a server.
    let asked = if path.as_str() == "*" { "/" } else { path.path() };
    let normal = path::normal(asked).map_err(|_| Refusal::PathAboveRoot)?;
    let (routes, client) = (&session.site.routes, session.arrived.client.address);
    routes.admit(client)?;
    let route = routes.find(&asked_of(&parts, &named.host, &path, &normal)).ok_or(Refusal::NoRoute)?;
    routes.admit_to(route, client)?;
    let forwarding = match &route.does {
        Does::Forward(forwarding) => forwarding,
        Does::Redirect(spec) => {
            let (security, authority) = (session.arrived.security, &named.authority);
            let from = RedirectFrom { security, authority, path: &path, normal: &normal };
            let location = route.location(spec, from).ok_or(Refusal::BadTarget)?;
            let response = Response::builder().status(spec.status).header(LOCATION, location);
            let response = response.body(Bytes::new()).map_err(|_| Refusal::BadTarget)?;
            return Err(Early::Answered(route, Shaped::Redirected, Box::new(response)));
        }
        Does::Respond(spec) => {
            let mut response = Response::new(spec.body.clone());
            *response.status_mut() = spec.status;
            if let Some(content_type) = &spec.content_type {
                response.headers_mut().insert(CONTENT_TYPE, content_type.clone());
            }
            return Err(Early::Answered(route, Shaped::Responded, Box::new(response)));
        }
    };
    let offer = route.compress.as_ref().map(|spec| Offer::of(spec, &parts));
    let sent = forwarding.path(&path, &normal).ok_or(Refusal::BadTarget)?;
    drop(normal);

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
    let destination = forwarding.destination(&mut parts.headers);
    shape::change(&mut parts.headers, &forwarding.request_headers);
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(match session.arrived.security {
        Security::Clear => Scheme::HTTP,
        Security::Tls => Scheme::HTTPS,
    });
    uri.authority = Some(named.authority.clone());
    uri.path_and_query = Some(path);
    let whole = Uri::from_parts(uri).map_err(|_| Refusal::BadTarget)?;
    let asked = target::normal(&whole).ok_or(Refusal::BadTarget)?;
    let mut uri = whole.into_parts();
    uri.path_and_query = Some(sent);
    parts.uri = Uri::from_parts(uri).map_err(|_| Refusal::BadTarget)?;
    let patience = session.site.patience.body;
    let body = ClientBody::new(body, trace.clone(), limits.body, patience);
    let exchange = Exchange {
        request: Request::from_parts(parts, RequestBody::Client(body)),
        asked,
        group: destination.group,
        backend: destination.backend,
        purpose: Purpose::Answer,
        mode: session.site.mode,
        client: session.arrived.client,
        vip: session.arrived.vip,
        trace: trace.clone(),
    };
    Ok(Going { exchange, wish, route, forwarding, destination, offer })
}

/// A request, as routes see it.
fn asked_of<'a>(parts: &'a Parts, host: &'a str, path: &'a PathAndQuery, normal: &'a str) -> Asked<'a> {
    let stands_for_get = parts.extensions.get::<Protocol>().is_some();
    let method = if stands_for_get { &Method::GET } else { &parts.method };
    Asked { host, path: normal, query: path.query(), method, headers: &parts.headers }
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
