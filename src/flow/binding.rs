//! What a flow is bound to, and what its packets are rewritten to.

use crate::datapath::{BackendId, VipId};
use crate::packet::{Endpoint, FiveTuple, Protocol};

/// A flow's two directions, as in conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the client, who opened the flow.
    Original = 0,
    /// From the backend.
    Reply = 1,
}

/// Which ends of a packet are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Nat {
    /// Both: the backend sees a local address and port, and answers to that.
    Full,
    /// The destination alone: the backend sees the client, and its answers must be routed
    /// back through us.
    Dnat,
}

/// What a flow is bound to (RFC 2663 §2.2: *address binding*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Who opened it.
    pub client: Endpoint,
    /// What the client sends to.
    pub vip: VipId,
    /// Where its packets really go.
    pub backend: BackendId,
    /// What the backend sees instead of the client; `None` in DNAT, where it sees the client.
    pub local: Option<Endpoint>,
}

/// The same binding with its ids resolved: four endpoints, from which all tuples follow.
///
/// ```text
///             arrives                      leaves
///   original  client  ──▶ VIP              source  ──▶ backend      source: the local endpoint,
///   reply     backend ──▶ source           VIP     ──▶ client       or the client in DNAT
/// ```
///
/// Both directions come from one value, so that they cannot disagree.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub protocol: Protocol,
    pub client: Endpoint,
    pub vip: Endpoint,
    pub backend: Endpoint,
    /// What the backend sees.
    pub source: Endpoint,
}

impl Ends {
    /// The tuple that a packet of this direction arrives with: the key it is found by.
    #[inline]
    pub fn key(&self, direction: Direction) -> FiveTuple {
        let (source, destination) = match direction {
            Direction::Original => (self.client, self.vip),
            Direction::Reply => (self.backend, self.source),
        };
        FiveTuple { protocol: self.protocol, source, destination }
    }

    /// The tuple that a packet of this direction leaves with.
    #[inline]
    pub fn rewritten(&self, direction: Direction) -> FiveTuple {
        match direction {
            Direction::Original => self.key(Direction::Reply).reversed(),
            Direction::Reply => self.key(Direction::Original).reversed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_packet_leaves_with_what_its_answer_arrives_with() {
        let ends = Ends {
            protocol: Protocol::Udp,
            client: endpoint("198.51.100.1:5353"),
            vip: endpoint("203.0.113.1:53"),
            backend: endpoint("10.0.0.2:5300"),
            source: endpoint("10.47.3.1:40000"),
        };
        assert_eq!(ends.key(Direction::Original).to_string(), "udp 198.51.100.1:5353 > 203.0.113.1:53");
        assert_eq!(ends.rewritten(Direction::Original).to_string(), "udp 10.47.3.1:40000 > 10.0.0.2:5300");
        assert_eq!(ends.key(Direction::Reply).to_string(), "udp 10.0.0.2:5300 > 10.47.3.1:40000");
        assert_eq!(ends.rewritten(Direction::Reply).to_string(), "udp 203.0.113.1:53 > 198.51.100.1:5353");
    }
}
