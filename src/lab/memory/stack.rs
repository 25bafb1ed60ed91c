//! One host's TCP/IP: a smoltcp interface, its sockets, and two queues for a wire.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;

use smoltcp::iface::{Config, Interface, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as StackInstant;
use smoltcp::wire::{HardwareAddress, IpCidr};

use crate::datapath::Instant;

/// A stack with one address of each family, and all the world behind one router.
pub(super) struct Stack {
    pub(super) interface: Interface,
    pub(super) sockets: SocketSet<'static>,
    wire: Wire,
}

impl Stack {
    /// `seed` makes the stack's initial sequence numbers differ from its neighbours'.
    pub(super) fn new(addresses: [IpAddr; 2], routers: [IpAddr; 2], seed: u64) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut wire = Wire::default();
        let mut interface = Interface::new(config, &mut wire, StackInstant::ZERO);
        interface.update_ip_addrs(|known| {
            for address in addresses {
                let prefix = if address.is_ipv4() { 32 } else { 128 };
                // There is room for two, and two are asked for.
                let _ = known.push(IpCidr::new(address.into(), prefix));
            }
        });
        for router in routers {
            let table = interface.routes_mut();
            let _ = match router {
                IpAddr::V4(v4) => table.add_default_ipv4_route(v4),
                IpAddr::V6(v6) => table.add_default_ipv6_route(v6),
            };
        }
        Self { interface, sockets: SocketSet::new(Vec::new()), wire }
    }

    /// Takes a packet from the wire.
    pub(super) fn receive(&mut self, packet: &[u8]) {
        self.wire.arriving.push_back(packet.to_vec());
    }

    /// Puts a packet on the wire past the stack.
    pub(super) fn inject(&mut self, packet: Vec<u8>) {
        self.wire.leaving.push_back(packet);
    }

    /// Does what can be done now, and puts what leaves into `out`.
    pub(super) fn poll(&mut self, now: Instant, out: &mut VecDeque<Vec<u8>>) {
        self.interface.poll(to_stack(now), &mut self.wire, &mut self.sockets);
        out.append(&mut self.wire.leaving);
    }

    /// When something is due next. Smoltcp says "now" for what waits to be sent, which
    /// [`Stack::poll`] has done already.
    pub(super) fn due(&mut self) -> Option<Instant> {
        let due = self.interface.poll_at(StackInstant::ZERO, &self.sockets)?;
        let nanos = u64::try_from(due.total_micros()).unwrap_or(0).saturating_mul(1000);
        (nanos > 0).then(|| Instant::from_nanos(nanos))
    }

    /// A TCP socket with buffers that hold any message of the lab.
    pub(super) fn tcp_socket() -> tcp::Socket<'static> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 8 * 1024]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        // Nothing here gains by waiting, and the clock would have to jump over it.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").field("addresses", &self.interface.ip_addrs()).finish_non_exhaustive()
    }
}

fn to_stack(now: Instant) -> StackInstant {
    StackInstant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}

/// What arrives waits here for the stack, and what leaves waits for the network.
#[derive(Debug, Default)]
struct Wire {
    arriving: VecDeque<Vec<u8>>,
    leaving: VecDeque<Vec<u8>>,
}

impl Device for Wire {
    type RxToken<'a> = Arriving;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _: StackInstant) -> Option<(Arriving, Leaving<'_>)> {
        let packet = self.arriving.pop_front()?;
        Some((Arriving(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _: StackInstant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

struct Arriving(Vec<u8>);

impl RxToken for Arriving {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Leaving<'a>(&'a mut VecDeque<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push_back(packet);
        result
    }
}
