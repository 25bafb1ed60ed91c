//! What an access log is told: one record for each request, however it ended, and for each connection that was not taken.

use std::time::Duration;

use super::cache::CacheStatus;
use super::exchange::Origin;
use crate::packet::Endpoint;

/// Who keeps a log. Called on workers' threads, in the way of requests: it must not wait.
pub trait AccessLog {
    /// Takes a record.
    fn record(&self, record: &Record<'_>);
}

/// What became of one request, or of a connection without any.
///
/// Texts are as the client sent them, with whatever bytes are in them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// The client's end.
    pub client: Endpoint,
    /// The end that it connected to.
    pub vip: Endpoint,
    /// The host that it asked for by SNI.
    pub server_name: Option<&'a str>,
    /// The request; `None` where there was none, or none that could be read.
    pub request: Option<Asked<'a>>,
    /// The status that it was answered with; `None` where it was not.
    pub status: Option<u16>,
    /// Bytes of its body that came.
    pub received: u64,
    /// Bytes of the answer's body that were on their way to the client.
    pub sent: u64,
    /// The route, as it is configured: `*.example.com/v1/`.
    pub route: Option<&'a str>,
    /// The backend that it went to last.
    pub backend: Option<Endpoint>,
    /// How the upstream to that was come by.
    pub upstream: Option<Origin>,
    /// How often it was tried.
    pub tries: u32,
    /// What the cache did, where there is one.
    pub cache: Option<CacheStatus>,
    /// Why it was refused, failed, or ended early.
    pub why: Option<&'static str>,
    /// How long things took.
    pub times: Times,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// The host: of the target, or of the Host field.
    pub host: &'a [u8],
    /// The path and the query.
    pub path: &'a str,
    /// `HTTP/1.1`, say.
    pub version: &'static str,
}

/// How long things took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The TLS handshake of the connection.
    pub tls: Option<Duration>,
    /// Waiting for upstreams.
    pub wait: Duration,
    /// Opening upstreams.
    pub connect: Duration,
    /// From the request's head to that of the answer.
    pub first_byte: Option<Duration>,
    /// From the request's head to the end.
    pub total: Duration,
}
