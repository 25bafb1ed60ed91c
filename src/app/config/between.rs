//! What must hold between tables: names and listens are there once, and no address has two parts to
//! play.
//!
//! The balancer's TUN device gets what is routed to a VIP or to a local prefix. A backend
//! there would have its packets come back to the balancer for ever; a VIP among the local
//! addresses would be taken for both ends of a flow.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::backends::Backends;
use super::check::Check;
use super::groups::Groups;
use super::l4::Service;
use super::mistake::Mistake;
use super::site::Site;
use super::source::Span;
use super::tun::{self, MTU_V6, Tun};
use crate::balance::{Listen, ServiceSpec};
use crate::datapath::Nat;
use crate::packet::{Address, Family};

/// What is sent from where nobody said: the lab's prefixes.
const LOCAL: [&str; 2] = ["10.47.3.0/24", "fd47:3::/64"];

/// The most services, listens, and backends in a service: 16 bits number each of them.
const MOST: usize = 65_535;

/// What is balanced, each part checked by itself.
#[derive(Debug)]
pub struct Parts {
    /// The services of layer 4.
    pub services: Vec<Service>,
    /// The services of layer 7.
    pub sites: Vec<Site>,
    /// What those lead to.
    pub groups: Groups,
}

impl Parts {
    /// All names of services, with their places.
    fn names(&self) -> impl Iterator<Item = (&str, &Span)> {
        let services = self.services.iter().map(|service| (service.spec.name.as_str(), &service.name));
        services.chain(self.sites.iter().map(|site| (site.spec.name.as_str(), &site.name)))
    }

    /// All listens of services of both layers.
    fn listens(&self) -> impl Iterator<Item = &(Listen, Span)> {
        let sites = self.sites.iter().flat_map(|site| &site.listen);
        self.services.iter().flat_map(|service| &service.listen).chain(sites)
    }

    /// The backends of each service and group. Those that a service has from a group are there twice.
    fn backends(&self) -> impl Iterator<Item = &Backends> {
        self.services.iter().map(|service| &service.backends).chain(self.groups.members())
    }
}

/// Checks the whole. `local` is `None` where no prefixes were written.
/// Gives the device with its prefixes.
pub fn check(
    check: &mut Check,
    mut tun: Tun,
    mtu: Option<Span>,
    local: Option<tun::Local>,
    whole: &Parts,
) -> Tun {
    let services = whole.services.as_slice();
    names(check, whole);
    let vips = listens(check, whole);
    let prefixes = match local {
        Some(local) => {
            if local.complete {
                family_missing(check, services, &local.prefixes);
            }
            local.prefixes.into_iter().map(|(net, at)| (net, Some(at))).collect()
        }
        None => default_local(services),
    };
    parts(check, whole, &vips, &prefixes);
    let ipv6 = vips.keys().any(|vip| vip.family() == Family::V6)
        || prefixes.iter().any(|(net, _)| net.addr().is_ipv6());
    if let Some(at) = mtu.filter(|_| ipv6 && tun.mtu < MTU_V6) {
        let message = format!("{} {} is too small for IPv6", check.names.of("mtu"), tun.mtu);
        check.add(
            Mistake::new(at, message)
                .help("IPv6 needs at least 1280 (RFC 8200 §5), and there are IPv6 addresses here"),
        );
    }
    tun.local = prefixes.into_iter().map(|(net, _)| net).collect();
    tun
}

/// A service with its listens and backends.
pub fn complete(service: Service) -> ServiceSpec {
    ServiceSpec {
        listen: service.listen.into_iter().map(|(listen, _)| listen).collect(),
        backends: service.backends.right.into_iter().map(|(backend, _)| backend).collect(),
        ..service.spec
    }
}

/// Names of services are there once, and not too many.
fn names(check: &mut Check, whole: &Parts) {
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    let mut mistakes = Vec::new();
    for (name, at) in whole.names().filter(|(name, _)| !name.is_empty()) {
        let first = *seen.entry(name).or_insert(at);
        if first != at {
            mistakes.push(
                Mistake::new(at.clone(), format!("there are two services named `{name}`"))
                    .also(first.clone(), "first here")
                    .help("give each its own name"),
            );
        }
    }
    for mistake in mistakes {
        check.add(mistake);
    }
    too_many(check, whole.names().map(|(_, at)| at), MOST, "services");
}

/// Listens are there once over all services, and neither they nor the backends are too many. Gives the VIPs, each with the first place
/// where it is.
fn listens<'a>(check: &mut Check, whole: &'a Parts) -> HashMap<Address, &'a Span> {
    let mut seen = HashMap::new();
    let mut vips = HashMap::new();
    for (listen, at) in whole.listens() {
        vips.entry(listen.endpoint.address).or_insert(at);
        let first = *seen.entry(*listen).or_insert(at);
        if first != at {
            check.add(
                Mistake::new(at.clone(), format!("{listen} is there twice"))
                    .also(first.clone(), "first here")
                    .help("leave one out, or use another port"),
            );
        }
    }
    too_many(check, whole.listens().map(|(_, at)| at), MOST, "listens");
    for backends in whole.backends() {
        too_many(check, backends.right.iter().map(|(_, at)| at), MOST, "backends in a service");
    }
    vips
}

/// Notes the first that is one too many.
fn too_many<'a>(check: &mut Check, mut places: impl Iterator<Item = &'a Span>, most: usize, what: &str) {
    if let Some(at) = places.nth(most) {
        check.add(Mistake::new(at.clone(), format!("there can be {most} {what}, and this is one more")));
    }
}

/// Full NAT needs local addresses of each family that it sends in.
fn family_missing(check: &mut Check, services: &[Service], local: &[(IpNet, Span)]) {
    let names = check.names;
    for (family, word, example) in [(Family::V4, "IPv4", LOCAL[0]), (Family::V6, "IPv6", LOCAL[1])] {
        if local.iter().any(|(net, _)| family_of(net) == family) {
            continue;
        }
        if let Some((listen, at)) =
            full_nat(services).find(|(listen, _)| listen.endpoint.address.family() == family)
        {
            let help = format!("add one, such as {example}, or write {}", names.set("nat", "dnat"));
            check.add(
                Mistake::missing(
                    at.clone(),
                    format!(
                        "{listen} needs an {word} prefix in {}, for full NAT to send from",
                        names.of("local")
                    ),
                )
                .help(help),
            );
        }
    }
}

/// The lab's prefixes, of the families that services listen in. DNAT sends from them too, where the client's own
/// address will not do: when it is a backend's, or its flows could not be told apart.
fn default_local(services: &[Service]) -> Vec<(IpNet, Option<Span>)> {
    let listens = || services.iter().flat_map(|service| &service.listen);
    LOCAL
        .iter()
        .filter_map(|text| text.parse::<IpNet>().ok())
        .filter(|net| listens().any(|(listen, _)| listen.endpoint.address.family() == family_of(net)))
        .map(|net| (net, None))
        .collect()
}

/// All listens of services with full NAT.
fn full_nat(services: &[Service]) -> impl Iterator<Item = &(Listen, Span)> {
    services.iter().filter(|service| service.spec.nat == Nat::Full).flat_map(|service| &service.listen)
}

fn family_of(net: &IpNet) -> Family {
    if net.addr().is_ipv4() { Family::V4 } else { Family::V6 }
}

/// No address is two of VIP, backend and local.
fn parts(
    check: &mut Check,
    whole: &Parts,
    vips: &HashMap<Address, &Span>,
    prefixes: &[(IpNet, Option<Span>)],
) {
    let names = check.names;
    let inside_local = |address: Address, at: &Span, what: &str| {
        prefixes.iter().find(|(net, _)| net.contains(&IpAddr::from(address))).map(|(net, local)| {
            let mistake =
                Mistake::new(at.clone(), format!("{what} {address} is inside the local prefix {net}"));
            match local {
                Some(local) => mistake
                    .also(local.clone(), "this prefix")
                    .help("full NAT sends from the addresses of that prefix: take one that nobody else uses"),
                None => mistake.help(format!(
                    "full NAT sends from {net} because {} is not given: choose another prefix by {}",
                    names.of("local"),
                    names.list("local", "ADDRESS/LENGTH")
                )),
            }
        })
    };
    let mut mistakes = Vec::new();
    for (vip, at) in vips {
        mistakes.extend(inside_local(*vip, at, "the VIP"));
    }
    let mut seen = HashSet::new();
    let backends = whole.backends().flat_map(|backends| &backends.right);
    for (backend, at) in backends.filter(|(_, at)| seen.insert(at.clone())) {
        let address = backend.endpoint.address;
        if let Some(vip) = vips.get(&address) {
            let message = format!("backend {} has the address of a VIP", backend.endpoint);
            let help = "its packets would come back to the balancer: a backend needs an address of its own";
            mistakes.push(Mistake::new(at.clone(), message).also((*vip).clone(), "the VIP").help(help));
        } else {
            mistakes.extend(inside_local(address, at, "backend"));
        }
    }
    for mistake in mistakes {
        check.add(mistake);
    }
}
