//! A backend in memory: the built-in servers in small, on a stack of its own.
//!
//! A request of the lab is one segment and so is its answer, so this reads a head up to its empty
//! line, answers it the same way whatever it asks for, and closes.

use std::collections::VecDeque;
use std::net::SocketAddr;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, State};
use smoltcp::socket::udp;
use smoltcp::wire::IpEndpoint;

use super::stack::Stack;
use crate::datapath::Instant;
use crate::lab::attempt::introduce;
use crate::lab::serve::WHO;
use crate::lab::topology::{self, Topology};
use crate::packet::Family;

/// Sockets that wait for a connection: a smoltcp socket is one connection, and has no backlog.
const LISTENING: usize = 4;

#[derive(Debug)]
pub(super) struct Backend {
    stack: Stack,
    name: String,
    http: Vec<SocketHandle>,
    echo: Option<SocketHandle>,
    serving: bool,
}

impl Backend {
    pub(super) fn new(topology: Topology, number: u8) -> Self {
        let families = [Family::V4, Family::V6];
        let mut stack = Stack::new(
            families.map(|family| topology.backend(family, number)),
            families.map(|family| topology.backend_router(family)),
            number.into(),
        );
        let buffer = || udp::PacketBuffer::new(vec![udp::PacketMetadata::EMPTY; 16], vec![0; 16 * 1024]);
        let mut echo = udp::Socket::new(buffer(), buffer());
        // A port that is not zero can be bound.
        let _ = echo.bind(topology::BACKEND);
        let echo = Some(stack.sockets.add(echo));
        Self { stack, name: Topology::backend_name(number), http: Vec::new(), echo, serving: true }
    }

    /// Ends the servers; the stack then refuses in their name.
    pub(super) fn stop(&mut self) {
        self.serving = false;
        for socket in self.http.drain(..).chain(self.echo.take()) {
            self.stack.sockets.remove(socket);
        }
    }

    pub(super) fn receive(&mut self, packet: &[u8]) {
        self.stack.receive(packet);
    }

    pub(super) fn due(&mut self) -> Option<Instant> {
        self.stack.due()
    }

    pub(super) fn poll(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        self.listen();
        self.stack.poll(now, out);
        self.serve();
        self.stack.poll(now, out);
    }

    fn listen(&mut self) {
        let sockets = &mut self.stack.sockets;
        self.http.retain(|&socket| {
            let open = sockets.get::<tcp::Socket<'_>>(socket).state() != State::Closed;
            if !open {
                sockets.remove(socket);
            }
            open
        });
        let waiting =
            self.http.iter().filter(|&&socket| sockets.get::<tcp::Socket<'_>>(socket).is_listening()).count();
        if self.serving {
            for _ in waiting..LISTENING {
                let mut socket = Stack::tcp_socket();
                let _ = socket.listen(topology::BACKEND);
                self.http.push(sockets.add(socket));
            }
        }
    }

    fn serve(&mut self) {
        for &handle in &self.http {
            answer(&self.name, self.stack.sockets.get_mut(handle));
        }
        if let Some(echo) = self.echo {
            let socket = self.stack.sockets.get_mut::<udp::Socket<'_>>(echo);
            while let Ok((bytes, meta)) = socket.recv() {
                let bytes = match bytes {
                    WHO => introduce(&self.name, std(meta.endpoint), "who?").into_bytes(),
                    other => other.to_vec(),
                };
                let _ = socket.send_slice(&bytes, meta);
            }
        }
    }
}

fn answer(name: &str, socket: &mut tcp::Socket<'_>) {
    let Some(peer) = socket.remote_endpoint() else { return };
    let end = |bytes: &[u8]| bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let request = socket.recv(|bytes| match end(bytes) {
        Some(end) => {
            let line = bytes.split(|&byte| byte == b'\r').next().unwrap_or_default();
            (end + 4, Some(String::from_utf8_lossy(line).into_owned()))
        }
        None => (0, None),
    });
    if let Ok(Some(request)) = request {
        let body = introduce(name, std(peer), &request);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nx-backend: {name}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        // Both fit into the socket's buffer together.
        let _ = socket.send_slice(head.as_bytes());
        let _ = socket.send_slice(body.as_bytes());
        socket.close();
    } else if !socket.may_recv() && socket.state() == State::CloseWait {
        socket.close();
    }
}

fn std(endpoint: IpEndpoint) -> SocketAddr {
    SocketAddr::new(endpoint.addr.into(), endpoint.port)
}
