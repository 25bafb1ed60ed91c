//! The routes that lead packets to the device, and what must not be in their way.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::RouteMessageBuilder;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteType};

use super::super::IoError;
use super::Netlink;
use super::journal::{Journal, Undo};
use super::link::{Route, is};

/// The table in which everything leads to the device.
pub(super) const TABLE: u32 = 4747;

/// Leads a prefix to the device. A route that is there already and leads there is left as it is.
pub(super) fn add(netlink: &Netlink, journal: &mut Journal, to: IpNet, device: &str) -> Result<(), IoError> {
    add_to(netlink, journal, None, to, device, format!("route {to} to {device}"))
}

/// Leads everything in our own table to the device.
pub(super) fn add_default(
    netlink: &Netlink,
    journal: &mut Journal,
    to: IpNet,
    device: &str,
) -> Result<(), IoError> {
    let what = format!("route {to} to {device} in table {TABLE}");
    add_to(netlink, journal, Some(TABLE), to, device, what)
}

fn add_to(
    netlink: &Netlink,
    journal: &mut Journal,
    table: Option<u32>,
    to: IpNet,
    device: &str,
    what: String,
) -> Result<(), IoError> {
    let asked = || format!("add the {what}");
    let mut message = netlink.route_message(&Route::on(to, device), asked)?;
    if let Some(table) = table {
        message.header.table = 0;
        message.attributes.push(RouteAttribute::Table(table));
    }
    match netlink.ask(netlink.handle().route().add(message.clone()).execute()) {
        Ok(()) => {
            journal.did(what, Undo::Route(message));
            Ok(())
        }
        Err(error) if is(&error, Errno::EEXIST) => {
            let ours = oif(&message);
            let same = |route: &RouteMessage| {
                table_of(route) == table_of(&message) && destination(route) == Some(to.trunc())
            };
            let others: BTreeSet<_> = all(netlink)?.iter().filter(|route| same(route)).map(oif).collect();
            if others.iter().all(|oif| *oif == ours) {
                return Ok(());
            }
            let links = names(netlink, others.into_iter().flatten())?.join(", ");
            let why = format!(
                "there is one already, which leads to {links} (remove it, or choose another address)"
            );
            Err(IoError::InTheWay { what: asked(), why })
        }
        Err(source) => Err(IoError::netlink(asked(), source)),
    }
}

/// The devices, other than this one, to which our own table leads.
pub(super) fn owners_of_table(netlink: &Netlink, device: &str) -> Result<Vec<String>, IoError> {
    let ours = netlink.index_of(device)?;
    let routes = all(netlink)?;
    let oifs: BTreeSet<_> = routes.iter().filter(|route| table_of(route) == TABLE).filter_map(oif).collect();
    names(netlink, oifs.into_iter().filter(|oif| Some(*oif) != ours))
}

/// The link on which packets to an address leave; `None` for an address of this host. An address to which
/// no route leads is an error.
pub(super) fn link_to(netlink: &Netlink, address: IpAddr) -> Result<Option<String>, IoError> {
    let host = IpNet::from(address);
    let what = || format!("find the link to {address}");
    let question = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(address, host.prefix_len())
        .map_err(|why| IoError::netlink(what(), std::io::Error::other(why)))?
        .build();
    let routes = netlink
        .list(netlink.handle().route().get(question).execute())
        .map_err(|source| IoError::netlink(what(), source))?;
    let route = routes.into_iter().find(|route| route.header.kind != RouteType::Local);
    let names = names(netlink, route.as_ref().and_then(oif))?;
    Ok(names.into_iter().next())
}

/// This host's own addresses with the nets that they are in, and each with its link.
pub(super) fn own_addresses(netlink: &Netlink) -> Result<Vec<(IpNet, String)>, IoError> {
    let failed = |source| IoError::netlink("list the addresses of this host", source);
    let addresses = netlink.list(netlink.handle().address().get().execute()).map_err(failed)?;
    let mut own = Vec::new();
    for address in addresses {
        let link = names(netlink, [address.header.index])?.pop().unwrap_or_default();
        // With a peer, `Local` is ours and `Address` is the peer's; without, IPv6 has only the second.
        let find =
            |wanted: fn(&AddressAttribute) -> Option<IpAddr>| address.attributes.iter().find_map(wanted);
        let local = find(|attribute| match attribute {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let only = || {
            find(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })
        };
        let net = local.or_else(only).and_then(|ip| IpNet::new(ip, address.header.prefix_len).ok());
        own.extend(net.map(|net| (net, link)));
    }
    Ok(own)
}

/// Gives a device the address for links that have none (RFC 7600 §4.8), unless it has it: nothing is sent from it.
pub(super) fn add_dummy_address(netlink: &Netlink, device: &str) -> Result<Option<AddressMessage>, IoError> {
    let what = || format!("give {device} the address {DUMMY}");
    let index = netlink.existing(device, what)?;
    let mut request = netlink.handle().address().add(index, DUMMY.into(), 32);
    request.message_mut().header.scope = AddressScope::Host;
    let message = request.message_mut().clone();
    match netlink.ask(request.execute()) {
        Ok(()) => Ok(Some(message)),
        Err(error) if is(&error, Errno::EEXIST) => Ok(None),
        Err(source) => Err(IoError::netlink(what(), source)),
    }
}

const DUMMY: Ipv4Addr = Ipv4Addr::new(192, 0, 0, 8);

/// The links on which IPv6 routes were learned from router advertisements.
pub(super) fn links_with_advertised_routes(netlink: &Netlink) -> Result<Vec<String>, IoError> {
    let advertised: BTreeSet<_> = all(netlink)?
        .iter()
        .filter(|route| route.header.protocol == RouteProtocol::Ra)
        .filter_map(oif)
        .collect();
    names(netlink, advertised)
}

/// All routes of both families and all tables.
fn all(netlink: &Netlink) -> Result<Vec<RouteMessage>, IoError> {
    let failed = |source| IoError::netlink("list the routes", source);
    let mut routes = Vec::new();
    for question in
        [RouteMessageBuilder::<Ipv4Addr>::new().build(), RouteMessageBuilder::<Ipv6Addr>::new().build()]
    {
        routes.extend(netlink.list(netlink.handle().route().get(question).execute()).map_err(failed)?);
    }
    Ok(routes)
}

fn names(netlink: &Netlink, indices: impl IntoIterator<Item = u32>) -> Result<Vec<String>, IoError> {
    let mut names = Vec::new();
    for index in indices {
        let question = netlink.handle().link().get().match_index(index).execute();
        let links = match netlink.list(question.map_ok(|link| link.attributes)) {
            Err(error) if is(&error, Errno::ENODEV) => continue,
            answer => answer.map_err(|source| IoError::netlink(format!("look for link {index}"), source))?,
        };
        names.extend(links.into_iter().flatten().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        }));
    }
    Ok(names)
}

fn oif(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn table_of(route: &RouteMessage) -> u32 {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or_else(|| route.header.table.into())
}

/// A route's destination; a default route has none to say.
fn destination(route: &RouteMessage) -> Option<IpNet> {
    use rtnetlink::packet_route::AddressFamily;
    use rtnetlink::packet_route::route::RouteAddress;
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    });
    let unspecified = match route.header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(address.unwrap_or(unspecified), route.header.destination_prefix_length).ok()
}
