//! The body of a client's request, of bounded length and patience.
//!
//! The clock runs only while the client is waited for: a backend that takes long to read is not the client's fault. So it is
//! set when there is nothing to be had of the client, and stopped by the next bytes.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::trace::{BodyEnd, Trace};

/// The body of a request, as the client sends it.
#[derive(Debug)]
pub struct ClientBody {
    incoming: Incoming,
    trace: Trace,
    /// How many bytes may come.
    most: Option<u64>,
    received: u64,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// Why a body is not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientLost {
    /// The client is gone, or what it sends is no body.
    Gone,
    /// It was ended from here.
    Ended(BodyEnd),
}

impl fmt::Display for ClientLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gone => "the client's body has broken off",
            Self::Ended(BodyEnd::TooLarge) => "the client's body is too large",
            Self::Ended(BodyEnd::TimedOut) => "the client's body has not come in time",
        })
    }
}

impl std::error::Error for ClientLost {}

impl ClientBody {
    /// A body of which at most `most` bytes may come, each within `patience` of the last one.
    pub fn new(incoming: Incoming, trace: Trace, most: Option<u64>, patience: Duration) -> Self {
        Self { incoming, trace, most, received: 0, patience, timer: None, waiting: false }
    }

    fn end(&self, end: BodyEnd) -> ClientLost {
        self.trace.note(|noted| noted.body = noted.body.or(Some(end)));
        ClientLost::Ended(end)
    }

    /// Whether the client's time is over.
    fn is_late(&mut self, context: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.as_mut().reset(Instant::now() + self.patience);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = ClientLost;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientLost>>> {
        let body = self.get_mut();
        let Poll::Ready(frame) = Pin::new(&mut body.incoming).poll_frame(context) else {
            return if body.is_late(context) {
                Poll::Ready(Some(Err(body.end(BodyEnd::TimedOut))))
            } else {
                Poll::Pending
            };
        };
        body.waiting = false;
        let Some(frame) = frame else { return Poll::Ready(None) };
        let Ok(frame) = frame else { return Poll::Ready(Some(Err(ClientLost::Gone))) };
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        body.received = body.received.saturating_add(length);
        body.trace.note(|noted| noted.received = body.received);
        Poll::Ready(Some(if body.most.is_some_and(|most| body.received > most) {
            Err(body.end(BodyEnd::TooLarge))
        } else {
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
