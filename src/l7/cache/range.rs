//! Parts of what is stored (RFC 9110 §14): which bytes a request asks for, and the body that has them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, RANGE};
use hyper::StatusCode;

use super::entry::Whole;

/// More parts than this get the whole: nobody needs them, and they cost more than it (RFC 9110 §14.2 lets a server choose).
const MOST_PARTS: usize = 16;

/// Bytes, from the first to before the last.
pub(super) type Part = std::ops::Range<u64>;

/// What a request's `Range` comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// These, in this order, at least one and none empty.
    Parts(Vec<Part>),
    /// Nothing that is there.
    Unsatisfiable,
}

/// Reads `Range` for a body of this length. What cannot be read is as if it were not there (RFC 9110 §14.2).
pub(super) fn wanted(headers: &HeaderMap, length: u64) -> Wanted {
    let mut lines = headers.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return Wanted::Whole };
    let Some(specs) = line.to_str().ok().and_then(bytes_of) else { return Wanted::Whole };
    let mut parts = Vec::new();
    for (count, spec) in specs.split(',').map(str::trim).filter(|spec| !spec.is_empty()).enumerate() {
        if count >= MOST_PARTS {
            return Wanted::Whole;
        }
        match part(spec, length) {
            None => return Wanted::Whole,
            Some(part) if part.is_empty() => {}
            Some(part) => parts.push(part),
        }
    }
    let sum: u64 = parts.iter().map(|part| part.end - part.start).sum();
    match parts.len() {
        0 if specs.trim().is_empty() => Wanted::Whole,
        0 => Wanted::Unsatisfiable,
        // Parts that overlap to more than the whole are a trick, or as good as one.
        2.. if sum > length => Wanted::Whole,
        _ => Wanted::Parts(parts),
    }
}

fn bytes_of(line: &str) -> Option<&str> {
    let (unit, specs) = line.split_once('=')?;
    unit.trim().eq_ignore_ascii_case("bytes").then_some(specs)
}

/// One `range-spec`: empty where it lies behind the end; `None` where it is none.
fn part(spec: &str, length: u64) -> Option<Part> {
    let number = |digits: &str| {
        let fine = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        // What is too large for a number is behind every end.
        fine.then(|| digits.parse().unwrap_or(u64::MAX))
    };
    let (first, last) = spec.split_once('-')?;
    if first.is_empty() {
        let suffix = number(last)?;
        return Some(length.saturating_sub(suffix)..length);
    }
    let first = number(first)?;
    let end = if last.is_empty() {
        length
    } else {
        let last = number(last)?;
        if last < first {
            return None;
        }
        last.saturating_add(1).min(length)
    };
    Some(if first >= length { length..length } else { first..end })
}

/// A piece of a body.
#[derive(Debug)]
enum Piece {
    Text(Bytes),
    Stored(Part),
}

/// Parts of a stored body, in the order in which they are sent.
#[derive(Debug)]
pub(super) struct Pieces {
    whole: Arc<Whole>,
    queue: VecDeque<Piece>,
    left: u64,
}

impl Pieces {
    /// Writes into a head of 200 that it is about parts, and gives those.
    pub(super) fn new(whole: &Arc<Whole>, parts: Vec<Part>, headers: &mut HeaderMap, boundary: u64) -> Self {
        let length = whole.length;
        let mut pieces = VecDeque::new();
        if let [part] = &parts[..] {
            headers.insert(CONTENT_RANGE, content_range(part, length));
            pieces.push_back(Piece::Stored(part.clone()));
        } else {
            let kind = headers.get(CONTENT_TYPE).cloned();
            for (place, part) in parts.into_iter().enumerate() {
                let mut text = if place == 0 { Vec::new() } else { b"\r\n".to_vec() };
                text.extend_from_slice(format!("--{boundary:016x}\r\n").as_bytes());
                if let Some(kind) = &kind {
                    text.extend_from_slice(b"Content-Type: ");
                    text.extend_from_slice(kind.as_bytes());
                    text.extend_from_slice(b"\r\n");
                }
                text.extend_from_slice(b"Content-Range: ");
                text.extend_from_slice(content_range(&part, length).as_bytes());
                text.extend_from_slice(b"\r\n\r\n");
                pieces.extend([Piece::Text(text.into()), Piece::Stored(part)]);
            }
            pieces.push_back(Piece::Text(format!("\r\n--{boundary:016x}--\r\n").into()));
            let kind = format!("multipart/byteranges; boundary={boundary:016x}");
            headers.insert(CONTENT_TYPE, HeaderValue::try_from(kind).expect("hexadecimal is ASCII"));
            // §15.3.7.2: it stands in the parts.
            headers.remove(CONTENT_RANGE);
        }
        let left = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Stored(part) => part.end - part.start,
        });
        let left = left.sum();
        headers.insert(CONTENT_LENGTH, HeaderValue::from(left));
        Self { whole: Arc::clone(whole), queue: pieces, left }
    }

    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes.
    pub(super) fn next(&mut self) -> Option<Bytes> {
        let bytes = loop {
            match self.queue.pop_front()? {
                Piece::Text(text) => break text,
                Piece::Stored(part) => {
                    let Some(bytes) = slice(&self.whole.chunks, &part) else { continue };
                    let behind = part.start + bytes.len() as u64;
                    if behind < part.end {
                        self.queue.push_front(Piece::Stored(behind..part.end));
                    }
                    break bytes;
                }
            }
        };
        self.left = self.left.saturating_sub(bytes.len() as u64);
        Some(bytes)
    }
}

/// The first bytes of a part: as many as lie in one chunk.
fn slice(chunks: &[Bytes], part: &Part) -> Option<Bytes> {
    let mut start = part.start;
    for chunk in chunks {
        let length = chunk.len() as u64;
        if start < length {
            let end = length.min(start + (part.end - part.start));
            let place = |at: u64| usize::try_from(at).ok();
            return Some(chunk.slice(place(start)?..place(end)?));
        }
        start -= length;
    }
    None
}

fn content_range(part: &Part, length: u64) -> HeaderValue {
    let text = format!("bytes {}-{}/{length}", part.start, part.end.saturating_sub(1));
    HeaderValue::try_from(text).expect("digits are ASCII")
}

/// Makes a head of 200 one of 416 (RFC 9110 §15.5.17).
pub(super) fn unsatisfiable(headers: &mut HeaderMap, length: u64) -> StatusCode {
    let text = format!("bytes */{length}");
    headers.insert(CONTENT_RANGE, HeaderValue::try_from(text).expect("digits are ASCII"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(0));
    headers.remove(CONTENT_TYPE);
    StatusCode::RANGE_NOT_SATISFIABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::reversed_empty_ranges, clippy::single_range_in_vec_init)]
    fn what_is_asked_for_is_what_rfc_9110_says() {
        let parts = |parts: &[Part]| Wanted::Parts(parts.to_vec());
        let cases = [
            ("bytes=0-1", parts(&[0..2])),
            ("bytes=1-", parts(&[1..10])),
            ("bytes=-1", parts(&[9..10])),
            ("bytes=-99", parts(&[0..10])),
            ("bytes=9-99", parts(&[9..10])),
            ("BYTES = 0-0 , 2-2", parts(&[0..1, 2..3])),
            ("bytes=5-6,0-1", parts(&[5..7, 0..2])),
            ("bytes=0-0,10-", parts(&[0..1])),
            ("bytes=10-", Wanted::Unsatisfiable),
            ("bytes=99999999999999999999999-", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=1-0", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes=0-9,0-9", Wanted::Whole),
            ("bytes=0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0,0-0", Wanted::Whole),
        ];
        for (line, want) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, line.parse().unwrap());
            assert_eq!(wanted(&headers, 10), want, "{line}");
        }
    }
}
