//! The built-in backend: HTTP, HTTPS, a TCP echo and a UDP echo.
//!
//! `GET` of any path says who answers, whom it sees as its client, and what was asked; some paths
//! do more (see `answer`). Over TLS, HTTP/2 and HTTP/1.1 are offered; without it, HTTP/2 has listeners of its own.
//!
//! All of it runs in one thread, or in several that share nothing: each then has a listener of its own at every
//! address (`SO_REUSEPORT`), and the kernel deals connections out.
//!
//! Everything is bounded: connections by number, heads by size, idle HTTP connections by time.

mod answer;
mod certificate;

use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::header::HeaderValue;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::attempt::introduce;
use answer::Backend;
pub use certificate::Certificate;

/// Connections that one server holds at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 32_768;
/// How long an HTTP connection may take for TLS, to send a head, or wait between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// A datagram that asks for the server's name instead of its echo.
pub const WHO: &[u8] = b"who?";

/// What to serve, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Serve {
    /// What the server calls itself.
    pub name: String,
    /// Where to speak HTTP.
    pub http: Vec<SocketAddr>,
    /// Where to speak HTTP/2 without TLS, to clients that know it.
    pub h2c: Vec<SocketAddr>,
    /// Where to speak HTTP over TLS, HTTP/2 where the client offers it.
    pub https: Vec<SocketAddr>,
    /// What to show there; `None` makes a certificate at the start.
    pub certificate: Option<Certificate>,
    /// Where to echo over TCP.
    pub tcp_echo: Vec<SocketAddr>,
    /// Where to echo over UDP.
    pub udp_echo: Vec<SocketAddr>,
    /// How many threads; `None` is one.
    pub threads: Option<NonZeroUsize>,
}

/// Running servers. They end, and their connections with them, when this is dropped.
#[derive(Debug)]
pub struct Serving {
    stop: Vec<oneshot::Sender<()>>,
    threads: Vec<JoinHandle<()>>,
}

impl Serving {
    /// Starts to listen; when this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// An address cannot be bound, or the certificate cannot be read.
    #[expect(clippy::needless_pass_by_value, reason = "it is an order, and carried out once")]
    pub fn start(what: Serve) -> io::Result<Self> {
        let tls = match what.https.as_slice() {
            [] => None,
            at => Some(certificate::acceptor(what.certificate.as_ref(), &what.name, at)?),
        };
        let tls = tls.map(|config| TlsAcceptor::from(Arc::new(config)));
        let name = HeaderValue::try_from(&what.name)
            .map_err(|_| io::Error::other("the backend's name cannot be put into a header"))?;
        let threads = what.threads.map_or(1, NonZeroUsize::get);
        let mut serving = Self { stop: Vec::new(), threads: Vec::new() };
        for number in 0..threads {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let sharing = if threads == 1 { Sharing::Alone } else { Sharing::Port };
            {
                let _inside = runtime.enter();
                spawn_all(&what, number, sharing, &name, tls.as_ref())?;
            }
            let (stop, stopped) = oneshot::channel();
            let thread = thread::Builder::new().name("serve".into()).spawn(move || {
                // Either end of the channel may be the one that goes: both mean stop. Dropping the
                // runtime then drops the listeners and every connection.
                let _ = runtime.block_on(stopped);
            })?;
            serving.stop.push(stop);
            serving.threads.push(thread);
        }
        Ok(serving)
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.clear();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Whether other listeners of this server have the same address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    Alone,
    Port,
}

fn spawn_all(
    what: &Serve,
    thread: usize,
    sharing: Sharing,
    name: &HeaderValue,
    tls: Option<&TlsAcceptor>,
) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    for &at in &what.http {
        let name = name.clone();
        let serve = move |stream, peer| speak_http1(stream, Backend { name: name.clone(), peer });
        tokio::spawn(accept(listen(at, sharing)?, Arc::clone(&room), serve));
    }
    for &at in &what.h2c {
        let name = name.clone();
        let serve = move |stream, peer| speak_http2(stream, Backend { name: name.clone(), peer });
        tokio::spawn(accept(listen(at, sharing)?, Arc::clone(&room), serve));
    }
    for (&at, tls) in what.https.iter().zip(std::iter::repeat(tls).flatten()) {
        let (name, tls) = (name.clone(), tls.clone());
        let serve = move |stream, peer| speak_tls(stream, Backend { name: name.clone(), peer }, tls.clone());
        tokio::spawn(accept(listen(at, sharing)?, Arc::clone(&room), serve));
    }
    for &at in &what.tcp_echo {
        tokio::spawn(accept(listen(at, sharing)?, Arc::clone(&room), |stream, _| echo(stream)));
    }
    // Datagrams of one client may not overtake each other, so they have one thread.
    for &at in what.udp_echo.iter().filter(|_| thread == 0) {
        tokio::spawn(echo_datagrams(bind(at)?, what.name.as_str().into()));
    }
    Ok(())
}

fn because(at: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {at}: {error}"))
}

/// Like `TcpListener::bind`, with a queue long enough for a burst of new connections.
fn listen(at: SocketAddr, sharing: Sharing) -> io::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(sharing == Sharing::Port)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(4096)?;
        TcpListener::from_std(socket.into())
    };
    open().map_err(|error| because(at, &error))
}

fn bind(at: SocketAddr) -> io::Result<UdpSocket> {
    let open = || {
        let socket = StdUdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    };
    open().map_err(|error| because(at, &error))
}

async fn accept<F>(
    listener: TcpListener,
    room: Arc<Semaphore>,
    serve: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let Ok(permit) = Arc::clone(&room).try_acquire_owned() else { continue };
                let _ = stream.set_nodelay(true);
                tokio::spawn(hold(permit, serve(stream, peer)));
            }
            // Out of file descriptors, or the connection is gone already.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

async fn hold(permit: OwnedSemaphorePermit, serve: impl Future<Output = ()>) {
    serve.await;
    drop(permit);
}

async fn speak_tls(stream: TcpStream, backend: Backend, tls: TlsAcceptor) {
    // A client that breaks off is its own affair.
    let Ok(Ok(stream)) = timeout(HEAD_TIMEOUT, tls.accept(stream)).await else { return };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        speak_http2(stream, backend).await;
    } else {
        speak_http1(stream, backend).await;
    }
}

async fn speak_http1(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, backend: Backend) {
    let service = service_fn(|request| backend.clone().answer(request));
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
}

async fn speak_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, backend: Backend) {
    let service = service_fn(|request| backend.clone().answer(request));
    let _ = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn echo(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(length) = stream.read(&mut buffer).await {
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else { break };
        if stream.write_all(bytes).await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
}

async fn echo_datagrams(socket: UdpSocket, name: Arc<str>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // An error here is an ICMP message about an earlier answer: nothing to do.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else { continue };
        let bytes = buffer.get(..length).unwrap_or_default();
        let answer = if bytes == WHO { introduce(&name, peer, "who?").into_bytes() } else { bytes.to_vec() };
        let _ = socket.send_to(&answer, peer).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::attempt::{End, read_introduction};
    use crate::lab::pattern::{self, Digest};
    use std::io::{Read, Write};

    fn serving() -> (Serving, SocketAddr) {
        // The kernel chooses the port for the first listener; all three may share its number.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let echo = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let what = Serve {
            name: "test".into(),
            http: vec![free],
            tcp_echo: vec![echo],
            udp_echo: vec![free],
            ..Serve::default()
        };
        (Serving::start(what).unwrap(), free)
    }

    fn exchange(at: SocketAddr, request: &[u8]) -> Vec<u8> {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    #[test]
    fn a_backend_says_who_it_is_and_whom_it_sees() {
        let (_serving, at) = serving();
        let answer = exchange(at, b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let text = String::from_utf8(answer).unwrap();
        assert!(text.contains("x-backend: test") && text.contains("request: GET /x HTTP/1.1"), "{text}");
    }

    #[test]
    fn a_body_is_counted_and_hashed() {
        let (_serving, at) = serving();
        let answer =
            exchange(at, b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc");
        let mut digest = Digest::default();
        digest.add(b"abc");
        assert!(String::from_utf8(answer).unwrap().contains(&format!("body: {digest}")));
    }

    #[test]
    fn bytes_come_as_many_as_asked_for_and_bad_numbers_are_refused() {
        let (_serving, at) = serving();
        let answer = exchange(at, b"GET /bytes/200000 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let split = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert_eq!(answer.len() - split, 200_000);
        assert!(answer[split..].iter().enumerate().all(|(i, &byte)| byte == pattern::byte_at(i as u64)));
        for bad in ["-1", "x", "99999999999999999999"] {
            let request = format!("GET /bytes/{bad} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            assert!(exchange(at, request.as_bytes()).starts_with(b"HTTP/1.1 400"), "{bad}");
        }
    }

    #[test]
    fn statuses_and_delays_are_those_asked_for() {
        let (_serving, at) = serving();
        let status = |path: &str| {
            let answer = exchange(
                at,
                format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").as_bytes(),
            );
            String::from_utf8(answer).unwrap().split(' ').nth(1).unwrap().to_owned()
        };
        for (path, want) in [
            ("/status/503", "503"),
            ("/status/204", "204"),
            ("/status/101", "400"),
            ("/status/1000", "400"),
            ("/slow/x", "400"),
            ("/slow/60001", "400"),
        ] {
            assert_eq!(status(path), want, "{path}");
        }
        let before = crate::lab::clock::now();
        assert_eq!(status("/slow/50"), "200");
        assert!(before.elapsed() >= Duration::from_millis(50));
    }

    #[test]
    fn a_body_is_echoed_with_its_trailers() {
        let (_serving, at) = serving();
        let answer = exchange(
            at,
            b"POST /echo HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\ntrailer: x-sum\r\n\
              transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-sum: 5\r\n\r\n",
        );
        let text = String::from_utf8(answer).unwrap();
        assert!(text.contains("abc") && text.contains("de\r\n0\r\nx-sum: 5\r\n\r\n"), "{text}");
    }

    #[test]
    fn trailers_come_to_those_who_take_them() {
        let (_serving, at) = serving();
        let answer =
            exchange(at, b"GET /trailers HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: close\r\n\r\n");
        let text = String::from_utf8(answer).unwrap();
        let (_, trailer) =
            text.split_once("x-digest: ").filter(|(before, _)| before.contains("\r\n0\r\n")).expect(&text);
        let body = text
            .lines()
            .filter(|line| line.contains(": "))
            .filter(|line| ["backend: ", "client: ", "request: "].iter().any(|name| line.starts_with(name)));
        let mut digest = Digest::default();
        body.for_each(|line| digest.add(format!("{line}\n").as_bytes()));
        assert_eq!(trailer.trim_end(), digest.to_string(), "{text}");
    }

    #[test]
    fn behind_an_upgrade_bytes_come_back() {
        let (_serving, at) = serving();
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: anything\r\n\r\nhello")
            .unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 101") && answer.ends_with("\r\n\r\nhello"), "{answer}");
    }

    #[test]
    fn several_threads_share_an_address() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let what = Serve { http: vec![free], threads: NonZeroUsize::new(3), ..Serve::default() };
        let _serving = Serving::start(what).unwrap();
        for _ in 0..20 {
            let answer = exchange(free, b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            assert!(answer.starts_with(b"HTTP/1.1 200"));
        }
    }

    #[test]
    fn datagrams_come_back_and_the_name_on_demand() {
        let (_serving, at) = serving();
        let socket = StdUdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut buffer = [0; 100];
        socket.send_to(b"hello", at).unwrap();
        assert_eq!(socket.recv(&mut buffer).unwrap(), 5);
        socket.send_to(WHO, at).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let end = read_introduction(&buffer[..length]);
        let seen = socket.local_addr().unwrap();
        assert_eq!(end, End::Answered { backend: Some("test".into()), seen: Some(seen) });
    }

    #[test]
    fn servers_that_stop_leave_their_port_closed() {
        let (serving, at) = serving();
        drop(serving);
        assert!(std::net::TcpStream::connect(at).is_err());
    }
}
