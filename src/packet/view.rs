//! A view: where things are in one packet, after it was checked that they are there.
//!
//! etherparse reads the headers and refuses what is cut off or contradicts itself; what is
//! kept are offsets and values, so that the packet is free to be rewritten afterwards.
//! A packet is only ever read as far as the ports.

use etherparse::{
    IpNumber, Ipv4HeaderSlice, Ipv6FragmentHeaderSlice, Ipv6HeaderSlice, Ipv6RawExtHeaderSlice,
    TcpHeaderSlice, UdpHeaderSlice, ip_number,
};

use super::checksum;
use super::flags::TcpFlags;
use super::tuple::{Address, Endpoint, Family, FiveTuple, Protocol};

/// The most extension headers that an IPv6 packet may have. RFC 8200 sets no bound; nothing
/// in use comes near this one, and without it a packet of 64 KB could cost 8,000 steps.
const MAX_EXTENSIONS: usize = 16;

/// What a packet is, and where its parts are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The source address.
    pub source: Address,
    /// The destination address.
    pub destination: Address,
    /// The length by the IP header. What the frame has beyond it is padding.
    pub length: usize,
    /// Where the transport header starts; for later fragments, where their bytes do.
    pub transport_at: usize,
    /// TTL or hop limit.
    pub hops: u8,
    /// Set where the packet is one fragment of a larger one.
    pub fragment: Option<FragmentInfo>,
    /// IPv4's DF bit; true for IPv6, where routers never fragment.
    pub dont_fragment: bool,
    /// What the packet carries.
    pub transport: Transport,
}

/// Which part of a datagram a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentInfo {
    /// The identification that all fragments of the datagram share.
    pub id: u32,
    /// Where the field with the identification is.
    pub id_at: usize,
    /// The place of its bytes in the datagram, which end at 65,535 or before. Zero for the
    /// first, which has the ports.
    pub offset: u16,
    /// Whether more fragments follow.
    pub more: bool,
    /// The protocol of the datagram.
    pub protocol: u8,
}

/// What a packet carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A TCP segment.
    Tcp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
        /// The flags that matter to who watches a connection.
        flags: TcpFlags,
        /// Length of the TCP header with its options.
        header_length: usize,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        source_port: u16,
        /// Destination port.
        destination_port: u16,
    },
    /// An ICMP message, of the packet's own family.
    Icmp {
        /// The type.
        kind: u8,
        /// The code.
        code: u8,
    },
    /// A fragment that is not the first one: its transport header is elsewhere.
    LaterFragment,
    /// Some other protocol.
    Other(u8),
}

/// Why a packet has no view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Neither version, or a header is cut off or contradicts itself.
    #[error("not a whole IPv4 or IPv6 packet")]
    Malformed,
    /// The IPv4 header checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    HeaderChecksum,
    /// A first fragment that does not have all headers (RFC 1858 §4.2.1, RFC 7112 §5), or a
    /// later one that would overwrite part of them (RFC 3128).
    #[error("fragment cuts or overwrites the transport header")]
    TinyFragment,
    /// Translating it would break it (authentication header), or it asks to be routed by its
    /// sender's list (RFC 5095; over IPv4, RFC 7126 §4.3 and §4.4 advise to drop it), whose
    /// end and not the destination address is what its checksum covers.
    #[error("authenticated or source-routed")]
    Unsupported,
}

impl View {
    /// Reads a packet.
    ///
    /// # Errors
    /// What is wrong with it; any bytes at all give one or the other.
    #[inline]
    pub fn of(packet: &[u8]) -> Result<Self, Unreadable> {
        match packet.first().map(|byte| byte >> 4) {
            Some(4) => Self::of_v4(packet),
            Some(6) => Self::of_v6(packet),
            _ => Err(Unreadable::Malformed),
        }
    }

    fn of_v4(packet: &[u8]) -> Result<Self, Unreadable> {
        let header = Ipv4HeaderSlice::from_slice(packet).map_err(|_| Unreadable::Malformed)?;
        let transport_at = header.slice().len();
        let length = usize::from(header.total_len());
        if length < transport_at || length > packet.len() {
            return Err(Unreadable::Malformed);
        }
        if checksum::of_header(header.slice()) != 0 {
            return Err(Unreadable::HeaderChecksum);
        }
        if !header.options().is_empty() {
            options(header.options())?;
        }
        let fragment = header.is_fragmenting_payload().then(|| FragmentInfo {
            id: u32::from(header.identification()),
            id_at: 4,
            offset: header.fragments_offset().byte_offset(),
            more: header.more_fragments(),
            protocol: header.protocol().0,
        });
        let payload = packet.get(transport_at..length).unwrap_or_default();
        reassembles(fragment, payload.len())?;
        Ok(Self {
            family: Family::V4,
            source: Address::v4(header.source()),
            destination: Address::v4(header.destination()),
            length,
            transport_at,
            hops: header.ttl(),
            fragment,
            dont_fragment: header.dont_fragment(),
            transport: transport(Family::V4, header.protocol(), payload, fragment)?,
        })
    }

    fn of_v6(packet: &[u8]) -> Result<Self, Unreadable> {
        let header = Ipv6HeaderSlice::from_slice(packet).map_err(|_| Unreadable::Malformed)?;
        let length = header.header_len() + usize::from(header.payload_length());
        if length > packet.len() {
            return Err(Unreadable::Malformed);
        }
        let (protocol, transport_at, fragment) =
            extensions(packet.get(..length).unwrap_or_default(), header.next_header())?;
        let payload = packet.get(transport_at..length).unwrap_or_default();
        reassembles(fragment, payload.len())?;
        Ok(Self {
            family: Family::V6,
            source: Address::v6(header.source()),
            destination: Address::v6(header.destination()),
            length,
            transport_at,
            hops: header.hop_limit(),
            fragment,
            dont_fragment: true,
            transport: transport(Family::V6, protocol, payload, fragment)?,
        })
    }

    /// The five-tuple, where the packet has ports.
    #[inline]
    pub fn tuple(&self) -> Option<FiveTuple> {
        let (protocol, source_port, destination_port) = match self.transport {
            Transport::Tcp { source_port, destination_port, .. } => {
                (Protocol::Tcp, source_port, destination_port)
            }
            Transport::Udp { source_port, destination_port } => {
                (Protocol::Udp, source_port, destination_port)
            }
            Transport::Icmp { .. } | Transport::LaterFragment | Transport::Other(_) => return None,
        };
        Some(FiveTuple {
            protocol,
            source: Endpoint { address: self.source, port: source_port },
            destination: Endpoint { address: self.destination, port: destination_port },
        })
    }
}

/// Refuses IPv4 options that no host would take, and source routes.
#[cold]
fn options(mut rest: &[u8]) -> Result<(), Unreadable> {
    loop {
        rest = match rest {
            [] | [0, ..] => return Ok(()),
            [1, behind @ ..] => behind,
            [131 | 137, ..] => return Err(Unreadable::Unsupported),
            [_, length, ..] if *length >= 2 => {
                rest.get(usize::from(*length)..).ok_or(Unreadable::Malformed)?
            }
            _ => return Err(Unreadable::Malformed),
        };
    }
}

/// Refuses a fragment that ends beyond the longest datagram (RFC 8200 §4.5; over IPv4 it is
/// known as the ping of death): nobody could put it together.
fn reassembles(fragment: Option<FragmentInfo>, length: usize) -> Result<(), Unreadable> {
    match fragment {
        Some(fragment) if usize::from(fragment.offset) + length > usize::from(u16::MAX) => {
            Err(Unreadable::Malformed)
        }
        _ => Ok(()),
    }
}

/// Walks the extension headers of an IPv6 packet: what comes behind them, where, and whether
/// it is a fragment. Unlike etherparse's own walk it stops at a later fragment, whose bytes
/// are no headers.
pub(super) fn extensions(
    packet: &[u8],
    first: IpNumber,
) -> Result<(IpNumber, usize, Option<FragmentInfo>), Unreadable> {
    let mut next = first;
    let mut at = 40;
    let mut fragment = None;
    for _ in 0..=MAX_EXTENSIONS {
        let rest = packet.get(at..).unwrap_or_default();
        match next {
            ip_number::IPV6_HOP_BY_HOP if at != 40 => return Err(Unreadable::Malformed),
            ip_number::IPV6_HOP_BY_HOP | ip_number::IPV6_DEST_OPTIONS | ip_number::IPV6_ROUTE => {
                let header = Ipv6RawExtHeaderSlice::from_slice(rest).map_err(|_| cut(fragment))?;
                let segments_left = header.slice().get(3).copied().unwrap_or(0);
                if next == ip_number::IPV6_ROUTE && segments_left != 0 {
                    return Err(Unreadable::Unsupported);
                }
                next = header.next_header();
                at += header.slice().len();
            }
            ip_number::IPV6_FRAG if fragment.is_some() => return Err(Unreadable::Malformed),
            ip_number::IPV6_FRAG => {
                let header = Ipv6FragmentHeaderSlice::from_slice(rest).map_err(|_| Unreadable::Malformed)?;
                next = header.next_header();
                // RFC 6946: one that is its own first and last is handled as if it were whole.
                if header.is_fragmenting_payload() {
                    fragment = Some(FragmentInfo {
                        id: header.identification(),
                        id_at: at + 4,
                        offset: header.fragment_offset().byte_offset(),
                        more: header.more_fragments(),
                        protocol: next.0,
                    });
                }
                at += header.slice().len();
                if fragment.is_some_and(|fragment| fragment.offset > 0) {
                    return Ok((next, at, fragment));
                }
            }
            ip_number::AUTH => return Err(Unreadable::Unsupported),
            _ => return Ok((next, at, fragment)),
        }
    }
    Err(Unreadable::Malformed)
}

/// Why a header that is cut off is refused.
const fn cut(fragment: Option<FragmentInfo>) -> Unreadable {
    match fragment {
        Some(_) => Unreadable::TinyFragment,
        None => Unreadable::Malformed,
    }
}

#[inline]
fn transport(
    family: Family,
    protocol: IpNumber,
    payload: &[u8],
    fragment: Option<FragmentInfo>,
) -> Result<Transport, Unreadable> {
    if let Some(FragmentInfo { offset: offset @ 1.., .. }) = fragment {
        // RFC 3128: a second fragment at byte 8 would overwrite the TCP flags of the first.
        return if protocol == ip_number::TCP && offset < 20 {
            Err(Unreadable::TinyFragment)
        } else {
            Ok(Transport::LaterFragment)
        };
    }
    match (protocol, family) {
        (ip_number::TCP, _) => {
            let header = TcpHeaderSlice::from_slice(payload).map_err(|_| cut(fragment))?;
            Ok(Transport::Tcp {
                source_port: header.source_port(),
                destination_port: header.destination_port(),
                flags: TcpFlags(header.slice().get(13).map_or(0, |flags| flags & TcpFlags::WATCHED)),
                header_length: header.slice().len(),
            })
        }
        (ip_number::UDP, _) => {
            let header = UdpHeaderSlice::from_slice(payload).map_err(|_| cut(fragment))?;
            let length = usize::from(header.length());
            if length < 8 || (length > payload.len() && fragment.is_none()) {
                return Err(Unreadable::Malformed);
            }
            Ok(Transport::Udp {
                source_port: header.source_port(),
                destination_port: header.destination_port(),
            })
        }
        (ip_number::ICMP, Family::V4) | (ip_number::IPV6_ICMP, Family::V6) => match payload {
            [kind, code, _, _, _, _, _, _, ..] => Ok(Transport::Icmp { kind: *kind, code: *code }),
            _ => Err(cut(fragment)),
        },
        (ip_number::AUTH, _) => Err(Unreadable::Unsupported),
        (other, _) => Ok(Transport::Other(other.0)),
    }
}
