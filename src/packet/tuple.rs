//! Who talks to whom: addresses of both families as one type, endpoints, and the five-tuple.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// An address of either family, sixteen bytes long; IPv4 is held in mapped form
/// (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2).
///
/// One size for both families makes tuples quick to hash and compare. A mapped address must
/// never come in from the wire as IPv6; the translator drops such packets as martians, so the
/// two families cannot be mistaken for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address([u8; 16]);

impl Address {
    /// From the four bytes of an IPv4 header field.
    #[inline]
    pub const fn v4([a, b, c, d]: [u8; 4]) -> Self {
        Self([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, d])
    }

    /// From the sixteen bytes of an IPv6 header field.
    #[inline]
    pub const fn v6(octets: [u8; 16]) -> Self {
        Self(octets)
    }

    /// Which family it is of.
    #[inline]
    pub fn family(self) -> Family {
        if u128::from_be_bytes(self.0) >> 32 == 0xffff { Family::V4 } else { Family::V6 }
    }

    /// The sixteen bytes.
    #[inline]
    pub const fn octets(self) -> [u8; 16] {
        self.0
    }

    /// The last four bytes, which are the whole of an IPv4 address.
    #[inline]
    pub const fn v4_octets(self) -> [u8; 4] {
        let [.., a, b, c, d] = self.0;
        [a, b, c, d]
    }
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.family() {
            Family::V4 => IpAddr::V4(Ipv4Addr::from(address.v4_octets())),
            Family::V6 => IpAddr::V6(Ipv6Addr::from(address.octets())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The transports that a flow can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, protocol 6.
    Tcp = 6,
    /// UDP, protocol 17.
    Udp = 17,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// An address and a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// The port, in host order.
    pub port: u16,
}

impl From<SocketAddr> for Endpoint {
    fn from(socket: SocketAddr) -> Self {
        Self { address: socket.ip().into(), port: socket.port() }
    }
}

impl From<Endpoint> for SocketAddr {
    fn from(endpoint: Endpoint) -> Self {
        SocketAddr::new(endpoint.address.into(), endpoint.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SocketAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Protocol, source and destination: what a packet says about the flow it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FiveTuple {
    /// The transport.
    pub protocol: Protocol,
    /// Where the packet is from.
    pub source: Endpoint,
    /// Where the packet goes.
    pub destination: Endpoint,
}

impl FiveTuple {
    /// The tuple that an answer carries.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self { protocol: self.protocol, source: self.destination, destination: self.source }
    }
}

impl fmt::Display for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol, self.source, self.destination)
    }
}

impl fmt::Debug for FiveTuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_family() {
        for text in ["203.0.113.7", "0.0.0.0", "255.255.255.255", "::", "::1", "2001:db8::7"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address, "{text}");
            assert_eq!(Address::from(address).family() == Family::V4, address.is_ipv4(), "{text}");
        }
    }

    #[test]
    fn a_tuple_reads_as_people_write_it() {
        let tuple = FiveTuple {
            protocol: Protocol::Tcp,
            source: "198.51.100.1:40000".parse::<SocketAddr>().unwrap().into(),
            destination: "203.0.113.1:80".parse::<SocketAddr>().unwrap().into(),
        };
        assert_eq!(tuple.to_string(), "tcp 198.51.100.1:40000 > 203.0.113.1:80");
        assert_eq!(tuple.reversed().reversed(), tuple);
    }
}
