//! Where a chunked body ends (RFC 9112 §7.1), without looking at what is in it.
//!
//! Only what can be read in one way is passed: sizes of at most fifteen hex digits, lines that end in CR LF, chunk
//! extensions and trailers without control characters, all within a bound. Chunk data are stepped over.

use super::head;

/// The most bytes of chunk extensions in a body; hyper's own bound is the same.
const MAX_EXTENSIONS: u32 = 16 << 10;

/// The most bytes of trailers. hyper's own bound is hardly more, and where that is passed it ends the connection without a word.
const MAX_TRAILERS: usize = 15 << 10;

/// The place in a chunked body.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    extensions: u32,
    /// The trailer line that is being read.
    line: Vec<u8>,
    trailers: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// All of them are the body's, and there is more of it.
    More,
    /// So many of them are the body's, and with those it ends.
    Ended(usize),
    /// So many of them are the body's; what comes then is not.
    Broken(usize),
}

impl Chunks {
    /// Steps over these bytes, which follow those of the last call.
    pub(super) fn step(&mut self, bytes: &[u8]) -> Step {
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.at == At::Data {
                let there = bytes.len() - at;
                let taken = usize::try_from(self.size).unwrap_or(usize::MAX).min(there);
                self.size -= taken as u64;
                at += taken;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            match self.byte(*byte) {
                Ok(false) => at += 1,
                Ok(true) => return Step::Ended(at + 1),
                Err(Broken) => return Step::Broken(at),
            }
        }
        Step::More
    }

    /// Takes a byte that is not data; whether the body ends with it.
    fn byte(&mut self, byte: u8) -> Result<bool, Broken> {
        self.at = match (self.at, byte) {
            (At::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if self.digits < 15 => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.size = self.size << 4 | u64::from(digit);
                self.digits += 1;
                At::Size
            }
            (At::Size, b';' | b' ' | b'\t') if self.digits > 0 => At::Extension,
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, b'\t' | b' '..=b'~' | 0x80..) if self.extensions < MAX_EXTENSIONS => {
                self.extensions += 1;
                At::Extension
            }
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Trailer, b'\n') => {
                let line = self.line.strip_suffix(b"\r").ok_or(Broken)?;
                if line.is_empty() {
                    return Ok(true);
                }
                if line.contains(&b'\r') || !may_trail(head::field(line).map_err(|_| Broken)?.0) {
                    return Err(Broken);
                }
                self.line.clear();
                At::Trailer
            }
            (At::Trailer, _) if self.trailers < MAX_TRAILERS => {
                self.trailers += 1;
                self.line.push(byte);
                At::Trailer
            }
            _ => return Err(Broken),
        };
        Ok(false)
    }
}

/// RFC 9110 §6.5.1: what frames or routes a message must not come behind it.
fn may_trail(name: &[u8]) -> bool {
    const NEVER: [&str; 9] = [
        "content-length",
        "transfer-encoding",
        "host",
        "connection",
        "te",
        "trailer",
        "upgrade",
        "content-encoding",
        "authorization",
    ];
    !NEVER.iter().any(|never| name.eq_ignore_ascii_case(never.as_bytes()))
}

struct Broken;

#[cfg(test)]
mod tests {
    use super::*;

    fn one_by_one(bytes: &[u8]) -> Step {
        let mut chunks = Chunks::default();
        for (at, byte) in bytes.iter().enumerate() {
            match chunks.step(&[*byte]) {
                Step::More => {}
                Step::Ended(more) => return Step::Ended(at + more),
                Step::Broken(more) => return Step::Broken(at + more),
            }
        }
        Step::More
    }

    #[test]
    fn a_body_ends_where_it_ends_whole_and_byte_by_byte() {
        let cases: [(&str, &str, Step); 13] = [
            ("one chunk", "3\r\nabc\r\n0\r\n\r\nGET", Step::Ended(13)),
            ("upper and lower", "a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", Step::Ended(35)),
            ("extension", "3;a=b\r\nabc\r\n0;c\r\n\r\n", Step::Ended(19)),
            ("trailer", "0\r\nA: b\r\n\r\n", Step::Ended(11)),
            ("not whole", "3\r\nab", Step::More),
            ("no digit", "\r\n", Step::Broken(0)),
            ("LF alone behind the size", "3\nabc", Step::Broken(1)),
            ("LF in an extension", "3;a\nabc", Step::Broken(3)),
            ("sixteen digits", "0000000000000003\r\n", Step::Broken(15)),
            ("sign", "+3\r\n", Step::Broken(0)),
            ("hex prefix", "0x3\r\n", Step::Broken(1)),
            ("longer than it said", "3\r\nabcd\r\n", Step::Broken(6)),
            ("trailer that frames", "0\r\nContent-Length: 5\r\n\r\n", Step::Broken(21)),
        ];
        for (name, bytes, wanted) in cases {
            assert_eq!(Chunks::default().step(bytes.as_bytes()), wanted, "{name}");
            assert_eq!(one_by_one(bytes.as_bytes()), wanted, "{name}, byte by byte");
        }
    }
}
