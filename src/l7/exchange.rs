//! What the two halves of the proxy say to each other: one request going out, one answer coming back.
//!
//! ```text
//!   client ── front: TLS, hyper, route, headers ──Exchange──▶ upstreams: pool, connect, retry ── backend
//!                                               ◀──Answer───
//!                                               ◀──Failure──
//! ```

use std::future::Future;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::{Request, Response};

use super::spec::{GroupId, UpstreamMode};
use super::words::words;
use crate::packet::Endpoint;

/// A request on its way to a backend, as it is to be sent: routed, checked, its headers written.
#[derive(Debug)]
pub struct Exchange {
    /// The request. Its URI has the scheme and the authority that the client asked for; the version is what the client spoke.
    pub request: Request<Incoming>,
    /// Where it goes.
    pub group: GroupId,
    /// Where its upstream comes from.
    pub mode: UpstreamMode,
    /// The client's end of its connection, for schedulers and for the PROXY protocol.
    pub client: Endpoint,
    /// The end that it was opened to.
    pub vip: Endpoint,
}

/// Who sends exchanges to backends. Used on one worker's thread.
pub trait Forward {
    /// The body of an answer, streamed.
    type Body: Body<Data = Bytes>;

    /// Sends a request and waits for the head of its answer. Dropping the future gives the request up.
    fn forward(&self, exchange: Exchange) -> impl Future<Output = Result<Answer<Self::Body>, Failure>>;
}

/// The backend's answer.
#[derive(Debug)]
pub struct Answer<B> {
    /// The response as the backend gave it. Where it is 101, `hyper::upgrade::on` gives the upstream's bytes.
    pub response: Response<B>,
    /// Who answered.
    pub backend: Endpoint,
    /// How the upstream was come by.
    pub upstream: Origin,
    /// How often the request was tried, at least once.
    pub tries: u32,
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
        /// The client's body ended early: nobody is left to answer.
        ClientGone = "client_gone",
    }
}
