//! The joint core of a worker: layer 4 and layer 7 side by side on one device.
//!
//! ```text
//!                    ┌─ TCP to a layer-7 listen, or an ICMP error about what was sent from one ─▶ proxy
//!   frame ── look ───┤
//!                    └─ all else: flows and VIPs of layer 4, pings, ports that nobody takes ────▶ translator
//! ```
//!
//! The look costs a few nanoseconds, since each packet of layer 4 pays for it too: protocol, destination
//! and port are read where they are, and checked by nobody. Whoever gets the packet reads it again and refuses what
//! is wrong with it. Only what is rare (an extension header, an ICMP message) is read whole.
//!
//! A VIP may have ports of both layers. A fragment behind the first one has no port: it goes to the
//! translator, which waits for its first one, unless nothing of layer 4 takes TCP at its destination. The proxy puts
//! nothing together, and drops it at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::task::{Context, Poll};

use foldhash::fast::FixedState;

use crate::balance::ServiceSpec;
use crate::datapath::{Arrival, Datapath, Decision, Instant, Listening, Outbox, Verdict, WorkerId};
use crate::l4::Translator;
use crate::l7::spec::Plan;
use crate::packet::quote::{self, Quote};
use crate::packet::{Address, Endpoint, Family, Frame, Protocol, Transport, View};

/// Both layers of one worker. `P` ends connections: it takes those in that its frames open, and spawns what serves them,
/// before its `handle_frame` returns.
pub struct Core<P> {
    translator: Translator,
    proxy: P,
    listens: Arc<Listens>,
    /// Who had the last frame.
    last: Layer,
}

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Translator,
    Proxy,
}

impl<P> Core<P> {
    /// Joins them. The proxy gets what is meant for these listens.
    pub fn new(translator: Translator, proxy: P, listens: Arc<Listens>) -> Self {
        Self { translator, proxy, listens, last: Layer::Translator }
    }
}

impl<P: Datapath> Datapath for Core<P> {
    #[inline]
    fn handle_frame(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        arrival: Arrival,
        out: &mut Outbox,
    ) -> Verdict {
        if self.listens.take(frame.packet()) {
            self.last = Layer::Proxy;
            self.proxy.handle_frame(now, frame, arrival, out)
        } else {
            self.last = Layer::Translator;
            self.translator.handle_frame(now, frame, arrival, out)
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        // One of them is often due alone.
        if self.translator.poll_timeout().is_some_and(|due| due <= now) {
            self.translator.handle_timeout(now, out);
        }
        if self.proxy.poll_timeout().is_some_and(|due| due <= now) {
            self.proxy.handle_timeout(now, out);
        }
    }

    fn handle_fence(&mut self, now: Instant, queue: WorkerId, out: &mut Outbox) {
        // The proxy asks for none: TCP puts in order what ends here.
        self.translator.handle_fence(now, queue, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.translator.poll_timeout(), self.proxy.poll_timeout()].into_iter().flatten().min()
    }

    fn poll_egress(&mut self, now: Instant, sink: &mut dyn FnMut(&mut Frame)) {
        self.proxy.poll_egress(now, sink);
    }

    fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        self.proxy.poll_dirty(context)
    }

    fn listen(&mut self, listening: Listening) {
        self.translator.listen(listening);
        self.proxy.listen(listening);
    }

    fn decision(&self) -> Decision {
        match self.last {
            Layer::Translator => self.translator.decision(),
            Layer::Proxy => self.proxy.decision(),
        }
    }
}

/// Where layer 7 listens.
#[derive(Debug)]
pub struct Listens {
    endpoints: HashSet<Endpoint, FixedState>,
    /// The ports of those: few, and looked at before anything is hashed.
    ports: Vec<u16>,
    /// Their addresses, as far as nothing of layer 4 takes TCP there.
    alone: HashSet<Address, FixedState>,
}

impl Listens {
    /// Those of a plan, beside these services of layer 4.
    pub fn new(services: &[ServiceSpec], plan: &Plan) -> Self {
        let endpoints: HashSet<_, _> = plan.sites.iter().flat_map(|site| &site.listen).copied().collect();
        let mut ports: Vec<u16> = endpoints.iter().map(|endpoint: &Endpoint| endpoint.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let shared = |address: Address| {
            let mut listens = services.iter().flat_map(|service| &service.listen);
            listens.any(|listen| listen.protocol == Protocol::Tcp && listen.endpoint.address == address)
        };
        let alone = endpoints.iter().map(|endpoint| endpoint.address).filter(|&address| !shared(address));
        Self { alone: alone.collect(), ports, endpoints }
    }

    /// Whether a packet is for one of them.
    #[inline]
    pub fn take(&self, packet: &[u8]) -> bool {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => self.take_v4(packet),
            Some(6) => self.take_v6(packet),
            _ => false,
        }
    }

    #[inline]
    fn take_v4(&self, packet: &[u8]) -> bool {
        let Some(&[first, _, _, _, _, _, flags, offset, _, protocol, .., a, b, c, d]) =
            packet.first_chunk::<20>()
        else {
            return false;
        };
        match protocol {
            TCP if flags & 0x1f != 0 || offset != 0 => self.alone.contains(&Address::v4([a, b, c, d])),
            TCP => self.take_port(packet, usize::from(first & 0xf) * 4, || Address::v4([a, b, c, d])),
            ICMP => self.take_unusual(packet),
            _ => false,
        }
    }

    #[inline]
    fn take_v6(&self, packet: &[u8]) -> bool {
        let Some(header) = packet.first_chunk::<40>() else { return false };
        match header[6] {
            TCP => {
                let [_, _, _, _, _, _, _, _, addresses @ ..] = header;
                let [source, destination] = [0, 16].map(|at| octets(addresses, at));
                // A mapped address is IPv4's and cannot be on a wire. The translator says so.
                self.take_port(packet, 40, || Address::v6(destination))
                    && [source, destination].iter().all(|&it| Address::v6(it).family() == Family::V6)
            }
            HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION | ICMP_V6 => self.take_unusual(packet),
            _ => false,
        }
    }

    /// Whether the TCP header at this place leads to one of them.
    #[inline]
    fn take_port(&self, packet: &[u8], at: usize, address: impl FnOnce() -> Address) -> bool {
        let Some(&[_, _, high, low]) = packet.get(at..).and_then(<[u8]>::first_chunk::<4>) else {
            return false;
        };
        let port = u16::from_be_bytes([high, low]);
        self.ports.contains(&port) && self.endpoints.contains(&Endpoint { address: address(), port })
    }

    /// What must be read whole.
    #[cold]
    fn take_unusual(&self, packet: &[u8]) -> bool {
        let Ok(view) = View::of(packet) else { return false };
        if [view.source, view.destination].iter().any(|address| address.family() != view.family) {
            return false;
        }
        match view.transport {
            Transport::Tcp { destination_port: port, .. } => {
                self.endpoints.contains(&Endpoint { address: view.destination, port })
            }
            Transport::LaterFragment => {
                view.fragment.is_some_and(|fragment| fragment.protocol == TCP)
                    && self.alone.contains(&view.destination)
            }
            // A fragment of an error has no checksum that could be looked at.
            Transport::Icmp { kind, .. } if quote::is_error(view.family, kind) && view.fragment.is_none() => {
                Quote::of(packet, &view).is_some_and(|quote| {
                    let sent = quote.tuple();
                    sent.protocol == Protocol::Tcp && self.endpoints.contains(&sent.source)
                })
            }
            Transport::Icmp { .. } | Transport::Udp { .. } | Transport::Other(_) => false,
        }
    }
}

fn octets(from: &[u8; 32], at: usize) -> [u8; 16] {
    from.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default()
}

const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMP_V6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

#[cfg(test)]
mod tests;
