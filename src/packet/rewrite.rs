//! Rewriting in place: new addresses and ports in the same packet, every checksum kept.
//!
//! ```text
//!   IPv4 header   addresses, TTL, identification ──▶ header checksum
//!   TCP, UDP      addresses (pseudo-header), ports ──▶ transport checksum
//! ```
//!
//! The transport checksum takes the change in one of two ways. A *whole* one follows RFC 1624.
//! A *partial* one is still the plain sum of the pseudo-header: addresses are exchanged in it,
//! and ports are left out, since whoever completes it will sum them. Where the sum to be
//! completed is not this header's own but that of a packet carried inside (a tunnel over UDP),
//! this header's checksum is whole.

use super::checksum::Change;
use super::frame::ChecksumState;
use super::tuple::{Address, Family, FiveTuple, Protocol};
use super::view::{Transport, View};

/// What may change on a packet's way through beside its addresses and ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passage {
    /// Take one from TTL or hop limit, as each router does (RFC 1812 §5.3.1). It does not go
    /// below zero: that a packet ends here is for the caller to see.
    pub decrement_hops: bool,
    /// Replace the identification that fragments share.
    pub identification: Option<u32>,
}

/// Gives a packet with ports the addresses and ports of `to`.
///
/// A wrong checksum stays wrong. UDP's zero ("none", RFC 768) stays zero, and a sum that
/// comes out as zero is sent as 0xffff. A packet that is not the one that `view` was made of
/// may come out wrong, but nothing is touched outside it.
#[inline]
pub fn translate(packet: &mut [u8], view: &View, to: &FiveTuple, checksum: ChecksumState, passage: Passage) {
    let addresses = network(packet, view, to.source.address, to.destination.address, passage);
    let Some(transport) = packet.get_mut(view.transport_at..) else { return };
    ports(transport, to, addresses, own(checksum, view, to.protocol));
}

/// What the offload metadata say about the checksum of this transport header.
#[inline]
fn own(checksum: ChecksumState, view: &View, protocol: Protocol) -> ChecksumState {
    match checksum {
        ChecksumState::Partial { start, offset }
            if usize::from(start) != view.transport_at || usize::from(offset) != checksum_at(protocol) =>
        {
            ChecksumState::Whole
        }
        other => other,
    }
}

/// Where the checksum is in a transport header.
const fn checksum_at(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    }
}

/// Gives a packet without ports (a later fragment, an ICMP error) new addresses. What the
/// payload's own checksum makes of that is for the caller to mend.
#[inline]
pub fn readdress(packet: &mut [u8], view: &View, source: Address, destination: Address, passage: Passage) {
    let _: Change = network(packet, view, source, destination, passage);
}

/// Rewrites the IP header and gives back what changed in the pseudo-header.
#[inline]
fn network(
    packet: &mut [u8],
    view: &View,
    source: Address,
    destination: Address,
    passage: Passage,
) -> Change {
    match view.family {
        Family::V4 => network_v4(packet, source, destination, passage),
        Family::V6 => network_v6(packet, view, source, destination, passage),
    }
}

#[inline]
fn network_v4(packet: &mut [u8], source: Address, destination: Address, passage: Passage) -> Change {
    let Some(header) = packet.first_chunk_mut::<20>() else { return Change::default() };
    let mut addresses = Change::default();
    exchange(header, 12, source.v4_octets(), &mut addresses);
    exchange(header, 16, destination.v4_octets(), &mut addresses);
    let mut all = addresses;
    if passage.decrement_hops {
        let ttl_and_protocol = [header[8].saturating_sub(1), header[9]];
        exchange(header, 8, ttl_and_protocol, &mut all);
    }
    if let Some(id) = passage.identification {
        #[expect(clippy::cast_possible_truncation, reason = "IPv4 has 16 of the 32 bits")]
        exchange(header, 4, (id as u16).to_be_bytes(), &mut all);
    }
    let sum = all.whole(u16::from_be_bytes([header[10], header[11]]));
    [header[10], header[11]] = sum.to_be_bytes();
    addresses
}

#[inline]
fn network_v6(
    packet: &mut [u8],
    view: &View,
    source: Address,
    destination: Address,
    passage: Passage,
) -> Change {
    let Some(header) = packet.first_chunk_mut::<40>() else { return Change::default() };
    let mut addresses = Change::default();
    exchange(header, 8, source.octets(), &mut addresses);
    exchange(header, 24, destination.octets(), &mut addresses);
    if passage.decrement_hops {
        header[7] = header[7].saturating_sub(1);
    }
    if let (Some(id), Some(fragment)) = (passage.identification, view.fragment)
        && let Some(field) = packet.get_mut(fragment.id_at..).and_then(<[u8]>::first_chunk_mut::<4>)
    {
        *field = id.to_be_bytes();
    }
    addresses
}

/// Puts `new` at `at` and records the change.
#[inline]
fn exchange<const N: usize>(header: &mut [u8], at: usize, new: [u8; N], change: &mut Change) {
    if let Some(field) = header.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<N>) {
        change.field(*field, new);
        *field = new;
    }
}

/// Rewrites the ports of a TCP or UDP header and carries all changes into its checksum, as
/// far as the bytes are there: the packet that an ICMP error quotes may end after the ports.
#[inline]
pub(super) fn ports(transport: &mut [u8], to: &FiveTuple, addresses: Change, checksum: ChecksumState) {
    let Some(old) = transport.first_chunk_mut::<4>() else { return };
    let [source, destination] = [to.source.port.to_be_bytes(), to.destination.port.to_be_bytes()];
    let new = [source[0], source[1], destination[0], destination[1]];
    let mut ports = Change::default();
    ports.field(*old, new);
    *old = new;

    let at = checksum_at(to.protocol);
    let Some(field) = transport.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<2>) else { return };
    let old = u16::from_be_bytes(*field);
    let new = match (checksum, to.protocol) {
        (ChecksumState::Partial { .. }, _) => addresses.partial(old),
        (_, Protocol::Udp) if old == 0 => 0,
        (_, Protocol::Udp) => match addresses.and(ports).whole(old) {
            0 => 0xffff,
            sum => sum,
        },
        (_, Protocol::Tcp) => addresses.and(ports).whole(old),
    };
    *field = new.to_be_bytes();
}

/// Whether a UDP packet over IPv6 lacks its checksum, which RFC 8200 §8.1 does not allow.
#[inline]
pub fn lacks_checksum(packet: &[u8], view: &View) -> bool {
    view.family == Family::V6
        && matches!(view.transport, Transport::Udp { .. })
        && matches!(packet.get(view.transport_at..), Some([_, _, _, _, _, _, 0, 0, ..]))
}
