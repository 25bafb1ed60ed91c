//! The body of an answer on its way to the client: what a request ends with.
//!
//! hyper asks for a frame when it has somewhere to put it. So a body that has given one and is not asked for the next waits
//! for the client, and one that is asked and has none waits for whoever answers; the session is told of the former, since a
//! body that nobody asks has no way to act, and the latter has the time of the whole request.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::answer::BodyError;
use super::entry::Entry;
use super::life::Life;
use crate::l7::exchange::Failure;

/// A body, with what is held until it is over.
pub(super) struct Answered<B> {
    body: B,
    entry: Option<Entry>,
    /// When the request has had its time.
    deadline: Option<Pin<Box<Sleep>>>,
    given: Given,
}

/// A frame that hyper was given, and has not asked for another since.
struct Given {
    life: Rc<Life>,
    out: bool,
}

impl Given {
    fn set(&mut self, out: bool) {
        match (self.out, out) {
            (false, true) => self.life.hand_out(),
            (true, false) => self.life.take_back(),
            (false, false) | (true, true) => {}
        }
        self.out = out;
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        self.set(false);
    }
}

impl<B: Body> Answered<B> {
    /// Of a request with this entry; where that has gone elsewhere, the body is nothing more than its end.
    pub(super) fn new(
        body: B,
        entry: Option<Entry>,
        life: &Rc<Life>,
        deadline: Option<Pin<Box<Sleep>>>,
    ) -> Self {
        let mut answered = Self { body, entry, deadline, given: Given { life: Rc::clone(life), out: false } };
        if answered.body.is_end_stream() {
            answered.end();
        }
        answered
    }

    fn end(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.ends();
        }
    }
}

impl<B> Body for Answered<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let answered = self.get_mut();
        answered.given.set(false);
        let Poll::Ready(frame) = Pin::new(&mut answered.body).poll_frame(context) else {
            let late = answered.deadline.as_mut().is_some_and(|it| it.as_mut().poll(context).is_ready());
            if !late {
                return Poll::Pending;
            }
            if let Some(entry) = &answered.entry {
                entry.trace.fail(Failure::TotalTimeout);
            }
            return Poll::Ready(Some(Err(Failure::TotalTimeout.word().into())));
        };
        if let Some(Ok(frame)) = &frame {
            let length = frame.data_ref().map_or(0, Buf::remaining) as u64;
            if let Some(entry) = &mut answered.entry {
                entry.sends(length);
            }
            answered.given.set(length > 0);
        }
        if frame.is_none() || answered.body.is_end_stream() {
            answered.end();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
