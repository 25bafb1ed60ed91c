//! Packets that go no further: which answer each gets, and which get none.
//!
//! | reason | TCP | UDP |
//! |---|---|---|
//! | no service, no backend | reset | port unreachable |
//! | table full, client limit, no local port | reset | administratively prohibited (RFC 5508 REQ-8) |
//! | no flow | reset | nothing: a late answer, that nobody waits for |
//! | TTL or hop limit ended | time exceeded | time exceeded |

use std::net::IpAddr;

use super::translator::Translator;
use crate::datapath::{Instant, Reason, Verdict};
use crate::packet::answer::{self, Answer, IcmpError};
use crate::packet::{Frame, Offload, Transport, View};

impl Translator {
    /// Answers a packet that cannot be forwarded, as its protocol wants and as far as the rate
    /// allows. An answer that is due but not sent leaves a drop for the same reason.
    #[cold]
    pub(super) fn refuse(&mut self, now: Instant, frame: &mut Frame, view: &View, reason: Reason) -> Verdict {
        let is_tcp = matches!(view.transport, Transport::Tcp { .. });
        let error = match reason {
            Reason::TtlExpired => Some(IcmpError::TimeExceeded),
            Reason::NoFlow if !is_tcp => return Verdict::Drop(reason),
            Reason::NoService | Reason::NoBackend if !is_tcp => Some(IcmpError::PortUnreachable),
            _ if !is_tcp => Some(IcmpError::Prohibited),
            _ => None,
        };
        let (answer, bucket) = match error {
            None => (answer::reset(frame.packet(), view), &mut self.resets),
            Some(error) => {
                (answer::icmp_error(frame.packet(), view, view.destination, error), &mut self.icmp_errors)
            }
        };
        let Some(answer) = answer else { return Verdict::Drop(reason) };
        if !bucket.take(now) {
            self.counters.answers_suppressed.add(1);
            return Verdict::Drop(reason);
        }
        replace(frame, &answer);
        Verdict::Answer(reason)
    }

    /// Why a packet to one of our addresses cannot be on its way. What comes from a VIP is ours, and never comes back to
    /// us: somebody else has used the name.
    pub(super) fn impossible_source(&self, view: &View) -> Option<Reason> {
        let forged = || self.balancer.is_vip(view.source).then_some(Reason::Martian);
        impossible_addresses(view).or_else(forged)
    }

    /// A packet that is neither for a VIP nor of a flow. Where DNAT makes the host route
    /// others' packets through the device they go on as they are; else nobody but a
    /// mistaken route can have brought them, and sending them back would make a loop.
    pub(super) fn not_for_us(&self, frame: &mut Frame, view: &View, reason: Reason) -> Verdict {
        if let Some(impossible) = impossible_addresses(view) {
            return Verdict::Drop(impossible);
        }
        let ours = self.balancer.is_vip(view.destination) || self.flows.shared().is_local(view.destination);
        if ours || !self.passes_others {
            return Verdict::Drop(reason);
        }
        if view.hops <= 1 {
            return Verdict::Drop(Reason::TtlExpired);
        }
        let passage = crate::packet::rewrite::Passage { decrement_hops: true, identification: None };
        crate::packet::rewrite::readdress(frame.packet_mut(), view, view.source, view.destination, passage);
        Verdict::Forward(Reason::NotOurs)
    }
}

/// Puts an answer in the place of the packet that it answers.
fn replace(frame: &mut Frame, answer: &Answer) {
    let bytes = answer.packet();
    frame.rewrite(|space| match space.get_mut(..bytes.len()) {
        Some(room) => {
            room.copy_from_slice(bytes);
            bytes.len()
        }
        None => 0,
    });
    let length = frame.packet().len();
    frame.filled(length, Offload::default());
}

/// Why a packet cannot be on its way from or to where it says: RFC 1812 §5.3.7, RFC 4291 §2.
pub(super) fn impossible_addresses(view: &View) -> Option<Reason> {
    let [source, destination] = [view.source, view.destination].map(IpAddr::from);
    let link_local = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let nowhere = |address: IpAddr| match address {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_broadcast() || v4.octets()[0] == 0 || v4.octets()[0] >= 240
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified(),
    };
    if destination.is_multicast() || link_local(source) || link_local(destination) {
        Some(Reason::LinkLocal)
    } else if source.is_multicast() || nowhere(source) || nowhere(destination) {
        Some(Reason::Martian)
    } else {
        None
    }
}
