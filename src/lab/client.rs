//! What the lab's client can try: one HTTP request, one datagram, one ping.
//!
//! Each try is a socket of its own and waits at most [`PATIENCE`]. Errors of the network are not
//! errors here: they are what the story is about, and come back as an [`End`].

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::process;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::attempt::{Attempt, End, Try, read_introduction};
use super::clock;
use super::serve::WHO;

/// How long a try may take before it counts as silence.
pub const PATIENCE: Duration = Duration::from_secs(3);
/// More than any answer of a built-in backend.
const MAX_BODY: usize = 1 << 20;

/// Tries it, and says what came of it.
pub fn attempt(what: Try) -> Attempt {
    let started = clock::now();
    let end = match what {
        Try::Http(target) => http(target),
        Try::Datagram(target) => datagram(target),
        Try::Ping(target) => ping(target, started),
    };
    Attempt::new(started.elapsed(), end.unwrap_or_else(|error| End::of_error(&error)))
}

/// Asks for `/` over a new connection.
fn http(target: SocketAddr) -> io::Result<End> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let get = async { timeout(PATIENCE, get(target)).await };
    runtime.block_on(get).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn get(target: SocketAddr) -> io::Result<End> {
    let stream = TcpStream::connect(target).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(of_hyper)?;
    tokio::spawn(connection);
    let request = Request::get("/")
        .header("host", target.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(of_hyper)?;
    let body = Limited::new(response.into_body(), MAX_BODY).collect().await.map_err(io::Error::other)?;
    Ok(read_introduction(&body.to_bytes()))
}

/// The socket's error inside hyper's, where there is one, since that says what the network did.
fn of_hyper(error: hyper::Error) -> io::Error {
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(code) = inner.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            return io::Error::from_raw_os_error(code);
        }
        source = inner.source();
    }
    io::Error::other(error)
}

/// Asks the UDP echo for its name.
fn datagram(target: SocketAddr) -> io::Result<End> {
    let socket = UdpSocket::bind(SocketAddr::new(unspecified(target.ip()), 0))?;
    // Only a connected socket is told of ICMP errors, and of those about routes only one that asks (`udp(7)`).
    match target {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    socket.connect(target)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(WHO)?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(read_introduction(buffer.get(..length).unwrap_or_default()))
}

/// Sends one ICMP echo request and waits for its reply, over a raw socket: its namespace's root may always open one, where ping sockets depend on
/// `net.ipv4.ping_group_range`.
fn ping(target: IpAddr, started: Instant) -> io::Result<End> {
    let (domain, protocol, request, reply) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SockAddr::from(SocketAddr::new(target, 0)))?;
    let [high, low] = process::id().to_be_bytes().last_chunk().copied().unwrap_or_default();
    let mut message = vec![request, 0, 0, 0, high, low, 0, 1];
    message.extend_from_slice(b"fourseven");
    if target.is_ipv4() {
        // The kernel fills the checksum of ICMPv6 in, and of ICMPv4 not.
        let sum = checksum(&message).to_be_bytes();
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum);
        }
    }
    socket.send(&message)?;
    let mut buffer = [0; 2048];
    loop {
        let left = PATIENCE.checked_sub(started.elapsed()).filter(|left| !left.is_zero());
        socket.set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let length = (&socket).read(&mut buffer)?;
        let packet = buffer.get(..length).unwrap_or_default();
        // Raw IPv4 sockets see the IP header, raw IPv6 sockets do not.
        let header =
            if target.is_ipv4() { packet.first().map_or(0, |first| usize::from(first & 15) * 4) } else { 0 };
        match packet.get(header..) {
            Some([kind, _, _, _, a, b, 0, 1, payload @ ..])
                if *kind == reply && [*a, *b] == [high, low] && payload == b"fourseven" =>
            {
                return Ok(End::ANSWERED);
            }
            _ => {}
        }
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = bytes.chunks(2).fold(0u32, |sum, pair| {
        let word = [pair.first(), pair.get(1)].map(|byte| byte.copied().unwrap_or(0));
        sum.saturating_add(u16::from_be_bytes(word).into())
    });
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_a_message_with_its_checksum_is_zero() {
        let mut message = vec![8, 0, 0, 0, 1, 2, 0, 1, 9];
        let sum = checksum(&message).to_be_bytes();
        message[2..4].copy_from_slice(&sum);
        assert_eq!(checksum(&message), 0);
    }

    #[test]
    fn a_port_where_nothing_listens_refuses_at_once() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        for what in [Try::Http(closed), Try::Datagram(closed)] {
            let attempt = attempt(what);
            assert_eq!(attempt.end, End::Refused);
            assert!(attempt.micros < 1_000_000);
        }
    }
}
