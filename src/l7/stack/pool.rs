//! Rings, used again and again.
//!
//! smoltcp does not give a socket's buffers back, but lets a closed socket listen anew. So what
//! is pooled is a set with one closed socket in it, and its two rings inside that. Memory that
//! has been touched once is then touched by the next connection, instead of fresh pages.

use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::settings::{RingSize, Rings};

/// A socket, closed, alone in its set, and its rings.
pub(super) struct Seat {
    pub(super) sockets: SocketSet<'static>,
    pub(super) handle: SocketHandle,
    rings: Rings,
}

impl Seat {
    fn new(rings: Rings) -> Self {
        let [receive, transmit] =
            [rings.receive, rings.transmit].map(|size| tcp::SocketBuffer::new(vec![0; size.bytes()]));
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(tcp::Socket::new(receive, transmit));
        Self { sockets, handle, rings }
    }

    pub(super) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    const fn bytes(&self) -> usize {
        self.rings.receive.bytes() + self.rings.transmit.bytes()
    }
}

/// The seats that nobody sits on, and the count of all.
pub(super) struct Pool {
    idle: [[Vec<Seat>; RingSize::ALL.len()]; RingSize::ALL.len()],
    idle_bytes: usize,
    idle_bytes_max: usize,
    taken: usize,
}

impl Pool {
    /// A pool that keeps at most so many bytes of rings that are not in use.
    pub(super) fn new(idle_bytes_max: usize) -> Self {
        Self { idle: Default::default(), idle_bytes: 0, idle_bytes_max, taken: 0 }
    }

    /// Rings of these sizes, old ones where there are any.
    pub(super) fn take(&mut self, rings: Rings) -> Seat {
        self.taken += 1;
        match self.idle[rings.receive as usize][rings.transmit as usize].pop() {
            Some(seat) => {
                self.idle_bytes -= seat.bytes();
                seat
            }
            None => Seat::new(rings),
        }
    }

    /// Takes rings back, for the next connection or to free them.
    pub(super) fn give_back(&mut self, mut seat: Seat) {
        self.taken -= 1;
        // Also where the seat is not kept: a socket that is only dropped wakes nobody.
        seat.socket().abort();
        if self.idle_bytes + seat.bytes() <= self.idle_bytes_max {
            self.idle_bytes += seat.bytes();
            self.idle[seat.rings.receive as usize][seat.rings.transmit as usize].push(seat);
        }
    }

    /// How many seats are in use.
    pub(super) const fn taken(&self) -> usize {
        self.taken
    }

    /// Bytes of rings that are not in use.
    pub(super) const fn idle_bytes(&self) -> usize {
        self.idle_bytes
    }
}
