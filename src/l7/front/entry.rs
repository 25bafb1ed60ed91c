//! A request's entry in the books: begun with its head, closed when it is over, however that comes about.
//!
//! Like [`Open`], which it holds, it goes from the answering task to the body of the answer or to the tunnel, and is dropped
//! with that. So a request is told of once, also where its client went away before there was an answer.

use std::rc::Rc;
use std::sync::Arc;

use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Uri, Version};
use tokio::time::Instant;

use super::counters::FrontCounters;
use super::guard::REFUSED;
use super::life::Open;
use super::session::{Session, Site};
use crate::l7::access::{AccessLog, Asked, Record, Times};
use crate::l7::cache::CacheStatus;
use crate::l7::exchange::{Answer, Failure};
use crate::l7::trace::Trace;
use crate::packet::Endpoint;

/// What a request that ends without a reason has come to.
const CANCELLED: &str = "cancelled";

/// An entry.
pub(super) struct Entry {
    /// Dropped behind the entry: a session rests when what is said of its requests has been said.
    open: Open,
    pub(super) trace: Trace,
    counters: Arc<FrontCounters>,
    began: Instant,
    status: Option<u16>,
    why: Option<&'static str>,
    sent: u64,
    whole: bool,
    logged: Option<Box<Logged>>,
}

/// What only a log wants to know.
struct Logged {
    log: Rc<dyn AccessLog>,
    client: Endpoint,
    vip: Endpoint,
    server_name: Option<Rc<str>>,
    request: Option<(Method, Uri, Option<HeaderValue>, Version)>,
    route: Option<Arc<str>>,
    cache: Option<CacheStatus>,
    tls: Option<std::time::Duration>,
    first_byte: Option<std::time::Duration>,
}

impl Entry {
    /// For a request that has just come.
    pub(super) fn new<F, B>(session: &Session<F>, request: &Request<B>, open: Open) -> Self {
        let arrived = &session.arrived;
        let logged = session.site.log.as_ref().map(|log| {
            // The head that stands for one that could not be read is none.
            let is_read = request.method().as_str() != REFUSED || session.life.refused.get().is_none();
            let asked = || {
                let host = request.headers().get(HOST).cloned();
                (request.method().clone(), request.uri().clone(), host, request.version())
            };
            Box::new(Logged {
                log: Rc::clone(log),
                client: arrived.client,
                vip: arrived.vip,
                server_name: arrived.server_name.clone(),
                request: is_read.then(asked),
                route: None,
                cache: None,
                tls: arrived.handshake,
                first_byte: None,
            })
        });
        Self {
            open,
            trace: Trace::default(),
            counters: Arc::clone(&session.site.counters),
            began: Instant::now(),
            status: None,
            why: None,
            sent: 0,
            whole: false,
            logged,
        }
    }

    /// When it began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Which route takes it.
    pub(super) fn takes(&mut self, route: &Arc<str>) {
        if let Some(logged) = &mut self.logged {
            logged.route = Some(Arc::clone(route));
        }
    }

    /// A backend, or the cache, has answered.
    pub(super) fn came<B>(&mut self, answer: &Answer<B>) {
        if let Some(logged) = &mut self.logged {
            logged.cache = answer.cache;
        }
    }

    /// Why it has no answer but one of ours.
    pub(super) fn fails(&mut self, why: &'static str) {
        self.why = Some(why);
    }

    /// What its client is told.
    pub(super) fn answered(&mut self, status: u16) {
        self.status = Some(status);
        if let Some(logged) = &mut self.logged {
            logged.first_byte = Some(self.began.elapsed());
        }
    }

    /// More of the answer is on its way.
    pub(super) fn sends(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
    }

    /// All of the answer is.
    pub(super) fn ends(&mut self) {
        self.whole = true;
    }

    /// The connection that it has become is over.
    pub(super) fn carried(&mut self, bytes: Option<(u64, u64)>) {
        if let Some((received, sent)) = bytes {
            self.trace.note(|noted| noted.received = received);
            (self.sent, self.whole) = (sent, true);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let noted = self.trace.noted();
        let late = noted.failure.filter(|_| !self.whole && self.why.is_none());
        if let Some(failure @ (Failure::AnswerTimeout | Failure::TotalTimeout)) = late {
            // It had an answer that did not end; nobody else will count that.
            self.counters.count_failure(failure);
        }
        let Some(logged) = &self.logged else { return };
        let cut = || self.open.life().cut.get().map(super::cut::Cut::word);
        let ended = || cut().or(noted.failure.map(Failure::word)).unwrap_or(CANCELLED);
        let request = logged.request.as_ref().map(|(method, uri, host, version)| Asked {
            method: method.as_str(),
            host: match uri.authority() {
                Some(authority) => authority.as_str().as_bytes(),
                None => host.as_ref().map(HeaderValue::as_bytes).unwrap_or_default(),
            },
            path: uri.path_and_query().map_or("", PathAndQuery::as_str),
            version: match *version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
        });
        logged.log.record(&Record {
            client: logged.client,
            vip: logged.vip,
            server_name: logged.server_name.as_deref(),
            request,
            status: self.status,
            received: noted.received,
            sent: self.sent,
            route: logged.route.as_deref(),
            backend: noted.backend,
            upstream: noted.upstream,
            tries: noted.tries,
            cache: logged.cache,
            why: self.why.or_else(|| (!self.whole).then(ended)),
            times: Times {
                tls: logged.tls,
                wait: noted.wait,
                connect: noted.connect,
                first_byte: logged.first_byte,
                total: self.began.elapsed(),
            },
        });
    }
}

impl<F> Site<F> {
    /// Counts and logs a connection that is not taken.
    pub(in crate::l7) fn turn_away(&self, client: Endpoint, vip: Endpoint, cut: super::cut::Cut) {
        self.counters.count_cut(cut);
        if let Some(log) = &self.log {
            log.record(&Record {
                client,
                vip,
                server_name: None,
                request: None,
                status: None,
                received: 0,
                sent: 0,
                route: None,
                backend: None,
                upstream: None,
                tries: 0,
                cache: None,
                why: Some(cut.word()),
                times: Times::default(),
            });
        }
    }
}
