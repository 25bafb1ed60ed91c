//! Bytes that show what happened to them on the way.
//!
//! The pattern repeats after [`PERIOD`] bytes, a prime, so that no power of two, no segment size
//! and no buffer size divides it: a piece that was lost, doubled or moved is in the wrong place.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// After how many bytes the pattern repeats.
pub const PERIOD: usize = 65_521;
/// The longest pattern that is given out: a minute of 10 Gbit/s is more than this, 8 GiB.
pub const MAX_LENGTH: u64 = 8 << 30;

/// Two periods, so that one period from any place in the first is one slice.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| (0..2 * PERIOD as u64).map(byte_at).collect());

/// The byte at a place of the pattern: the top of a multiplicative hash of the place.
pub fn byte_at(place: u64) -> u8 {
    let hash = (place % PERIOD as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let [top, ..] = hash.to_be_bytes();
    top
}

/// Whether these bytes are the pattern's, from that place on.
pub fn is_at(place: u64, bytes: &[u8]) -> bool {
    let mut from = usize::try_from(place % PERIOD as u64).unwrap_or(0);
    // The block is two periods long, so a piece of at most one fits in behind any place of the first.
    bytes.chunks(PERIOD).all(|piece| {
        let same = BLOCK.get(from..from + piece.len()) == Some(piece);
        from = (from + piece.len()) % PERIOD;
        same
    })
}

/// An HTTP body of that many bytes, without copying any.
#[derive(Debug)]
pub struct Pattern {
    sent: u64,
    left: u64,
}

impl Pattern {
    /// A body of `length` bytes.
    pub const fn new(length: u64) -> Self {
        Self { sent: 0, left: length }
    }
}

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let from = usize::try_from(self.sent % PERIOD as u64).unwrap_or(0);
        let length = usize::try_from(self.left).unwrap_or(PERIOD).min(PERIOD);
        self.sent = self.sent.saturating_add(length as u64);
        self.left = self.left.saturating_sub(length as u64);
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(from..from + length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// Length and FNV-1a hash of a stream: enough against accident, useless against malice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    length: u64,
    hash: u64,
}

impl Default for Digest {
    fn default() -> Self {
        Self { length: 0, hash: 0xcbf2_9ce4_8422_2325 }
    }
}

impl Digest {
    /// Takes the next bytes in.
    pub fn add(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(bytes.len() as u64);
        for &byte in bytes {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes, fnv1a {:016x}", self.length, self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        let mut digest = Digest::default();
        digest.add(b"foo");
        digest.add(b"bar");
        assert_eq!(digest.to_string(), "6 bytes, fnv1a 85944171f73967e8");
    }

    #[test]
    fn a_moved_segment_is_seen() {
        let differs = |a: u64, b: u64| (0..1448).filter(|i| byte_at(a + i) != byte_at(b + i)).count();
        assert!(differs(0, 1448) > 1400 && differs(1448, 4 * 1448) > 1400);
    }
}
