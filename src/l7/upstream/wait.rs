//! A request's place in the queue.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use super::books::{Grant, Waiter, Wish};
use super::pool::Shared;

/// Waits until it is served. Leaves the queue when it is dropped.
pub(super) struct Waiting {
    shared: Arc<Shared>,
    group: usize,
    ticket: u64,
    served: oneshot::Receiver<Grant>,
    queued: bool,
}

impl Waiting {
    pub(super) fn new(shared: &Arc<Shared>, group: usize, ticket: u64, wish: &Wish) -> (Waiter, Self) {
        let (grant, served) = oneshot::channel();
        let waiter = Waiter { ticket, wish: wish.clone(), grant };
        (waiter, Self { shared: Arc::clone(shared), group, ticket, served, queued: true })
    }
}

impl Future for Waiting {
    /// `None` when there is no backend any more that could serve it.
    type Output = Option<Grant>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Grant>> {
        let served = Pin::new(&mut self.served).poll(context);
        self.queued &= served.is_pending();
        served.map(Result::ok)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.queued {
            self.shared.leave_queue(self.group, self.ticket);
        }
    }
}
