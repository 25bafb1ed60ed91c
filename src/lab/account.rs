//! The end of the story: what the balancer counted.

use std::net::SocketAddr;

use super::console::{Console, Look, list};
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
    console.heading("What the balancer counted: packets in, flows, connections, requests")?;
    let packets = &report.packets;
    let sums = match report.disagreement() {
        None => console.paint(Look::Good, "the sums agree"),
        Some(what) => console.paint(Look::Bad, what),
    };
    let ends = [
        ("forwarded", packets.forwarded),
        ("answered", packets.answered),
        ("delivered", packets.delivered),
        ("dropped", packets.dropped),
        ("held", packets.held),
    ];
    let occurred: Vec<_> = ends.iter().filter(|(_, count)| *count > 0).collect();
    let sum: Vec<_> = occurred.iter().map(|(end, count)| format!("{count} {end}")).collect();
    console.line(format_args!("   {} = {}: {sums}", packets.received, sum.join(" + ")))?;
    for (end, _) in occurred {
        let of = report.reasons.iter().filter(|reason| reason.outcome == *end);
        let reasons: Vec<_> = of.map(|reason| format!("{} {}", reason.packets, reason.reason)).collect();
        for (place, line) in list(&reasons, 66).iter().enumerate() {
            let end = if place == 0 { end } else { "" };
            console.line(format_args!("   {end:<10} {line}"))?;
        }
    }
    let flows = &report.flows;
    console.line(format_args!(
        "   {:<23} {:>5} {:>6} {:>15} {:>14} {:>7}",
        format!("{} flows, {} live", flows.opened, flows.live),
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

/// What layer 7 did.
fn print_layer7(console: &mut Console, layer7: &Layer7) -> Result<(), LabError> {
    let Connections { opened, ended } = layer7.connections;
    let requests = layer7.sites.iter().map(|site| site.requests).fold(0, u64::saturating_add);
    let answers = ["1xx", "2xx", "3xx", "4xx", "5xx"].map(|class| {
        let ends = layer7.sites.iter().flat_map(|site| &site.ends).filter(|end| end.word == class);
        (ends.fold(0, |sum: u64, end| sum.saturating_add(end.count)), class)
    });
    let answers: Vec<_> = answers.iter().filter(|(count, _)| *count > 0).collect();
    let answers: Vec<_> = answers.iter().map(|(count, class)| format!("{count} answered {class}")).collect();
    console.line(format_args!(
        "   layer 7: {opened} connections of clients, {} live; {requests} requests: {}",
        opened.saturating_sub(ended),
        if answers.is_empty() { "none answered".to_owned() } else { answers.join(", ") }
    ))?;
    let groups: Vec<_> = layer7
        .groups()
        .iter()
        .map(|group| {
            let (opened, reused) = layer7.upstreams(group);
            format!("{group} {opened}/{reused}")
        })
        .collect();
    console.line(format_args!("   upstreams opened/reused: {}", groups.join(", ")))
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
