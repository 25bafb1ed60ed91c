//! A client over a link: smoltcp, set up as anybody would.

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::Medium;
use smoltcp::socket::tcp;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::link::{Plan, bytes, check};
use super::*;

/// A client, and how far it is.
pub(super) struct Client {
    pub(super) number: usize,
    plan: Plan,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    sent: usize,
    pub(super) got: usize,
    open: bool,
    pub(super) told: bool,
    /// When a nap is over, once it has begun.
    sleeps_until: Option<Instant>,
}

impl Client {
    pub(super) fn new(number: usize, plan: Plan, seed: u64, now: Instant) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed.wrapping_add(number as u64);
        let mut device = OneWay { input: None, output: Vec::new() };
        let mut interface = Interface::new(config, &mut device, micros(now));
        let address: std::net::IpAddr =
            if plan.v6 { "2001:db8:1::7" } else { "198.51.100.7" }.parse().unwrap();
        interface.update_ip_addrs(|list| list.push(IpCidr::new(IpAddress::from(address), 24)).unwrap());
        interface.set_any_ip(false);
        let gateway = "198.51.100.1".parse().unwrap();
        interface.routes_mut().add_default_ipv4_route(gateway).unwrap();
        interface.routes_mut().add_default_ipv6_route("2001:db8:1::1".parse().unwrap()).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let ring = |size| tcp::SocketBuffer::new(vec![0; size]);
        let mut socket = tcp::Socket::new(ring(plan.window), ring(60_000));
        socket.set_timeout(Some(smoltcp::time::Duration::from_secs(120)));
        let handle = sockets.add(socket);
        let vip: std::net::IpAddr = if plan.v6 { "2001:db8::1" } else { "203.0.113.1" }.parse().unwrap();
        let port = 10_000 + number as u16;
        let socket: &mut tcp::Socket<'_> = sockets.get_mut(handle);
        socket.connect(interface.context(), (vip, 80), port).unwrap();
        Self {
            number,
            plan,
            interface,
            sockets,
            handle,
            sent: 0,
            got: 0,
            open: true,
            told: false,
            sleeps_until: None,
        }
    }

    /// Lets the client do what it can.
    pub(super) fn act(&mut self, now: Instant, arrived: &mut Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        loop {
            let mut progress = false;
            let number = self.number;
            let socket: &mut tcp::Socket<'_> = self.sockets.get_mut(self.handle);
            let end = loop {
                let read = socket.recv(|data| {
                    check(number + 1000, self.got, data);
                    self.got += data.len();
                    (data.len(), data.len())
                });
                match read {
                    Ok(1..) => progress = true,
                    end => break end,
                }
            };
            self.told |= end == Err(tcp::RecvError::Finished);
            let mut goal = self.plan.upload;
            if let Some((at, time)) = self.plan.nap
                && at < goal
                && socket.may_send()
            {
                if self.sent >= at && self.sleeps_until.is_none() {
                    self.sleeps_until = Some(now + time);
                }
                if self.sleeps_until.is_none_or(|until| now < until) {
                    goal = at;
                }
            }
            if socket.may_send() && self.sent < goal {
                let most = (goal - self.sent).min(8192);
                let sent = socket.send_slice(&bytes(number, self.sent, most)).unwrap();
                self.sent += sent;
                progress |= sent > 0;
            }
            if self.plan.abort_after.is_some_and(|after| self.sent + self.got >= after) && socket.is_open() {
                socket.abort();
            }
            // Half-closes as soon as all is said, while the server may still be sending.
            if self.open && self.sent == self.plan.upload && socket.may_send() {
                self.open = false;
                socket.close();
            }
            let mut device = OneWay { input: None, output: Vec::new() };
            for packet in arrived.drain(..) {
                device.input = Some(packet);
                self.interface.poll_ingress_single(micros(now), &mut device, &mut self.sockets);
                progress = true;
            }
            while self.interface.poll_egress(micros(now), &mut device, &mut self.sockets) != PollResult::None
            {
            }
            progress |= !device.output.is_empty();
            out.append(&mut device.output);
            if !progress {
                return out;
            }
        }
    }

    /// The times at which it wants to act again.
    pub(super) fn timers(&mut self, now: Instant) -> impl Iterator<Item = Instant> {
        let at = self.interface.poll_at(micros(now), &self.sockets);
        let at = at.map(|at| Instant::from_nanos(at.total_micros().cast_unsigned() * 1000));
        at.into_iter().chain(self.sleeps_until.filter(|until| *until > now))
    }

    pub(super) fn state(&self) -> tcp::State {
        self.sockets.get::<tcp::Socket<'_>>(self.handle).state()
    }

    pub(super) fn done(&self) -> bool {
        matches!(self.state(), tcp::State::Closed | tcp::State::TimeWait)
    }
}

/// A device for one call.
struct OneWay {
    input: Option<Vec<u8>>,
    output: Vec<Vec<u8>>,
}

struct In(Vec<u8>);
struct Out<'a>(&'a mut Vec<Vec<u8>>);

impl smoltcp::phy::Device for OneWay {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(In, Out<'_>)> {
        Some((In(self.input.take()?), Out(&mut self.output)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.output))
    }

    fn capabilities(&self) -> smoltcp::phy::DeviceCapabilities {
        let mut capabilities = smoltcp::phy::DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1500;
        capabilities
    }
}

impl smoltcp::phy::RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

impl smoltcp::phy::TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut packet = vec![0; length];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}

fn micros(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros((now.as_nanos() / 1000).cast_signed())
}
