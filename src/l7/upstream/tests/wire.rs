//! A connection in memory, and what both of its ends know of it.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};

use crate::l7::connect::{Probe, Standing};

/// What both ends of a connection know of it.
#[derive(Default)]
pub(super) struct Peer {
    /// Bytes that the backend has sent and nobody has read.
    unread: AtomicUsize,
    /// Whether the backend has closed it.
    closed: AtomicBool,
    /// What to say instead of the truth, to those who ask next.
    pub pretend: Mutex<VecDeque<Standing>>,
    /// All that the balancer has sent.
    sent: Mutex<Vec<u8>>,
}

impl Peer {
    /// How often the balancer has sent this.
    pub(super) fn times_sent(&self, text: &str) -> usize {
        let sent = self.sent.lock().unwrap();
        sent.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}

impl Probe for Peer {
    fn standing(&self) -> Standing {
        if let Some(pretended) = self.pretend.lock().unwrap().pop_front() {
            return pretended;
        }
        match (self.unread.load(SeqCst), self.closed.load(SeqCst)) {
            (0, false) => Standing::Quiet,
            (1.., _) => Standing::Unsolicited,
            (0, true) => Standing::Closed,
        }
    }
}

/// Which end of a connection.
#[derive(Clone, Copy, PartialEq)]
enum Side {
    Balancer,
    Backend,
}

/// One end of a connection.
pub(super) struct End {
    stream: DuplexStream,
    pub peer: Arc<Peer>,
    side: Side,
}

impl End {
    /// The head of a request; `None` when the balancer has closed.
    pub(super) async fn head(&mut self) -> Option<String> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.read_u8().await.ok()?);
        }
        Some(String::from_utf8(head).unwrap())
    }

    pub(super) async fn say(&mut self, text: &str) {
        let _ = self.write_all(text.as_bytes()).await;
    }

    /// Answers with this text.
    pub(super) async fn ok(&mut self, text: &str) {
        self.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        if self.side == Side::Backend {
            self.peer.closed.store(true, SeqCst);
        }
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        if self.side == Side::Balancer {
            self.peer.unread.fetch_sub(buffer.filled().len() - before, SeqCst);
        }
        result
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.side == Side::Balancer {
            let result = Pin::new(&mut self.stream).poll_write(context, buffer);
            if let Poll::Ready(Ok(written)) = result {
                self.peer.sent.lock().unwrap().extend_from_slice(&buffer[..written]);
            }
            return result;
        }
        // Counted before they can be read, on whatever thread.
        self.peer.unread.fetch_add(buffer.len(), SeqCst);
        let result = Pin::new(&mut self.stream).poll_write(context, buffer);
        let written = if let Poll::Ready(Ok(written)) = result { written } else { 0 };
        self.peer.unread.fetch_sub(buffer.len() - written, SeqCst);
        result
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.side == Side::Backend {
            self.peer.closed.store(true, SeqCst);
        }
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Two ends: the balancer's, the backend's.
pub(super) fn connection() -> (End, End) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let peer = Arc::new(Peer::default());
    let near = End { stream: near, peer: Arc::clone(&peer), side: Side::Balancer };
    (near, End { stream: far, peer, side: Side::Backend })
}
