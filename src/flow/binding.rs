//! What a flow is bound to, and what its packets are rewritten to.

use crate::datapath::{BackendId, VipId};
use crate::packet::Endpoint;

/// A flow's two directions, as in conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    /// From the client, who opened the flow.
    Original = 0,
    /// From the backend.
    Reply = 1,
}

impl Direction {
    /// The other one.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        match self {
            Self::Original => Self::Reply,
            Self::Reply => Self::Original,
        }
    }
}

/// What a flow is bound to (RFC 2663: *address binding*). With its ids resolved it is four endpoints, and
/// all tuples follow from them:
///
/// ```text
///             arrives                      leaves
///   original  client  ──▶ VIP              source  ──▶ backend      source: the local endpoint,
///   reply     backend ──▶ source           VIP     ──▶ client       or the client in DNAT
/// ```
///
/// A packet leaves with what the other direction's packets arrive with, reversed; so a flow has two tuples, its keys,
/// and its directions cannot disagree.
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
