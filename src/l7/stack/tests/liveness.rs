//! Clients that fall silent, and what smoltcp forgets.

use std::io::ErrorKind;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// The error that reading gives, if it gives one now.
fn error(stream: &mut FlowStream) -> Option<ErrorKind> {
    stream.read(&mut [0; 10]).now_or_never()?.err().map(|error| error.kind())
}

#[test]
fn who_does_not_answer_is_reaped() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let said = bench.pass(Duration::from_secs(200));
    let probes = said.iter().filter(|heard| heard.sequence == hand.expected.minus(1));
    assert_eq!(probes.count(), 2, "keep-alives were sent");
    assert!(said.last().unwrap().flags.rst());
    assert_eq!(error(&mut stream), Some(ErrorKind::TimedOut));
    assert_nothing_leaks(&bench.stack);

    // Who answers but says nothing, by the idle limit.
    let mut hand = Hand::at("198.51.100.1:4001");
    let mut stream = hand.connect(&mut bench);
    for _ in 0..60 {
        for heard in bench.pass(Duration::from_secs(20)) {
            if !heard.flags.rst() {
                bench.feed(&hand.say(ACK, &[]));
            }
        }
    }
    assert_eq!(error(&mut stream), Some(ErrorKind::TimedOut));
    assert_nothing_leaks(&bench.stack);
    assert_eq!(bench.stack.counts().timed_out, 2);
}

/// A client that has closed its window on part of 3,000 bytes, opens it, and has lost the rest.
fn stalled() -> (Bench, Hand, FlowStream) {
    let mut bench = Bench::new(StackSettings::on(CUTS));
    bench.stack.listen(vip(), Listener { congestion: Congestion::None, ..Listener::default() });
    let mut hand = Hand { window: 3000, ..Hand::at("198.51.100.1:4000") };
    let mut stream = hand.connect(&mut bench);
    stream.write_all(&[5; 3000]).now_or_never().unwrap().unwrap();
    assert_eq!(bench.drain().iter().map(|heard| heard.payload.len()).sum::<usize>(), 3000);
    hand.expected = hand.expected.plus(1460);
    hand.window = 0;
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    hand.window = 3000;
    bench.feed(&hand.say(ACK, &[]));
    (bench, hand, stream)
}

#[test]
fn what_was_lost_behind_a_closed_window_is_sent_again() {
    let (mut bench, mut hand, _stream) = stalled();
    let said = bench.pass(Duration::from_secs(3));
    let again = said.iter().find(|heard| heard.sequence == hand.expected && !heard.payload.is_empty());
    let again = again.expect("it is sent again in the time of a retransmission timeout");
    assert!(again.payload.iter().all(|&byte| byte == 5));
    hand.hear(std::slice::from_ref(again));
    bench.feed(&hand.say(ACK, &[]));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.stack.occupancy().rings, 0, "all is acknowledged");
}

#[test]
fn a_fin_that_was_lost_behind_a_closed_window_is_sent_again() {
    let (mut bench, mut hand, mut stream) = stalled();
    stream.shutdown().now_or_never().unwrap().unwrap();
    bench.drain();
    hand.expected = hand.expected.plus(1540);
    bench.feed(&hand.say(ACK, &[]));
    let said = bench.pass(Duration::from_secs(5));
    assert!(said.iter().any(|heard| heard.flags.fin() && heard.sequence == hand.expected));
}

#[test]
fn a_keep_alive_carries_no_byte_that_could_be_taken_for_one_of_the_stream() {
    let (mut bench, _hand, _stream) = stalled();
    for heard in bench.pass(Duration::from_mins(2)) {
        assert!(heard.payload.iter().all(|&byte| byte == 5));
    }
}

/// A client with a small window that had a segment sent again, which was cut off at that window.
fn clipped() -> (Bench, Hand, FlowStream) {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    bench.stack.listen(vip(), Listener { congestion: Congestion::None, ..Listener::default() });
    let mut hand = Hand { window: 3000, ..Hand::at("198.51.100.1:4000") };
    let mut stream = hand.connect(&mut bench);
    stream.write_all(&vec![5; 50_000]).now_or_never().unwrap().unwrap();
    let heard = bench.drain();
    for _ in 0..4 {
        bench.feed(&hand.say(ACK, &[]));
    }
    assert!(!bench.drain().is_empty(), "it is sent again");
    hand.hear(&heard);
    (bench, hand, stream)
}

#[test]
fn a_closed_window_is_probed_though_a_retransmission_was_waited_for() {
    let (mut bench, mut hand, _stream) = clipped();
    // The window closes without an acknowledgement of anything new, and that it opens again is lost.
    bench.feed(&hand.say(ACK, &[]));
    hand.window = 0;
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    let said = bench.pass(Duration::from_secs(5));
    let probe = said.iter().find(|heard| heard.sequence == hand.expected && heard.payload == [5]);
    hand.hear(std::slice::from_ref(probe.expect("the window is probed")));
    hand.window = 3000;
    bench.feed(&hand.say(ACK, &[]));
    assert!(bench.drain().iter().any(|heard| heard.sequence == hand.expected && heard.payload.len() > 1));
}

#[test]
fn what_was_cut_off_at_the_window_goes_on_with_the_acknowledgement() {
    let (mut bench, mut hand, _stream) = clipped();
    for _ in 0..15 {
        bench.feed(&hand.say(ACK, &[]));
        let before = hand.expected;
        let heard: Vec<_> = (0..2).flat_map(|_| bench.drain()).collect();
        hand.hear(&heard);
        assert_eq!(hand.expected.since(before), 3000, "a whole window, and at once");
    }
}
