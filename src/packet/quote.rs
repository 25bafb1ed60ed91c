//! ICMP errors, and the packet that each of them quotes.
//!
//! An error names the flow it is about by quoting the start of one of its packets. Whoever
//! receives it looks for that flow, so the quote must be translated back as well, or path-MTU
//! discovery and "connection refused" die at the balancer.
//!
//! ```text
//!   as it comes   router ▸ local address │ ICMP │ local:port ▸ backend:port │ …
//!   as it leaves  VIP    ▸ client        │ ICMP │ client:port ▸ VIP:port    │ …
//! ```
//!
//! A quote may be as short as an IP header and eight bytes (RFC 792), of which only the
//! ports are needed here. Nothing of it needs to be right but its addresses and ports.

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice, ip_number};

use super::checksum::{self, Change};
use super::frame::ChecksumState;
use super::rewrite;
use super::tuple::{Address, Endpoint, Family, FiveTuple, Protocol};
use super::view::{self, View};

/// Bytes of an ICMP header before the packet that an error quotes.
const ICMP_HEADER: usize = 8;

/// Whether this ICMP type announces an error and quotes a packet (RFC 792, RFC 4443 §2.1).
/// Redirects quote one as well, but are a matter between a host and its first router.
pub const fn is_error(family: Family, kind: u8) -> bool {
    match family {
        Family::V4 => matches!(kind, 3 | 4 | 11 | 12),
        Family::V6 => kind < 128,
    }
}

/// Whether an error says that its packet's destination cannot be reached.
pub const fn is_unreachable(family: Family, kind: u8, code: u8) -> bool {
    match family {
        // Code 4 asks for smaller packets; the destination is there.
        Family::V4 => kind == 3 && code != 4,
        Family::V6 => kind == 1,
    }
}

/// The MTU that a "fragmentation needed" (RFC 1191 §4) or "packet too big" (RFC 4443 §3.2)
/// announces; `None` for other messages and from routers that do not tell.
pub fn announced_mtu(packet: &[u8], view: &View, kind: u8, code: u8) -> Option<u32> {
    let [_, _, _, _, field @ ..] = packet.get(view.transport_at..)?.first_chunk::<ICMP_HEADER>()?;
    match (view.family, kind, code) {
        (Family::V4, 3, 4) => match u16::from_be_bytes([field[2], field[3]]) {
            0 => None,
            mtu => Some(u32::from(mtu)),
        },
        (Family::V6, 2, _) => Some(u32::from_be_bytes(*field)),
        _ => None,
    }
}

/// The packet that an ICMP error quotes, as far as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    family: Family,
    network_at: usize,
    transport_at: usize,
    end: usize,
    tuple: FiveTuple,
}

impl Quote {
    /// Finds the quoted packet in an ICMP error; `None` where it has no ports that could
    /// name a flow.
    pub fn of(packet: &[u8], view: &View) -> Option<Self> {
        let network_at = view.transport_at.checked_add(ICMP_HEADER)?;
        let quoted = packet.get(network_at..view.length)?;
        let (source, destination, protocol, header_length) = match view.family {
            Family::V4 => {
                let header = Ipv4HeaderSlice::from_slice(quoted).ok()?;
                if header.fragments_offset().value() != 0 {
                    return None;
                }
                let [source, destination] = [header.source(), header.destination()].map(Address::v4);
                (source, destination, header.protocol(), header.slice().len())
            }
            Family::V6 => {
                let header = Ipv6HeaderSlice::from_slice(quoted).ok()?;
                let (protocol, header_length, fragment) =
                    view::extensions(quoted, header.next_header()).ok()?;
                if fragment.is_some_and(|fragment| fragment.offset > 0) {
                    return None;
                }
                let [source, destination] = [header.source(), header.destination()].map(Address::v6);
                (source, destination, protocol, header_length)
            }
        };
        let protocol = match protocol {
            ip_number::TCP => Protocol::Tcp,
            ip_number::UDP => Protocol::Udp,
            _ => return None,
        };
        let ports = quoted.get(header_length..)?.first_chunk::<4>()?;
        Some(Self {
            family: view.family,
            network_at,
            transport_at: network_at + header_length,
            end: view.length,
            tuple: FiveTuple {
                protocol,
                source: Endpoint { address: source, port: u16::from_be_bytes([ports[0], ports[1]]) },
                destination: Endpoint {
                    address: destination,
                    port: u16::from_be_bytes([ports[2], ports[3]]),
                },
            },
        })
    }

    /// The five-tuple of the quoted packet, in the direction in which that packet went.
    pub const fn tuple(&self) -> FiveTuple {
        self.tuple
    }

    /// The quoted transport header and what follows it, as far as the quote goes.
    pub fn transport<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.transport_at..self.end).unwrap_or_default()
    }

    /// Gives the quoted packet the addresses and ports of `to`, and its checksums with them,
    /// as far as they are in the quote. RFC 5508 REQ-3 forbids to judge the quoted transport
    /// checksum; like the quoted header checksum it stays as right or wrong as it came.
    pub fn rewrite(&self, packet: &mut [u8], to: &FiveTuple) {
        let Some(quoted) = packet.get_mut(self.network_at..self.end) else { return };
        let (source_at, destination_at) = match self.family {
            Family::V4 => (12, 16),
            Family::V6 => (8, 24),
        };
        let mut addresses = Change::default();
        put(quoted, source_at, to.source.address, self.family, &mut addresses);
        put(quoted, destination_at, to.destination.address, self.family, &mut addresses);
        if self.family == Family::V4
            && let Some(field) = quoted.get_mut(10..).and_then(<[u8]>::first_chunk_mut::<2>)
        {
            *field = addresses.whole(u16::from_be_bytes(*field)).to_be_bytes();
        }
        if let Some(transport) = packet.get_mut(self.transport_at..self.end) {
            rewrite::ports(transport, to, addresses, ChecksumState::Whole);
        }
    }
}

fn put(quoted: &mut [u8], at: usize, address: Address, family: Family, change: &mut Change) {
    match family {
        Family::V4 => {
            if let Some(field) = quoted.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<4>) {
                change.field(*field, address.v4_octets());
                *field = address.v4_octets();
            }
        }
        Family::V6 => {
            if let Some(field) = quoted.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<16>) {
                change.field(*field, address.octets());
                *field = address.octets();
            }
        }
    }
}

/// Whether the checksum of an ICMP message is right.
pub fn icmp_checksum_is_right(packet: &[u8], view: &View) -> bool {
    icmp_sum(packet, view).is_some_and(|sum| sum == 0xffff)
}

/// Computes the checksum of an ICMP message anew. Only for messages whose checksum was seen to
/// be right before they were changed.
pub fn renew_icmp_checksum(packet: &mut [u8], view: &View) {
    put_icmp_checksum(packet, view, 0);
    let sum = icmp_sum(packet, view).map_or(0, |sum| !sum);
    put_icmp_checksum(packet, view, sum);
}

fn put_icmp_checksum(packet: &mut [u8], view: &View, sum: u16) {
    if let Some([_, _, field @ .., _, _, _, _]) =
        packet.get_mut(view.transport_at..).and_then(<[u8]>::first_chunk_mut::<ICMP_HEADER>)
    {
        *field = sum.to_be_bytes();
    }
}

/// The folded sum over an ICMP message with what its family adds as pseudo-header
/// (RFC 792: nothing; RFC 4443 §2.3: as for TCP), over the addresses in the packet now.
fn icmp_sum(packet: &[u8], view: &View) -> Option<u16> {
    let message = packet.get(view.transport_at..view.length)?;
    let start = match view.family {
        Family::V4 => 0,
        Family::V6 => {
            let [source, destination] = [packet.get(8..24)?, packet.get(24..40)?];
            checksum::pseudo_header(source, destination, ip_number::IPV6_ICMP.0, message.len())
        }
    };
    Some(checksum::sum(start, message))
}
