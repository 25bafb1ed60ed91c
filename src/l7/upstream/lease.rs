//! What a request holds of the pool: a place for an upstream that it may open, or an upstream that it may use.
//!
//! ```text
//!   find ──▶ Slot ──opened──▶ Lease ──sent──▶ answer ──▶ give_back: idle again
//!     │        │                │                └─────▶ cut_off, dropped: the upstream ends
//!     │        └ dropped: the place is free again
//!     └────▶ Lease, dropped before it was used: idle again
//! ```
//!
//! Either counts as one request in flight of its backend, and both put that right when they are dropped.

use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::{http1, http2};

use super::body::{Outgoing, Source};
use super::pool::Shared;
use super::reason::{DropReason, OpenReason};
use super::wire::{Sharing, Upstream};
use crate::datapath::BackendId;
use crate::l7::exchange::{Failure, Origin};

/// How long hyper's connection task may take to be done with a request whose answer has ended.
const SETTLING: Duration = Duration::from_secs(1);

/// Where requests are handed over.
pub(super) enum Handle {
    Http1(http1::SendRequest<Outgoing>),
    Http2(http2::SendRequest<Outgoing>),
}

impl Handle {
    fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }
}

/// A place for one upstream of one backend.
pub(super) struct Slot {
    pub shared: Arc<Shared>,
    pub group: usize,
    pub backend: BackendId,
    /// Why it is to be opened, as far as the pool can tell.
    pub why: OpenReason,
    taken: bool,
}

impl Slot {
    pub(super) fn new(shared: Arc<Shared>, group: usize, backend: BackendId, why: OpenReason) -> Self {
        Self { shared, group, backend, why, taken: false }
    }

    /// It could not be opened. The backend's health is told before the place is free for another, who must not run into
    /// the same.
    pub(super) fn fail(self, failure: Failure) -> Failure {
        self.shared.refused(self.group, self.backend);
        failure
    }

    /// The upstream is open: it has the place from now on.
    pub(super) fn fill(mut self, upstream: Arc<Upstream>, handle: Handle) -> Lease {
        self.taken = true;
        upstream.check_out(false);
        self.shared.opened(&upstream, self.why, &handle);
        Lease {
            shared: Arc::clone(&self.shared),
            upstream,
            handle: Some(handle),
            origin: Origin::New,
            sent: false,
            source: None,
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.taken {
            self.shared.vacate(self.group, self.backend);
        }
    }
}

/// An upstream, for one request.
pub(super) struct Lease {
    shared: Arc<Shared>,
    pub upstream: Arc<Upstream>,
    /// Taken out when the lease is over.
    handle: Option<Handle>,
    pub origin: Origin,
    sent: bool,
    source: Option<Arc<Source>>,
}

impl Lease {
    pub(super) fn reused(shared: Arc<Shared>, upstream: Arc<Upstream>, handle: Handle) -> Self {
        Self { shared, upstream, handle: Some(handle), origin: Origin::Reused, sent: false, source: None }
    }

    /// Waits until a request can be handed over: hardly ever, and not long.
    pub(super) async fn ready(&mut self) -> bool {
        match &mut self.handle {
            Some(Handle::Http1(sender)) if !sender.is_ready() => {
                matches!(Box::pin(tokio::time::timeout(SETTLING, sender.ready())).await, Ok(Ok(())))
            }
            Some(Handle::Http1(_) | Handle::Http2(_)) => true,
            None => false,
        }
    }

    /// The request's body, which may be on its way for longer than the answer.
    pub(super) fn sends(&mut self, source: Option<Arc<Source>>) {
        self.source = source;
    }

    /// Where the request is handed over, which it then is.
    pub(super) fn send(&mut self) -> Option<&mut Handle> {
        self.sent = true;
        self.handle.as_mut()
    }

    /// The answer has ended.
    pub(super) fn give_back(mut self) {
        let Some(handle) = self.handle.take() else { return };
        // Where it is not ready though the request was sent, the task of the connection has handed out the last byte on
        // another thread and is just about to see the end: who gets it next waits for that (see `ready`).
        let sent = self.source.as_ref().is_none_or(|source| source.is_sent());
        if sent || handle.is_ready() || handle.is_closed() {
            self.shared.check_in(&self.upstream, handle);
            return;
        }
        // The request is still being sent, though it has been answered.
        let (shared, upstream) = (Arc::clone(&self.shared), Arc::clone(&self.upstream));
        let Handle::Http1(mut sender) = handle else {
            self.shared.check_in(&self.upstream, handle);
            return;
        };
        tokio::task::spawn_local(async move {
            match tokio::time::timeout(SETTLING, sender.ready()).await {
                Ok(Ok(())) => shared.check_in(&upstream, Handle::Http1(sender)),
                Ok(Err(_)) => shared.abandon(&upstream, upstream.why_gone()),
                Err(_) => shared.abandon(&upstream, DropReason::RequestAborted),
            }
        });
    }

    /// The answer was 101: the connection is the client's now. The request is in flight until that is over.
    pub(super) fn upgrade(mut self) {
        self.handle = None;
        self.shared.upgrade(&self.upstream);
    }

    /// The upstream is of no more use.
    pub(super) fn end(mut self, reason: DropReason) {
        self.handle = None;
        self.shared.abandon(&self.upstream, reason);
    }

    /// The answer broke off, or never came. On a connection of many streams that says nothing of the others.
    pub(super) fn cut_off(self, reason: DropReason) {
        match self.upstream.sharing {
            Sharing::Streams => drop(self),
            Sharing::OneByOne => self.end(reason),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(handle) = self.handle.take() else { return };
        match self.upstream.sharing {
            // A stream is reset by hyper when its answer is dropped; the connection goes on.
            Sharing::Streams => self.shared.check_in(&self.upstream, handle),
            Sharing::OneByOne if !self.sent => self.shared.check_in(&self.upstream, handle),
            Sharing::OneByOne => self.shared.abandon(&self.upstream, DropReason::RequestAborted),
        }
    }
}
