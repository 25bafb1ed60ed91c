//! HTTP/1.1, as much of it as a load needs: one request, one answer, checked while it is read.
//!
//! A client library's tasks and channels cost as much as a quick server's whole answer, and a load generator must not
//! measure itself. So heads are read by `httparse`, and bodies are checked where they lie.

use std::io;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::check::{Check, Expect, Fault};
use super::stream::Stream;

/// A head or a chunk's head that is longer than this is not one.
const LONGEST_HEAD: usize = 64 * 1024;
/// Read at a time; of a long body, more.
const PIECE: usize = 4 * 1024;
const LONG_PIECE: usize = 128 * 1024;

/// A connection between two requests.
#[derive(Debug)]
pub(super) struct Http1 {
    stream: Stream,
    buffer: BytesMut,
}

/// What is to become of the connection behind an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    Keep,
    Close,
}

/// How the end of a body is known (RFC 9112 §6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    UntilClosed,
}

struct Head {
    status: u16,
    framing: Framing,
    after: After,
}

impl Http1 {
    pub(super) fn over(stream: Stream) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Sends a request and reads the whole answer; how long its body was.
    pub(super) async fn ask(&mut self, request: &[u8], expect: Expect) -> Result<(u64, After), Fault> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let head = loop {
            let head = self.head().await?;
            // Interim answers (RFC 9110 §15.2) come before the one that counts.
            if head.status >= 200 {
                break head;
            }
        };
        let mut check = expect.answer(head.status)?;
        match head.framing {
            Framing::Length(length) => self.body(length, &mut check).await?,
            Framing::Chunked => self.chunks(&mut check).await?,
            Framing::UntilClosed => loop {
                check.take(&self.buffer)?;
                self.buffer.clear();
                self.buffer.reserve(LONG_PIECE);
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    break;
                }
            },
        }
        if !self.buffer.is_empty() {
            return Err(Fault::Wrong("bytes behind the answer that nobody asked for".into()));
        }
        Ok((check.end()?, head.after))
    }

    async fn more(&mut self, at_least: usize) -> io::Result<()> {
        self.buffer.reserve(at_least);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn head(&mut self) -> Result<Head, Fault> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = read_head(&self.buffer)?
            {
                self.buffer.advance(length);
                return Ok(head);
            }
            if self.buffer.len() > LONGEST_HEAD {
                return Err(Fault::Wrong("a head without an end".into()));
            }
            self.more(PIECE).await?;
        }
    }

    async fn body(&mut self, mut left: u64, check: &mut Check) -> Result<(), Fault> {
        loop {
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            check.take(self.buffer.get(..here).unwrap_or_default())?;
            self.buffer.advance(here);
            left = left.saturating_sub(here as u64);
            if left == 0 {
                return Ok(());
            }
            self.more(if left > PIECE as u64 { LONG_PIECE } else { PIECE }).await?;
        }
    }

    async fn chunks(&mut self, check: &mut Check) -> Result<(), Fault> {
        let wrong = || Fault::Wrong("broken chunks".into());
        loop {
            match httparse::parse_chunk_size(&self.buffer).map_err(|_| wrong())? {
                httparse::Status::Complete((length, 0)) => {
                    self.buffer.advance(length);
                    return self.trailers().await;
                }
                httparse::Status::Complete((length, size)) => {
                    self.buffer.advance(length);
                    self.body(size, check).await?;
                    while self.buffer.len() < 2 {
                        self.more(PIECE).await?;
                    }
                    if !self.buffer.starts_with(b"\r\n") {
                        return Err(wrong());
                    }
                    self.buffer.advance(2);
                }
                httparse::Status::Partial if self.buffer.len() > LONGEST_HEAD => return Err(wrong()),
                httparse::Status::Partial => self.more(LONG_PIECE).await?,
            }
        }
    }

    /// Reads what is behind the last chunk: trailers, and an empty line.
    async fn trailers(&mut self) -> Result<(), Fault> {
        loop {
            let mut headers = [httparse::EMPTY_HEADER; 32];
            match httparse::parse_headers(&self.buffer, &mut headers) {
                Ok(httparse::Status::Complete((length, _))) => {
                    self.buffer.advance(length);
                    return Ok(());
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= LONGEST_HEAD => {
                    self.more(PIECE).await?;
                }
                _ => return Err(Fault::Wrong("broken trailers".into())),
            }
        }
    }
}

/// The head and its length, once it is all there.
fn read_head(bytes: &[u8]) -> Result<Option<(usize, Head)>, Fault> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(Fault::Wrong(format!("no head of HTTP: {error}"))),
    };
    let status = response.code.unwrap_or(0);
    let mut after = if response.version == Some(1) { After::Keep } else { After::Close };
    let mut framing = match status {
        100..=199 | 204 | 304 => Framing::Length(0),
        _ => Framing::UntilClosed,
    };
    for header in response.headers.iter() {
        let is = |value: &[u8]| header.value.eq_ignore_ascii_case(value);
        if header.name.eq_ignore_ascii_case("content-length") {
            let length = std::str::from_utf8(header.value).ok().and_then(|text| text.parse().ok());
            let length = length.ok_or_else(|| Fault::Wrong("a length that is no number".into()))?;
            match framing {
                Framing::UntilClosed => framing = Framing::Length(length),
                // Chunks go before a length, and some statuses have no body (RFC 9112 §6.3).
                Framing::Chunked | Framing::Length(0) => {}
                Framing::Length(_) => return Err(Fault::Wrong("two lengths".into())),
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") && is(b"chunked") {
            framing = Framing::Chunked;
        } else if header.name.eq_ignore_ascii_case("connection") && is(b"close") {
            after = After::Close;
        } else if header.name.eq_ignore_ascii_case("connection") && is(b"keep-alive") {
            after = After::Keep;
        }
    }
    if framing == Framing::UntilClosed {
        after = After::Close;
    }
    Ok(Some((length, Head { status, framing, after })))
}
