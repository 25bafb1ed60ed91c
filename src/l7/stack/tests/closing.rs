//! How connections end: half, at once, by reset, and with the same tuple used again.

use std::io::ErrorKind;

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn bench() -> (Bench, Hand) {
    (Bench::new(StackSettings::on(PLAIN)), Hand::at("198.51.100.1:4000"))
}

/// What a future gives that does not wait; streams of a stack never wait while there is work.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("there is nothing to wait for")
}

/// Reads what there is.
fn read(stream: &mut FlowStream) -> Option<Result<Vec<u8>, ErrorKind>> {
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).now_or_never()?;
    Some(read.map(|length| buffer[..length].to_vec()).map_err(|error| error.kind()))
}

fn last(heard: &[Heard]) -> &Heard {
    heard.last().expect("something is said")
}

#[test]
fn a_client_may_close_its_half_and_still_be_answered() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    bench.feed(&hand.say(ACK | FIN, b"request"));
    assert_eq!(read(&mut stream), Some(Ok(b"request".to_vec())));
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())), "the end of the stream");
    now(stream.write_all(b"answer")).unwrap();
    now(stream.shutdown()).unwrap();
    let heard = bench.drain();
    assert_eq!(last(&heard).payload, b"answer");
    assert!(last(&heard).flags.fin());
    hand.hear(&heard);
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    // Who closes last waits for nothing.
    assert_nothing_leaks(&bench.stack);
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())));
    assert_eq!(now(stream.write(b"more")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(bench.stack.counts().reset, 0);
}

#[test]
fn the_stream_may_close_its_half_and_still_read() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    now(stream.shutdown()).unwrap();
    assert_eq!(now(stream.write(b"more")).unwrap_err().kind(), ErrorKind::BrokenPipe);
    hand.hear(&bench.drain());
    bench.feed(&hand.say(ACK, &[]));
    bench.feed(&hand.say(ACK, b"late "));
    bench.feed(&hand.say(ACK | FIN, b"news"));
    hand.hear(&bench.drain());
    assert_eq!(bench.stack.occupancy().rings, 1, "there is something to read");
    assert_eq!(read(&mut stream), Some(Ok(b"late news".to_vec())));
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())));
    bench.drain();
    let left = bench.stack.occupancy();
    assert_eq!((left.rings, left.flows, left.tombstones), (0, 0, 1));
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())));

    // A FIN sent again is acknowledged again, and the wait begins anew.
    bench.pass(Duration::from_secs(40));
    let (verdict, answer) = bench.give(&hand.at_number(ACK | FIN, hand.next.minus(1), &[]));
    assert_eq!(verdict, Verdict::Answer(Reason::Closing));
    assert_eq!(answer.unwrap().acknowledgement, hand.next);
    bench.pass(Duration::from_secs(40));
    assert_eq!(bench.stack.occupancy().tombstones, 1);
    bench.pass(Duration::from_secs(40));
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn both_may_close_at_once() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    now(stream.shutdown()).unwrap();
    let heard = bench.drain();
    assert!(last(&heard).flags.fin());
    // The client's FIN does not acknowledge ours yet.
    bench.feed(&hand.say(ACK | FIN, &[]));
    hand.hear(&heard);
    let heard = bench.drain();
    assert_eq!(last(&heard).acknowledgement, hand.next);
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())));
    bench.drain();
    assert_eq!(bench.stack.occupancy().tombstones, 1);
    bench.pass(Duration::from_secs(61));
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn fin_wait_2_holds_no_rings_and_is_not_for_ever() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    now(stream.write_all(b"bye")).unwrap();
    now(stream.shutdown()).unwrap();
    drop(stream);
    hand.hear(&bench.drain());
    assert_eq!(bench.stack.occupancy().rings, 1, "what was written is not acknowledged");
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    let left = bench.stack.occupancy();
    assert_eq!((left.rings, left.flows, left.tombstones), (0, 0, 1));
    // What comes soon is thrown away in peace; what comes late is not.
    let (verdict, answer) = bench.give(&hand.say(ACK, b"soon"));
    assert_eq!((verdict, answer.unwrap().acknowledgement), (Verdict::Answer(Reason::Closing), hand.next));
    bench.pass(Duration::from_secs(10));
    let (_, answer) = bench.give(&hand.say(ACK, b"late"));
    assert!(answer.unwrap().flags.rst());
    assert_nothing_leaks(&bench.stack);

    let stream = hand_over_and_close(&mut bench);
    drop(stream);
    bench.pass(Duration::from_secs(61));
    assert_nothing_leaks(&bench.stack);
}

/// A connection whose stream has closed, and whose client never will.
fn hand_over_and_close(bench: &mut Bench) -> FlowStream {
    let mut hand = Hand::at("198.51.100.1:5000");
    let mut stream = hand.connect(bench);
    now(stream.shutdown()).unwrap();
    hand.hear(&bench.drain());
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    stream
}

#[test]
fn a_stream_that_is_dropped_resets_and_is_gone() {
    let (mut bench, mut hand) = bench();
    let stream = hand.connect(&mut bench);
    drop(stream);
    let heard = bench.drain();
    assert!(last(&heard).flags.rst() && last(&heard).sequence == hand.expected);
    assert_nothing_leaks(&bench.stack);
    assert_eq!(bench.stack.counts().aborted, 1);
}

#[test]
fn a_reset_is_believed_at_the_exact_number_only() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    assert!(read(&mut stream).is_none());
    // RFC 5961 §3.2: elsewhere in the window it is challenged, outside it is nothing.
    let (verdict, answer) = bench.give(&hand.at_number(RST, hand.next.plus(10), &[]));
    assert_eq!(verdict, Verdict::Answer(Reason::ChallengeAck));
    let answer = answer.unwrap();
    assert_eq!((answer.sequence, answer.acknowledgement), (hand.expected, hand.next));
    let (verdict, _) = bench.give(&hand.at_number(RST, hand.next.minus(10), &[]));
    assert_eq!(verdict, Verdict::Drop(Reason::OutOfWindow));
    // §4.2: a SYN is challenged wherever it is.
    let (verdict, _) = bench.give(&hand.at_number(SYN, hand.next.plus(77_777), &[]));
    assert_eq!(verdict, Verdict::Answer(Reason::ChallengeAck));
    bench.feed(&hand.say(ACK, b"last words"));
    assert_eq!(bench.give(&hand.say(RST, &[])).0, Verdict::Deliver(Reason::KnownFlow));
    assert!(bench.drain().iter().all(|heard| !heard.flags.rst()));
    assert_eq!(read(&mut stream), Some(Ok(b"last words".to_vec())));
    assert_eq!(read(&mut stream), Some(Err(ErrorKind::ConnectionReset)));
    assert_eq!(now(stream.write(b"x")).unwrap_err().kind(), ErrorKind::ConnectionReset);
    bench.drain();
    assert_nothing_leaks(&bench.stack);
}

#[test] // RFC 5961 §3.2
fn a_guessed_reset_is_not_believed_while_bytes_wait_either() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    // Neither acknowledged nor read, then acknowledged and not read.
    for words in [&b"first"[..], b"and second"] {
        bench.feed(&hand.say(ACK, words));
        for further in [1, 10, 1000, 60_000] {
            let (verdict, _) = bench.give(&hand.at_number(RST, hand.next.plus(further), &[]));
            assert_eq!(verdict, Verdict::Answer(Reason::ChallengeAck), "{further}");
        }
        bench.pass(Duration::from_millis(100));
    }
    assert_eq!(read(&mut stream), Some(Ok(b"firstand second".to_vec())));
    // What came out of order does not count until the gap is filled.
    let gap = hand.next;
    bench.feed(&hand.at_number(ACK, gap.plus(3), b"def"));
    let (verdict, _) = bench.give(&hand.at_number(RST, gap.plus(6), &[]));
    assert_eq!(verdict, Verdict::Answer(Reason::ChallengeAck));
    bench.feed(&hand.at_number(ACK, gap, b"abc"));
    assert_eq!(bench.give(&hand.at_number(RST, gap.plus(6), &[])).0, Verdict::Deliver(Reason::KnownFlow));
    assert_eq!(read(&mut stream), Some(Ok(b"abcdef".to_vec())));
    assert_eq!(read(&mut stream), Some(Err(ErrorKind::ConnectionReset)));
}

#[test]
fn a_reset_ends_a_connection_in_every_state() {
    type Way = fn(&mut Bench, &mut Hand) -> Option<FlowStream>;
    let ways: [(&str, Way); 6] = [
        ("half open", |bench, hand| {
            hand.expected = bench.give(&hand.say(SYN, &[])).1.unwrap().sequence.plus(1);
            None
        }),
        ("established", |bench, hand| Some(hand.connect(bench))),
        ("FIN-WAIT-1", |bench, hand| {
            let mut stream = hand.connect(bench);
            now(stream.shutdown()).unwrap();
            bench.drain();
            Some(stream)
        }),
        ("FIN-WAIT-2", |bench, hand| {
            let mut stream = hand.connect(bench);
            now(stream.shutdown()).unwrap();
            hand.hear(&bench.drain());
            bench.feed(&hand.say(ACK, &[]));
            bench.drain();
            Some(stream)
        }),
        ("CLOSE-WAIT", |bench, hand| {
            let stream = hand.connect(bench);
            bench.feed(&hand.say(ACK | FIN, &[]));
            bench.drain();
            Some(stream)
        }),
        ("LAST-ACK", |bench, hand| {
            let mut stream = hand.connect(bench);
            bench.feed(&hand.say(ACK | FIN, &[]));
            now(stream.shutdown()).unwrap();
            bench.drain();
            Some(stream)
        }),
    ];
    for (name, way) in ways {
        let (mut bench, mut hand) = bench();
        let stream = way(&mut bench, &mut hand);
        let (verdict, _) = bench.give(&hand.say(RST, &[]));
        assert!(matches!(verdict, Verdict::Deliver(_)), "{name}: {verdict:?}");
        bench.drain();
        assert_nothing_leaks(&bench.stack);
        drop(stream);
        assert!(bench.drain().is_empty(), "{name}: a reset is not answered");
    }
}

#[test]
fn a_port_may_be_used_again_at_once() {
    // After the client's own reset.
    let (mut bench, mut hand) = bench();
    let stream = hand.connect(&mut bench);
    bench.feed(&hand.say(RST, &[]));
    bench.drain();
    let mut again = Hand { next: hand.next.plus(1000), ..Hand::at("198.51.100.1:4000") };
    let mut second = again.connect(&mut bench);
    drop(stream);
    bench.feed(&again.say(ACK, b"new"));
    bench.drain();
    assert_eq!(read(&mut second), Some(Ok(b"new".to_vec())));

    // In TIME-WAIT: by a higher number, and with higher numbers of ours.
    now(second.shutdown()).unwrap();
    again.hear(&bench.drain());
    bench.feed(&again.say(ACK | FIN, &[]));
    bench.drain();
    assert_eq!(read(&mut second), Some(Ok(Vec::new())));
    drop(second);
    bench.drain();
    assert_eq!(bench.stack.occupancy().tombstones, 1);
    let mut third = Hand { next: again.next.plus(1), ..Hand::at("198.51.100.1:4000") };
    let _stream = third.connect(&mut bench);
    assert!(third.expected.is_after(again.expected));
    assert_eq!(bench.stack.occupancy().tombstones, 0);

    // By a client that forgot the connection: the challenge makes it send its reset.
    let mut fourth = Hand { next: third.next.plus(500_000), ..Hand::at("198.51.100.1:4000") };
    let challenge = bench.give(&fourth.at_number(SYN, fourth.next, &[])).1.unwrap();
    bench.feed(&fourth.at_number(RST, challenge.acknowledgement, &[]));
    bench.drain();
    fourth.connect(&mut bench);
}

#[test]
fn a_stack_that_goes_ends_its_streams() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    assert!(read(&mut stream).is_none());
    drop(bench.stack);
    assert_eq!(read(&mut stream), Some(Err(ErrorKind::ConnectionAborted)));
}

#[test]
fn a_slow_reader_loses_nothing_when_both_have_closed() {
    let (mut bench, mut hand) = bench();
    let mut stream = hand.connect(&mut bench);
    now(stream.shutdown()).unwrap();
    hand.hear(&bench.drain());
    bench.feed(&hand.say(ACK, b"unread"));
    bench.feed(&hand.say(ACK | FIN, b" yet"));
    bench.pass(Duration::from_secs(50));
    assert_eq!(read(&mut stream), Some(Ok(b"unread yet".to_vec())));
    assert_eq!(read(&mut stream), Some(Ok(Vec::new())));
    bench.pass(Duration::from_secs(61));
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn a_client_that_closed_its_half_is_sent_all_as_its_window_opens() {
    for device in [PLAIN, CUTS] {
        let mut bench = Bench::new(StackSettings::on(device));
        bench.stack.listen(vip(), Listener { congestion: Congestion::None, ..Listener::default() });
        let mut hand = Hand { window: 3000, ..Hand::at("198.51.100.1:4000") };
        let mut stream = hand.connect(&mut bench);
        bench.feed(&hand.say(ACK | FIN, b"all of it"));
        now(stream.write_all(&vec![7; 20_000])).unwrap();
        now(stream.shutdown()).unwrap();
        drop(stream);
        let start = hand.expected;
        for round in 1..=7 {
            let heard = bench.drain();
            assert_eq!(heard.iter().any(|one| one.flags.fin()), round == 7, "FIN is behind the last byte");
            hand.hear(&heard);
            assert_eq!(hand.expected.since(start), (round * 3000).min(20_000) + u32::from(round == 7));
            // The window closes, and opens by a word that acknowledges nothing new.
            hand.window = 0;
            bench.feed(&hand.say(ACK, &[]));
            bench.drain();
            hand.window = 3000;
            if round < 7 {
                bench.feed(&hand.say(ACK, &[]));
            }
        }
        assert_nothing_leaks(&bench.stack);
    }
}
