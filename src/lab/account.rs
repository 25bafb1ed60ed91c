//! The end of the story: what the balancer counted.

use std::net::SocketAddr;

use super::console::{Console, Look, wrap};
use super::error::LabError;
use super::report::{BackendCount, Connections, Layer7, Report};
use super::topology::Topology;
use crate::packet::Family;

/// Prints the balancer's account, and whether its sums agree.
///
/// # Errors
///
/// Nobody reads it any more.
pub fn print(console: &mut Console, topology: Topology, report: &Report) -> Result<(), LabError> {
    console.heading("What the balancer counted")?;
    let packets = &report.packets;
    let sums = match report.disagreement() {
        None => console.paint(Look::Good, "the sums agree"),
        Some(what) => console.paint(Look::Bad, what),
    };
    console.line(format_args!(
        "   {} packets in = {} forwarded + {} answered{} + {} dropped + {} held: {sums}",
        packets.received,
        packets.forwarded,
        packets.answered,
        if packets.delivered > 0 { format!(" + {} delivered", packets.delivered) } else { String::new() },
        packets.dropped,
        packets.held
    ))?;
    let reasons: Vec<_> =
        report.reasons.iter().map(|reason| format!("{} {}", reason.packets, reason.reason)).collect();
    for line in wrap(&reasons.join(", "), 74) {
        console.line(format_args!("   {line}"))?;
    }
    let flows = &report.flows;
    console.line(format_args!(
        "   {:<23} {:>5} {:>6} {:>15} {:>14} {:>7}",
        format!("layer 4: {} flows, {} live", flows.opened, flows.live),
        "flows",
        "share",
        "packets to/from",
        "bytes to/from",
        "refused"
    ))?;
    for (name, backend) in by_host(topology, report) {
        console.line(row(&name, &backend, flows.opened))?;
    }
    report.layer7.as_ref().map_or(Ok(()), |layer7| print_layer7(console, layer7))
}

/// What layer 7 did, in as few lines as there are services and groups to tell of.
fn print_layer7(console: &mut Console, layer7: &Layer7) -> Result<(), LabError> {
    let Connections { opened, ended } = layer7.connections;
    let requests = layer7.sites.iter().map(|site| site.requests).fold(0, u64::saturating_add);
    console.line(format_args!(
        "   layer 7: {opened} connections of clients, {} live; {requests} requests",
        opened.saturating_sub(ended)
    ))?;
    let ends = layer7.sites.iter().flat_map(|site| site.ends.iter().map(move |end| (&site.name, end)));
    let ends: Vec<_> = ends.map(|(site, end)| format!("{site}: {} {}", end.count, end.word)).collect();
    let groups: Vec<_> = layer7
        .groups()
        .iter()
        .map(|group| {
            let (opened, reused) = layer7.upstreams(group);
            format!("{group} {opened}/{reused}")
        })
        .collect();
    for (title, parts) in [("", ends), ("upstreams opened/reused: ", groups)] {
        for line in wrap(&format!("{title}{}", parts.join(", ")), 74) {
            console.line(format_args!("   {line}"))?;
        }
    }
    Ok(())
}

/// The backends that got flows, each with all its endpoints together.
fn by_host(topology: Topology, report: &Report) -> Vec<(String, BackendCount)> {
    let mut hosts: Vec<(String, BackendCount)> = Vec::new();
    for backend in report.backends().filter(|backend| backend.flows > 0) {
        let name = name(topology, &backend.address);
        let place = hosts.iter().position(|(known, _)| *known == name).unwrap_or_else(|| {
            hosts.push((name, BackendCount::default()));
            hosts.len() - 1
        });
        if let Some((_, sum)) = hosts.get_mut(place) {
            sum.add(backend);
        }
    }
    hosts.sort_by_key(|(name, _)| name.rsplit('-').next().and_then(|number| number.parse::<u8>().ok()));
    hosts
}

fn row(name: &str, backend: &BackendCount, flows: u64) -> String {
    let share = backend.flows.saturating_mul(100).saturating_add(flows / 2).checked_div(flows).unwrap_or(0);
    format!(
        "   {name:<23} {:>5} {:>4} % {:>15} {:>14} {:>7}",
        backend.flows,
        share,
        format!("{}/{}", backend.packets_original, backend.packets_reply),
        format!("{}/{}", backend.bytes_original, backend.bytes_reply),
        backend.refused
    )
}

/// The name of the backend with this endpoint.
fn name(topology: Topology, endpoint: &str) -> String {
    let address = endpoint.parse::<SocketAddr>().map(|endpoint| endpoint.ip());
    topology
        .backends()
        .find(|&number| {
            [Family::V4, Family::V6].iter().any(|&family| address == Ok(topology.backend(family, number)))
        })
        .map(Topology::backend_name)
        .unwrap_or_default()
}
