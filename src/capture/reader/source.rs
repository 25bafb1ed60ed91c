//! The bytes of a capture: decompressed, a stretch of them at hand, and none believed to be there before it came.
//!
//! A stretch is asked for by length, and the lengths come from the file. So room is made in steps, each as long as what
//! has come already: a file that promises gigabytes and ends gets no more memory than twice what it has.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::read::MultiGzDecoder;

use super::ReadError;

/// Bytes that are read at a time.
const STEP: usize = 256 << 10;

/// The largest window of a zstd frame that is decoded, as a power of 2: what the `zstd` command takes without being told
/// to take more.
const ZSTD_WINDOW: u32 = 27;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The frames of zstd that hold no data begin with any of 16 numbers; `pzstd` writes one in front.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];

/// The first bytes, which have been looked at, and the rest.
type Whole<R> = Chain<Cursor<Vec<u8>>, R>;

enum Input<R: Read> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(Box<zstd::Decoder<'static, BufReader<Whole<R>>>>),
}

impl<R: Read> Read for Input<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(input) => input.read(buffer),
            Self::Zstd(input) => input.read(buffer),
        }
    }
}

/// The bytes, from where the reader is.
pub(super) struct Source<R: Read> {
    input: Input<R>,
    buffer: Vec<u8>,
    /// What is at hand: `start..end` of the buffer.
    start: usize,
    end: usize,
    /// Where `start` is in the file.
    offset: u64,
    /// Why there is no more, where that is not the end.
    failure: Option<io::Error>,
}

impl<R: Read> Source<R> {
    pub fn new(mut input: R) -> Result<Self, ReadError> {
        let failed = |source| ReadError::Input { offset: 0, source };
        let mut first = Vec::with_capacity(4);
        input.by_ref().take(4).read_to_end(&mut first).map_err(failed)?;
        let is_gzip = first.starts_with(&GZIP);
        let is_zstd = first == ZSTD || (first.get(1..) == Some(&ZSTD_SKIPPABLE) && first[0] >> 4 == 5);
        let whole = Cursor::new(first).chain(input);
        let input = if is_gzip {
            Input::Gzip(Box::new(MultiGzDecoder::new(whole)))
        } else if is_zstd {
            let mut decoder = zstd::Decoder::new(whole).map_err(failed)?;
            decoder.window_log_max(ZSTD_WINDOW).map_err(failed)?;
            Input::Zstd(Box::new(decoder))
        } else {
            Input::Plain(whole)
        };
        Ok(Self { input, buffer: vec![0; STEP], start: 0, end: 0, offset: 0, failure: None })
    }

    /// Where the next byte is in the file, once that is decompressed.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// At least `length` bytes, or as many as there are.
    pub fn peek(&mut self, length: usize) -> &[u8] {
        while self.end - self.start < length && self.more() {}
        &self.buffer[self.start..self.end]
    }

    /// Exactly `length` bytes, which are then behind us.
    pub fn take(&mut self, length: usize, what: &'static str) -> Result<&[u8], ReadError> {
        if self.peek(length).len() < length {
            return Err(self.ended(what));
        }
        let from = self.start;
        self.start += length;
        self.offset += length as u64;
        Ok(&self.buffer[from..self.start])
    }

    /// Goes past `length` bytes, however many.
    pub fn skip(&mut self, mut length: u64, what: &'static str) -> Result<(), ReadError> {
        while length > 0 {
            let step = usize::try_from(length).unwrap_or(STEP).min(STEP);
            self.take(step, what)?;
            length -= step as u64;
        }
        Ok(())
    }

    /// Whether there is nothing more. An input that failed has not ended.
    pub fn is_at_end(&mut self) -> Result<bool, ReadError> {
        if !self.peek(1).is_empty() {
            return Ok(false);
        }
        match self.failure.take() {
            None => Ok(true),
            Some(source) => Err(ReadError::Input { offset: self.offset, source }),
        }
    }

    /// Why there are fewer bytes than were needed for `what`.
    pub fn ended(&mut self, what: &'static str) -> ReadError {
        let offset = self.offset + (self.end - self.start) as u64;
        match self.failure.take() {
            Some(source) => ReadError::Input { offset, source },
            None => ReadError::CutOff { offset, what },
        }
    }

    /// Bytes of memory that the stretch takes.
    #[cfg(test)]
    pub fn memory(&self) -> usize {
        self.buffer.capacity()
    }

    /// Reads some more; `false` where there is no more.
    fn more(&mut self) -> bool {
        if self.failure.is_some() {
            return false;
        }
        if self.end == self.buffer.len() {
            if self.start > self.buffer.len() / 2 || self.start == self.end {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            } else {
                let longer = self.buffer.len() * 2;
                self.buffer.resize(longer, 0);
            }
        }
        loop {
            match self.input.read(&mut self.buffer[self.end..]) {
                Ok(0) => return false,
                Ok(read) => {
                    self.end += read;
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.failure = Some(error);
                    return false;
                }
            }
        }
    }
}
