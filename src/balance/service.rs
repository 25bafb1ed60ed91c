//! Virtual services: where they listen, how they translate, and which backends they have.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::datapath::{BackendId, Nat, ServiceId};
use crate::packet::{Endpoint, Family, Protocol};

use super::backend::BackendSpec;
use super::error::BalanceError;
use super::scheduler::{Group, SchedulerKind};

/// Where a virtual service takes flows: written `tcp/10.47.0.1:80` or `udp/[fd47::1]:53`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    /// The transport.
    pub protocol: Protocol,
    /// The VIP and the port.
    pub endpoint: Endpoint,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.endpoint)
    }
}

impl FromStr for Listen {
    type Err = BalanceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |why| BalanceError::BadListen { text: text.to_owned(), why };
        let (protocol, endpoint) = text
            .split_once('/')
            .ok_or_else(|| bad("write it like `tcp/10.47.0.1:80` or `udp/[fd47::1]:53`"))?;
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return Err(bad("what stands before the `/` must be tcp or udp")),
        };
        let socket: SocketAddr = endpoint.parse().map_err(|_| {
            bad("what stands behind the `/` must be an address and a port, an IPv6 address in brackets")
        })?;
        if let SocketAddr::V6(v6) = socket {
            if v6.ip().to_ipv4_mapped().is_some() {
                return Err(bad("an IPv4 address must be written as one, without ::ffff:"));
            }
            if v6.scope_id() != 0 {
                return Err(bad("an address with a scope (`%`) cannot be a VIP"));
            }
        }
        Ok(Self { protocol, endpoint: socket.into() })
    }
}

/// A virtual service as configured.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// What people call it.
    pub name: String,
    /// Where it listens. Families may be mixed.
    pub listen: Vec<Listen>,
    /// What is rewritten.
    pub nat: Nat,
    /// How backends are picked.
    pub scheduler: SchedulerKind,
    /// Where its flows go. Families may be mixed; a flow stays in the family of its VIP.
    pub backends: Vec<BackendSpec>,
}

/// One listen of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vip {
    /// Protocol, address and port.
    pub listen: Listen,
    /// The service that listens there.
    pub service: ServiceId,
}

/// A virtual service at work.
#[derive(Debug)]
pub struct Service {
    /// What people call it.
    pub name: String,
    /// What is rewritten.
    pub nat: Nat,
    /// How backends are picked.
    pub scheduler: SchedulerKind,
    /// All its backends, draining ones as well, in the order of the configuration.
    pub backends: Vec<BackendId>,
    pub(super) v4: Group,
    pub(super) v6: Group,
}

impl Service {
    /// The backends among which flows of this family are shared out.
    pub(super) fn group(&self, family: Family) -> &Group {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listen_is_written_as_it_is_read() {
        for text in ["tcp/10.47.0.1:80", "udp/10.47.0.1:53", "tcp/[fd47::1]:443", "udp/[2001:db8::7]:65535"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_listen_that_cannot_be_read_says_what_to_write() {
        for (text, hint) in [
            ("", "write it like"),
            ("10.47.0.1:80", "write it like"),
            ("sctp/10.47.0.1:80", "tcp or udp"),
            ("TCP/10.47.0.1:80", "tcp or udp"),
            ("tcp/10.47.0.1", "address and a port"),
            ("tcp/fd47::1:80", "in brackets"),
            ("tcp/10.47.0.1:65536", "address and a port"),
            ("tcp/www.example.com:80", "address and a port"),
            ("tcp/[::ffff:10.47.0.1]:80", "without ::ffff:"),
            ("tcp/[fe80::1%3]:80", "scope"),
        ] {
            let error = text.parse::<Listen>().unwrap_err().to_string();
            assert!(error.contains(hint), "`{text}`: {error}");
        }
    }

    #[test]
    fn nat_modes_are_written_as_they_are_read() {
        for nat in [Nat::Full, Nat::Dnat] {
            assert_eq!(nat.to_string().parse(), Ok(nat));
        }
    }
}
