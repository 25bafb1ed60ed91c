//! Kernel TCP to a backend, within a worker's runtime.
//!
//! Reading and writing go straight to the socket. It is shared with its [`UpstreamProbe`], so that
//! whoever keeps it idle can ask how it stands without reading from it, and so that it is closed as soon as
//! nobody reads or writes any more *and* nobody asks.
//!
//! tokio spares a system call where a read gave less than was asked for: with edge-triggered epoll that
//! says that there is no more. Its own stream does so by itself, a shared one does not; so it is done here.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

/// A backend that is silent this long is asked whether it is there …
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// … this often, with so much time between.
const KEEP_ALIVE_TRIES: u32 = 3;
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// A connection to a backend.
#[derive(Debug)]
pub struct UpstreamSocket {
    socket: Arc<TcpStream>,
}

/// Asks how a connection stands. Dropping it closes the connection if that is not in use any more.
#[derive(Clone, Debug)]
pub struct UpstreamProbe {
    socket: Arc<TcpStream>,
}

/// What a look at the next byte of a connection found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek {
    /// Nothing has come.
    Nothing,
    /// There is one.
    Byte,
    /// The other end has closed it.
    End,
    /// It has failed.
    Error,
}

impl UpstreamSocket {
    /// Connects to a backend. Dropping the future gives it up.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn connect(backend: SocketAddr) -> io::Result<Self> {
        let socket = if backend.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // What is written is whole messages, and never waits for more.
        socket.set_nodelay(true)?;
        let keep_alive = TcpKeepalive::new()
            .with_time(KEEP_ALIVE)
            .with_interval(KEEP_ALIVE_INTERVAL)
            .with_retries(KEEP_ALIVE_TRIES);
        SockRef::from(&socket).set_tcp_keepalive(&keep_alive)?;
        Ok(Self { socket: Arc::new(socket.connect(backend).await?) })
    }

    /// What can be asked about it while others read and write.
    pub fn probe(&self) -> UpstreamProbe {
        UpstreamProbe { socket: Arc::clone(&self.socket) }
    }

    /// Writes by `write` as soon as the kernel takes something.
    fn poll_write_by(
        &self,
        context: &mut Context<'_>,
        offered: usize,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(context))?;
            match partly(&self.socket, Interest::WRITABLE, offered, &mut write) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

/// Reads or writes, and notes that the next time would block where less than `wanted` was moved.
fn partly(
    socket: &TcpStream,
    interest: Interest,
    wanted: usize,
    mut act: impl FnMut(&TcpStream) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut moved = None;
    let result = socket.try_io(interest, || {
        let count = act(socket)?;
        moved = Some(count);
        // The end of the stream is no small piece of it: it comes again, and must.
        if 0 < count && count < wanted { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match moved {
        Some(count) => Ok(count),
        None => result.map(|()| 0),
    }
}

impl AsyncRead for UpstreamSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining();
        loop {
            ready!(self.socket.poll_read_ready(context))?;
            match partly(&self.socket, Interest::READABLE, room, |socket| socket.try_read_buf(buffer)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(drop)),
            }
        }
    }
}

impl AsyncWrite for UpstreamSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_by(context, bytes.len(), |socket| socket.try_write(bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let offered = parts.iter().map(|part| part.len()).sum();
        self.poll_write_by(context, offered, |socket| socket.try_write_vectored(parts))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(SockRef::from(&*self.socket).shutdown(std::net::Shutdown::Write))
    }
}

impl UpstreamProbe {
    /// Looks, and takes nothing.
    pub fn peek(&self) -> Peek {
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recv(self.socket.as_raw_fd(), &mut [0], flags) {
            Ok(0) => Peek::End,
            Ok(_) => Peek::Byte,
            Err(Errno::EAGAIN | Errno::EINTR) => Peek::Nothing,
            Err(_) => Peek::Error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::{sleep, timeout};

    async fn pair() -> (UpstreamSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = UpstreamSocket::connect(listener.local_addr().unwrap()).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (near, far)
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(60), test).await.unwrap() });
    }

    async fn becomes(probe: &UpstreamProbe, want: Peek) {
        for _ in 0..1000 {
            if probe.peek() == want {
                return;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("{:?} and not {want:?}", probe.peek());
    }

    #[test]
    fn bytes_go_both_ways_whole_however_they_are_cut() {
        run(async {
            let (near, far) = pair().await;
            let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at ^ at >> 9).to_be_bytes()[3]).collect();
            let (mut near_reads, mut near_writes) = tokio::io::split(near);
            let (mut far_reads, mut far_writes) = far.into_split();
            let down = async {
                far_writes.write_all(&bytes).await.unwrap();
                far_writes.shutdown().await.unwrap();
            };
            let up = async {
                for part in bytes.chunks(70_001) {
                    let (left, right) = part.split_at(part.len() / 3);
                    let written =
                        near_writes.write_vectored(&[IoSlice::new(left), IoSlice::new(right)]).await.unwrap();
                    near_writes.write_all(&part[written..]).await.unwrap();
                }
                near_writes.shutdown().await.unwrap();
            };
            let mut received = (Vec::new(), Vec::new());
            let read = async { near_reads.read_to_end(&mut received.0).await.unwrap() };
            let read_far = async { far_reads.read_to_end(&mut received.1).await.unwrap() };
            futures_util::future::join4(down, up, read, read_far).await;
            assert!(received.0 == bytes && received.1 == bytes);
        });
    }

    #[test]
    fn a_probe_sees_what_the_other_end_did_and_takes_nothing() {
        run(async {
            let (mut near, mut far) = pair().await;
            let probe = near.probe();
            assert_eq!(probe.peek(), Peek::Nothing);
            far.write_all(b"x").await.unwrap();
            becomes(&probe, Peek::Byte).await;
            assert_eq!(near.read_u8().await.unwrap(), b'x');
            assert_eq!(probe.peek(), Peek::Nothing);
            drop(far);
            becomes(&probe, Peek::End).await;

            let (near, far) = pair().await;
            SockRef::from(&far).set_linger(Some(Duration::ZERO)).unwrap();
            drop(far);
            becomes(&near.probe(), Peek::Error).await;
        });
    }

    #[test]
    fn a_port_that_nobody_listens_on_is_an_error() {
        run(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let at = listener.local_addr().unwrap();
            drop(listener);
            let error = UpstreamSocket::connect(at).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}
