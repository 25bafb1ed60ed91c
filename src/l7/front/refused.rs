//! The body of an answer that is ours.
//!
//! Over HTTP/2, a malformed request is a stream error (RFC 9113 §8.1.1), behind which a server may still say what is
//! wrong with it. So such a body ends in a reset. h2 forgets what it has not sent when a stream is reset; so the reset
//! waits until the connection, which runs on the same thread and is woken first, has had its turn.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::Version;
use hyper::body::{Body, Frame, SizeHint};

use super::answer::BodyError;
use super::refusal::Refusal;

/// A text, and how the message ends behind it.
#[derive(Debug)]
pub(super) struct Text {
    text: Bytes,
    end: End,
}

/// What comes behind the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Nothing.
    Whole,
    /// A reset, when others have had their turn.
    ResetNextTurn,
    Reset,
}

impl Text {
    /// The text alone.
    pub(super) const fn whole(text: Bytes) -> Self {
        Self { text, end: End::Whole }
    }

    /// What is said of a refused request of this version.
    pub(super) fn of(refusal: Refusal, version: Version, text: Bytes) -> Self {
        let reset = version == Version::HTTP_2 && refusal.is_malformed();
        Self { text, end: if reset { End::ResetNextTurn } else { End::Whole } }
    }
}

impl Body for Text {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if !self.text.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.text)))));
        }
        match self.end {
            End::Whole => Poll::Ready(None),
            End::ResetNextTurn => {
                self.end = End::Reset;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            // hyper looks for one of these to learn which reset it is to send.
            End::Reset => Poll::Ready(Some(Err(h2::Error::from(h2::Reason::PROTOCOL_ERROR).into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.text.is_empty() && self.end == End::Whole
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.text.len() as u64)
    }
}
