//! A body that is compressed as it goes by.
//!
//! What an encoder holds back comes out when the body ends, or when it pauses: if the next frame is not there in the turn after
//! the last one, what there is is flushed. So an event that a backend sends is with the client at once, and a body that
//! comes without a pause loses nothing by it. That turn lets the backend's connection, which runs on the same
//! thread, hand over what it has.
//!
//! Windows and levels are chosen so that an encoder takes about one megabyte; how many there may be is bounded by whoever
//! makes them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use compression_codecs::brotli::params::EncoderParams;
use compression_codecs::core::Level;
use compression_codecs::core::util::{PartialBuffer, WriteBuffer};
use compression_codecs::zstd::params::CParameter;
use compression_codecs::{BrotliEncoder, EncodeV2, GzipEncoder, ZstdEncoder};
use http::HeaderMap;
use hyper::body::{Body, Frame};

use super::super::answer::BodyError;
use crate::l7::spec::Coding;

/// How much is given at once, and asked of an encoder at once.
const CHUNK: usize = 16 << 10;

/// How much is taken in one turn; the thread has others to serve.
const TURN: usize = 256 << 10;

/// A body, compressed. `S` is held until it is gone.
pub(in crate::l7::front) struct Compressed<B, S> {
    body: Pin<Box<B>>,
    encoder: Box<dyn EncodeV2>,
    state: State,
    /// What was read and is not encoded yet.
    input: Bytes,
    output: Vec<u8>,
    /// Whether the encoder holds something back.
    holds: Holds,
    trailers: Option<HeaderMap>,
    _place: S,
}

/// How far the body is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Reading,
    /// It has been read, and the encoder has to say its last.
    Finishing,
    /// All has been encoded.
    Done,
}

/// Whether an encoder holds something back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    Something,
    /// And the next frame has been waited for for a turn.
    Long,
    /// It is being told to give that out; it must not be told anything else before it has.
    Flushed,
}

impl<B, S> Compressed<B, S> {
    pub(in crate::l7::front) fn new(body: B, coding: Coding, place: S) -> Self {
        Self {
            body: Box::pin(body),
            encoder: encoder(coding),
            state: State::Reading,
            input: Bytes::new(),
            output: Vec::new(),
            holds: Holds::Nothing,
            trailers: None,
            _place: place,
        }
    }

    /// Lets the encoder write; whether it is done with what it was told.
    fn write(
        &mut self,
        act: impl FnOnce(&mut dyn EncodeV2, &mut PartialBuffer<&[u8]>, &mut WriteBuffer<'_>) -> io::Result<bool>,
    ) -> io::Result<bool> {
        let start = self.output.len();
        self.output.resize(start.saturating_add(CHUNK), 0);
        let mut input = PartialBuffer::new(&self.input[..]);
        let mut output = WriteBuffer::new_initialized(self.output.get_mut(start..).unwrap_or_default());
        let done = act(&mut *self.encoder, &mut input, &mut output);
        let (read, written) = (input.written_len(), output.written_len());
        self.output.truncate(start.saturating_add(written));
        self.input.advance(read);
        // An encoder that neither reads nor writes will not do so when it is asked again.
        match done {
            Ok(false) if read == 0 && written == 0 => Err(io::Error::other("an encoder is stuck")),
            done => done,
        }
    }

    fn chunk(&mut self) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.output).into()))))
    }
}

fn encoder(coding: Coding) -> Box<dyn EncodeV2> {
    match coding {
        Coding::Gzip => Box::new(GzipEncoder::new(Level::Precise(6).into())),
        Coding::Br => {
            let parameters = EncoderParams::default().quality(Level::Precise(4)).window_size(18);
            Box::new(BrotliEncoder::new(parameters))
        }
        // RFC 9659: no client need have a window of more than 8 MiB; this one is 256 KiB.
        Coding::Zstd => Box::new(ZstdEncoder::new_with_params(3, &[CParameter::window_log(18)])),
    }
}

impl<B, S> Body for Compressed<B, S>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BodyError>,
    S: Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let mut taken = 0usize;
        loop {
            if this.output.len() >= CHUNK {
                return this.chunk();
            }
            if this.holds == Holds::Flushed {
                if this.write(|encoder, _, output| encoder.flush(output))? {
                    this.holds = Holds::Nothing;
                }
                continue;
            }
            if !this.input.is_empty() {
                this.holds = Holds::Something;
                this.write(|encoder, input, output| encoder.encode(input, output).map(|()| false))?;
                continue;
            }
            match this.state {
                State::Reading => {}
                State::Finishing => {
                    if this.write(|encoder, _, output| encoder.finish(output))? {
                        this.state = State::Done;
                    }
                    continue;
                }
                State::Done if !this.output.is_empty() => return this.chunk(),
                State::Done => return Poll::Ready(this.trailers.take().map(|all| Ok(Frame::trailers(all)))),
            }
            if taken >= TURN {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            match this.body.as_mut().poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        taken = taken.saturating_add(data.len());
                        this.input = data;
                    }
                    Err(frame) => {
                        this.trailers = frame.into_trailers().ok();
                        this.state = State::Finishing;
                    }
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => this.state = State::Finishing,
                Poll::Pending => match this.holds {
                    Holds::Nothing if this.output.is_empty() => return Poll::Pending,
                    Holds::Nothing => return this.chunk(),
                    Holds::Something => {
                        this.holds = Holds::Long;
                        context.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Holds::Long | Holds::Flushed => this.holds = Holds::Flushed,
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Done && self.output.is_empty() && self.trailers.is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use compression_codecs::{BrotliDecoder, DecodeV2, GzipDecoder, ZstdDecoder};
    use http_body_util::{BodyExt, StreamBody};
    use proptest::prelude::*;
    use tokio::sync::mpsc;

    use super::*;

    fn decoder(coding: Coding) -> Box<dyn DecodeV2> {
        match coding {
            Coding::Gzip => Box::new(GzipDecoder::new()),
            Coding::Br => Box::new(BrotliDecoder::new()),
            Coding::Zstd => Box::new(ZstdDecoder::new()),
        }
    }

    /// All that can be read of these bytes, and whether that is the end.
    fn decoded(decoder: &mut dyn DecodeV2, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut input = PartialBuffer::new(bytes);
        let (mut all, mut end) = (Vec::new(), false);
        loop {
            let mut chunk = [0; 4096];
            let mut output = WriteBuffer::new_initialized(&mut chunk);
            end |= decoder.decode(&mut input, &mut output).unwrap();
            all.extend_from_slice(output.written());
            // With room left, it has said all that it can say so far.
            if end || (input.unwritten().is_empty() && !output.has_no_spare_space()) {
                return (all, end);
            }
        }
    }

    type Frames = mpsc::UnboundedReceiver<Frame<Bytes>>;

    fn body(mut frames: Frames) -> impl Body<Data = Bytes, Error = Infallible> {
        StreamBody::new(futures_util::stream::poll_fn(move |context| {
            frames.poll_recv(context).map(|frame| frame.map(Ok))
        }))
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn each_event_is_with_the_client_before_the_next_one_is_sent() {
        for &coding in Coding::ALL {
            block_on(async {
                let (send, frames) = mpsc::unbounded_channel();
                let mut compressed = Compressed::new(body(frames), coding, ());
                let mut decoder = decoder(coding);
                for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
                    send.send(Frame::data(event.into())).unwrap();
                    let mut got = Vec::new();
                    while got != event.as_bytes() {
                        let frame = compressed.frame().await.unwrap().unwrap().into_data().unwrap();
                        assert!(!frame.is_empty(), "{coding}");
                        got.extend(decoded(&mut *decoder, &frame).0);
                    }
                }
                send.send(Frame::trailers(HeaderMap::from_iter([(http::header::VIA, "x".parse().unwrap())])))
                    .unwrap();
                drop(send);
                let rest = compressed.collect().await.unwrap();
                assert_eq!(rest.trailers().unwrap()["via"], "x", "{coding}");
                assert!(decoded(&mut *decoder, &rest.to_bytes()).1, "{coding}");
            });
        }
    }

    #[test]
    fn a_body_that_breaks_off_does_not_look_whole() {
        for &coding in Coding::ALL {
            block_on(async {
                let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(io::Error::other("gone"))];
                let broken = StreamBody::new(futures_util::stream::iter(frames));
                let error = Compressed::new(broken, coding, ()).collect().await.unwrap_err();
                assert_eq!(error.to_string(), "gone", "{coding}");
            });
        }
    }

    proptest! {
        #[test]
        fn what_is_compressed_is_the_body(
            pieces in proptest::collection::vec((0usize..40_000, any::<u8>(), any::<bool>()), 0..8),
            pauses in proptest::collection::vec(any::<bool>(), 8),
        ) {
            // Pieces that shrink, and pieces that do not.
            let piece = |(length, byte, plain): &(usize, u8, bool)| -> Vec<u8> {
                let mixed = (0..*length).scan(u32::from(*byte) + 1, |state, _| {
                    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    Some(state.to_be_bytes()[0])
                });
                if *plain { vec![*byte; *length] } else { mixed.collect() }
            };
            let pieces: Vec<Vec<u8>> = pieces.iter().map(piece).collect();
            for &coding in Coding::ALL {
                let got = block_on(async {
                    let (send, frames) = mpsc::unbounded_channel();
                    let compressed = Compressed::new(body(frames), coding, ());
                    let sender = async {
                        for (piece, pause) in pieces.iter().zip(&pauses) {
                            send.send(Frame::data(Bytes::from(piece.clone()))).unwrap();
                            if *pause {
                                for _ in 0..3 {
                                    tokio::task::yield_now().await;
                                }
                            }
                        }
                        drop(send);
                    };
                    let ((), collected) = futures_util::future::join(sender, compressed.collect()).await;
                    collected.unwrap().to_bytes()
                });
                let (all, end) = decoded(&mut *decoder(coding), &got);
                prop_assert!(end, "{}", coding);
                prop_assert_eq!(all, pieces.concat(), "{}", coding);
            }
        }
    }
}
