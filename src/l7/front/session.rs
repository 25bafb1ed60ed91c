//! One client's connection, from its first byte to its last.
//!
//! ```text
//!   first bytes ── PRI * HTTP/2.0 … ──▶ h2, a task for each stream ──┐
//!        │                                                           ├──▶ answer
//!        └── anything else ──▶ guard ──▶ h1, one request at a time ──┘
//! ```
//!
//! Behind TLS, ALPN has said it already. A session ends with its connection, when the client is silent for too long
//! between two requests, or, once it is told to drain, behind the requests that are open.

use std::cell::RefCell;
use std::error::Error as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::body::Body;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::answer::{BodyError, answer};
use super::counters::FrontCounters;
use super::cut::Cut;
use super::entry::Entry;
use super::frames::Frames;
use super::guard::Guard;
use super::headers::{Security, Told};
use super::life::Life;
use super::refusal::Refusal;
use super::rewind::Rewind;
use super::route::Routes;
use super::target::Last;
use super::tunnel;
use crate::l7::access::AccessLog;
use crate::l7::exchange::Forward;
use crate::l7::spec::{Patience, Reasons, RequestLimits, UpstreamMode};
use crate::l7::tls::Alpn;
use crate::packet::Endpoint;

/// What an HTTP/2 client with prior knowledge begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What hyper may hold of one HTTP/1 connection in each direction.
const BUFFER: usize = 128 << 10;

/// What a stream may send, and all streams of a connection together, before it is read.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 2 << 20;

/// What may wait for a stream's window: for all of its streams, the most that a client that reads nothing can make a
/// session hold.
const STREAM_BUFFER: usize = 128 << 10;

/// What a worker needs to know of one site to serve its sessions.
pub struct Site<F> {
    /// Where its requests go.
    pub routes: Arc<Routes>,
    /// Where upstreams come from.
    pub mode: UpstreamMode,
    /// How long clients are waited for.
    pub patience: Patience,
    /// What one request may be.
    pub requests: RequestLimits,
    /// Who keeps a log of requests.
    pub log: Option<Rc<dyn AccessLog>>,
    /// Whether answers that are our own say why in a field of their own.
    pub reasons: Reasons,
    /// Who sends requests to backends.
    pub forward: Rc<F>,
    /// What is counted.
    pub counters: Arc<FrontCounters>,
}

/// What is known of a connection before its first request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrived {
    /// The client's end.
    pub client: Endpoint,
    /// The end that it was opened to.
    pub vip: Endpoint,
    /// Whether it is encrypted.
    pub security: Security,
    /// What ALPN has agreed upon. Where that is nothing, the first bytes tell in the clear, and behind TLS it is HTTP/1.
    pub alpn: Option<Alpn>,
    /// The host that the client has asked for by SNI.
    pub server_name: Option<Rc<str>>,
    /// How long the handshake took, where there was one.
    pub handshake: Option<Duration>,
}

/// Tells sessions to end behind the requests that are open. Theirs is the receiving end.
pub type Drain = watch::Receiver<bool>;

/// A session, as its requests see it.
pub(super) struct Session<F> {
    pub(super) site: Rc<Site<F>>,
    pub(super) arrived: Arrived,
    pub(super) told: Told,
    pub(super) last: RefCell<Last>,
    pub(super) life: Rc<Life>,
    /// What the connection becomes behind the answer that is being written.
    pub(super) tunnel: RefCell<Option<(OnUpgrade, Option<Entry>)>>,
}

/// Counts a session as ended, however it ends.
struct Ended(Arc<FrontCounters>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.sessions_ended.add(1);
    }
}

/// Serves one connection, which is in the clear by now. Must run in a `LocalSet`.
pub async fn serve<S, F>(mut stream: S, arrived: Arrived, site: Rc<Site<F>>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    site.counters.sessions.add(1);
    let _ended = Ended(Arc::clone(&site.counters));
    let told = Told::new(arrived.client, arrived.vip, arrived.security);
    let life = Life::new();
    let first = match (arrived.alpn, arrived.security) {
        (None, Security::Clear) => {
            match timeout(site.patience.head, first_bytes(&mut stream)).await {
                Ok(Ok(first)) => first,
                // Reset: there is nobody to say anything to.
                Ok(Err(_)) => return,
                Err(_) => None,
            }
        }
        (alpn, _) => Some((alpn.unwrap_or(Alpn::Http11), Vec::new())),
    };
    let Some((protocol, read)) = first else {
        let _closed = stream.shutdown().await;
        return;
    };
    let session =
        Rc::new(Session { last: RefCell::default(), tunnel: RefCell::default(), site, arrived, told, life });
    if protocol == Alpn::H2 {
        let stream = Frames::new(Rewind::new(read.into(), stream), Rc::clone(&session.life), PREFACE.len());
        serve_http2(stream, session, drain).await;
    } else {
        serve_http1(stream, read, session, drain).await;
    }
}

/// Reads until it is certain what is spoken; `None` where the client has nothing to say.
async fn first_bytes<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Option<(Alpn, Vec<u8>)>> {
    let mut read = Vec::with_capacity(1 << 10);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok((!read.is_empty()).then_some((Alpn::Http11, read)));
        }
        let seen = read.get(..PREFACE.len().min(read.len())).unwrap_or_default();
        if !PREFACE.starts_with(seen) {
            return Ok(Some((Alpn::Http11, read)));
        }
        if seen.len() == PREFACE.len() {
            return Ok(Some((Alpn::H2, read)));
        }
    }
}

async fn serve_http1<S, F>(stream: S, read: Vec<u8>, session: Rc<Session<F>>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    let Site { patience, requests: limits, .. } = *session.site;
    let guard = Guard::new(stream, read, Rc::clone(&session.life), patience, limits);
    let requests = Rc::clone(&session);
    // hyper has a place for one answer's future, also while there is none. It is large; in a box it goes with the request.
    let service = service_fn(move |request| Box::pin(answer(Rc::clone(&requests), request)));
    // No timers of hyper's: it ends a connection without a word, and the guard does not. No `pipeline_flush`: with that, hyper
    // takes of an answer whatever there is, however little of it the client takes.
    let mut connection = http1::Builder::new()
        .header_read_timeout(None)
        .max_buf_size(BUFFER)
        .writev(true)
        .serve_connection(TokioIo::new(guard), service);
    let mut drained = pin!(drained(drain));
    let mut draining = false;
    let ended = poll_fn(|context| {
        if !draining && drained.as_mut().poll(context).is_ready() {
            draining = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(context)
    })
    .await;
    if ended.is_err_and(|error| error.is_parse()) {
        session.site.counters.count_refusal(Refusal::Malformed);
    }
    if let Some(cut) = session.life.cut.get() {
        session.site.counters.count_cut(cut);
    }
    let tunnel = session.tunnel.take();
    if let Some((backend, mut entry)) = tunnel {
        // hyper's own way to this needs a connection that may change threads.
        let parts = connection.into_parts();
        let (stream, held) = parts.io.into_inner().into_parts();
        let read =
            if held.is_empty() { parts.read_buf } else { [&parts.read_buf[..], &held].concat().into() };
        drop((parts.service, session));
        let carried = tunnel::between(Rewind::new(read, stream), backend).await;
        if let Some(entry) = &mut entry {
            entry.carried(carried);
        }
    }
}

async fn serve_http2<S, F>(stream: Frames<Rewind<S>>, session: Rc<Session<F>>, drain: Drain)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Forward + 'static,
    F::Body: 'static,
    <F::Body as Body>::Error: Into<BodyError>,
{
    let requests = Rc::clone(&session);
    // A stream's future is moved from hand to hand until it is a task's; in a box it stays where it is.
    let service = service_fn(move |request| Box::pin(answer(Rc::clone(&requests), request)));
    let limits = session.site.requests;
    let mut connection = pin!(
        http2::Builder::new(Local)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(STREAM_BUFFER)
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.head).unwrap_or(u32::MAX))
            .enable_connect_protocol()
            .serve_connection(TokioIo::new(stream), service)
    );
    let Patience { head, keep_alive, send, .. } = session.site.patience;
    let mut drained = pin!(drained(drain));
    let mut draining = false;
    let mut closing = false;
    let mut timer = pin!(sleep_until(Instant::now() + head));
    let ended = poll_fn(|context| {
        if !draining && drained.as_mut().poll(context).is_ready() {
            draining = true;
            connection.as_mut().graceful_shutdown();
        }
        while timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            if session.life.stalled_since().is_some_and(|since| now >= since + send) {
                session.life.cut.set(Some(Cut::SendTimeout));
                return Poll::Ready(Ok(()));
            }
            let due = match session.life.idle_since() {
                None => session.life.stalled_since().unwrap_or(now) + send.min(keep_alive),
                Some(since) if session.life.has_begun() => since + keep_alive,
                Some(since) => since + head,
            };
            if due > now {
                timer.as_mut().reset(due);
            } else if closing {
                // It was told to end, and does not answer.
                return Poll::Ready(Ok(()));
            } else {
                closing = true;
                if session.life.has_begun() {
                    session.life.cut.set(Some(Cut::KeepAlive));
                }
                connection.as_mut().graceful_shutdown();
                timer.as_mut().reset(now + head);
            }
        }
        connection.as_mut().poll(context)
    })
    .await;
    if let Err(error) = ended {
        if is_calm(&error) {
            session.life.cut.set(session.life.cut.get().or(Some(Cut::Excess)));
        } else if error.is_parse() {
            session.site.counters.count_refusal(Refusal::Malformed);
        }
    }
    if let Some(cut) = session.life.cut.get() {
        session.site.counters.count_cut(cut);
    }
}

/// Whether HTTP/2 had enough of the client (RFC 9113 §7).
fn is_calm(error: &hyper::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_library() && error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        }
        cause = error.source();
    }
    false
}

async fn drained(mut drain: Drain) {
    // Where nobody is left who could tell, nobody will.
    if drain.wait_for(|drain| *drain).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Runs the streams of an HTTP/2 connection on its own thread.
#[derive(Clone, Copy)]
struct Local;

impl<T: Future + 'static> Executor<T> for Local
where
    T::Output: 'static,
{
    fn execute(&self, task: T) {
        drop(tokio::task::spawn_local(task));
    }
}
