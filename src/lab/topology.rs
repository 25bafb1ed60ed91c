//! The lab's network as data: who is in it, with which addresses, links and routes.
//!
//! ```text
//!   client ───────────── balancer ─────────────┬─ backend-1
//!   10.47.1.2            10.47.1.1, 10.47.2.1  ├─ backend-2
//!                        TUN fs0, VIP          └─ …
//! ```
//!
//! Each backend hangs on a veth of its own, with the same address at the balancer's end of each
//! and a host route to the one backend behind it. So a backend whose process is killed takes
//! its link with it, as a machine that loses power would, and no bridge is needed. What is here
//! is arithmetic only; [`host`](super::host) makes it true in a namespace.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use crate::packet::Family;

/// What the client is called.
pub const CLIENT: &str = "client";
/// What the balancer is called.
pub const BALANCER: &str = "balancer";
/// The TUN device of the balancer.
pub const TUN: &str = "fs0";
/// The VIP's port for HTTP.
pub const HTTP: u16 = 80;
/// The VIP's port for the UDP echo.
pub const ECHO: u16 = 7;
/// A port of the VIP that has no service.
pub const NOTHING: u16 = 81;
/// The VIP's port for HTTPS that ends at the balancer, at layer 7, with pooled upstreams.
pub const HTTPS: u16 = 443;
/// The same with a new upstream for each request.
pub const HTTPS_NEW: u16 = 444;
/// The VIP's port for HTTPS that goes through to a backend, at layer 4.
pub const HTTPS_THROUGH: u16 = 8443;
/// The host that the client asks for over HTTPS.
pub const SHOP: &str = "www.example.com";
/// Another one, for images only.
pub const IMAGES: &str = "img.example.com";
/// Who signs the certificate of the balancer.
pub const AUTHORITY_OF_BALANCER: &str = "the balancer's CA";
/// Who signs those of the backends.
pub const AUTHORITY_OF_BACKENDS: &str = "the backends' CA";
/// The port of every backend, for HTTP over TCP and the echo over UDP.
pub const BACKEND: u16 = 8080;
/// The port of every backend for HTTPS.
pub const BACKEND_TLS: u16 = 8443;
/// The port of every backend's echo over TCP.
pub const BACKEND_ECHO: u16 = 8007;

/// The network of one run of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    backends: u8,
}

impl Topology {
    /// How many backends there may be.
    pub const MAX_BACKENDS: u8 = 16;

    /// A network with that many backends; `None` unless there are 1 to 16.
    pub const fn new(backends: u8) -> Option<Self> {
        if backends >= 1 && backends <= Self::MAX_BACKENDS { Some(Self { backends }) } else { None }
    }

    /// The backends' numbers, from 1.
    pub fn backends(self) -> impl Iterator<Item = u8> + Clone {
        1..=self.backends
    }

    /// The backends for what is below `/api/`: the first two, as far as they are there.
    pub fn api(self) -> impl Iterator<Item = u8> + Clone {
        1..=self.backends.min(2)
    }

    /// The backends for images: all the others, or the last one where there are none.
    pub fn images(self) -> impl Iterator<Item = u8> + Clone {
        self.backends.min(3)..=self.backends
    }

    /// The address that the balancer is called by.
    pub fn vip(self, family: Family) -> IpAddr {
        address(family, 0, 1)
    }

    /// The client's address.
    pub fn client(self, family: Family) -> IpAddr {
        address(family, 1, 2)
    }

    /// The address of a backend, by its number.
    pub fn backend(self, family: Family, number: u8) -> IpAddr {
        address(family, 2, u16::from(number) + 1)
    }

    /// The balancer's address towards the client.
    pub fn client_router(self, family: Family) -> IpAddr {
        address(family, 1, 1)
    }

    /// The balancer's address towards every backend.
    pub fn backend_router(self, family: Family) -> IpAddr {
        address(family, 2, 1)
    }

    /// The addresses that full NAT sends from.
    pub fn local(self, family: Family) -> IpNet {
        match family {
            Family::V4 => subnet(address(family, 3, 0), 24),
            Family::V6 => subnet(address(family, 3, 0), 64),
        }
    }

    /// What a backend is called.
    pub fn backend_name(number: u8) -> String {
        format!("backend-{number}")
    }

    /// Whether a host is called so.
    pub fn has_host(self, name: &str) -> bool {
        [CLIENT, BALANCER].contains(&name) || self.backends().any(|number| Self::backend_name(number) == name)
    }

    /// What balances in the clear: each VIP and port, and the protocol before it.
    pub fn vips(self) -> Vec<(&'static str, SocketAddr)> {
        let at = |family, port| SocketAddr::new(self.vip(family), port);
        vec![
            ("tcp", at(Family::V4, HTTP)),
            ("udp", at(Family::V4, ECHO)),
            ("tcp", at(Family::V6, HTTP)),
            ("udp", at(Family::V6, ECHO)),
        ]
    }

    /// The endpoints of all backends, IPv4 first.
    pub fn backend_endpoints(self) -> Vec<SocketAddr> {
        let of = |family| {
            self.backends().map(move |number| SocketAddr::new(self.backend(family, number), BACKEND))
        };
        of(Family::V4).chain(of(Family::V6)).collect()
    }

    /// The client's side of its link.
    pub fn client_end(self) -> LinkEnd {
        LinkEnd {
            arrives_as: "fs-client".into(),
            name: "eth0".into(),
            addresses: both(|family| wide(self.client(family))),
            neighbours: vec![],
            gateways: both(|family| self.client_router(family)),
        }
    }

    /// The balancer's side of the client's link.
    pub fn balancer_end_to_client(self) -> LinkEnd {
        LinkEnd {
            arrives_as: "fs-to-client".into(),
            name: "client".into(),
            addresses: both(|family| wide(self.client_router(family))),
            neighbours: vec![],
            gateways: vec![],
        }
    }

    /// A backend's side of its link.
    pub fn backend_end(self, number: u8) -> LinkEnd {
        LinkEnd {
            arrives_as: format!("fs-backend-{number}"),
            name: "eth0".into(),
            addresses: both(|family| narrow(self.backend(family, number))),
            neighbours: both(|family| self.backend_router(family)),
            gateways: both(|family| self.backend_router(family)),
        }
    }

    /// The balancer's side of a backend's link.
    pub fn balancer_end_to_backend(self, number: u8) -> LinkEnd {
        LinkEnd {
            arrives_as: format!("fs-to-{number}"),
            name: Self::backend_name(number),
            addresses: both(|family| narrow(self.backend_router(family))),
            neighbours: both(|family| self.backend(family, number)),
            gateways: vec![],
        }
    }
}

/// One end of a link, as its host sets it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// The name under which it is moved into the namespace.
    pub arrives_as: String,
    /// The name that it gets there.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Addresses that are reached over it directly, beside those in its subnets.
    pub neighbours: Vec<IpAddr>,
    /// Where everything else goes: at most one of each family.
    pub gateways: Vec<IpAddr>,
}

/// The address `host` in the lab's subnet `subnet`: `10.47.SUBNET.HOST` or `fd47:SUBNET::HOST`.
fn address(family: Family, subnet: u8, host: u16) -> IpAddr {
    match family {
        Family::V4 => {
            let [_, low] = host.to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(10, 47, subnet, low))
        }
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd47, u16::from(subnet), 0, 0, 0, 0, 0, host)),
    }
}

fn both<T>(of: impl Fn(Family) -> T) -> Vec<T> {
    vec![of(Family::V4), of(Family::V6)]
}

fn wide(address: IpAddr) -> IpNet {
    subnet(address, if address.is_ipv4() { 24 } else { 64 })
}

fn narrow(address: IpAddr) -> IpNet {
    subnet(address, if address.is_ipv4() { 32 } else { 128 })
}

/// `prefix` must suit the family; every caller is above and names it.
fn subnet(address: IpAddr, prefix: u8) -> IpNet {
    match address {
        IpAddr::V4(v4) => IpNet::V4(Ipv4Net::new_assert(v4, prefix)),
        IpAddr::V6(v6) => IpNet::V6(Ipv6Net::new_assert(v6, prefix)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn one_to_sixteen_backends_make_a_network() {
        assert_eq!([0, 1, 16, 17].map(|n| Topology::new(n).is_some()), [false, true, true, false]);
    }

    #[test]
    fn each_kind_of_request_has_a_backend_and_its_own_where_there_are_enough() {
        for (backends, api, images) in [
            (1, vec![1], vec![1]),
            (2, vec![1, 2], vec![2]),
            (3, vec![1, 2], vec![3]),
            (5, vec![1, 2], vec![3, 4, 5]),
        ] {
            let lab = Topology::new(backends).unwrap();
            assert_eq!((lab.api().collect(), lab.images().collect()), (api, images), "{backends}");
        }
    }

    #[test]
    fn addresses_are_those_of_the_documentation() {
        let lab = Topology::new(3).unwrap();
        let texts: Vec<_> = [Family::V4, Family::V6]
            .into_iter()
            .flat_map(|family| [lab.vip(family), lab.client(family), lab.backend(family, 3)])
            .map(|address| address.to_string())
            .collect();
        assert_eq!(texts, ["10.47.0.1", "10.47.1.2", "10.47.2.4", "fd47::1", "fd47:1::2", "fd47:2::4"]);
        assert_eq!(lab.local(Family::V4).to_string(), "10.47.3.0/24");
        assert_eq!(lab.local(Family::V6).to_string(), "fd47:3::/64");
    }

    #[test]
    fn no_two_links_share_a_name_and_every_name_fits_the_kernel() {
        let lab = Topology::new(Topology::MAX_BACKENDS).unwrap();
        let mut ends = vec![lab.client_end(), lab.balancer_end_to_client()];
        ends.extend(lab.backends().flat_map(|n| [lab.backend_end(n), lab.balancer_end_to_backend(n)]));
        let arriving: HashSet<_> = ends.iter().map(|end| end.arrives_as.clone()).collect();
        assert_eq!(arriving.len(), ends.len());
        for end in ends {
            assert!(end.arrives_as.len() <= 15 && end.name.len() <= 15, "{end:?}");
        }
    }
}
