//! The built-in backend: HTTP/1.1, a TCP echo and a UDP echo, all in one thread.
//!
//! `GET` of any path says who answers, whom it sees as its client, and what was asked. `GET
//! /bytes/N` gives N bytes of a pattern (see [`pattern`]), and the body of any other request is
//! counted and hashed, so that a test can tell what was lost or changed on the way.
//!
//! Everything is bounded: connections by number, heads by size, idle HTTP connections by time.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::attempt::introduce;
use super::pattern::{self, Digest, Pattern};

/// Connections that one server holds at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 4096;
/// How long an HTTP connection may take to send a head, or wait between two requests.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// A datagram that asks for the server's name instead of its echo.
pub const WHO: &[u8] = b"who?";

/// What to serve, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// What the server calls itself.
    pub name: String,
    /// Where to speak HTTP.
    pub http: Vec<SocketAddr>,
    /// Where to echo over TCP.
    pub tcp_echo: Vec<SocketAddr>,
    /// Where to echo over UDP.
    pub udp_echo: Vec<SocketAddr>,
}

/// Running servers. They end, and their connections with them, when this is dropped.
#[derive(Debug)]
pub struct Serving {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Serving {
    /// Starts to listen; when this returns, clients can connect.
    ///
    /// # Errors
    ///
    /// An address cannot be bound.
    pub fn start(what: Serve) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        {
            let _inside = runtime.enter();
            let name: Arc<str> = what.name.into();
            let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
            for at in what.http {
                let (listener, name) = (listen(at)?, Arc::clone(&name));
                runtime.spawn(accept(listener, Arc::clone(&room), move |stream, peer| {
                    speak_http(stream, peer, Arc::clone(&name))
                }));
            }
            for at in what.tcp_echo {
                runtime.spawn(accept(listen(at)?, Arc::clone(&room), |stream, _| echo(stream)));
            }
            for at in what.udp_echo {
                runtime.spawn(echo_datagrams(bind(at)?, Arc::clone(&name)));
            }
        }
        let thread = thread::Builder::new().name("serve".into()).spawn(move || {
            // Either end of the channel may be the one that goes: both mean stop. Dropping the
            // runtime then drops the listeners and every connection.
            let _ = runtime.block_on(stopped);
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Serves until the process ends.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn because(at: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {at}: {error}"))
}

/// Like `TcpListener::bind`, with a queue long enough for a burst of new connections.
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let open = || {
        let socket = Socket::new(Domain::for_address(at), Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&at.into())?;
        socket.listen(1024)?;
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

async fn speak_http(stream: TcpStream, peer: SocketAddr, name: Arc<str>) {
    let service = service_fn(|request| answer(request, peer, &name));
    // A client that breaks off is its own affair.
    let _ = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

type Body = Either<Full<Bytes>, Pattern>;

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    name: &str,
) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let text = introduce(name, peer, &format!("{} {} {:?}", head.method, head.uri, head.version));
    let response = Response::builder().header("content-type", "text/plain").header("x-backend", name);
    let (status, body) = match (&head.method, head.uri.path().strip_prefix("/bytes/")) {
        (&Method::GET, Some(count)) => match count.parse() {
            Ok(count) if count <= pattern::MAX_LENGTH => (StatusCode::OK, Either::Right(Pattern::new(count))),
            _ => (
                StatusCode::BAD_REQUEST,
                text_body(format!("/bytes/N: N is a number up to {}\n", pattern::MAX_LENGTH)),
            ),
        },
        (&Method::GET, None) => (StatusCode::OK, text_body(text)),
        (&Method::HEAD, _) => (StatusCode::OK, text_body(String::new())),
        _ => match digest(body).await {
            Ok(digest) => (StatusCode::OK, text_body(format!("{text}body: {digest}\n"))),
            Err(_) => (StatusCode::BAD_REQUEST, text_body(text)),
        },
    };
    // Both header values are ours and valid, save a name that the user chose.
    Ok(response.status(status).body(body).unwrap_or_else(|_| {
        Response::new(text_body("the backend's name cannot be put into a header\n".into()))
    }))
}

fn text_body(text: String) -> Body {
    Either::Left(Full::new(text.into()))
}

async fn digest(mut body: Incoming) -> Result<Digest, hyper::Error> {
    let mut digest = Digest::default();
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            digest.add(bytes);
        }
    }
    Ok(digest)
}

async fn echo(mut stream: TcpStream) {
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
    use std::io::{Read, Write};

    fn serving() -> (Serving, SocketAddr) {
        // The kernel chooses the port for the first listener; all three may share its number.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let echo = std::net::TcpListener::bind("127.0.0.2:0").unwrap().local_addr().unwrap();
        let what =
            Serve { name: "test".into(), http: vec![free], tcp_echo: vec![echo], udp_echo: vec![free] };
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
