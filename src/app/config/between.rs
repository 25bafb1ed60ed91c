//! What must hold between tables: names and listens are there once, and no address has two parts to
//! play.
//!
//! The balancer's TUN device gets what is routed to a VIP or to a local prefix. A backend
//! there would have its packets come back to the balancer for ever; a VIP among the local
//! addresses would be taken for both ends of a flow.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::check::Check;
use super::mistake::Mistake;
use super::service::Service;
use super::source::Span;
use super::tun::{self, MTU_V6, Tun};
use crate::balance::{Listen, ServiceSpec};
use crate::datapath::Nat;
use crate::packet::{Address, Family};

/// What is sent from where nobody said: the lab's prefixes.
const LOCAL: [&str; 2] = ["10.47.3.0/24", "fd47:3::/64"];

/// The most services, listens, and backends in a service: 16 bits number each of them.
const MOST: usize = 65_535;

/// Checks the whole. `local` is `None` where no prefixes were written.
/// Gives the device with its prefixes, and the services.
pub fn check(
    check: &mut Check,
    mut tun: Tun,
    mtu: Option<Span>,
    local: Option<tun::Local>,
    services: Vec<Service>,
) -> (Tun, Vec<ServiceSpec>) {
    names(check, &services);
    let vips = listens(check, &services);
    let prefixes = match local {
        Some(local) => {
            if local.complete {
                family_missing(check, &services, &local.prefixes);
            }
            local.prefixes.into_iter().map(|(net, at)| (net, Some(at))).collect()
        }
        None => default_local(&services),
    };
    parts(check, &services, &vips, &prefixes);
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
    (tun, services.into_iter().map(complete).collect())
}

fn complete(service: Service) -> ServiceSpec {
    ServiceSpec {
        listen: service.listen.into_iter().map(|(listen, _)| listen).collect(),
        backends: service.backends.into_iter().map(|(backend, _)| backend).collect(),
        ..service.spec
    }
}

/// Names of services are there once, and not too many.
fn names(check: &mut Check, services: &[Service]) {
    let mut seen: HashMap<&str, &Span> = HashMap::new();
    for service in services {
        if service.spec.name.is_empty() {
            continue;
        }
        let first = *seen.entry(&service.spec.name).or_insert(&service.name);
        if *first != service.name {
            check.add(
                Mistake::new(
                    service.name.clone(),
                    format!("there are two services named `{}`", service.spec.name),
                )
                .also(first.clone(), "first here")
                .help("give each its own name"),
            );
        }
    }
    too_many(check, services.iter().map(|service| &service.name), MOST, "services");
}

/// Listens are there once over all services, and neither they nor the backends are too many. Gives the VIPs, each with the first place
/// where it is.
fn listens<'a>(check: &mut Check, services: &'a [Service]) -> HashMap<Address, &'a Span> {
    let mut seen = HashMap::new();
    let mut vips = HashMap::new();
    for (listen, at) in services.iter().flat_map(|service| &service.listen) {
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
    too_many(check, services.iter().flat_map(|service| &service.listen).map(|(_, at)| at), MOST, "listens");
    for service in services {
        too_many(check, service.backends.iter().map(|(_, at)| at), MOST, "backends in a service");
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
    services: &[Service],
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
    for (backend, at) in services.iter().flat_map(|service| &service.backends) {
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
