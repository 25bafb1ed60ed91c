//! How large the table may grow and how long a flow may stay idle.

use std::time::Duration;

/// The limits of the table. Values that make no sense are held to the nearest that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The most flows at one time, over all workers: from 1 to [`Settings::MOST_FLOWS`].
    pub max_flows: u32,
    /// The most flows at one time from one client, an IPv4 address or an IPv6 /64 network
    /// (RFC 6888 REQ-4): from 1 up; a value past `max_flows` is no limit.
    pub max_flows_per_client: u32,
    /// How long a flow may stay idle.
    pub timeouts: Timeouts,
}

impl Settings {
    /// The most flows that a table can be made for: an entry's number fits 25 bits.
    pub const MOST_FLOWS: u32 = 1 << 25;

    /// A table for `max_flows`, of which one client may have a quarter.
    pub fn new(max_flows: u32) -> Self {
        Self { max_flows, max_flows_per_client: (max_flows / 4).max(1), timeouts: Timeouts::default() }
    }

    /// The same with every value within its bounds.
    pub(super) fn held_to_bounds(mut self) -> Self {
        self.max_flows = self.max_flows.clamp(1, Self::MOST_FLOWS);
        self.max_flows_per_client = self.max_flows_per_client.clamp(1, self.max_flows);
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new(262_144)
    }
}

/// How long a flow may stay idle, by what it is and how far it has come.
///
/// The defaults are the floors of the RFCs. Any duration works: a flow whose timeout is zero ends
/// at the next tick, and one of 17 years or more is held to 17 years.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP until its handshake is complete. RFC 5382 REQ-5: at least 4 min; RFC 7857 §2.1: apart from `tcp_closing`.
    pub tcp_opening: Duration,
    /// TCP after its handshake. RFC 5382 REQ-5: at least 2 h 4 min, so that keep-alives (RFC 1122 §4.2.3.6) come in time.
    pub tcp_established: Duration,
    /// TCP once one side has sent its FIN. RFC 5382 REQ-5: at least 4 min.
    pub tcp_closing: Duration,
    /// TCP after both FINs or a RST, counted from that. RFC 7857 §2.2: 4 min after a RST; RFC 6146 §3.5.2.2: the same
    /// after both FINs. Such a flow gives way at once where room is needed.
    pub tcp_closed: Duration,
    /// UDP. RFC 4787 REQ-5: at least 2 min, and REQ-5c: 5 min or more by default.
    pub udp: Duration,
    /// A datagram's fragments that wait for the rest. RFC 6146 §4 asks for 2 s at least; RFC 1122 §3.3.2 is
    /// about whoever reassembles, and wants 60 s to 120 s there.
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_mins(4),
            tcp_established: Duration::from_mins(2 * 60 + 4),
            tcp_closing: Duration::from_mins(4),
            tcp_closed: Duration::from_mins(4),
            udp: Duration::from_mins(5),
            fragment: Duration::from_secs(15),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_limits_are_held_to_bounds() {
        for (name, flows, client, want) in [
            ("none at all", 0, 0, (1, 1)),
            ("more than entries have numbers", u32::MAX, u32::MAX, (1 << 25, 1 << 25)),
            ("a client with more than all", 10, 100, (10, 10)),
            ("the usual", 1000, 250, (1000, 250)),
        ] {
            let held = Settings { max_flows: flows, max_flows_per_client: client, ..Settings::default() };
            let held = held.held_to_bounds();
            assert_eq!((held.max_flows, held.max_flows_per_client), want, "{name}");
        }
    }

    #[test]
    fn one_client_has_a_quarter_of_the_table_by_default() {
        assert_eq!(Settings::default().max_flows_per_client, 65_536);
        assert_eq!(Settings::new(3).max_flows_per_client, 1);
    }
}
