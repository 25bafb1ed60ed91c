//! A connection as a stream of bytes.
//!
//! Reading and writing copy once: between the caller's buffer and the rings of the stack. There
//! is no buffer in between, so a reader that stops closes the client's window, and a writer
//! that is faster than the client waits. What is written leaves at the end of the worker's
//! turn, however many writes it took.
//!
//! | the stream is | the client sees |
//! |---|---|
//! | shut down (`AsyncWriteExt::shutdown`) | FIN behind the last byte; it may go on sending |
//! | shut down, then dropped | the same; what it still sends is taken and thrown away |
//! | dropped | a reset: the stream was not ended, and must not look as if it was |
//!
//! A client's FIN is the end of reading and leaves writing as it was. A client's reset is
//! `ConnectionReset`, behind the bytes that had come before it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use smoltcp::socket::tcp::RecvError;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stack::flow::{End, Engine, Flow, Seating};
use crate::packet::Endpoint;

/// A connection that a client has opened. Lives on the thread of its stack.
pub struct FlowStream {
    flow: Rc<Flow>,
}

impl FlowStream {
    pub(super) fn new(flow: Rc<Flow>) -> Self {
        Self { flow }
    }

    /// The client's end.
    pub fn client(&self) -> Endpoint {
        self.flow.tuple.source
    }

    /// The end that the client opened it to.
    pub fn vip(&self) -> Endpoint {
        self.flow.tuple.destination
    }

    /// Copies as much of the buffers as there is room for.
    fn write(&self, context: &Context<'_>, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut state = self.flow.state.borrow_mut();
        let state = &mut *state;
        if state.shut {
            return Poll::Ready(Err(state.write_end()));
        }
        let socket = match self.flow.seated(state).map(Engine::socket) {
            Some(socket) if socket.may_send() => socket,
            _ => return Poll::Ready(Err(state.write_end())),
        };
        let mut written = 0;
        for buffer in buffers {
            match socket.send_slice(buffer) {
                Ok(bytes) => written += bytes,
                Err(_) => break,
            }
        }
        if written > 0 || buffers.iter().all(|buffer| buffer.is_empty()) {
            self.flow.touch();
            return Poll::Ready(Ok(written));
        }
        socket.register_send_waker(context.waker());
        Poll::Pending
    }
}

impl AsyncRead for FlowStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.flow.state.borrow_mut();
        let state = &mut *state;
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let socket = match &mut state.seating {
            Seating::Seated(engine) => engine.socket(),
            Seating::Parked(reader) => {
                *reader = Some(context.waker().clone());
                return Poll::Pending;
            }
            Seating::Over => return Poll::Ready(state.read_end()),
        };
        let before = buffer.filled().len();
        // What waits is in two parts where the ring wraps.
        let mut last = Ok(0);
        for _ in 0..2 {
            last = socket.recv(|part| {
                let length = part.len().min(buffer.remaining());
                buffer.put_slice(part.get(..length).unwrap_or_default());
                (length, length)
            });
            if !matches!(last, Ok(1..)) {
                break;
            }
        }
        if buffer.filled().len() > before {
            // RFC 9293 §3.8.6.2.2: a window is not reopened by crumbs.
            let free = socket.recv_capacity().saturating_sub(socket.recv_queue());
            if free >= usize::from(state.wire.mss).min(socket.recv_capacity() / 2) {
                self.flow.touch();
            }
            return Poll::Ready(Ok(()));
        }
        match last {
            Ok(_) => {
                socket.register_recv_waker(context.waker());
                Poll::Pending
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            // Closed, and about to be cleared away: how it ended is known already.
            Err(RecvError::InvalidState) => Poll::Ready(state.read_end()),
        }
    }
}

impl AsyncWrite for FlowStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.write(context, &[IoSlice::new(buffer)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.write(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What was written leaves at the end of the worker's turn anyway.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Sends FIN behind what was written. Like a kernel's, it does not wait for the client.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.flow.state.borrow_mut();
        let state = &mut *state;
        if state.shut {
            return Poll::Ready(Ok(()));
        }
        if let Some(end) = state.end.filter(|end| *end != End::Closed) {
            return Poll::Ready(Err(end.error()));
        }
        state.shut = true;
        let seated = self.flow.seated(state).is_some();
        if seated {
            state.close();
        }
        self.flow.touch();
        Poll::Ready(Ok(()))
    }
}

impl Drop for FlowStream {
    fn drop(&mut self) {
        self.flow.let_go();
    }
}

impl fmt::Debug for FlowStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FlowStream({})", self.flow.tuple)
    }
}
