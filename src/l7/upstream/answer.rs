//! The body of an answer on its way through: it gives its upstream back, and is waited for no longer than there is patience.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::lease::Lease;
use super::reason::DropReason;
use crate::l7::exchange::Failure;
use crate::l7::trace::Trace;

/// The body of a backend's answer. Its upstream goes back into the pool when it has ended, and is dropped when it has
/// not.
pub struct AnswerBody {
    incoming: Incoming,
    lease: Option<Lease>,
    patience: Patience,
}

/// How long the next bytes of an answer may take. Its clock runs only while they are asked for.
pub(super) struct Patience {
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    trace: Trace,
}

/// Why an answer ends early.
#[derive(Debug)]
pub enum AnswerLost {
    /// The backend broke it off, or what it sent is no body.
    Broken(hyper::Error),
    /// Its next bytes took too long.
    Late,
}

impl fmt::Display for AnswerLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(error) => error.fmt(f),
            Self::Late => f.write_str("the next bytes of the answer took too long"),
        }
    }
}

impl std::error::Error for AnswerLost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Who looks for the cause of the cause finds it: this adds nothing to what hyper says.
            Self::Broken(error) => error.source(),
            Self::Late => None,
        }
    }
}

impl Patience {
    pub(super) fn new(time: Duration, trace: Trace) -> Self {
        Self { time, timer: None, waiting: false, trace }
    }

    /// Whether it is over.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now())));
        if !std::mem::replace(&mut self.waiting, true) {
            timer.as_mut().reset(Instant::now() + self.time);
        }
        timer.as_mut().poll(context).is_ready()
    }
}

impl AnswerBody {
    pub(super) fn new(incoming: Incoming, lease: Option<Lease>, patience: Patience) -> Self {
        Self { incoming, lease, patience }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = AnswerLost;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnswerLost>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(context) else {
            if !self.patience.is_over(context) {
                return Poll::Pending;
            }
            self.patience.trace.fail(Failure::AnswerTimeout);
            if let Some(lease) = self.lease.take() {
                lease.cut_off(DropReason::AnswerTimedOut);
            }
            return Poll::Ready(Some(Err(AnswerLost::Late)));
        };
        self.patience.waiting = false;
        match &frame {
            Some(Err(_)) => {
                self.patience.trace.fail(Failure::ClosedEarly);
                if let Some(lease) = self.lease.take() {
                    let reason = lease.upstream.why_broken();
                    lease.cut_off(reason);
                }
            }
            // Who is given the last bytes need not ask whether there are more.
            Some(Ok(_)) if !self.incoming.is_end_stream() => {}
            Some(Ok(_)) | None => {
                if let Some(lease) = self.lease.take() {
                    lease.give_back();
                }
            }
        }
        Poll::Ready(frame.map(|frame| frame.map_err(AnswerLost::Broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody").field("incoming", &self.incoming).finish_non_exhaustive()
    }
}
