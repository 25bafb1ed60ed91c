//! How an upstream is opened: a connection, what the backend is told about the client, TLS, and hyper above it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use hyper::client::conn::{http1, http2};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;
use tokio::time::{Duration, Instant};

use super::body::Outgoing;
use super::lease::{Handle, Lease, Slot};
use super::pool::Group;
use super::proxy_header;
use super::wire::{Reuse, Sharing, Transport, Upstream, Wire};
use crate::l7::connect::Connect;
use crate::l7::exchange::Failure;
use crate::l7::spec::ProxyProtocol;
use crate::packet::{Endpoint, FiveTuple};

/// How often an HTTP/2 backend with requests in flight is asked whether it is still there, and how long it may take
/// to answer: a dead path must not swallow one request after another.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// Opens an upstream within its time.
pub(super) async fn open(
    connect: &dyn Connect,
    slot: Slot,
    worker: usize,
    tuple: &FiveTuple,
    reuse: Reuse,
) -> Result<Lease, Failure> {
    let shared = Arc::clone(&slot.shared);
    let group = shared.groups.get(slot.group).ok_or(Failure::NoBackend)?;
    let backend = group.balance.backends().get(slot.backend.index()).ok_or(Failure::NoBackend)?;
    let endpoint = backend.endpoint;
    let opening = establish(connect, group, &slot, endpoint, worker, tuple, reuse);
    match tokio::time::timeout(group.limits.connect, opening).await {
        Ok(Ok((upstream, handle))) => Ok(slot.fill(upstream, handle)),
        Ok(Err(failure)) => Err(slot.fail(failure)),
        Err(_) => Err(slot.fail(Failure::ConnectTimeout)),
    }
}

async fn establish(
    connect: &dyn Connect,
    group: &Group,
    slot: &Slot,
    endpoint: Endpoint,
    worker: usize,
    tuple: &FiveTuple,
    reuse: Reuse,
) -> Result<(Arc<Upstream>, Handle), Failure> {
    let link = connect.connect(endpoint).await.map_err(|_| Failure::ConnectFailed)?;
    let upstream = Arc::new(Upstream::new(
        slot.group,
        slot.backend,
        worker,
        group.sharing(),
        reuse,
        group.tls.is_some(),
        Instant::now(),
        link.probe,
    ));
    let mut wire = Wire::new(link.bytes, Arc::clone(&upstream), Arc::clone(&slot.shared));
    if group.proxy_protocol == ProxyProtocol::V2 {
        let header = proxy_header::header(tuple.source, tuple.destination);
        wire.write_all(&header).await.map_err(|_| Failure::ConnectFailed)?;
    }
    let transport = match &group.tls {
        None => Transport::Plain(wire),
        Some(client) => {
            let (stream, _) = client.connect(wire, endpoint.address.into()).await.map_err(|failure| {
                slot.shared.note_tls(slot.group, failure.cause);
                Failure::TlsFailed
            })?;
            Transport::Tls(stream)
        }
    };
    let handle = speak(transport, &upstream).await.map_err(|_| Failure::ConnectFailed)?;
    Ok((upstream, handle))
}

/// Sets hyper up, whose task of the connection lives on this worker.
async fn speak(transport: Transport, upstream: &Arc<Upstream>) -> hyper::Result<Handle> {
    let io = TokioIo::new(transport);
    match upstream.sharing {
        Sharing::OneByOne => {
            let (sender, connection) = http1::handshake::<_, Outgoing>(io).await?;
            // How it ends is known from the bytes, and told to the request that is in flight.
            tokio::task::spawn_local(async move { drop(connection.with_upgrades().await) });
            Ok(Handle::Http1(sender))
        }
        Sharing::Streams => {
            let mut builder = http2::Builder::new(Local);
            builder.timer(TokioTimer::new()).keep_alive_interval(PING.0).keep_alive_timeout(PING.1);
            builder.adaptive_window(true);
            let (sender, connection) = builder.handshake::<_, Outgoing>(io).await?;
            let upstream = Arc::clone(upstream);
            tokio::task::spawn_local(async move {
                let mut connection = pin!(connection);
                std::future::poll_fn(|context| {
                    let end = connection.as_mut().poll(context);
                    upstream.most_streams.store(connection.current_max_send_streams(), Relaxed);
                    end.map(drop)
                })
                .await;
            });
            Ok(Handle::Http2(sender))
        }
    }
}

/// Hyper's own tasks: on the worker, like everything of an upstream.
#[derive(Clone, Copy)]
struct Local;

impl<F: Future + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move { drop(future.await) });
    }
}

/// Waits for a future for `limit`, and again for as long each time that `more` grants it.
pub(super) async fn within<F: Future>(
    mut future: Pin<&mut F>,
    limit: Duration,
    mut more: impl FnMut() -> bool,
) -> Option<F::Output> {
    let mut timer = pin!(tokio::time::sleep(limit));
    std::future::poll_fn(|context| {
        if let Poll::Ready(output) = future.as_mut().poll(context) {
            return Poll::Ready(Some(output));
        }
        while timer.as_mut().poll(context).is_ready() {
            if !more() {
                return Poll::Ready(None);
            }
            Pin::set(&mut timer, tokio::time::sleep(limit));
        }
        Poll::Pending
    })
    .await
}
