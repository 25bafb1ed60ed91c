//! Whatever comes: nothing here panics, whether a view fits the bytes or not.

use proptest::prelude::*;

use super::support::{any_packet, any_two_tuples, icmp};
use crate::packet::answer::{IcmpError, icmp_error, reset, turn_into_echo_reply};
use crate::packet::quote::{Quote, announced_mtu, icmp_checksum_is_right, renew_icmp_checksum};
use crate::packet::rewrite::{Passage, lacks_checksum, readdress, translate};
use crate::packet::{ChecksumState, FiveTuple, View};

/// Calls everything there is; the length of the bytes is all that is sure to stay.
fn everything(bytes: &[u8], view: &View, to: &FiveTuple) {
    let passage = Passage { decrement_hops: true, identification: Some(0xdead_beef) };
    let partial = ChecksumState::Partial { start: 20, offset: 16 };
    for checksum in [ChecksumState::Whole, ChecksumState::Verified, partial] {
        translate(&mut bytes.to_vec(), view, to, checksum, passage);
    }
    readdress(&mut bytes.to_vec(), view, to.source.address, to.destination.address, passage);
    let _: bool = lacks_checksum(bytes, view);
    turn_into_echo_reply(&mut bytes.to_vec(), view);
    let errors = [IcmpError::PortUnreachable, IcmpError::Prohibited, IcmpError::TimeExceeded];
    let answers = errors.map(|error| icmp_error(bytes, view, to.source.address, error));
    for answer in answers.into_iter().chain([reset(bytes, view)]).flatten() {
        assert!(View::of(answer.packet()).is_ok());
    }
    let _: bool = icmp_checksum_is_right(bytes, view);
    renew_icmp_checksum(&mut bytes.to_vec(), view);
    for (kind, code) in [(3, 4), (2, 0)] {
        let _: Option<u32> = announced_mtu(bytes, view, kind, code);
    }
    if let Some(quote) = Quote::of(bytes, view) {
        quote.rewrite(&mut bytes.to_vec(), to);
        quote.rewrite(&mut [], to);
    }
}

/// Packets of all kinds, as senders send them.
fn any_good_packet() -> BoxedStrategy<Vec<u8>> {
    let error = (any_packet(0..50), any::<[u8; 6]>()).prop_map(|((packet, to), head)| {
        icmp(to.source.address.into(), to.destination.address.into(), head, &packet.build())
    });
    prop_oneof![any_packet(0..50).prop_map(|(packet, _)| packet.build()), error].boxed()
}

/// The same with some bytes changed, and a new header checksum for those that keep theirs right.
fn any_mutated_packet() -> BoxedStrategy<Vec<u8>> {
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (any_good_packet(), changes, any::<prop::sample::Index>(), any::<(bool, bool)>())
        .prop_map(|(mut bytes, changes, cut, (renew, shorten))| {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if shorten {
                bytes.truncate(cut.index(bytes.len()));
            }
            let header = usize::from(bytes.first().copied().unwrap_or(0) & 0xf) * 4;
            if renew && bytes.len() >= header && header >= 20 {
                bytes[10..12].fill(0);
                let sum = !super::support::slow_sum(&bytes[..header]);
                bytes[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            bytes
        })
        .boxed()
}

fn any_bytes() -> BoxedStrategy<Vec<u8>> {
    let any = prop::collection::vec(any::<u8>(), 0..200);
    let version = (prop_oneof![Just(0x45u8), Just(0x60)], any.clone()).prop_map(|(version, mut bytes)| {
        bytes.insert(0, version);
        bytes
    });
    prop_oneof![1 => any, 1 => version, 4 => any_mutated_packet()].boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_read_and_handled([to, _] in any_two_tuples(), bytes in any_bytes()) {
        if let Ok(view) = View::of(&bytes) {
            prop_assert!(view.transport_at <= view.length && view.length <= bytes.len());
            everything(&bytes, &view, &to);
        }
    }

    #[test]
    fn the_view_of_another_packet_does_no_harm(
        [to, _] in any_two_tuples(), bytes in any_bytes(), other in any_mutated_packet()
    ) {
        if let Ok(view) = View::of(&other) {
            everything(&bytes, &view, &to);
            if let Some(quote) = Quote::of(&other, &view) {
                quote.rewrite(&mut bytes.clone(), &to);
            }
        }
    }

    /// Fields are public, so that a view can also be made up.
    #[test]
    fn a_view_that_was_made_up_does_no_harm(
        [to, _] in any_two_tuples(),
        other in any_good_packet(),
        length in prop_oneof![Just(usize::MAX), Just(0), 0usize..100],
        transport_at in prop_oneof![Just(usize::MAX), Just(usize::MAX - 7), 0usize..100],
    ) {
        let view = View { length, transport_at, ..View::of(&other).unwrap() };
        everything(&other, &view, &to);
    }
}
