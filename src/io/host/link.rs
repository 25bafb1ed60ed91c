//! Links, addresses and routes, one small step each: what `ip link`, `ip address` and `ip route` do.
//!
//! Links go by name, as people know them; the kernel wants their index, so each step looks that up.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteFlags, RouteMessage, RouteScope};
use rtnetlink::{LinkUnspec, LinkVeth, RouteMessageBuilder};

use super::super::IoError;
use super::Netlink;

/// A route to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Where it leads: `0.0.0.0/0` or `::/0` for the default route.
    pub to: IpNet,
    /// The router that packets are given to; none where `to` is on the link itself.
    pub via: Option<IpAddr>,
    /// The link, where `via` alone does not say.
    pub device: Option<String>,
    /// Believe that `via` is on the link, though no other route says so.
    pub on_link: bool,
    /// The source address that packets of this host's own get.
    pub source: Option<IpAddr>,
}

impl Route {
    /// A route to what is on a link itself.
    pub fn on(to: IpNet, device: &str) -> Self {
        Self { to, via: None, device: Some(device.to_owned()), on_link: false, source: None }
    }

    /// A route by way of a router that another route leads to.
    pub fn via(to: IpNet, router: IpAddr) -> Self {
        Self { to, via: Some(router), device: None, on_link: false, source: None }
    }
}

fn mtu_of(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}

impl Netlink {
    /// The index of a link, where there is one of this name.
    ///
    /// # Errors
    /// Where the kernel gives no answer.
    pub fn index_of(&self, name: &str) -> Result<Option<u32>, IoError> {
        Ok(self.link(name)?.map(|link| link.header.index))
    }

    /// Whether a link of this name is up, where there is one.
    ///
    /// # Errors
    /// Where the kernel gives no answer.
    pub fn is_up(&self, name: &str) -> Result<Option<bool>, IoError> {
        Ok(self.link(name)?.map(|link| link.header.flags.contains(LinkFlags::Up)))
    }

    /// A link's MTU, where there is a link of this name.
    ///
    /// # Errors
    /// Where the kernel gives no answer.
    pub fn mtu(&self, name: &str) -> Result<Option<u32>, IoError> {
        Ok(self.link(name)?.as_ref().and_then(mtu_of))
    }

    /// The links that are up, save for the loopback, each with its name and MTU.
    ///
    /// # Errors
    /// Where the kernel gives no answer.
    pub fn mtus(&self) -> Result<Vec<(String, u32)>, IoError> {
        let links = self.list(self.handle().link().get().execute());
        let links = links.map_err(|source| IoError::netlink("list the links", source))?;
        let is_up = |link: &&LinkMessage| {
            link.header.flags.contains(LinkFlags::Up) && !link.header.flags.contains(LinkFlags::Loopback)
        };
        let name_and_mtu = |link: &LinkMessage| {
            let name = link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::IfName(name) => Some(name.clone()),
                _ => None,
            });
            Some((name?, mtu_of(link)?))
        };
        Ok(links.iter().filter(is_up).filter_map(name_and_mtu).collect())
    }

    pub(in crate::io) fn link(&self, name: &str) -> Result<Option<LinkMessage>, IoError> {
        let question = self.handle().link().get().match_name(name).execute();
        match self.list(question) {
            Ok(links) => Ok(links.into_iter().next()),
            Err(error) if is(&error, Errno::ENODEV) => Ok(None),
            Err(source) => Err(IoError::netlink(format!("look for the link {name}"), source)),
        }
    }

    /// Makes a pair of virtual Ethernet devices, each of which receives what the other sends.
    ///
    /// # Errors
    /// Where one of the names is taken, or it is not permitted.
    pub fn add_veth(&self, name: &str, peer: &str) -> Result<(), IoError> {
        let pair = LinkVeth::new(name, peer).build();
        self.ask(self.handle().link().add(pair).execute())
            .map_err(|source| IoError::netlink(format!("make the veth pair {name} and {peer}"), source))
    }

    /// Moves a link into the network namespace of a process.
    ///
    /// # Errors
    /// Where there is no such link or process, or it is not permitted.
    pub fn move_to_pid(&self, name: &str, pid: u32) -> Result<(), IoError> {
        let what = || format!("move {name} into the network namespace of process {pid}");
        self.change(name, what, |link| link.setns_by_pid(pid))
    }

    /// Gives a link another name. It must be down.
    ///
    /// # Errors
    /// Where there is no such link, the new name is taken, or it is not permitted.
    pub fn rename(&self, name: &str, new_name: &str) -> Result<(), IoError> {
        self.change(name, || format!("rename {name} to {new_name}"), |link| link.name(new_name))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// Where there is no such link, or it is not permitted.
    pub fn set_up(&self, name: &str) -> Result<(), IoError> {
        self.change(name, || format!("set {name} up"), rtnetlink::LinkMessageBuilder::up)
    }

    /// Sets a link down, whereupon its routes are gone.
    ///
    /// # Errors
    /// Where there is no such link, or it is not permitted.
    pub fn set_down(&self, name: &str) -> Result<(), IoError> {
        self.change(name, || format!("set {name} down"), rtnetlink::LinkMessageBuilder::down)
    }

    /// Sets a link's MTU.
    ///
    /// # Errors
    /// Where there is no such link, the MTU is not one for it, or it is not permitted.
    pub fn set_mtu(&self, name: &str, mtu: u32) -> Result<(), IoError> {
        self.change(name, || format!("set the MTU of {name} to {mtu}"), |link| link.mtu(mtu))
    }

    /// Sets how many packets may wait for a link.
    ///
    /// # Errors
    /// Where there is no such link, or it is not permitted.
    pub fn set_txqueuelen(&self, name: &str, packets: u32) -> Result<(), IoError> {
        let what = || format!("set the queue length of {name} to {packets}");
        self.change(name, what, |link| link.txqueuelen(packets))
    }

    /// Deletes a link; with a veth its peer goes too, wherever that is.
    ///
    /// # Errors
    /// Where there is no such link, or it is not permitted.
    pub fn delete_link(&self, name: &str) -> Result<(), IoError> {
        let what = || format!("delete the link {name}");
        let index = self.existing(name, what)?;
        self.ask(self.handle().link().del(index).execute()).map_err(|source| IoError::netlink(what(), source))
    }

    /// Gives a link an address. An IPv6 address can be used at once: it is not looked for elsewhere on
    /// the link before (RFC 4862 §5.4), since in the networks that are made here nobody else can have it.
    ///
    /// # Errors
    /// Where there is no such link, it has the address already, or it is not permitted.
    pub fn add_address(&self, name: &str, address: IpNet) -> Result<(), IoError> {
        let what = || format!("give {name} the address {address}");
        let index = self.existing(name, what)?;
        let mut request = self.handle().address().add(index, address.addr(), address.prefix_len());
        if address.addr().is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.ask(request.execute()).map_err(|source| IoError::netlink(what(), source))
    }

    /// Adds a route to the main table.
    ///
    /// # Errors
    /// Where there is one already, its link or router cannot be reached, or it is not permitted.
    pub fn add_route(&self, route: &Route) -> Result<(), IoError> {
        let what = || match (&route.via, &route.device) {
            (Some(via), _) => format!("add the route to {} via {via}", route.to),
            (None, Some(device)) => format!("add the route to {} on {device}", route.to),
            (None, None) => format!("add the route to {}", route.to),
        };
        let message = self.route_message(route, what)?;
        self.ask(self.handle().route().add(message).execute())
            .map_err(|source| IoError::netlink(what(), source))
    }

    pub(super) fn route_message(
        &self,
        route: &Route,
        what: impl Fn() -> String,
    ) -> Result<RouteMessage, IoError> {
        let to = route.to.trunc();
        let wrong = |why: &dyn std::fmt::Display| {
            IoError::netlink(what(), io::Error::new(io::ErrorKind::InvalidInput, why.to_string()))
        };
        let mut builder = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(to.addr(), to.prefix_len())
            .map_err(|why| wrong(&why))?;
        if let Some(device) = &route.device {
            builder = builder.output_interface(self.existing(device, &what)?);
        }
        if let Some(source) = route.source {
            builder = builder.pref_source(source).map_err(|why| wrong(&why))?;
        }
        match route.via {
            Some(via) => builder = builder.gateway(via).map_err(|why| wrong(&why))?,
            // The kernel refuses an IPv4 route without a router that claims a wider scope than the link.
            None if to.addr().is_ipv4() => builder = builder.scope(RouteScope::Link),
            None => {}
        }
        let mut message = builder.build();
        if route.on_link {
            message.header.flags |= RouteFlags::Onlink;
        }
        Ok(message)
    }

    pub(super) fn existing(&self, name: &str, what: impl Fn() -> String) -> Result<u32, IoError> {
        self.index_of(name)?.ok_or_else(|| IoError::InTheWay {
            what: what(),
            why: format!("there is no link of the name {name}"),
        })
    }

    fn change(
        &self,
        name: &str,
        what: impl Fn() -> String,
        make: impl FnOnce(rtnetlink::LinkMessageBuilder<LinkUnspec>) -> rtnetlink::LinkMessageBuilder<LinkUnspec>,
    ) -> Result<(), IoError> {
        let index = self.existing(name, &what)?;
        let message = make(LinkUnspec::new_with_index(index)).build();
        self.ask(self.handle().link().set(message).execute())
            .map_err(|source| IoError::netlink(what(), source))
    }
}

/// Whether an error is this one of the system's.
pub(super) fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}
