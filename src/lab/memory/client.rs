//! The client in memory: one try at a time, on a stack of its own.
//!
//! Smoltcp keeps ICMP errors from its sockets, where a kernel tells them at once. So the client
//! looks at what arrives first, and ends its try the way a kernel would have.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, State};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;

use super::icmp;
use super::stack::Stack;
use crate::datapath::Instant;
use crate::lab::attempt::{End, Try, read_introduction};
use crate::lab::serve::WHO;
use crate::lab::topology::Topology;
use crate::packet::quote::Quote;
use crate::packet::{Family, Transport, View};

/// The first port of the range that RFC 6335 §6 leaves to clients.
const FIRST_PORT: u16 = 49_152;

#[derive(Debug)]
pub(super) struct Client {
    stack: Stack,
    addresses: [IpAddr; 2],
    port: u16,
    doing: Doing,
    /// What an ICMP message has said about the try.
    told: Option<End>,
    /// Sockets of earlier tries whose connections are not quite over.
    ending: Vec<SocketHandle>,
}

#[derive(Debug)]
enum Doing {
    Nothing,
    Http { socket: SocketHandle, target: SocketAddr, asked: bool, answer: Vec<u8> },
    Datagram(SocketHandle),
    Ping(IpAddr),
}

impl Client {
    pub(super) fn new(topology: Topology) -> Self {
        let families = [Family::V4, Family::V6];
        let addresses = families.map(|family| topology.client(family));
        let stack = Stack::new(addresses, families.map(|family| topology.client_router(family)), 0);
        Self { stack, addresses, port: FIRST_PORT, doing: Doing::Nothing, told: None, ending: Vec::new() }
    }

    /// Starts a try.
    pub(super) fn begin(&mut self, what: Try) {
        self.told = None;
        self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        self.doing = match what {
            Try::Http(target) => {
                let mut socket = Stack::tcp_socket();
                let remote: IpEndpoint = target.into();
                if let Err(error) = socket.connect(self.stack.interface.context(), remote, self.port) {
                    self.told = Some(End::Broken { why: error.to_string() });
                }
                let socket = self.stack.sockets.add(socket);
                Doing::Http { socket, target, asked: false, answer: Vec::new() }
            }
            Try::Datagram(target) => {
                let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 4], vec![0; 4096]);
                let mut socket = udp::Socket::new(buffer(), buffer());
                // The port is free, and the buffer empty.
                let _ = socket.bind(self.port);
                let _ = socket.send_slice(WHO, IpEndpoint::from(target));
                Doing::Datagram(self.stack.sockets.add(socket))
            }
            Try::Ping(target) => {
                let source = self.addresses.iter().find(|address| address.is_ipv4() == target.is_ipv4());
                match source.and_then(|&source| icmp::echo_request(source, target, self.port)) {
                    Some(packet) => self.stack.inject(packet),
                    None => self.told = Some(End::Broken { why: "no address of this family".into() }),
                }
                Doing::Ping(target)
            }
        };
    }

    /// What came of the try, once that is known.
    pub(super) fn end(&mut self) -> Option<End> {
        if let Some(end) = self.told.take() {
            return Some(end);
        }
        match &mut self.doing {
            Doing::Http { socket, target, asked, answer } => {
                http(self.stack.sockets.get_mut(*socket), *target, asked, answer)
            }
            Doing::Datagram(socket) => {
                let socket = self.stack.sockets.get_mut::<udp::Socket<'_>>(*socket);
                socket.recv().ok().map(|(bytes, _)| read_introduction(bytes))
            }
            Doing::Ping(_) | Doing::Nothing => None,
        }
    }

    /// Lets go of the try. A connection that is still open is closed properly.
    pub(super) fn forget(&mut self) {
        match std::mem::replace(&mut self.doing, Doing::Nothing) {
            Doing::Http { socket, .. } => {
                self.stack.sockets.get_mut::<tcp::Socket<'_>>(socket).close();
                self.ending.push(socket);
            }
            Doing::Datagram(socket) => drop(self.stack.sockets.remove(socket)),
            Doing::Ping(_) | Doing::Nothing => {}
        }
    }

    pub(super) fn receive(&mut self, packet: &[u8]) {
        if let Ok(view) = View::of(packet)
            && let Transport::Icmp { kind, code } = view.transport
        {
            self.hear(packet, &view, kind, code);
        }
        self.stack.receive(packet);
    }

    fn hear(&mut self, packet: &[u8], view: &View, kind: u8, code: u8) {
        if let Doing::Ping(target) = self.doing {
            if IpAddr::from(view.source) == target && icmp::is_echo_reply(packet, view, kind, self.port) {
                self.told = Some(End::ANSWERED);
            }
        } else if let Some(end) = icmp::meaning(view.family, kind, code)
            && Quote::of(packet, view).is_some_and(|quote| quote.tuple().source.port == self.port)
        {
            self.told = Some(end);
            if let Doing::Http { socket, .. } = self.doing {
                // The kernel's socket would be closed now, and silent.
                let gone = self.stack.sockets.get_mut::<tcp::Socket<'_>>(socket);
                *gone = Stack::tcp_socket();
            }
        }
    }

    /// Whether no connection is left, not even one that ends.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.stack.sockets.iter().next().is_none()
    }

    pub(super) fn due(&mut self) -> Option<Instant> {
        self.stack.due()
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        self.stack.poll(now, out);
        let sockets = &mut self.stack.sockets;
        self.ending.retain(|&socket| {
            let over =
                matches!(sockets.get::<tcp::Socket<'_>>(socket).state(), State::Closed | State::TimeWait);
            if over {
                sockets.remove(socket);
            }
            !over
        });
        if let Doing::Http { socket, target, asked, answer } = &mut self.doing {
            // An end is found again when it is asked for.
            let _ = http(sockets.get_mut(*socket), *target, asked, answer);
            self.stack.poll(now, out);
        }
    }
}

/// Moves an HTTP exchange on as far as it goes.
fn http(
    socket: &mut tcp::Socket<'_>,
    target: SocketAddr,
    asked: &mut bool,
    answer: &mut Vec<u8>,
) -> Option<End> {
    if !*asked && socket.may_send() {
        let request = format!("GET / HTTP/1.1\r\nhost: {target}\r\nconnection: close\r\n\r\n");
        *asked = socket.send_slice(request.as_bytes()).is_ok_and(|sent| sent == request.len());
    }
    while socket.can_recv() {
        let all = |bytes: &mut [u8]| {
            answer.extend_from_slice(bytes);
            (bytes.len(), ())
        };
        if socket.recv(all).is_err() {
            break;
        }
    }
    match socket.state() {
        State::Closed if answer.is_empty() => Some(End::Refused),
        State::CloseWait | State::Closed | State::LastAck | State::TimeWait => Some(read_response(answer)),
        _ => None,
    }
}

fn read_response(answer: &[u8]) -> End {
    let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
    match head.and_then(|head| answer.get(head + 4..)) {
        Some(body) if answer.starts_with(b"HTTP/1.1 200 ") => read_introduction(body),
        Some(_) | None => End::Broken { why: "not an answer that the lab's backends give".into() },
    }
}
