//! What the two halves of the proxy say to each other: one request going out, one answer coming back.
//!
//! ```text
//!   client ── front: TLS, hyper, route, headers ──Exchange──▶ upstreams: pool, connect, retry ── backend
//!                                               ◀──Answer───
//!                                               ◀──Failure──
//! ```

mod body;

use std::future::Future;

use bytes::Bytes;
use http::Uri;
use hyper::body::Body;
use hyper::{Request, Response};

pub use body::{BodyCopy, CopyFailed, RequestBody};

use super::cache::CacheStatus;
use super::spec::{GroupId, UpstreamMode};
use super::trace::Trace;
use super::words::words;
use crate::datapath::BackendId;
use crate::packet::Endpoint;

/// A request on its way to a backend, as it is to be sent: routed, checked, its headers written.
#[derive(Debug)]
pub struct Exchange {
    /// The request. Its URI has the scheme and the authority that the client asked for; the version is what the client spoke.
    pub request: Request<RequestBody>,
    /// What the client asked for, whatever was made of it since: scheme, host in lower case, its port unless that is the
    /// scheme's own, and the path and query as they came. What is the same here is the same resource.
    pub asked: Uri,
    /// Where it goes.
    pub group: GroupId,
    /// The backend of the group that its client stays with, as long as that is up.
    pub backend: Option<BackendId>,
    /// What it is sent for.
    pub purpose: Purpose,
    /// Where its upstream comes from.
    pub mode: UpstreamMode,
    /// The client's end of its connection, for schedulers and for the PROXY protocol.
    pub client: Endpoint,
    /// The end that it was opened to.
    pub vip: Endpoint,
    /// Where those note what they see who have to do with it.
    pub trace: Trace,
}

impl Exchange {
    /// The same without a body, for one more way to its answer, which takes notes of its own.
    #[must_use]
    pub fn again(&self, trace: Trace) -> Self {
        let mut request = Request::new(RequestBody::Empty);
        *request.method_mut() = self.request.method().clone();
        *request.uri_mut() = self.request.uri().clone();
        *request.version_mut() = self.request.version();
        *request.headers_mut() = self.request.headers().clone();
        Self {
            request,
            asked: self.asked.clone(),
            group: self.group,
            backend: self.backend,
            mode: self.mode,
            client: self.client,
            vip: self.vip,
            purpose: self.purpose,
            trace,
        }
    }
}

/// What a request is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A client's answer.
    Answer,
    /// To be seen: it is a copy, whose answer is thrown away. No answer that is stored will do.
    Copy,
}

/// Who sends exchanges to backends. Used on one worker's thread.
pub trait Forward {
    /// The body of an answer, streamed.
    type Body: Body<Data = Bytes> + Unpin;

    /// Sends a request and waits for the head of its answer. Dropping the future gives the request up.
    fn forward(&self, exchange: Exchange) -> impl Future<Output = Result<Answer<Self::Body>, Failure>>;
}

/// A backend's answer, or the cache's.
#[derive(Debug)]
pub struct Answer<B> {
    /// The response as the backend gave it. Where it is 101, `hyper::upgrade::on` gives the upstream's bytes.
    pub response: Response<B>,
    /// Which backend answered; `None` where none was asked.
    pub backend: Option<Endpoint>,
    /// How the upstream was come by, if there was one.
    pub upstream: Option<Origin>,
    /// How often the request was tried; 0 where no backend was asked.
    pub tries: u32,
    /// What the cache did, where there is one.
    pub cache: Option<CacheStatus>,
}

/// How an upstream was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was opened for this request.
    New,
    /// It had served others before.
    Reused,
}

words! {
    /// Why there is no answer. The word is the same in counters, logs and headers.
    Failure {
        /// No backend of the group is up and takes requests.
        NoBackend = "no_backend",
        /// As many requests wait for an upstream as may.
        QueueFull = "queue_full",
        /// None became free in time.
        QueueTimeout = "queue_timeout",
        /// Backends refused or could not be reached, as often as was tried.
        ConnectFailed = "connect_failed",
        /// Connecting took too long.
        ConnectTimeout = "connect_timeout",
        /// TLS to the backend failed.
        TlsFailed = "tls_failed",
        /// The backend closed or reset the connection behind the request and before its answer, and the request may not be sent twice.
        ClosedEarly = "closed_early",
        /// What the backend sent is not HTTP.
        BadAnswer = "bad_answer",
        /// The answer's head took too long.
        ResponseTimeout = "response_timeout",
        /// It took too long over all tries, or in all.
        TotalTimeout = "total_timeout",
        /// The next bytes of the answer's body took too long.
        AnswerTimeout = "answer_timeout",
        /// The client's body ended early: nobody is left to answer.
        ClientGone = "client_gone",
        /// A WebSocket is asked for, and the group's backends are spoken to in HTTP/2, over which none is offered here.
        NoUpgrade = "no_upgrade",
    }
}
