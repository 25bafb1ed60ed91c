//! The end of the story: what the balancer counted, with a sentence for each reason.

use std::net::SocketAddr;

use super::console::{Console, Look, wrap};
use super::error::LabError;
use super::report::{BackendCount, Report};
use super::topology::Topology;
use crate::datapath::Reason;
use crate::packet::Family;

/// Columns that a sentence may take beside a count.
const SENTENCE: usize = 54;

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
    for reason in &report.reasons {
        let known = Reason::ALL.iter().find(|known| known.word() == reason.reason);
        let mut sentence = wrap(known.map_or("", |known| known.explanation()), SENTENCE).into_iter();
        let first = sentence.next().unwrap_or_default();
        console.line(format_args!("   {:>5} {:<14} {first}", reason.packets, reason.reason))?;
        for more in sentence {
            console.line(format_args!("   {:20} {more}", ""))?;
        }
    }
    let flows = &report.flows;
    console.line(format_args!(
        "   {:<27} {:>5} {:>6} {:>15} {:>16} {:>7}",
        format!("{} flows, {} live now", flows.opened, flows.live),
        "flows",
        "share",
        "packets to/from",
        "bytes to/from",
        "refused"
    ))?;
    for backend in report.backends().filter(|backend| backend.flows > 0) {
        console.line(row(topology, backend, flows.opened))?;
    }
    Ok(())
}

fn row(topology: Topology, backend: &BackendCount, flows: u64) -> String {
    let share = backend.flows.saturating_mul(100).saturating_add(flows / 2).checked_div(flows).unwrap_or(0);
    format!(
        "   {:<27} {:>5} {:>4} % {:>15} {:>16} {:>7}",
        format!("{} {}", name(topology, &backend.address), backend.address),
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
