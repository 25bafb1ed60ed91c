//! `[timeouts]`: how long a flow may stay idle in each state.
//!
//! The RFCs give floors for some of these. A shorter time is the user's to choose, for a lab more than
//! for anything else, and so below a floor there is a warning and no error.

use std::time::Duration;

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::values;
use crate::flow::Timeouts;

/// One timeout: its key, its floor and who says so, and where its value is.
pub struct Timeout {
    /// The key.
    pub key: &'static str,
    floor: Option<(Duration, &'static str)>,
    /// The value of this timeout among all.
    pub field: fn(&mut Timeouts) -> &mut Duration,
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_mins(minutes)
}

/// All of them, in the order in which they are printed.
pub const TIMEOUTS: [Timeout; 6] = [
    Timeout {
        key: "tcp_opening",
        floor: Some((minutes(4), "RFC 5382 REQ-5 asks for at least 4m while a connection opens")),
        field: |timeouts| &mut timeouts.tcp_opening,
    },
    Timeout {
        key: "tcp_established",
        floor: Some((
            minutes(124),
            "RFC 5382 REQ-5 asks for at least 2h4m, so that keep-alives come in time",
        )),
        field: |timeouts| &mut timeouts.tcp_established,
    },
    Timeout {
        key: "tcp_closing",
        floor: Some((minutes(4), "RFC 5382 REQ-5 asks for at least 4m while a connection closes")),
        field: |timeouts| &mut timeouts.tcp_closing,
    },
    Timeout { key: "tcp_closed", floor: None, field: |timeouts| &mut timeouts.tcp_closed },
    Timeout {
        key: "udp",
        floor: Some((minutes(2), "RFC 4787 REQ-5 asks for at least 2m, and recommends 5m")),
        field: |timeouts| &mut timeouts.udp,
    },
    Timeout { key: "fragment", floor: None, field: |timeouts| &mut timeouts.fragment },
];

/// `[timeouts]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft([Option<Spanned<String>>; TIMEOUTS.len()]);

impl Draft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self(TIMEOUTS.map(|timeout| table.duration(reader, timeout.key)));
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (timeout, text) in TIMEOUTS.iter().zip(&self.0) {
            let Some(value) = check.value(text.as_ref(), |text| values::duration(text)) else { continue };
            *(timeout.field)(&mut timeouts) = value;
            if let (Some((floor, who)), Some(text)) = (timeout.floor, text)
                && value < floor
            {
                let name = check.names.of(timeout.key);
                let message = format!("{name} is short: flows may be forgotten that still live");
                check.add(Mistake::warning(text.span(), message).help(who));
            }
        }
        timeouts
    }
}
