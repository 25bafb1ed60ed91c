//! Filters: the part of tcpdump's filter language that most people write, over IP packets.
//!
//! ```text
//!   expression   primitives joined by `and` (`&&`) and `or` (`||`), which bind alike, from left to right; `not` (`!`)
//!                binds tighter; parentheses
//!   primitive    [ip|ip6|tcp|udp] [src|dst|src or dst|src and dst] host|net|port|portrange WHAT
//!                ip  ip6  tcp  udp  icmp  icmp6        [ip|ip6] proto NUMBER|NAME
//!   WHAT         `10.0.0.1`, `10.0.0.0/8`, `10.1`, `10.0.0.0 mask 255.0.0.0`, `2001:db8::/32`, `80`, `8000-8100`
//!                a bare WHAT takes the words of the one before it: `port 80 or 443`
//! ```
//!
//! The language is that of pcap-filter(7), and what it means is what libpcap makes of it, with its corners: ports are those of
//! packets that are not later fragments, and of IPv6 packets without extension headers; a packet that was not kept as far
//! as a test looks passes no filter, not even `not`. It differs in one thing: VLAN tags are looked through. Names of
//! hosts and ports are not looked up. The tests compare it with tcpdump, packet by packet.
//!
//! A library would be better. `pcap` links libpcap, and a pure one, pktbaffle, is too young to be trusted with it.

mod parse;

#[cfg(test)]
mod tests;

use std::net::IpAddr;

use ipnet::IpNet;

pub use self::parse::FilterError;

/// A filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    root: Option<Node>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Not(Box<Self>),
    /// Long chains are lists, so that no expression is deep without parentheses.
    All(Vec<Self>),
    Any(Vec<Self>),
    Test(Test),
}

/// What one primitive asks.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Test {
    /// The family that the packet must be of.
    family: Option<Version>,
    /// The transport that it must have: one of these.
    protocols: Vec<u8>,
    ends: Ends,
    what: What,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    V4,
    V6,
}

/// Which ends of a packet are asked about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ends {
    Source,
    Destination,
    #[default]
    Either,
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// Nothing more than family and transport.
    Packet,
    Net(IpNet),
    Ports(u16, u16),
}

/// The packet was not kept as far as a test looks.
struct TooShort;

impl Filter {
    /// Whether an IP packet passes. It may be cut short.
    pub fn passes(&self, packet: &[u8]) -> bool {
        self.root.as_ref().is_none_or(|root| root.passes(packet).unwrap_or(false))
    }

    /// Whether every packet passes, because nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

impl Node {
    fn passes(&self, packet: &[u8]) -> Result<bool, TooShort> {
        match self {
            Self::Not(inner) => inner.passes(packet).map(|passes| !passes),
            Self::All(list) => {
                for node in list {
                    if !node.passes(packet)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Self::Any(list) => {
                for node in list {
                    if node.passes(packet)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Self::Test(test) => test.passes(packet),
        }
    }
}

impl Test {
    fn passes(&self, packet: &[u8]) -> Result<bool, TooShort> {
        let version = match byte(packet, 0)? >> 4 {
            4 => Version::V4,
            6 => Version::V6,
            _ => return Ok(false),
        };
        if self.family.is_some_and(|family| family != version) {
            return Ok(false);
        }
        if !self.protocols.is_empty() && !self.has_protocol(packet, version)? {
            return Ok(false);
        }
        match self.what {
            What::Packet => Ok(true),
            What::Net(net) => self.ends_pass(|end| {
                let address = match (version, end) {
                    (Version::V4, End::Source) => IpAddr::from(bytes::<4>(packet, 12)?),
                    (Version::V4, End::Destination) => IpAddr::from(bytes::<4>(packet, 16)?),
                    (Version::V6, End::Source) => IpAddr::from(bytes::<16>(packet, 8)?),
                    (Version::V6, End::Destination) => IpAddr::from(bytes::<16>(packet, 24)?),
                };
                Ok(net.contains(&address))
            }),
            What::Ports(first, last) => {
                let at = match version {
                    Version::V4 if u16::from_be_bytes(bytes(packet, 6)?) & 0x1fff != 0 => return Ok(false),
                    Version::V4 => usize::from(byte(packet, 0)? & 15) * 4,
                    Version::V6 => 40,
                };
                self.ends_pass(|end| {
                    let at = if end == End::Source { at } else { at + 2 };
                    Ok((first..=last).contains(&u16::from_be_bytes(bytes(packet, at)?)))
                })
            }
        }
    }

    /// Whether the packet says that it has one of the transports. Where ports are asked for, extension headers hide them;
    /// else libpcap looks behind the header of a fragment, and behind no other.
    fn has_protocol(&self, packet: &[u8], version: Version) -> Result<bool, TooShort> {
        const FRAGMENT: u8 = 44;
        let mut protocol = match version {
            Version::V4 => byte(packet, 9)?,
            Version::V6 => byte(packet, 6)?,
        };
        let looks_behind = self.what == What::Packet && version == Version::V6 && protocol == FRAGMENT;
        if looks_behind && !self.protocols.contains(&FRAGMENT) {
            protocol = byte(packet, 40)?;
        }
        Ok(self.protocols.contains(&protocol))
    }

    fn ends_pass(&self, mut passes: impl FnMut(End) -> Result<bool, TooShort>) -> Result<bool, TooShort> {
        match self.ends {
            Ends::Source => passes(End::Source),
            Ends::Destination => passes(End::Destination),
            Ends::Either => Ok(passes(End::Source)? || passes(End::Destination)?),
            Ends::Both => Ok(passes(End::Source)? && passes(End::Destination)?),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

fn byte(packet: &[u8], at: usize) -> Result<u8, TooShort> {
    packet.get(at).copied().ok_or(TooShort)
}

fn bytes<const N: usize>(packet: &[u8], at: usize) -> Result<[u8; N], TooShort> {
    packet.get(at..).and_then(<[u8]>::first_chunk).copied().ok_or(TooShort)
}
