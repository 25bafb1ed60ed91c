//! What a run comes to: one value, shown as tables or as JSON, so that the two cannot disagree.

use std::fmt;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::balance::ServiceSpec;
use crate::datapath::{BackendTotals, Outcome, Totals};

mod layer7;

pub use crate::app::record::Summary as Capture;
pub use layer7::{
    CacheCounts, Connections, GroupCounts, Layer7, LogCounts, SiteCounts, UpstreamCounts, WordCount,
};

/// What happened to packets and flows, up to one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Packets by what became of them.
    pub packets: Packets,
    /// The same by reason; only what occurred.
    pub reasons: Vec<ReasonCount>,
    /// Flows.
    pub flows: FlowCounts,
    /// Services with their backends, in the order of the configuration.
    pub services: Vec<ServiceCounts>,
    /// What layer 7 did, where it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer7: Option<Layer7>,
    /// What was written of it, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capture: Option<Capture>,
    /// Whether every packet that came in is accounted for.
    pub agree: bool,
}

/// Packets by what became of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Packets {
    /// Came in.
    pub received: u64,
    /// Went on.
    pub forwarded: u64,
    /// Were answered by the balancer.
    pub answered: u64,
    /// Ended in a connection of the balancer's own.
    pub delivered: u64,
    /// Went nowhere.
    pub dropped: u64,
    /// Wait, for a fragment or for packets before them.
    pub held: u64,
    /// Were in the hands of workers, or between two of them, when a run that goes on was asked.
    #[serde(skip_serializing_if = "is_zero")]
    pub under_way: u64,
    /// Were sent by the balancer on its own; they had not come in.
    pub originated: u64,
    /// Came on a queue whose worker does not own the flow.
    pub handed_over: u64,
    /// Waited for those before them of their flow, which had come on another queue.
    pub waited_for_order: u64,
    /// Waited, and were let go before that was certain.
    pub order_given_up: u64,
    /// Would have been answered but for the rate limit.
    pub answers_suppressed: u64,
}

/// How often something was done for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ReasonCount {
    /// What was done, as [`Outcome::word`] has it.
    pub outcome: &'static str,
    /// Why, as [`Reason::word`](crate::datapath::Reason::word) has it.
    pub reason: &'static str,
    /// The same in a sentence.
    #[serde(skip)]
    pub explanation: &'static str,
    /// How often.
    pub packets: u64,
}

/// Flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// Were opened.
    pub opened: u64,
    /// Ended, by close or by idle timeout.
    pub ended: u64,
    /// Closed and half-open flows that gave way to new ones before their time.
    pub reclaimed: u64,
    /// Are in the table.
    pub live: u64,
}

/// One service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceCounts {
    /// What it is called.
    pub name: String,
    /// Its backends.
    pub backends: Vec<BackendCounts>,
}

/// One backend of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendCounts {
    /// Where it is.
    pub address: String,
    /// Flows that it was given.
    pub flows: u64,
    /// Packets from clients to it.
    pub packets_original: u64,
    /// Packets from it to clients.
    pub packets_reply: u64,
    /// Bytes from clients to it.
    pub bytes_original: u64,
    /// Bytes from it to clients.
    pub bytes_reply: u64,
    /// Flows that it refused.
    pub refused: u64,
}

impl Report {
    /// From what the workers counted. `live` is how many flows the table holds.
    pub fn new(services: &[ServiceSpec], totals: &Totals, live: u64) -> Self {
        // Backends are numbered over all services, in the order of the configuration.
        let mut counts = totals.backends.iter().copied();
        let services = services.iter().map(|service| ServiceCounts {
            name: service.name.clone(),
            backends: service
                .backends
                .iter()
                .map(|backend| {
                    BackendCounts::new(backend.endpoint.to_string(), counts.next().unwrap_or_default())
                })
                .collect(),
        });
        Self {
            packets: Packets {
                received: totals.received,
                forwarded: totals.ended(Outcome::Forwarded),
                answered: totals.ended(Outcome::Answered),
                delivered: totals.ended(Outcome::Delivered),
                dropped: totals.ended(Outcome::Dropped),
                held: totals.held,
                under_way: 0,
                originated: totals.originated,
                handed_over: totals.handed_over,
                waited_for_order: totals.waited_for_order,
                order_given_up: totals.order_given_up,
                answers_suppressed: totals.answers_suppressed,
            },
            reasons: totals
                .ends
                .iter()
                .map(|&(outcome, reason, packets)| ReasonCount {
                    outcome: outcome.word(),
                    reason: reason.word(),
                    explanation: reason.explanation(),
                    packets,
                })
                .collect(),
            services: services.collect(),
            layer7: None,
            capture: None,
            flows: FlowCounts {
                opened: totals.backends.iter().map(|backend| backend.flows).sum(),
                ended: totals.flows_ended,
                reclaimed: totals.flows_reclaimed,
                live,
            },
            agree: totals.agree(),
        }
    }

    /// The same of a run that goes on: what came in and is not accounted for is under way.
    #[must_use]
    pub fn in_between(mut self) -> Self {
        let Packets { received, forwarded, answered, delivered, dropped, held, .. } = self.packets;
        let accounted = forwarded + answered + delivered + dropped + held;
        self.packets.under_way = received.saturating_sub(accounted);
        self.agree = accounted <= received;
        self
    }

    /// The same with what layer 7 did.
    #[must_use]
    pub fn with_layer7(mut self, layer7: Option<Layer7>) -> Self {
        self.layer7 = layer7;
        self
    }

    /// As JSON, on one line.
    ///
    /// # Errors
    /// Never: all keys are strings and all numbers fit.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string(self)
    }
}

impl BackendCounts {
    fn new(address: String, totals: BackendTotals) -> Self {
        let BackendTotals { flows, packets_original, packets_reply, bytes_original, bytes_reply, refused } =
            totals;
        Self { address, flows, packets_original, packets_reply, bytes_original, bytes_reply, refused }
    }
}

/// As tables, for people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Packets {
            received,
            forwarded,
            answered,
            delivered,
            dropped,
            held,
            under_way,
            originated,
            handed_over,
            waited_for_order,
            order_given_up,
            answers_suppressed,
        } = self.packets;
        write!(
            f,
            "packets  {} received: {} forwarded, {} answered, {}{} dropped",
            number(received),
            number(forwarded),
            number(answered),
            if delivered > 0 { number(delivered) + " delivered, " } else { String::new() },
            number(dropped)
        )?;
        for (count, what) in [
            (originated, "sent besides, for connections that end here"),
            (held, "waiting for a fragment, or for packets before them"),
            (under_way, "under way in the balancer at this moment"),
            (handed_over, "of them handed from one worker to another"),
            (waited_for_order, "of them waited for those before them, which came on another queue"),
            (order_given_up, "of those waited too long and may have overtaken one"),
            (answers_suppressed, "answers not sent, to keep within the rate limit"),
        ] {
            if count > 0 {
                write!(f, "\n         {} {what}", number(count))?;
            }
        }
        let FlowCounts { opened, ended, reclaimed, live } = self.flows;
        write!(f, "\nflows    {} opened: {} ended, {} live", number(opened), number(ended), number(live))?;
        if reclaimed > 0 {
            write!(
                f,
                "\n         {} closed or half-open ones gave way before their time, to make room",
                number(reclaimed)
            )?;
        }
        writeln!(f)?;
        if !self.services.is_empty() {
            writeln!(f, "\n{}", self.backends().trim_fmt())?;
        }
        if let Some(layer7) = &self.layer7 {
            write!(f, "{layer7}")?;
        }
        if let Some(capture) = &self.capture {
            writeln!(f, "\n{capture}")?;
        }
        if self.reasons.is_empty() {
            writeln!(f, "\nNo packet came in. Do clients have a route for the VIP to this host?")?;
        } else {
            writeln!(f, "\n{}", self.reasons().trim_fmt())?;
        }
        if !self.agree {
            writeln!(
                f,
                "\nThe sums do NOT agree: {} packets came in, and {} are accounted for. This is a defect.",
                number(received),
                number(forwarded + answered + delivered + dropped + held)
            )?;
        }
        Ok(())
    }
}

impl Report {
    fn backends(&self) -> Table {
        let mut table = plain(&[
            "service",
            "backend",
            "flows",
            "share",
            "packets to it",
            "from it",
            "bytes to it",
            "from it",
            "refused",
        ]);
        for service in &self.services {
            let flows: u64 = service.backends.iter().map(|backend| backend.flows).sum();
            for (place, backend) in service.backends.iter().enumerate() {
                table.add_row([
                    if place == 0 { service.name.clone() } else { String::new() },
                    backend.address.clone(),
                    number(backend.flows),
                    share(backend.flows, flows),
                    number(backend.packets_original),
                    number(backend.packets_reply),
                    bytes(backend.bytes_original),
                    bytes(backend.bytes_reply),
                    number(backend.refused),
                ]);
            }
        }
        right(&mut table, 2..9);
        // A number in two lines is no number: rather let a line be too long.
        table.set_content_arrangement(ContentArrangement::Disabled);
        table
    }

    fn reasons(&self) -> Table {
        let mut table = plain(&["outcome", "reason", "packets", "which means"]);
        for ReasonCount { outcome, reason, explanation, packets } in &self.reasons {
            table.add_row([*outcome, *reason, number(*packets).as_str(), *explanation]);
        }
        right(&mut table, 2..3);
        table
    }
}

/// A table without lines, which reads well everywhere and can be cut with awk.
fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table.set_header(header.iter().copied());
    table
}

/// The width of tables. Fixed, so that a report looks the same on a terminal and in a file.
const WIDTH: u16 = 100;

fn right(table: &mut Table, columns: std::ops::Range<usize>) {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// `1,234,567`.
fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `33.3 %`, to a tenth; nothing where there is no whole.
fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + u128::from(whole) / 2) / u128::from(whole);
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// `1.5 MB`, in powers of 1000, the last digit cut off.
fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    match UNITS.iter().find(|(unit, _)| count >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", number(count / unit), count % unit * 10 / unit),
        None => format!("{count} B"),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::config::{self, Source};
    use crate::datapath::Reason;

    fn services() -> Vec<ServiceSpec> {
        let source = Source::new("full.toml", include_str!("../../tests/good/full.toml"));
        config::from_toml(&source).config.unwrap().services
    }

    fn totals() -> Totals {
        let backend = |flows| BackendTotals {
            flows,
            packets_original: 10 * flows,
            packets_reply: 8 * flows,
            bytes_original: 1_234_567 * flows,
            bytes_reply: 999 * flows,
            refused: u64::from(flows == 2),
        };
        Totals {
            received: 1_234_570,
            ends: vec![
                (Outcome::Forwarded, Reason::KnownFlow, 1_234_559),
                (Outcome::Answered, Reason::NoService, 1),
                (Outcome::Dropped, Reason::Malformed, 7),
            ],
            held: 3,
            handed_over: 4,
            flows_ended: 2,
            backends: vec![backend(1), backend(2), backend(0), backend(0), backend(3)],
            ..Totals::default()
        }
    }

    #[test]
    fn json_is_as_documented() {
        let json: serde_json::Value =
            serde_json::from_str(&Report::new(&services(), &totals(), 4).to_json().unwrap()).unwrap();
        assert_eq!(
            json["packets"],
            serde_json::json!({
                "received": 1_234_570, "forwarded": 1_234_559, "answered": 1, "delivered": 0, "dropped": 7, "held": 3,
                "originated": 0, "handed_over": 4, "waited_for_order": 0, "order_given_up": 0,
                "answers_suppressed": 0
            })
        );
        assert_eq!(
            json["reasons"][0],
            serde_json::json!({ "outcome": "forwarded", "reason": "known_flow", "packets": 1_234_559 })
        );
        assert_eq!(json["flows"], serde_json::json!({ "opened": 6, "ended": 2, "reclaimed": 0, "live": 4 }));
        assert_eq!(json["services"][0]["name"], "web");
        assert_eq!(
            json["services"][0]["backends"][1],
            serde_json::json!({
                "address": "10.47.2.3:8080", "flows": 2, "packets_original": 20, "packets_reply": 16,
                "bytes_original": 2_469_134, "bytes_reply": 1998, "refused": 1
            })
        );
        // The second service goes on where the first one's four backends end.
        assert_eq!(json["services"][1]["backends"][0]["flows"], 3);
        assert_eq!(json["agree"], true);
    }

    #[test]
    fn the_tables_explain_each_reason_that_occurred_and_no_other() {
        let text = Report::new(&services(), &totals(), 4).to_string();
        // A sentence may be broken over lines of its column.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("1,234,570 received: 1,234,559 forwarded, 1 answered, 7 dropped"), "{text}");
        assert!(words.contains("no_service 1 No virtual service has this address"), "{text}");
        assert!(words.contains("malformed 7"), "{text}");
        assert!(!text.contains("martian") && !text.contains("NOT agree"), "{text}");
        assert!(words.contains("10.47.2.3:8080 2 66.7 % 20 16 2.4 MB 1.9 kB 1"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{text}");
    }

    #[test]
    fn sums_that_do_not_agree_are_told_of() {
        let report = Report::new(&services(), &Totals { received: 9, ..totals() }, 0);
        assert!(report.to_string().contains("The sums do NOT agree: 9 packets came in, and 1,234,570 are"));
        assert!(report.to_json().unwrap().ends_with("\"agree\":false}"));
    }

    #[test]
    fn a_report_in_between_says_what_is_under_way() {
        let report = Report::new(&services(), &Totals { received: 1_234_575, ..totals() }, 0).in_between();
        assert!(report.agree && report.packets.under_way == 5, "{report:?}");
        assert!(report.to_string().contains("5 under way in the balancer"));
        let report = Report::new(&services(), &Totals { received: 9, ..totals() }, 0).in_between();
        assert!(!report.agree, "more was done than came in");
    }

    #[test]
    fn a_run_without_packets_says_where_to_look() {
        let text = Report::new(&services(), &Totals::default(), 0).to_string();
        assert!(text.contains("No packet came in"), "{text}");
    }

    #[test]
    fn numbers_are_easy_to_read() {
        for (value, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (u64::MAX, "18,446,744,073,709,551,615")]
        {
            assert_eq!(number(value), text);
        }
        for (value, text) in
            [(0, "0 B"), (1999, "1.9 kB"), (1_000_000, "1.0 MB"), (5_000_000_000_000_000, "5,000.0 TB")]
        {
            assert_eq!(bytes(value), text);
        }
        assert_eq!((share(1, 3), share(0, 0), share(2, 2)), ("33.3 %".into(), "-".into(), "100.0 %".into()));
    }
}
