//! The body of an answer: the backend's as it comes, or out of the cache.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::entry::Whole;
use super::flow::Reader;
use super::range::Pieces;
use crate::l7::front::BodyError;

/// The body of an answer.
#[derive(Debug)]
pub struct CacheBody<B>(Kind<B>);

#[derive(Debug)]
enum Kind<B> {
    /// The backend's.
    Backend(B),
    /// What is kept; `next` is the next chunk.
    Kept {
        whole: Arc<Whole>,
        next: usize,
        left: u64,
    },
    /// What comes, and is read by others as well.
    Flow(Reader),
    /// Parts of what is kept.
    Parts(Pieces),
    Empty,
}

impl<B> CacheBody<B> {
    pub(super) fn backend(body: B) -> Self {
        Self(Kind::Backend(body))
    }

    pub(super) fn kept(whole: Arc<Whole>) -> Self {
        let left = whole.length;
        Self(Kind::Kept { whole, next: 0, left })
    }

    pub(super) fn flow(reader: Reader) -> Self {
        Self(Kind::Flow(reader))
    }

    pub(super) fn parts(pieces: Pieces) -> Self {
        Self(Kind::Parts(pieces))
    }

    pub(super) fn empty() -> Self {
        Self(Kind::Empty)
    }
}

impl<B> Body for CacheBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Backend(body) => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Kept { whole, next, left } => {
                let chunk = whole.chunks.get(*next).cloned();
                let frame = match chunk {
                    Some(chunk) => {
                        *left = left.saturating_sub(chunk.len() as u64);
                        Some(Frame::data(chunk))
                    }
                    None if *next == whole.chunks.len() => whole.trailers.clone().map(Frame::trailers),
                    None => None,
                };
                *next = next.saturating_add(1);
                Poll::Ready(frame.map(Ok))
            }
            Kind::Flow(reader) => Pin::new(reader).poll_frame(context),
            Kind::Parts(pieces) => Poll::Ready(pieces.next().map(|bytes| Ok(Frame::data(bytes)))),
            Kind::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Backend(body) => body.is_end_stream(),
            Kind::Kept { whole, left, .. } => *left == 0 && whole.trailers.is_none(),
            Kind::Flow(reader) => reader.is_end_stream(),
            Kind::Parts(pieces) => pieces.left() == 0,
            Kind::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Backend(body) => body.size_hint(),
            // Trailers need a coding that has them.
            Kind::Kept { whole, .. } if whole.trailers.is_some() => SizeHint::default(),
            Kind::Kept { left, .. } => SizeHint::with_exact(*left),
            Kind::Flow(reader) => reader.size_hint(),
            Kind::Parts(pieces) => SizeHint::with_exact(pieces.left()),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}
