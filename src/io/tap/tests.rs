//! What is told, what is not, and what is lost.

use super::*;
use crate::datapath::{Reason, Side};

fn frame(bytes: &[u8]) -> Frame {
    Frame::copy_of(bytes, Offload::default())
}

fn heard(listener: &Listener) -> Vec<Told> {
    match listener.hear(Duration::ZERO) {
        Heard::Batch(told) => told,
        Heard::Nothing | Heard::End => Vec::new(),
    }
}

#[test]
fn what_came_and_what_left_are_told_together_behind_the_turn() {
    let (taps, listener) = taps(None);
    let mut tap = taps.tap(WorkerId(3));
    let mut packet = frame(b"came");
    tap.came(&mut packet);
    packet.packet_mut().copy_from_slice(b"left");
    let decision = Decision { side: Side::Backend, ..Decision::default() };
    tap.decided(Instant::START, &mut packet, Verdict::Forward(Reason::KnownFlow), decision);
    assert!(matches!(listener.hear(Duration::ZERO), Heard::Nothing), "the turn is not over");
    packet.tags.flow = Some(7);
    tap.originated(Instant::START, &packet);
    tap.send();
    let told = heard(&listener);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].id, told[1].id), (1, 2));
    assert_eq!(&*told[0].came.as_ref().unwrap().bytes, b"came");
    assert_eq!(&*told[0].left.as_ref().unwrap().bytes, b"left");
    assert_eq!(told[0].decision.verdict, Some(Verdict::Forward(Reason::KnownFlow)));
    assert_eq!(told[0].decision.side, Side::Backend);
    assert_eq!(told[1].decision.flow, Some(FlowNumber { worker: WorkerId(3), number: 7 }));
    assert_eq!(packet.tags.packet, 0, "the frame is used again");
    drop((tap, taps));
    assert!(matches!(listener.hear(Duration::ZERO), Heard::End));
}

#[test]
fn a_packet_keeps_its_number_when_it_waits_or_is_handed_over() {
    let (taps, listener) = taps(None);
    let [mut first, mut second] = [0, 1].map(|worker| taps.tap(WorkerId(worker)));
    let mut packet = frame(b"x");
    first.came(&mut packet);
    let mut letter = packet.clone();
    first.decided(Instant::START, &mut packet, Verdict::HandOver(WorkerId(1)), Decision::default());
    second.came(&mut letter);
    let waiting = letter.clone();
    second.decided(Instant::START, &mut letter, Verdict::Held, Decision::default());
    second.let_go(Instant::START, &waiting, Verdict::Forward(Reason::Fragment), Decision::default());
    drop((first, second));
    let told = heard(&listener);
    assert_eq!(told.iter().map(|told| told.id).collect::<Vec<_>>(), [1, 1]);
    assert!(told[0].came.is_some() && told[0].left.is_none());
    assert!(told[1].came.is_none() && told[1].left.is_some());
}

#[test]
fn a_packet_is_wanted_as_it_came_or_as_it_left() {
    let (taps, listener) = taps(Some(Arc::new(|packet: &[u8]| packet == b"yes")));
    let mut tap = taps.tap(WorkerId(0));
    for (came, left) in [(b"yes", b"not"), (b"not", b"yes"), (b"not", b"not")] {
        let mut packet = frame(came);
        tap.came(&mut packet);
        packet.packet_mut().copy_from_slice(left);
        tap.decided(Instant::START, &mut packet, Verdict::Answer(Reason::NoFlow), Decision::default());
    }
    let mut dropped = frame(b"not");
    tap.came(&mut dropped);
    dropped.packet_mut().copy_from_slice(b"yes");
    tap.decided(Instant::START, &mut dropped, Verdict::Drop(Reason::NoFlow), Decision::default());
    tap.originated(Instant::START, &frame(b"not"));
    tap.send();
    assert_eq!(heard(&listener).len(), 2);
    assert_eq!(listener.lost(), 0, "what is not wanted is not lost");
}

#[test]
fn a_listener_that_does_not_keep_up_loses_packets_and_takes_no_more_memory() {
    let (taps, listener) = taps(None);
    let mut tap = taps.tap(WorkerId(0));
    let packet = frame(&vec![0; 60_000]);
    let most = MOST_BYTES / (60_000 + OVERHEAD);
    for _ in 0..most + 5 {
        tap.originated(Instant::START, &packet);
    }
    tap.send();
    assert_eq!((heard(&listener).len(), listener.lost()), (most, 5));
    // What was heard makes room.
    tap.originated(Instant::START, &packet);
    tap.send();
    assert_eq!((heard(&listener).len(), listener.lost()), (1, 5));
    for _ in 0..MOST_BATCHES + 3 {
        tap.originated(Instant::START, &frame(b"x"));
        tap.send();
    }
    assert_eq!(listener.lost(), 8, "batches are bounded as well");
    drop(listener);
    tap.originated(Instant::START, &packet);
    tap.send();
}
