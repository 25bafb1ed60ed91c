//! The cache before the upstreams: what it answers itself, what it fetches, and what it lets through.
//!
//! | request | |
//! |---|---|
//! | GET | out of the store, or out of a fetch that all who ask for the same wait for |
//! | HEAD | out of the store; else it goes through, and what it brings is compared with what is stored |
//! | GET with `Range` | out of the store; of what is not stored it goes through |
//! | other safe methods | go through |
//! | unsafe methods | go through, and what they succeed in changing is forgotten (RFC 9111 §4.4) |
//! | `PURGE`, where it is allowed to somebody | forgets, or is refused |
//!
//! What goes through is handed on as it comes: bodies, trailers, changes of protocol.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AGE, AUTHORIZATION, CONTENT_LENGTH, CONTENT_LOCATION, HeaderName, HeaderValue, LOCATION, RANGE, UPGRADE,
};
use hyper::body::Body;
use hyper::{Method, Response, StatusCode};
use tokio::sync::oneshot;

use super::body::CacheBody;
use super::clock::Moment;
use super::directives::OfRequest;
use super::entry::{Head, Stored};
use super::fetch::{For, Task, freshen};
use super::flight::{Flight, Phase, Sharing, Source, landed};
use super::range::{Pieces, Wanted, unsatisfiable, wanted};
use super::resolve::resolve;
use super::status::{CacheStatus, Detail, Handling};
use super::store::{Cache, Fetch, Found, Query, Ticket};
use super::validate;
use crate::l7::exchange::{Answer, Exchange, Failure, Forward, Purpose};
use crate::l7::front::BodyError;
use crate::l7::trace::Trace;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// The method that has something forgotten. It is registered nowhere, and many know it.
const PURGE: &str = "PURGE";

/// How often a request waits for others before it is sent alone.
const ROUNDS: usize = 2;

/// Upstreams with a cache before them, or without. One for each site of each worker.
#[derive(Debug)]
pub struct Caching<F> {
    inner: Rc<F>,
    cache: Option<Arc<Cache>>,
}

impl<F> Caching<F> {
    /// Puts a cache, if there is one, before what sends requests to backends.
    pub fn new(inner: Rc<F>, cache: Option<Arc<Cache>>) -> Self {
        Self { inner, cache }
    }
}

impl<F> Forward for Caching<F>
where
    F: Forward + 'static,
    F::Body: Body<Data = Bytes> + Unpin + 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    type Body = CacheBody<F::Body>;

    async fn forward(&self, exchange: Exchange) -> Result<Answer<Self::Body>, Failure> {
        // A copy is sent to be seen by a backend, and its answer means nothing to anybody.
        let Some(cache) = self.cache.as_ref().filter(|_| exchange.purpose == Purpose::Answer) else {
            let answer = self.inner.forward(exchange).await?;
            return Ok(over(answer, CacheBody::backend));
        };
        let request = &exchange.request;
        let method = request.method();
        if method == Method::GET || method == Method::HEAD {
            let headers = request.headers();
            if !request.body().is_end_stream()
                || headers.contains_key(UPGRADE)
                || validate::is_for_origin(headers)
            {
                let status = CacheStatus::of(Handling::Bypass).because(Detail::Unusual);
                return self.pass(cache, exchange, status).await;
            }
            return self.serve(cache, exchange).await;
        }
        if method.as_str() == PURGE && !cache.spec.purge.is_empty() {
            return Ok(purge(cache, &exchange));
        }
        let (safe, asked) = (method.is_safe(), exchange.asked.clone());
        let answer = self.pass(cache, exchange, CacheStatus::of(Handling::Method)).await?;
        let status = answer.response.status();
        if !safe && (status.is_success() || status.is_redirection()) {
            cache.invalidate(&asked);
            let headers = answer.response.headers();
            for named in [LOCATION, CONTENT_LOCATION].iter().filter_map(|name| headers.get(name)) {
                if let Some(named) = resolve(&asked, named) {
                    cache.invalidate(&named);
                }
            }
        }
        Ok(answer)
    }
}

type Given<F> = Result<Answer<CacheBody<<F as Forward>::Body>>, Failure>;

impl<F> Caching<F>
where
    F: Forward + 'static,
    F::Body: Body<Data = Bytes> + Unpin + 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    /// Lets a request through.
    async fn pass(&self, cache: &Cache, exchange: Exchange, status: CacheStatus) -> Given<F> {
        let answer = self.inner.forward(exchange).await?;
        Ok(tell(cache, over(answer, CacheBody::backend), status))
    }

    /// Answers a GET or a HEAD that the cache may be asked for.
    async fn serve(&self, cache: &Arc<Cache>, exchange: Exchange) -> Given<F> {
        let headers = exchange.request.headers();
        let wish = OfRequest::read(headers);
        if wish.no_store {
            let status = CacheStatus::of(Handling::Request).because(Detail::RequestNoStore);
            return self.pass(cache, exchange, status).await;
        }
        let fetch = if exchange.request.method() == Method::HEAD || wish.only_if_cached {
            Fetch::Never
        } else if headers.contains_key(AUTHORIZATION) {
            Fetch::Alone
        } else {
            Fetch::Together
        };
        let hash = cache.hash(&exchange.asked);
        let mut alone = false;
        for round in 0.. {
            let fetch = match fetch {
                Fetch::Together if alone || round >= ROUNDS => Fetch::Alone,
                fetch => fetch,
            };
            let now = cache.clock.now();
            match cache.find(&query(&exchange, hash, &wish, now), fetch) {
                Found::Usable { stored, detail, refresh } => {
                    if let Some(flight) = refresh {
                        let stored = Some(stored.clone());
                        let exchange = exchange.again(Trace::default());
                        self.fetch(cache, flight, exchange, wish, stored, For::Cache, None);
                    }
                    let status = CacheStatus { detail, ..CacheStatus::of(Handling::Hit) };
                    return Ok(give(cache, &exchange, &stored, status, now));
                }
                Found::Missing { stored, handling, detail, flight: Some(ticket) } => {
                    let status = CacheStatus { detail, ..CacheStatus::of(handling) };
                    match self.wait(cache, &exchange, wish, stored, ticket, status).await {
                        Some(given) => return given,
                        None => alone = true,
                    }
                }
                Found::Missing { flight: None, .. } if wish.only_if_cached => {
                    // RFC 9111 §5.2.1.7.
                    let status = CacheStatus::of(Handling::Nothing).because(Detail::OnlyIfCached);
                    return Ok(ours(cache, StatusCode::GATEWAY_TIMEOUT, status));
                }
                Found::Missing { stored, handling, detail, flight: None } => {
                    let detail = if exchange.request.headers().contains_key(RANGE) {
                        detail.or(Some(Detail::Part))
                    } else {
                        detail
                    };
                    let status = CacheStatus { detail, ..CacheStatus::of(handling) };
                    return self.through(cache, exchange, hash, &wish, stored, status).await;
                }
            }
        }
        unreachable!("the rounds go on until there is an answer")
    }

    /// Begins a fetch.
    #[expect(clippy::too_many_arguments, reason = "these are the parts of a task")]
    fn fetch(
        &self,
        cache: &Arc<Cache>,
        flight: Arc<Flight>,
        exchange: Exchange,
        wish: OfRequest,
        stored: Option<Stored>,
        wanted: For,
        own: Option<oneshot::Sender<Answer<F::Body>>>,
    ) {
        let (cache, inner) = (Arc::clone(cache), Rc::clone(&self.inner));
        let task = Task { cache, inner, flight, exchange, wish, stored, wanted, own };
        drop(tokio::task::spawn_local(task.run()));
    }

    /// Waits for a fetch, which may be its own; `None` where it brought nothing for this request.
    async fn wait(
        &self,
        cache: &Arc<Cache>,
        exchange: &Exchange,
        wish: OfRequest,
        stored: Option<Stored>,
        Ticket { wait, own }: Ticket,
        status: CacheStatus,
    ) -> Option<Given<F>> {
        let collapsed = own.is_none();
        if let Some(flight) = own {
            let (sender, declined) = oneshot::channel();
            let trace = Trace::default();
            let again = exchange.again(trace.clone());
            self.fetch(cache, flight, again, wish, stored.clone(), For::Clients, Some(sender));
            let declined = declined.await;
            exchange.trace.follow(&trace);
            if let Ok(answer) = declined {
                let detail = match &*wait.borrow() {
                    Phase::Declined(detail) => Some(*detail),
                    _ => status.detail,
                };
                let status = CacheStatus { detail, ..status };
                return Some(Ok(tell(cache, over(answer, CacheBody::backend), status)));
            }
        }
        let phase = landed(wait).await;
        let now = cache.clock.now();
        match phase {
            Phase::Given(given) => {
                // Whoever waited for a head that nobody knew yet may be one whom it is not for.
                if collapsed && !super::vary::agrees(&given.head.selecting, exchange.request.headers()) {
                    return None;
                }
                let forwarded = (given.status != given.head.status).then_some(given.status);
                let detail = given.detail.or(status.detail);
                let status = CacheStatus { forwarded, stored: given.stored, collapsed, detail, ..status };
                let mut answer = match given.body {
                    Source::Whole(body) => {
                        give(cache, exchange, &Stored { head: given.head, body }, status, now)
                    }
                    Source::Flow(flow) => {
                        let reader = flow.reader()?;
                        let mut answer = begin(&given.head, now, Aged::IfItCameSo);
                        if collapsed {
                            answer = begin(&given.head, now, Aged::Always);
                        }
                        let headers = exchange.request.headers();
                        let body = if answer.status().is_success()
                            && validate::has_it_if_asked(headers, &given.head.headers)
                        {
                            *answer.status_mut() = StatusCode::NOT_MODIFIED;
                            validate::not_modified(answer.headers_mut());
                            CacheBody::empty()
                        } else {
                            CacheBody::flow(reader)
                        };
                        let ttl = Some(given.head.policy.ttl(now));
                        finish(cache, answer.map(|()| body), CacheStatus { ttl, ..status })
                    }
                };
                (answer.backend, answer.upstream, answer.tries) = given.from;
                Some(Ok(answer))
            }
            Phase::Refused(refused) => {
                let stored = stored.filter(|stored| stored.head.policy.serves_on_error(&wish, None, now))?;
                let status = CacheStatus { forwarded: Some(refused), collapsed, ..status };
                Some(Ok(give(cache, exchange, &stored, status.because(Detail::StaleIfError), now)))
            }
            Phase::Failed(failure) => {
                let unreachable = Some(cache.spec.stale_if_unreachable);
                match stored.filter(|stored| stored.head.policy.serves_on_error(&wish, unreachable, now)) {
                    Some(stored) => {
                        let status = CacheStatus { collapsed, ..status }.because(Detail::StaleIfError);
                        Some(Ok(give(cache, exchange, &stored, status, now)))
                    }
                    None => {
                        cache.counters.count(&status);
                        Some(Err(failure))
                    }
                }
            }
            Phase::Declined(_) | Phase::Fetching => None,
        }
    }

    /// Lets a request through that nobody else waits for, and learns from a HEAD (RFC 9111 §4.3.5).
    async fn through(
        &self,
        cache: &Arc<Cache>,
        exchange: Exchange,
        hash: u64,
        wish: &OfRequest,
        stored: Option<Stored>,
        status: CacheStatus,
    ) -> Given<F> {
        let stored = stored.filter(|_| exchange.request.method() == Method::HEAD);
        let flight = stored.as_ref().map(|stored| {
            let (key, request) = (exchange.asked.to_string().into(), exchange.request.headers().clone());
            Flight::new(hash, key, stored.head.place.clone(), request, Sharing::Alone)
        });
        let asked = cache.clock.now();
        let answer = self.pass(cache, exchange, status).await?;
        if let (Some(stored), Some(flight)) = (stored, flight)
            && answer.response.status() == StatusCode::OK
        {
            let (old, new) = (&stored.head.headers, answer.response.headers());
            let length = new.get(CONTENT_LENGTH).is_none_or(|new| {
                new.to_str().ok().and_then(|new| new.parse().ok()) == Some(stored.body.length)
            });
            if length && stored.head.status == StatusCode::OK && validate::is_about(old, new) {
                let times = (asked, cache.clock.now());
                freshen(cache, &flight, wish, &stored, new, times);
            } else {
                cache.remove(&flight, &stored);
            }
        }
        Ok(answer)
    }
}

fn query<'a>(exchange: &'a Exchange, hash: u64, wish: &'a OfRequest, now: Moment) -> Query<'a> {
    Query {
        hash,
        asked: &exchange.asked,
        group: exchange.group,
        sent: exchange.request.uri(),
        headers: exchange.request.headers(),
        wish,
        now,
    }
}

/// When an answer says how old it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aged {
    /// Out of the store always (RFC 9111 §4).
    Always,
    /// Straight from the backend where that had it from somebody else.
    IfItCameSo,
}

/// A head as it is given.
fn begin(head: &Head, now: Moment, aged: Aged) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.version_mut() = head.version;
    let headers = response.headers_mut();
    // Two more: the age, and the cache's word.
    headers.reserve(head.headers.len() + 2);
    headers.extend(head.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
    if aged == Aged::Always || head.policy.aged {
        headers.insert(AGE, HeaderValue::from(head.policy.age(now).as_secs()));
    }
    response
}

/// Gives what is stored: all of it, the parts that are asked for, or the word that the client has it.
fn give<B>(
    cache: &Cache,
    exchange: &Exchange,
    stored: &Stored,
    status: CacheStatus,
    now: Moment,
) -> Answer<CacheBody<B>> {
    let (head, whole) = (&stored.head, &stored.body);
    let request = exchange.request.headers();
    let mut response = begin(head, now, Aged::Always);
    let body = if head.status.is_success() && validate::has_it_if_asked(request, &head.headers) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        validate::not_modified(response.headers_mut());
        CacheBody::empty()
    } else if exchange.request.method() == Method::HEAD {
        if !response.headers().contains_key(CONTENT_LENGTH) && head.status != StatusCode::NO_CONTENT {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(whole.length));
        }
        CacheBody::empty()
    } else {
        let parts = request.contains_key(RANGE)
            && head.status == StatusCode::OK
            && validate::range_counts(request, &head.headers);
        match if parts { wanted(request, whole.length) } else { Wanted::Whole } {
            Wanted::Whole => CacheBody::kept(Arc::clone(whole)),
            Wanted::Unsatisfiable => {
                *response.status_mut() = unsatisfiable(response.headers_mut(), whole.length);
                CacheBody::empty()
            }
            Wanted::Parts(parts) => {
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                let boundary = cache.hash(&exchange.asked);
                CacheBody::parts(Pieces::new(whole, parts, response.headers_mut(), boundary))
            }
        }
    };
    let ttl = Some(head.policy.ttl(now));
    finish(cache, response.map(|()| body), CacheStatus { ttl, ..status })
}

/// An answer that no backend had a part in, so far.
fn finish<B>(cache: &Cache, response: Response<CacheBody<B>>, status: CacheStatus) -> Answer<CacheBody<B>> {
    let answer = Answer { response, backend: None, upstream: None, tries: 0, cache: None };
    tell(cache, answer, status)
}

/// Writes what the cache did into an answer (RFC 9211 §2: behind what others said before), and counts it.
fn tell<B>(cache: &Cache, mut answer: Answer<B>, status: CacheStatus) -> Answer<B> {
    cache.counters.count(&status);
    if let Ok(value) = HeaderValue::try_from(status.to_string()) {
        answer.response.headers_mut().append(CACHE_STATUS, value);
    }
    answer.cache = Some(status);
    answer
}

/// An answer of our own.
fn ours<B>(cache: &Cache, status: StatusCode, told: CacheStatus) -> Answer<CacheBody<B>> {
    let mut response = Response::new(CacheBody::empty());
    *response.status_mut() = status;
    finish(cache, response, told)
}

fn purge<B>(cache: &Cache, exchange: &Exchange) -> Answer<CacheBody<B>> {
    let client = IpAddr::from(exchange.client.address);
    let (status, detail) = if !cache.spec.purge.iter().any(|net| net.contains(&client)) {
        (StatusCode::FORBIDDEN, Detail::PurgeForbidden)
    } else if cache.purge(&exchange.asked) > 0 {
        (StatusCode::OK, Detail::Purge)
    } else {
        (StatusCode::NOT_FOUND, Detail::Purge)
    };
    ours(cache, status, CacheStatus::of(Handling::Nothing).because(detail))
}

/// The same answer with another body.
fn over<A, B>(answer: Answer<A>, body: impl FnOnce(A) -> B) -> Answer<B> {
    let Answer { response, backend, upstream, tries, cache } = answer;
    Answer { response: response.map(body), backend, upstream, tries, cache }
}
