//! The first bytes of a client: a `ClientHello`, or something else that came to the wrong port.
//!
//! They are read here and handed to rustls, instead of being read by it, so that what is not TLS is told by its first
//! bytes and not by a decoder's complaint. The buffer lives on the stack for the length of a poll: a future that waits for a
//! silent client holds none.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use rustls::server::{Accepted, AcceptedAlert, Acceptor};
use tokio::io::{AsyncRead, ReadBuf};

/// The answer for [`Cause::CleartextHttp`](super::Cause::CleartextHttp).
pub const CLEARTEXT_ANSWER: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 58\r\n\
    Connection: close\r\n\r\nThis is a TLS port, and the request came without: https?\r\n";

/// What came first.
pub(super) enum First {
    /// A whole hello.
    Hello(Box<Accepted>),
    /// A hello that is refused, and the alert that says so.
    Refused(rustls::Error, AcceptedAlert),
    /// An alert: the client gave up before it said anything else.
    Alert(AlertDescription),
    /// HTTP in the clear.
    CleartextHttp,
    /// Nothing that is known; these were the first bytes.
    NotTls(Vec<u8>),
    /// The end, before a byte.
    Nothing,
}

/// Reads until it is clear what comes.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<First> {
    let mut reader = Reader { acceptor: Acceptor::default(), first: Vec::new(), kind: Kind::Open };
    poll_fn(|cx| reader.poll(stream, cx)).await
}

/// What the first bytes can still be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// More than one thing.
    Open,
    Tls,
    Alert(u8),
    Http,
    Neither,
}

struct Reader {
    acceptor: Acceptor,
    /// What came while the kind was open.
    first: Vec<u8>,
    kind: Kind,
}

/// No more than rustls takes in one bite, so that nothing of it is left over.
const BITE: usize = 4096;

impl Reader {
    fn poll<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<First>> {
        loop {
            let mut space = [0; BITE];
            let room = BITE.saturating_sub(self.first.len());
            let mut buffer = ReadBuf::new(space.get_mut(..room).unwrap_or_default());
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buffer))?;
            let come = buffer.filled();
            if come.is_empty() {
                return Poll::Ready(match (self.kind, self.first.is_empty()) {
                    (Kind::Open, true) => Ok(First::Nothing),
                    (Kind::Open, false) => Ok(First::NotTls(std::mem::take(&mut self.first))),
                    _ => Err(io::Error::new(
                        io::ErrorKind::UnexpectedEof,
                        "the connection was closed within the ClientHello",
                    )),
                });
            }
            if let Some(done) = self.take(come)? {
                return Poll::Ready(Ok(done));
            }
        }
    }

    fn take(&mut self, come: &[u8]) -> io::Result<Option<First>> {
        if self.kind != Kind::Open {
            return self.give(come);
        }
        self.first.extend_from_slice(come);
        self.kind = kind(&self.first);
        match self.kind {
            Kind::Open => Ok(None),
            Kind::Alert(number) => Ok(Some(First::Alert(number.into()))),
            Kind::Http => Ok(Some(First::CleartextHttp)),
            Kind::Neither => Ok(Some(First::NotTls(self.first.iter().copied().take(16).collect()))),
            Kind::Tls => {
                let first = std::mem::take(&mut self.first);
                self.give(&first)
            }
        }
    }

    /// Gives bytes to rustls.
    fn give(&mut self, mut come: &[u8]) -> io::Result<Option<First>> {
        while !come.is_empty() {
            if self.acceptor.read_tls(&mut come)? == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    rustls::Error::PeerSentOversizedRecord,
                ));
            }
            match self.acceptor.accept() {
                Ok(None) => {}
                Ok(Some(_)) if !come.is_empty() => {
                    // Cannot be while a bite is small, and must not pass: those bytes would be lost.
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        rustls::Error::PeerSentOversizedRecord,
                    ));
                }
                Ok(Some(accepted)) => return Ok(Some(First::Hello(Box::new(accepted)))),
                Err((error, alert)) => return Ok(Some(First::Refused(error, alert))),
            }
        }
        Ok(None)
    }
}

/// The methods of RFC 9110 §9, PATCH, and how HTTP/2 begins (RFC 9113 §3.4).
const HTTP: [&[u8]; 10] = [
    b"GET ",
    b"HEAD ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"CONNECT ",
    b"OPTIONS ",
    b"TRACE ",
    b"PATCH ",
    b"PRI * HTTP/2.0",
];

/// A record of a handshake begins with 22, and 3 for the version (RFC 8446 §5.1).
fn kind(first: &[u8]) -> Kind {
    match first {
        [] | [22] => Kind::Open,
        [22, 3, ..] => Kind::Tls,
        _ if HTTP.iter().any(|method| first.starts_with(method)) => Kind::Http,
        _ if HTTP.iter().any(|method| method.starts_with(first)) => Kind::Open,
        // So does one with an alert, with 21: a length of two, a level, and a description (§6).
        [21, 3, _, 0, 2, _, number, ..] => Kind::Alert(*number),
        [21] | [21, 3, ..] if first.len() < 7 => Kind::Open,
        _ => Kind::Neither,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell_what_comes() {
        for (name, first, want) in [
            ("nothing yet", &b""[..], Kind::Open),
            ("half of a record's header", &[22], Kind::Open),
            ("a record", &[22, 3, 1], Kind::Tls),
            ("half of an alert", &[21, 3, 1, 0, 2], Kind::Open),
            ("an alert", &[21, 3, 1, 0, 2, 2, 70], Kind::Alert(70)),
            ("an alert that is too long", &[21, 3, 1, 0, 3, 2, 70], Kind::Neither),
            ("half of a method", b"OPT", Kind::Open),
            ("a method", b"OPTIONS * ", Kind::Http),
            ("HTTP/2 in the clear", b"PRI * HTTP/2.0\r\n", Kind::Http),
            ("no method of HTTP", b"EHLO x", Kind::Neither),
            ("a hello of SSL 2", &[0x80, 0x2e, 1], Kind::Neither),
            ("a word that only begins like a method", b"GETX", Kind::Neither),
        ] {
            assert_eq!(kind(first), want, "{name}");
        }
    }

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let text = std::str::from_utf8(CLEARTEXT_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
    }
}
