//! What clients do: kernel sockets, each with a bound on its patience.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use fourseven::lab::pattern::{Digest, byte_at};

/// More than any exchange here may take.
pub const PATIENCE: Duration = Duration::from_secs(10);

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// `length` bytes of the lab's pattern.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(byte_at).collect()
}

/// Sends so many bytes, and holds what the backend says that it got against them.
pub fn upload(to: SocketAddr, length: usize) -> io::Result<()> {
    let body = pattern(length);
    let mut digest = Digest::default();
    digest.add(&body);
    let mut stream = connect(to)?;
    write!(
        stream,
        "POST /upload HTTP/1.1\r\nhost: vip\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    )?;
    stream.write_all(&body)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let got = answer.lines().find_map(|line| line.strip_prefix("body: ")).map(str::to_owned);
    if got == Some(digest.to_string()) { Ok(()) } else { Err(io::Error::other(answer)) }
}

/// Gets so many bytes, and holds them against the pattern by their hash.
pub fn download(from: SocketAddr, length: usize) -> io::Result<()> {
    let mut stream = BufReader::new(connect(from)?);
    write!(stream.get_mut(), "GET /bytes/{length} HTTP/1.1\r\nhost: vip\r\nconnection: close\r\n\r\n")?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut body = Vec::new();
    stream.read_to_end(&mut body)?;
    let (mut got, mut want) = (Digest::default(), Digest::default());
    got.add(&body);
    want.add(&pattern(length));
    if got == want { Ok(()) } else { Err(io::Error::other(format!("{got} instead of {want}"))) }
}

/// A UDP socket that talks to this endpoint alone, and hears errors about that.
pub fn datagrams(to: SocketAddr) -> io::Result<UdpSocket> {
    let any = match to.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends a datagram to an echo, and holds the answer against it.
pub fn exchange(socket: &UdpSocket, datagram: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; 65_536];
    socket.send(datagram)?;
    let length = socket.recv(&mut buffer)?;
    if buffer[..length] == *datagram {
        Ok(())
    } else {
        Err(io::Error::other(format!("{length} bytes came back")))
    }
}
