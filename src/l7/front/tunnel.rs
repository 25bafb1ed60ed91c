//! Bytes both ways, once a connection has changed its protocol.
//!
//! An end of one side is passed on to the other as an end, and the way back stays open. An error on one side drops both,
//! so that a client never takes a broken stream for one that has ended.

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes};

/// What may be under way in each direction, beside what the connections hold.
const BUFFER: usize = 16 << 10;

/// Carries bytes between a client's connection and what a backend's has become.
/// How many it was, to the backend and to the client; `None` where it broke off.
pub(super) async fn between<S: AsyncRead + AsyncWrite + Unpin>(
    mut client: S,
    backend: OnUpgrade,
) -> Option<(u64, u64)> {
    let mut backend = TokioIo::new(backend.await.ok()?);
    copy_bidirectional_with_sizes(&mut client, &mut backend, BUFFER, BUFFER).await.ok()
}

/// The same, where the client's side is a stream of an HTTP/2 connection.
pub(super) async fn between_upgraded(client: OnUpgrade, backend: OnUpgrade) -> Option<(u64, u64)> {
    between(TokioIo::new(client.await.ok()?), backend).await
}
