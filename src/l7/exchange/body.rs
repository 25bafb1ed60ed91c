//! The body of a request, and the copy that may be made of it as it goes by.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::l7::client_body::{ClientBody, ClientLost};

/// The body of a request on its way to a backend.
#[derive(Debug)]
pub enum RequestBody {
    /// There is none; so it is with requests that no client sent.
    Empty,
    /// It comes from the client.
    Client(ClientBody),
    /// It comes from the client, and a copy is made of it.
    Copied(ClientBody, BodyCopy),
    /// It is there.
    Whole(Bytes),
}

impl RequestBody {
    /// The same body, of which a copy is made. Only a client's has one.
    #[must_use]
    pub fn copied_to(self, copy: BodyCopy) -> Self {
        match self {
            Self::Client(body) => Self::Copied(body, copy),
            other @ (Self::Empty | Self::Copied(..) | Self::Whole(_)) => other,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = ClientLost;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ClientLost>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Client(body) => Pin::new(body).poll_frame(context),
            Self::Copied(body, copy) => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(context));
                copy.note(frame.as_ref(), body.is_end_stream());
                Poll::Ready(frame)
            }
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Client(body) | Self::Copied(body, _) => body.is_end_stream(),
            Self::Whole(bytes) => bytes.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client(body) | Self::Copied(body, _) => body.size_hint(),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
        }
    }
}

/// A copy of a body that goes by. Who goes away before the end leaves a receiver that knows it.
#[derive(Debug)]
pub struct BodyCopy(Option<Kept>);

#[derive(Debug)]
struct Kept {
    /// Copied, not shared: a few bytes would keep all of the buffer that they came in.
    bytes: Vec<u8>,
    most: usize,
    whole: oneshot::Sender<Result<Bytes, CopyFailed>>,
}

/// Why there is no copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFailed {
    /// The body is larger than it may be.
    TooLarge,
    /// It broke off, or nobody wanted all of it.
    CutOff,
}

impl BodyCopy {
    /// A copy of at most so many bytes, and where it comes out.
    pub fn of_at_most(most: usize) -> (Self, oneshot::Receiver<Result<Bytes, CopyFailed>>) {
        let (whole, receiver) = oneshot::channel();
        (Self(Some(Kept { bytes: Vec::new(), most, whole })), receiver)
    }

    /// Takes note of a frame; `last` says whether there will be no other.
    fn note<E>(&mut self, frame: Option<&Result<Frame<Bytes>, E>>, last: bool) {
        let Some(kept) = &mut self.0 else { return };
        let told = match frame {
            Some(Ok(frame)) => {
                let data = frame.data_ref().map(Bytes::as_ref).unwrap_or_default();
                if kept.bytes.len().saturating_add(data.len()) > kept.most {
                    Err(CopyFailed::TooLarge)
                } else {
                    kept.bytes.extend_from_slice(data);
                    if !last {
                        return;
                    }
                    Ok(())
                }
            }
            Some(Err(_)) => Err(CopyFailed::CutOff),
            None => Ok(()),
        };
        if let Some(kept) = self.0.take() {
            // Where nobody waits for it, nobody needs it.
            let _nobody = kept.whole.send(told.map(|()| kept.bytes.into()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_whole_or_says_why_there_is_none() {
        type Case = (&'static str, Noted, Option<Result<&'static str, CopyFailed>>);
        type Noted = Vec<(Option<Result<Frame<Bytes>, ()>>, bool)>;
        let data = |text: &'static str| Some(Ok(Frame::data(Bytes::from_static(text.as_bytes()))));
        let large = Err(CopyFailed::TooLarge);
        let cases: [Case; 6] = [
            ("whole at the last frame", vec![(data("ab"), false), (data("cd"), true)], Some(Ok("abcd"))),
            ("whole at the end", vec![(data("abcde"), false), (None, true)], Some(Ok("abcde"))),
            ("too large", vec![(data("abc"), false), (data("def"), false)], Some(large)),
            ("cut off", vec![(data("abc"), false), (Some(Err(())), false)], Some(Err(CopyFailed::CutOff))),
            ("not read to its end", vec![(data("abc"), false)], None),
            ("said once", vec![(None, true), (data("abcdef"), false)], Some(Ok(""))),
        ];
        for (name, noted, want) in cases {
            let (mut copy, mut whole) = BodyCopy::of_at_most(5);
            for (frame, last) in noted {
                copy.note(frame.as_ref(), last);
            }
            drop(copy);
            let got =
                whole.try_recv().ok().map(|got| got.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()));
            assert_eq!(got, want.map(|want| want.map(str::to_owned)), "{name}");
        }
    }
}
