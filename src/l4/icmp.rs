//! ICMP: pings to a VIP are answered, errors are translated with the packet they quote.
//!
//! Which way an error goes follows from the quote. A router or backend that could not deliver
//! a client's packet quotes it as we sent it; that is the reverse of what replies look like,
//! so the error travels with the replies, and the other way round:
//!
//! ```text
//!   quote             local:port ▸ backend:port
//!   reversed          backend:port ▸ local:port    = the flow's reply key
//!   so the error goes in direction Reply, to the client, quoting client:port ▸ VIP:port
//! ```
//!
//! An error refreshes no timer, ends no flow (RFC 5508 REQ-6, RFC 5382 REQ-10) and is
//! never answered by another.

use super::fragments::Traffic;
use super::translator::Translator;
use crate::datapath::{Instant, Reason, Verdict, WorkerSet};
use crate::flow::{Direction, FlowId, Lookup};
use crate::packet::answer;
use crate::packet::quote::{self, Quote};
use crate::packet::rewrite::{self, Passage};
use crate::packet::{ChecksumState, Family, Frame, Transport, View};

impl Translator {
    pub(super) fn icmp(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        kind: u8,
        code: u8,
        visited: WorkerSet,
    ) -> Verdict {
        if quote::is_error(view.family, kind) && !is_source_quench(view.family, kind) {
            return self.icmp_error(now, frame, view, kind, code, visited);
        }
        if answer::is_echo_request(view.family, kind) && self.balancer.is_vip(view.destination) {
            return self.answer_ping(frame, view);
        }
        self.not_for_us(frame, view, Reason::IcmpUnsupported)
    }

    pub(super) fn answer_ping(&self, frame: &mut Frame, view: &View) -> Verdict {
        if let Some(reason) = self.impossible_source(view) {
            return Verdict::Drop(reason);
        }
        answer::turn_into_echo_reply(frame.packet_mut(), view);
        Verdict::Answer(Reason::EchoRequest)
    }

    fn icmp_error(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        kind: u8,
        code: u8,
        visited: WorkerSet,
    ) -> Verdict {
        let Some(quote) = Quote::of(frame.packet(), view) else {
            return self.not_for_us(frame, view, Reason::IcmpNoFlow);
        };
        // An error goes to whoever sent the packet that it quotes. One that does not was made up by somebody who can
        // reach another of our addresses, such as a client who wants a backend to be taken for unreachable
        // (RFC 5927 §4.1; Linux's connection tracking draws the same line).
        if quote.tuple().source.address != view.destination {
            return self.not_for_us(frame, view, Reason::IcmpNoFlow);
        }
        let (flow, direction) = match self.flows.find(&quote.tuple().reversed(), visited) {
            Lookup::Here(flow, direction) => (flow, direction),
            Lookup::Elsewhere(worker) => return Verdict::HandOver(worker),
            Lookup::Nowhere => return self.not_for_us(frame, view, Reason::IcmpNoFlow),
        };
        self.hear_flow(flow, direction);
        // RFC 5508 REQ-3: what is damaged is dropped, and not put right.
        let known_good = frame.offload.checksum != ChecksumState::Whole;
        if !known_good && !quote::icmp_checksum_is_right(frame.packet(), view) {
            return Verdict::Drop(Reason::BadChecksum);
        }
        if quote::announced_mtu(frame.packet(), view, kind, code)
            .is_some_and(|mtu| mtu < least_mtu(view.family))
        {
            return Verdict::Drop(Reason::IcmpBadMtu);
        }
        if view.hops <= 1 {
            return Verdict::Drop(Reason::TtlExpired);
        }
        if direction == Direction::Reply && quote::is_unreachable(view.family, kind, code) {
            let change = self.flows.unreachable(now, flow);
            self.note(now, flow, change);
        }
        self.hear_after(flow);
        match self.translate_error(frame, view, &quote, flow, direction) {
            Some(()) => Verdict::Forward(Reason::IcmpError),
            None => Verdict::Drop(Reason::IcmpNoFlow),
        }
    }

    fn translate_error(
        &self,
        frame: &mut Frame,
        view: &View,
        quote: &Quote,
        flow: FlowId,
        direction: Direction,
    ) -> Option<()> {
        let (to, backend) = self.flows.rewritten(flow, direction)?;
        let local = self.flows.binding(flow)?.local;
        let (source, traffic) = match direction {
            // The client knows the VIP and nothing behind it (RFC 5508 REQ-5 (c)).
            Direction::Reply => (to.source.address, Traffic::From(backend)),
            // Full NAT speaks to the backend from its local address; DNAT leaves the
            // client's side visible as it is, so the sender of the error stays (REQ-4).
            Direction::Original => (local.map_or(view.source, |local| local.address), Traffic::To(backend)),
        };
        quote.rewrite(frame.packet_mut(), &to.reversed());
        let passage = Passage { decrement_hops: true, identification: None };
        rewrite::readdress(frame.packet_mut(), view, source, to.destination.address, passage);
        quote::renew_icmp_checksum(frame.packet_mut(), view);
        frame.offload.checksum = ChecksumState::Whole;
        self.count_traffic(traffic, frame.packet().len());
        Some(())
    }

    /// Whether a first fragment is a ping to a VIP.
    pub(super) fn is_ping_to_vip(&self, view: &View) -> bool {
        matches!(view.transport, Transport::Icmp { kind, .. } if answer::is_echo_request(view.family, kind))
            && self.balancer.is_vip(view.destination)
    }
}

/// The least MTU that a link may have; who announces a smaller one means harm or is mistaken
/// (RFC 1191 §3, RFC 8201 §4).
const fn least_mtu(family: Family) -> u32 {
    match family {
        Family::V4 => 68,
        Family::V6 => 1280,
    }
}

/// A source quench slows a sender down, which is what somebody may forge it for; congestion is told in other ways
/// today. RFC 6633 has hosts and routers ignore it, and RFC 5508 REQ-10 (c) has NATs not support it.
const fn is_source_quench(family: Family, kind: u8) -> bool {
    matches!((family, kind), (Family::V4, 4))
}
