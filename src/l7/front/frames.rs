//! An HTTP/2 connection's bytes, with an eye on what frames they are: a client that sends little but frames which cost it
//! nothing is ended.
//!
//! h2 bounds what it *holds*: header blocks, streams that were reset before they were looked at, data without content. What
//! it does not bound is how often it is made to *work*: a PING or SETTINGS frame of 17 bytes has an answer, a stream that is
//! opened and reset has a request sent to a backend and taken back. So frames are counted here against a credit, which time
//! and useful work earn:
//!
//! | frame | costs | | earns |
//! |---|---|---|---|
//! | HEADERS, DATA with content | – | a second | [`A_SECOND`] |
//! | `RST_STREAM` | [`RESET`] | an answer's head | [`RESET`], so that who resets answered streams pays nothing |
//! | all others | 1 | DATA, either way | 1 for each [`BYTES`], and 2 a frame on the way out, which the client must make room for again |
//!
//! The credit begins full. No client has been seen to need a tenth of it: a download makes two `WINDOW_UPDATE`s for each
//! 16 KB, and an estimate of bandwidth one PING a round trip that had data in it.
//!
//! Frames are walked, not read: nine bytes of each are looked at, and what is behind them is passed over. What h2 finds
//! wrong with them is its own business.
//!
//! Where the credit is overdrawn, the client is told by a GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 §7) and the word, if what h2
//! was writing has come to the end of a frame, and nothing more is read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::cut::Cut;
use super::life::Life;

/// The most credit there is, which is what a connection begins with.
const MOST: u64 = 2_000;

/// What a second earns.
const A_SECOND: u64 = 200;

/// What a reset costs.
const RESET: u64 = 4;

/// As many bytes of content as earn one.
const BYTES: u64 = 512;

/// RFC 9113 §4.1.
const HEAD: usize = 9;

/// RFC 9113 §6.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const PRIORITY: u8 = 2;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const WINDOW_UPDATE: u8 = 8;
    pub(super) const CONTINUATION: u8 = 9;
}

/// `END_STREAM` and `PADDED`.
const END_STREAM: u8 = 1;
const PADDED: u8 = 8;

/// The longest padding, and the byte that says how long it is.
const PADDING: u32 = 256;

/// A GOAWAY of no stream in particular, with `ENHANCE_YOUR_CALM`; its length and its words are not there yet.
const CALM: [u8; 17] = [0, 0, 0, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// A watched connection.
pub(super) struct Frames<S> {
    stream: S,
    life: Rc<Life>,
    /// What the client's frames begin with, less what has come of it.
    preface: usize,
    coming: Walk,
    going: Walk,
    credit: u64,
    /// Since when time has not been paid for.
    paid: Instant,
    /// Set once it is ended: what is still to be said.
    farewell: Option<Vec<u8>>,
}

/// A head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    length: u32,
    kind: u8,
    flags: u8,
}

/// Where in its frames a stream of bytes is.
#[derive(Debug, Default)]
struct Walk {
    /// What has come of a head.
    head: [u8; HEAD],
    seen: usize,
    /// What is still to come of a content.
    content: u32,
}

impl Walk {
    /// Walks over these bytes, and shows each head that gets whole.
    fn over(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head)) {
        while !bytes.is_empty() {
            if self.content > 0 {
                let passed = bytes.len().min(usize::try_from(self.content).unwrap_or(usize::MAX));
                bytes = bytes.get(passed..).unwrap_or_default();
                self.content = self.content.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
                continue;
            }
            let Some((first, rest)) = bytes.split_first() else { return };
            if let Some(place) = self.head.get_mut(self.seen) {
                *place = *first;
            }
            (self.seen, bytes) = (self.seen + 1, rest);
            if self.seen == HEAD {
                let [a, b, c, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, a, b, c]);
                (self.seen, self.content) = (0, length);
                each(Head { length, kind, flags });
            }
        }
    }

    /// Whether it is between two frames.
    fn is_between(&self) -> bool {
        self.seen == 0 && self.content == 0
    }
}

impl Head {
    /// What a client's frame costs, and what to call too many of them.
    fn price(self) -> Option<(u64, Cut)> {
        Some(match self.kind {
            kind::HEADERS => return None,
            kind::DATA if self.flags & END_STREAM != 0 => return None,
            kind::DATA if self.length > 0 && self.flags & PADDED == 0 => return None,
            kind::DATA if self.length > PADDING => return None,
            kind::DATA => (1, Cut::EmptyFlood),
            kind::PRIORITY => (1, Cut::PriorityFlood),
            kind::RST_STREAM => (RESET, Cut::ResetFlood),
            kind::SETTINGS => (1, Cut::SettingsFlood),
            kind::PING => (1, Cut::PingFlood),
            kind::WINDOW_UPDATE => (1, Cut::WindowFlood),
            kind::CONTINUATION => (1, Cut::ContinuationFlood),
            _ => (1, Cut::UnknownFlood),
        })
    }

    /// What a frame to the client earns.
    fn worth(self) -> u64 {
        match self.kind {
            kind::HEADERS => RESET,
            kind::DATA => 2 + u64::from(self.length) / BYTES,
            _ => 0,
        }
    }
}

impl<S> Frames<S> {
    /// Watches a connection that begins with a client's preface of this length.
    pub(super) fn new(stream: S, life: Rc<Life>, preface: usize) -> Self {
        Self {
            stream,
            life,
            preface,
            coming: Walk::default(),
            going: Walk::default(),
            credit: MOST,
            paid: Instant::now(),
            farewell: None,
        }
    }

    fn earn(credit: u64, more: u64) -> u64 {
        credit.saturating_add(more).min(MOST)
    }

    /// Takes note of what has come. An error where that is more than is borne.
    fn came(&mut self, mut bytes: &[u8]) -> Result<(), Cut> {
        let of_preface = self.preface.min(bytes.len());
        self.preface -= of_preface;
        bytes = bytes.get(of_preface..).unwrap_or_default();
        let mut overdrawn = None;
        let mut credit = self.credit;
        let paid = &mut self.paid;
        self.coming.over(bytes, |head| match head.price() {
            None => credit = Self::earn(credit, u64::from(head.length) / BYTES),
            Some((price, cut)) => {
                if credit < price {
                    let now = Instant::now();
                    let past = now.saturating_duration_since(*paid).as_millis();
                    let earned = u64::try_from(past).unwrap_or(u64::MAX).saturating_mul(A_SECOND) / 1000;
                    if earned > 0 {
                        *paid = now;
                        credit = Self::earn(credit, earned);
                    }
                }
                match credit.checked_sub(price) {
                    Some(left) => credit = left,
                    None => overdrawn = overdrawn.or(Some(cut)),
                }
            }
        });
        self.credit = credit;
        overdrawn.map_or(Ok(()), Err)
    }

    fn went(&mut self, bytes: &[u8]) {
        let mut earned = 0u64;
        self.going.over(bytes, |head| earned = earned.saturating_add(head.worth()));
        self.credit = Self::earn(self.credit, earned);
    }

    /// Ends the connection.
    fn end(&mut self, cut: Cut) {
        self.life.cut.set(Some(cut));
        let mut farewell = Vec::new();
        if self.going.is_between() {
            farewell.extend_from_slice(&CALM);
            farewell.extend_from_slice(cut.word().as_bytes());
            let length = u8::try_from(farewell.len().saturating_sub(HEAD)).unwrap_or(u8::MAX);
            if let Some(place) = farewell.get_mut(2) {
                *place = length;
            }
        }
        self.farewell = Some(farewell);
    }
}

impl<S: AsyncWrite + Unpin> Frames<S> {
    /// Says what there is to say at the end, as far as that can be said at once.
    fn part(&mut self, context: &mut Context<'_>) -> io::Error {
        if let Some(farewell) = self.farewell.as_mut().map(std::mem::take).filter(|text| !text.is_empty()) {
            // What does not go out now does not matter: the client has been heard enough.
            if Pin::new(&mut self.stream).poll_write(context, &farewell).is_ready() {
                let _ = Pin::new(&mut self.stream).poll_flush(context);
            }
        }
        io::ErrorKind::ConnectionAborted.into()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Frames<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let frames = self.get_mut();
        if frames.farewell.is_some() {
            return Poll::Ready(Err(frames.part(context)));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut frames.stream).poll_read(context, buffer);
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !came.is_empty()
            && let Err(cut) = frames.came(came)
        {
            frames.end(cut);
            return Poll::Ready(Err(frames.part(context)));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let frames = self.get_mut();
        let wrote = Pin::new(&mut frames.stream).poll_write(context, buffer);
        if let Poll::Ready(Ok(length)) = wrote {
            frames.went(buffer.get(..length).unwrap_or_default());
        }
        wrote
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let frames = self.get_mut();
        let wrote = Pin::new(&mut frames.stream).poll_write_vectored(context, buffers);
        if let Poll::Ready(Ok(mut length)) = wrote {
            for buffer in buffers {
                let part = length.min(buffer.len());
                frames.went(buffer.get(..part).unwrap_or_default());
                length -= part;
            }
        }
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::l7::front::tests::run;

    fn frame(length: u32, kind: u8, flags: u8) -> Vec<u8> {
        let mut bytes = length.to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.resize(HEAD + length as usize, 7);
        bytes
    }

    proptest::proptest! {
        #[test]
        fn heads_are_found_however_the_bytes_come(
            frames in proptest::collection::vec((0u32..300, 0u8..12, proptest::num::u8::ANY), 0..20),
            cuts in proptest::collection::vec(1usize..40, 1..50),
        ) {
            let bytes: Vec<u8> = frames.iter().flat_map(|(length, kind, flags)| frame(*length, *kind, *flags)).collect();
            let (mut walk, mut seen, mut rest) = (Walk::default(), Vec::new(), &bytes[..]);
            for cut in cuts.into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at(cut.min(rest.len()));
                walk.over(part, |head| seen.push((head.length, head.kind, head.flags)));
                rest = behind;
            }
            proptest::prop_assert_eq!(seen, frames);
            proptest::prop_assert!(walk.is_between());
        }
    }

    #[test]
    fn credit_is_what_time_and_content_have_earned() {
        run(credit());
    }

    async fn credit() {
        let many = |number: u64| usize::try_from(number).unwrap();
        let bytes = u32::try_from(BYTES).unwrap();
        let new = || Frames::new(tokio::io::empty(), Life::new(), 24);
        let ping = frame(8, kind::PING, 0);
        let (mut frames, pings) = (new(), ping.repeat(many(MOST)));
        assert_eq!(frames.came(&[0; 24]), Ok(()));
        assert_eq!(frames.came(&pings), Ok(()));
        assert_eq!(frames.came(&ping), Err(Cut::PingFlood));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(frames.came(&ping.repeat(many(A_SECOND))), Ok(()));
        assert_eq!(frames.came(&ping), Err(Cut::PingFlood));
        frames.went(&frame(10 * bytes, kind::DATA, 0));
        assert_eq!(frames.came(&ping.repeat(12)), Ok(()));
        assert_eq!(frames.came(&frame(10 * bytes, kind::DATA, 0)), Ok(()));
        assert_eq!(frames.came(&ping.repeat(10)), Ok(()));
        assert_eq!(frames.came(&frame(0, kind::SETTINGS, 0)), Err(Cut::SettingsFlood));
        frames.went(&frame(30, kind::HEADERS, 4));
        assert_eq!(frames.came(&frame(4, kind::RST_STREAM, 0)), Ok(()));
        assert_eq!(frames.came(&frame(4, kind::RST_STREAM, 0)), Err(Cut::ResetFlood));
        // Answers to frames of ours, and requests, are no work.
        frames.went(&frame(8, kind::PING, 1));
        assert_eq!(frames.came(&frame(8, kind::HEADERS, 5)), Ok(()));
        assert_eq!(frames.came(&frame(0, kind::DATA, END_STREAM)), Ok(()));
        assert_eq!(frames.came(&frame(0, kind::DATA, 0)), Err(Cut::EmptyFlood));
    }

    #[test]
    fn a_download_that_is_acknowledged_in_small_pieces_costs_nothing() {
        run(async {
            let mut frames = Frames::new(tokio::io::empty(), Life::new(), 0);
            for _ in 0..10_000 {
                frames.went(&frame(100, kind::DATA, 0));
                assert_eq!(frames.came(&frame(4, kind::WINDOW_UPDATE, 0).repeat(2)), Ok(()));
            }
        });
    }
}
