//! Heads of HTTP/1 requests as bytes: whether there is only one way to read them.
//!
//! hyper reads heads too, and reads them well; but some it mends without a word (it drops a Content-Length beside a
//! Transfer-Encoding, takes a line that ends in LF alone, and passes `gzip, chunked` on as if it were `chunked`), and
//! of those that it refuses it does not say why. What passes here is a subset of what hyper takes, so that hyper and
//! whoever stands before us cannot come to different ends of a message.
//!
//! | in a head | hyper 1.12 | here |
//! |---|---|---|
//! | both lengths | the Content-Length is dropped | 400 |
//! | `Transfer-Encoding: gzip, chunked` | taken as chunked | 501 |
//! | `chunked` twice | taken as once | 400 |
//! | LF alone | ends a line | 400 |
//! | Host twice, or none | taken | 400 |
//! | a target with bytes above 0x7f, or with `#` | taken, or cut | 400 |
//! | obs-fold, space before the colon, bare CR, NUL | 400 without a word | 400 |

use memchr::memchr;

use super::refusal::Refusal;
use crate::l7::spec::RequestLimits;

/// The longest target. RFC 9110 §4.1 asks for at least 8,000 bytes.
const MAX_TARGET: usize = 16 << 10;

/// The most bytes of empty lines before a request.
const MAX_EMPTY: usize = 8;

/// What a head says about the bytes behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// So many bytes of body, and no coding.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A whole head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Its length, with the empty line.
    pub(super) length: usize,
    /// What comes behind.
    pub(super) framing: Framing,
    /// Whether it asks for another protocol, so that what comes behind the body may not be HTTP.
    pub(super) upgrade: bool,
}

/// Reads a head at the start of these bytes; `None` where it is not whole yet.
pub(super) fn read(bytes: &[u8], limits: &RequestLimits) -> Result<Option<Head>, Refusal> {
    let mut lines = Lines { rest: bytes, taken: 0 };
    // RFC 9112 §2.2: an empty line before a request is passed over.
    let request = loop {
        match lines.next()? {
            Some([]) if lines.taken <= MAX_EMPTY => {}
            Some(line) => break line,
            None => return unfinished(lines.rest, bytes.len(), limits),
        }
    };
    let version = request_line(request)?;
    let mut seen = Seen::default();
    let mut fields = 0;
    loop {
        let Some(line) = lines.next()? else { return unfinished_field(lines.rest, bytes.len(), limits) };
        if line.is_empty() {
            break;
        }
        fields += 1;
        if fields > limits.fields {
            return Err(Refusal::HeadTooLarge);
        }
        let (name, value) = field(line)?;
        seen.take(name, value)?;
    }
    if lines.taken > limits.head {
        return Err(Refusal::HeadTooLarge);
    }
    let framing = seen.framing(version)?;
    Ok(Some(Head { length: lines.taken, framing, upgrade: seen.upgrade }))
}

/// What is known of a request line that is not whole.
fn unfinished(line: &[u8], length: usize, limits: &RequestLimits) -> Result<Option<Head>, Refusal> {
    // A TLS hello on a cleartext port has no LF for long; its first byte is enough.
    match line.first() {
        Some(byte) if !is_token(*byte) && *byte != b'\r' => return Err(Refusal::BadRequestLine),
        _ => {}
    }
    if line.len() > MAX_TARGET { Err(Refusal::TargetTooLong) } else { bounded(length, limits) }
}

fn unfinished_field(line: &[u8], length: usize, limits: &RequestLimits) -> Result<Option<Head>, Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) { Err(Refusal::ObsFold) } else { bounded(length, limits) }
}

fn bounded(length: usize, limits: &RequestLimits) -> Result<Option<Head>, Refusal> {
    if length > limits.head { Err(Refusal::HeadTooLarge) } else { Ok(None) }
}

/// Lines that end in CR LF, without those.
struct Lines<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Result<Option<&'a [u8]>, Refusal> {
        let Some(end) = memchr(b'\n', self.rest) else { return Ok(None) };
        let (line, rest) = self.rest.split_at_checked(end + 1).unwrap_or_default();
        self.rest = rest;
        self.taken += line.len();
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal::BareLf)?;
        if memchr(b'\r', line).is_some() { Err(Refusal::BareCr) } else { Ok(Some(line)) }
    }
}

/// HTTP/1.0 or HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Minor {
    Zero,
    One,
}

/// RFC 9112 §3: `method SP request-target SP HTTP-version`.
fn request_line(line: &[u8]) -> Result<Minor, Refusal> {
    let (method, line) = word(line)?;
    let (target, version) = word(line)?;
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::BadRequestLine);
    }
    if target.is_empty() || memchr(b' ', version).is_some() {
        return Err(Refusal::BadRequestLine);
    }
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    // RFC 3986 §2: a URI is visible ASCII, and a fragment is never sent (RFC 9110 §7.1).
    let wrong = |byte: u8| u8::from(!(0x21..=0x7e).contains(&byte) || byte == b'#');
    if target.iter().fold(0, |bad, byte| bad | wrong(*byte)) != 0 {
        return Err(Refusal::BadTarget);
    }
    let minor = match version {
        b"HTTP/1.1" => Minor::One,
        b"HTTP/1.0" => Minor::Zero,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Refusal::BadVersion);
        }
        _ => return Err(Refusal::BadRequestLine),
    };
    if matches!(method, b"CONNECT" | b"TRACE") { Err(Refusal::BadMethod) } else { Ok(minor) }
}

/// What is before the first space, and what is behind it.
fn word(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let end = memchr(b' ', line).ok_or(Refusal::BadRequestLine)?;
    let (word, rest) = line.split_at_checked(end).unwrap_or_default();
    Ok((word, rest.get(1..).unwrap_or_default()))
}

/// RFC 9112 §5: a field's name and its value, without the whitespace around that.
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err(Refusal::ObsFold);
    }
    let colon = memchr(b':', line).ok_or(Refusal::BadFieldName)?;
    let (name, value) = line.split_at_checked(colon).unwrap_or_default();
    let value = value.get(1..).unwrap_or_default();
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Refusal::SpaceBeforeColon);
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Err(Refusal::BadFieldName);
    }
    let wrong = |byte: u8| u8::from((byte < 0x20 && byte != b'\t') || byte == 0x7f);
    if value.iter().fold(0, |bad, byte| bad | wrong(*byte)) != 0 {
        return Err(Refusal::BadFieldValue);
    }
    Ok((name, trim(value)))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// RFC 9110 §5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(
                character,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

fn is_token(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// What the fields that decide over a message's end, and its Host, have said so far.
#[derive(Default)]
struct Seen {
    length: Option<u64>,
    coding: Option<Coding>,
    hosts: usize,
    upgrade: bool,
}

/// What Transfer-Encoding says.
#[derive(Clone, Copy)]
enum Coding {
    Chunked,
    Other(Refusal),
}

impl Seen {
    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), Refusal> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.hosts += 1,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.upgrade = true,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Refusal::BadContentLength)?;
                if self.length.is_some_and(|before| before != length) {
                    return Err(Refusal::DifferingLengths);
                }
                self.length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                self.coding = Some(match self.coding {
                    // However they are meant, two lines are one list, which is not `chunked` alone.
                    Some(_) => Coding::Other(Refusal::BadTransferEncoding),
                    None => coding(value),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn framing(&self, version: Minor) -> Result<Framing, Refusal> {
        let framing = match (self.coding, self.length) {
            (Some(_), _) if version == Minor::Zero => return Err(Refusal::CodingInHttp10),
            (Some(_), Some(_)) => return Err(Refusal::BothLengths),
            (Some(Coding::Other(refusal)), None) => return Err(refusal),
            (Some(Coding::Chunked), None) => Framing::Chunked,
            (None, length) => Framing::Length(length.unwrap_or(0)),
        };
        match (self.hosts, version) {
            (0, Minor::One) => Err(Refusal::NoHost),
            (0 | 1, _) => Ok(framing),
            _ => Err(Refusal::DoubledHost),
        }
    }
}

/// RFC 9110 §8.6: digits and nothing else. The bound leaves room for sums.
fn number(value: &[u8]) -> Option<u64> {
    let text =
        std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    text.parse().ok().filter(|length| *length < u64::MAX / 2)
}

/// RFC 9112 §6.1: `chunked`, alone.
fn coding(value: &[u8]) -> Coding {
    let is_chunked = |coding: &[u8]| trim(coding).eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Coding::Chunked;
    }
    let mut codings = value.rsplit(|byte| *byte == b',');
    let last = codings.next().unwrap_or_default();
    if !is_chunked(last) || codings.clone().any(is_chunked) || codings.any(|coding| trim(coding).is_empty()) {
        return Coding::Other(Refusal::BadTransferEncoding);
    }
    Coding::Other(Refusal::UnknownCoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
        super::read(bytes, &RequestLimits::default())
    }

    const WHOLE: &[u8] = b"POST /a?b HTTP/1.1\r\nHost: example.com\r\nContent-Length: 3\r\n\r\nabc";

    #[test]
    fn a_head_is_the_same_however_many_bytes_are_behind_it() {
        let head = read(WHOLE).unwrap().unwrap();
        assert_eq!(head, Head { length: WHOLE.len() - 3, framing: Framing::Length(3), upgrade: false });
        for end in 0..head.length {
            assert_eq!(read(&WHOLE[..end]), Ok(None), "{end}");
        }
        assert_eq!(read(&WHOLE[..head.length]), Ok(Some(head)));
    }

    #[test]
    fn what_cannot_become_a_head_is_refused_before_it_is_whole() {
        assert_eq!(read(b"\x16\x03\x01"), Err(Refusal::BadRequestLine));
        assert_eq!(read(b"GET / HTTP/1.1\r\nHost: a\r\n b"), Err(Refusal::ObsFold));
        assert_eq!(read(&vec![b'a'; MAX_TARGET + 1]), Err(Refusal::TargetTooLong));
        let mut long = b"GET / HTTP/1.1\r\nHost: ".to_vec();
        long.resize(RequestLimits::default().head + 1, b'a');
        assert_eq!(read(&long), Err(Refusal::HeadTooLarge));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = read(&bytes);
        }

        /// Whatever passes here, hyper's own parser takes, with the same end.
        #[test]
        fn what_passes_is_a_head_for_others_too(
            text in "(GET|PUT|G T|,) [ -~]{1,8} HTTP/1\\.[012]\r?\n(([Hh]ost|A-b|C c|Transfer-Encoding|Content-Length)[ :]{0,2}:?[ -~\t\r\\x00\\x{e9}]{0,6}\r?\n){0,4}\r?\n"
        ) {
            if let Ok(Some(head)) = read(text.as_bytes()) {
                let mut fields = [httparse::EMPTY_HEADER; RequestLimits::MOST_FIELDS];
                let mut request = httparse::Request::new(&mut fields);
                let read = request.parse(text.as_bytes());
                proptest::prop_assert_eq!(read, Ok(httparse::Status::Complete(head.length)));
            }
        }
    }
}
