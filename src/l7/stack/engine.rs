//! One connection in smoltcp: a set with a single socket.
//!
//! smoltcp walks all sockets of a set for each packet, so each connection has a set of its own.
//! The `Interface` is an argument of each call, and holds nothing of a connection; so all share
//! one. That saves each packet the cache misses of an interface that nobody else uses.
//! What it holds is the generator of initial sequence numbers; clients do not see these
//! (below), so that nothing can be guessed from them.
//!
//! # How a socket is led to where its connection is
//!
//! The stack answers SYNs itself, so that a handshake costs no socket and no rings. Once the
//! client has shown by its ACK that it is where it says, the socket is led through the same
//! handshake by segments that are made up for it, and what it answers goes nowhere:
//!
//! ```text
//!   SYN (with the larger segment size) ──▶       t0, when our real SYN-ACK left
//!                                      ◀── SYN-ACK, which tells smoltcp's initial number
//!   ACK                                ──▶       t0
//!                                      ◀── one byte that no application wrote
//!   ACK of that byte                   ──▶       now
//! ```
//!
//! Nothing of this is about the beginning of a connection: the numbers may be those of any moment
//! at which nothing is under way. So a connection that has been idle is given a socket again
//! in the same manner (see `parking`).
//!
//! The one byte lies before the stream; the offset between smoltcp's numbers and ours hides it.
//! It does three things that smoltcp's interface does not offer: its segment makes smoltcp note
//! the *scaled* window, where it would take the SYN-ACK's unscaled one for scaled, and accept
//! more than the ring holds, which ends in a panic; its acknowledgement makes the round trip
//! of the handshake the first sample; and it lifts the congestion window from smoltcp's
//! 2 KB to one of its segments, which are ten of ours (RFC 6928).

use std::time::Duration;

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult};
use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant as SmoltcpInstant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpListenEndpoint};

use super::pool::Seat;
use super::segment::{BARE_ROOM, Bare, BareKind, Offer};
use super::segmentation::cut;
use super::sequence::Sequence;
use super::settings::{Congestion, Listener, Offloads};
use super::wire::Wire;
use crate::datapath::Instant;
use crate::packet::{Family, FiveTuple, Frame};

/// The largest packet that smoltcp may build, before it is cut. An IPv4 length field cannot say
/// more.
const LARGEST: u16 = 65_535;

/// What smoltcp must be told of a connection that it has not seen from the beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Opening {
    /// From the client to the VIP.
    pub(super) tuple: FiveTuple,
    /// The number before the next one of the client's: its initial one, right after a handshake.
    pub(super) theirs: Sequence,
    /// The number before the next one of ours, as the client knows it.
    pub(super) ours: Sequence,
    /// What the client offered.
    pub(super) offer: Offer,
    /// The window field of the client's last segment.
    pub(super) window: u16,
    /// A round trip, as far as it is known.
    pub(super) round_trip: Duration,
}

/// How smoltcp is to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The payload that one segment on the path may have.
    pub(super) mss: u16,
    pub(super) congestion: Congestion,
}

/// The end of the packet's way through smoltcp: where its own packets go.
trait Output {
    /// Takes a packet of `length` bytes that `write` writes.
    fn put<R>(&mut self, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// A device for the length of one call.
struct Port<'a, O> {
    incoming: Option<&'a [u8]>,
    output: O,
}

struct Incoming<'a>(&'a [u8]);

struct Outgoing<'a, O>(&'a mut O);

impl<O: Output> phy::Device for Port<'_, O> {
    type RxToken<'b>
        = Incoming<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Outgoing<'b, O>
    where
        Self: 'b;

    fn receive(&mut self, _: SmoltcpInstant) -> Option<(Incoming<'_>, Outgoing<'_, O>)> {
        Some((Incoming(self.incoming.take()?), Outgoing(&mut self.output)))
    }

    fn transmit(&mut self, _: SmoltcpInstant) -> Option<Outgoing<'_, O>> {
        Some(Outgoing(&mut self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(LARGEST);
        // The stack has verified what comes in, and finishes what goes out.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

impl<O: Output> TxToken for Outgoing<'_, O> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        self.0.put(length, write)
    }
}

/// Lets `write` have `length` bytes of `space`, or of its own where that is too short, which
/// no packet of smoltcp's is.
fn lend<R>(space: &mut [u8], length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
    match space.get_mut(..length) {
        Some(space) => write(space),
        None => write(&mut vec![0; length]),
    }
}

/// Into the frame that is used for all packets, and on to the driver.
struct ToDriver<'a, S> {
    wire: &'a mut Wire,
    frame: &'a mut Frame,
    piece: &'a mut Frame,
    sink: S,
    bytes: usize,
}

impl<S: FnMut(&mut Frame)> Output for ToDriver<'_, S> {
    fn put<R>(&mut self, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut result = None;
        self.frame.rewrite(|space| {
            result = Some(lend(space, length, write));
            space.get_mut(..length).map_or(0, |packet| self.wire.clip(packet))
        });
        self.frame.offload = self.wire.outward(self.frame.packet_mut());
        self.bytes += length;
        if self.frame.offload.segments.is_some() && self.wire.offloads == Offloads::None {
            cut(self.frame, self.piece, &mut self.sink);
        } else {
            (self.sink)(self.frame);
        }
        result.expect("`rewrite` calls its argument")
    }
}

/// A packet that answers one that came in, and waits for the end of the worker's turn.
#[derive(Clone, Copy)]
pub(super) struct Reply {
    bytes: [u8; BARE_ROOM],
    length: usize,
}

impl Reply {
    /// One that `write` writes.
    pub(super) fn new(write: impl FnOnce(&mut [u8]) -> usize) -> Self {
        let mut bytes = [0; BARE_ROOM];
        let length = write(&mut bytes).min(BARE_ROOM);
        Self { bytes, length }
    }

    pub(super) fn packet(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Into the queue of replies.
struct ToReplies<'a> {
    wire: &'a mut Wire,
    replies: &'a mut Vec<Reply>,
}

impl Output for ToReplies<'_> {
    fn put<R>(&mut self, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut reply = Reply { bytes: [0; BARE_ROOM], length };
        let result = lend(&mut reply.bytes, length, write);
        // What is longer than a header with all options is nothing that TCP answers with.
        if length <= BARE_ROOM {
            let offload = self.wire.outward(&mut reply.bytes[..length]);
            debug_assert_eq!(offload, crate::packet::Offload::default(), "replies carry no payload");
            self.replies.push(reply);
        }
        result
    }
}

/// Nowhere; only the sequence number of the last packet is kept.
struct Nowhere(Option<Sequence>);

impl Output for Nowhere {
    fn put<R>(&mut self, length: usize, write: impl FnOnce(&mut [u8]) -> R) -> R {
        let mut bytes = [0; BARE_ROOM + 1];
        let result = lend(&mut bytes, length, write);
        let at = if bytes[0] >> 4 == 4 { 24 } else { 44 };
        self.0 = bytes[at..].first_chunk::<4>().map(|number| Sequence(u32::from_be_bytes(*number)));
        result
    }
}

/// One connection in smoltcp.
pub(crate) struct Engine {
    seat: Seat,
}

/// Whether a connection has said all that it may say now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It has.
    All,
    /// It has more to say, but its turn is over.
    Part,
}

impl Engine {
    /// Leads a socket through a handshake, up to where the connection is; gives the offset
    /// between smoltcp's numbers and ours with it. Gives the seat back if smoltcp will not
    /// have the handshake.
    pub(super) fn open(
        interface: &mut Interface,
        mut seat: Seat,
        opening: &Opening,
        manner: Manner,
        now: Instant,
    ) -> Result<(Self, u32), Seat> {
        let headers = headers(opening.tuple.source.address.family());
        let mss = manner.mss.max(1);
        let most = usize::from((LARGEST - headers) / mss);
        let shown = usize::from(mss) * most.min(manner.congestion.segments_at_once()).max(1);

        let (client, vip) = (opening.tuple.source, opening.tuple.destination);
        let vip_address = IpAddress::from(std::net::IpAddr::from(vip.address));
        let socket = seat.socket();
        socket.set_congestion_control(match manner.congestion {
            Congestion::None => tcp::CongestionControl::None,
            Congestion::Cubic => tcp::CongestionControl::Cubic,
        });
        // Large segments come alone, so an acknowledgement that waits for a second one stalls
        // the client for the length of the wait. Writes are gathered by the turn instead of
        // by Nagle, whose measure would be the larger segment size.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        // Both are the stack's own matter, see `liveness`. A pooled socket has neither set.
        let listening = IpListenEndpoint { addr: Some(vip_address), port: vip.port };
        if socket.listen(listening).is_err() {
            return Err(seat);
        }

        let mut engine = Self { seat };
        let earlier = Instant::from_nanos(now.as_nanos().saturating_sub(nanos(opening.round_trip)));
        let offer = Offer { mss: u16::try_from(shown).unwrap_or(u16::MAX), ..opening.offer };
        let mut port = Port { incoming: None, output: Nowhere(None) };
        let lead =
            |interface: &mut Interface, engine: &mut Self, at: Instant, kind: BareKind, window: u16| {
                let sequence = opening.theirs.plus(u32::from(!matches!(kind, BareKind::Syn(_))));
                let made_up =
                    Reply::new(|space| Bare { from: client, to: vip, kind, sequence, window }.write(space));
                let mut port = Port { incoming: Some(made_up.packet()), output: Nowhere(None) };
                interface.poll_ingress_single(micros(at), &mut port, &mut engine.seat.sockets);
            };
        // The window of an ACK is shifted; one that is closed would hold the one byte back.
        let window = opening.window.max(1);
        lead(interface, &mut engine, earlier, BareKind::Syn(offer), opening.window);
        interface.poll_egress(micros(earlier), &mut port, &mut engine.seat.sockets);
        let Some(theirs) = port.output.0 else { return Err(engine.seat) };
        lead(interface, &mut engine, earlier, BareKind::Ack(theirs.plus(1)), window);
        if engine.socket().send_slice(&[0]) != Ok(1) {
            return Err(engine.seat);
        }
        interface.poll_egress(micros(earlier), &mut port, &mut engine.seat.sockets);
        lead(interface, &mut engine, now, BareKind::Ack(theirs.plus(2)), opening.window);
        if engine.socket().state() != tcp::State::Established || engine.socket().send_queue() != 0 {
            return Err(engine.seat);
        }

        Ok((engine, opening.ours.plus(1).since(theirs.plus(2))))
    }

    /// Gives smoltcp a packet, whose numbers are smoltcp's already.
    pub(super) fn receive(
        &mut self,
        interface: &mut Interface,
        now: Instant,
        packet: &[u8],
        wire: &mut Wire,
        replies: &mut Vec<Reply>,
    ) {
        let mut port = Port { incoming: Some(packet), output: ToReplies { wire, replies } };
        let _: PollIngressSingleResult =
            interface.poll_ingress_single(micros(now), &mut port, &mut self.seat.sockets);
    }

    /// Lets smoltcp say what it has to say, until it has no more or has used up its turn.
    pub(super) fn transmit(
        &mut self,
        interface: &mut Interface,
        now: Instant,
        turn_bytes: usize,
        wire: &mut Wire,
        [frame, piece]: &mut [Frame; 2],
        sink: impl FnMut(&mut Frame),
    ) -> Said {
        let output = ToDriver { wire, frame, piece, sink, bytes: 0 };
        let mut port = Port { incoming: None, output };
        while interface.poll_egress(micros(now), &mut port, &mut self.seat.sockets) != PollResult::None {
            if port.output.bytes >= turn_bytes {
                return Said::Part;
            }
        }
        Said::All
    }

    /// When smoltcp must be asked next, if anything is under way. Only right after it has said
    /// all, and then never in the past, so that no worker can be kept spinning.
    pub(super) fn deadline(&mut self, interface: &mut Interface, now: Instant) -> Option<Instant> {
        let at = interface.poll_at(micros(now), &self.seat.sockets)?;
        let at = Instant::from_nanos(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        Some(at.max(now + Duration::from_millis(1)))
    }

    #[inline]
    pub(crate) fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.seat.socket()
    }

    pub(super) fn into_seat(self) -> Seat {
        self.seat
    }
}

/// Bytes of IP and TCP headers without options.
pub(super) const fn headers(family: Family) -> u16 {
    match family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

/// The window that a SYN-ACK announces, which is not scaled (RFC 7323 §2.2).
pub(super) fn announced_window(listener: Listener) -> u16 {
    u16::try_from(listener.rings.receive.bytes()).unwrap_or(u16::MAX)
}

/// How far smoltcp shifts windows with a receive ring of this size.
pub(super) fn window_shift(listener: Listener) -> u8 {
    let bits = usize::BITS - listener.rings.receive.bytes().leading_zeros();
    u8::try_from(bits.saturating_sub(16)).unwrap_or(14)
}

/// The interface of a stack.
pub(super) fn interface() -> Interface {
    let mut port = Port { incoming: None, output: Nowhere(None) };
    let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut port, SmoltcpInstant::ZERO);
    // The table has found the connection by its addresses; smoltcp need not check them.
    interface.set_any_ip(true);
    interface
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn micros(now: Instant) -> SmoltcpInstant {
    SmoltcpInstant::from_micros(i64::try_from(now.as_nanos() / 1000).unwrap_or(i64::MAX))
}
