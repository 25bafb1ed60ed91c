//! ICMP to a VIP: pings, and errors about what its connections have sent.

use super::engine::headers;
use super::segment::MIN_MSS;
use super::sequence::Sequence;
use super::settings::Offloads;
use super::{Entry, Stack};
use crate::datapath::{Arrival, Instant, Reason, Verdict};
use crate::packet::quote::{self, Quote};
use crate::packet::{Family, Frame, Protocol, View, answer};

/// The least MTU that is believed of an IPv4 path. Links with less are gone, and forged errors
/// would make each segment a crumb; Linux has the same bound.
const LEAST_MTU_V4: u16 = 552;

/// The least MTU of IPv6 (RFC 8200 §5).
const LEAST_MTU_V6: u16 = 1280;

impl Stack {
    pub(super) fn icmp(
        &mut self,
        now: Instant,
        frame: &mut Frame,
        view: &View,
        arrival: Arrival,
        kind: u8,
        code: u8,
    ) -> Verdict {
        if answer::is_echo_request(view.family, kind) {
            if !self.listeners.keys().any(|listener| listener.address == view.destination) {
                return Verdict::Drop(Reason::NotOurs);
            }
            if !self.answers.allows(now) {
                self.counts.answers_suppressed += 1;
                return Verdict::Drop(Reason::EchoRequest);
            }
            answer::turn_into_echo_reply(frame.packet_mut(), view);
            return Verdict::Answer(Reason::EchoRequest);
        }
        if !quote::is_error(view.family, kind) {
            return Verdict::Drop(Reason::IcmpUnsupported);
        }
        let Some(quoted) = Quote::of(frame.packet(), view).filter(|it| it.tuple().protocol == Protocol::Tcp)
        else {
            return Verdict::Drop(Reason::IcmpNoFlow);
        };
        let tuple = quoted.tuple().reversed();
        if let Some(verdict) = self.elsewhere(&tuple, arrival) {
            return verdict;
        }
        if !quote::icmp_checksum_is_right(frame.packet(), view) {
            return Verdict::Drop(Reason::BadChecksum);
        }
        let Some(&Entry::Flow(key)) = self.table.get(&tuple) else {
            return Verdict::Drop(Reason::IcmpNoFlow);
        };
        let mtu = quote::announced_mtu(frame.packet(), view, kind, code);
        let Some(flow) = self.flows.get(key) else { return Verdict::Drop(Reason::IcmpNoFlow) };
        let mut state = flow.state.borrow_mut();
        let state = &mut *state;
        let Some(engine) = state.engine.as_mut() else { return Verdict::Drop(Reason::IcmpNoFlow) };
        // RFC 5927 §4: an error that quotes what cannot be under way now is forged, or old.
        let in_flight = u32::try_from(engine.socket().send_queue()).unwrap_or(u32::MAX).saturating_add(1);
        let Some(sequence) = quoted.transport(frame.packet()).get(4..).and_then(<[u8]>::first_chunk::<4>)
        else {
            return Verdict::Drop(Reason::IcmpNoFlow);
        };
        if state.wire.next.since(Sequence(u32::from_be_bytes(*sequence))) > in_flight {
            return Verdict::Drop(Reason::IcmpNoFlow);
        }
        // All other errors are soft: TCP goes on trying (RFC 1122 §4.2.3.9, RFC 5927 §5.2).
        let Some(mtu) = mtu else { return Verdict::Deliver(Reason::IcmpError) };
        let least = match view.family {
            Family::V4 => LEAST_MTU_V4,
            Family::V6 if mtu < u32::from(LEAST_MTU_V6) => return Verdict::Drop(Reason::IcmpBadMtu),
            Family::V6 => LEAST_MTU_V6,
        };
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).max(least);
        let mss = mtu.saturating_sub(headers(view.family)).max(MIN_MSS);
        if mss < state.wire.mss {
            state.wire.mss = mss;
            if state.wire.offloads == Offloads::None {
                engine.shrink(mtu);
            }
        }
        Verdict::Deliver(Reason::IcmpError)
    }
}
