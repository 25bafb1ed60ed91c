//! Idle connections hold no rings, and do not show it.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn parked() -> (Bench, Hand, FlowStream) {
    parked_with(StackSettings::on(PLAIN))
}

fn parked_with(settings: StackSettings) -> (Bench, Hand, FlowStream) {
    let mut bench = Bench::new(settings);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    assert_eq!(bench.stack.occupancy().rings, 0, "nothing was said yet");
    bench.feed(&hand.say(ACK, b"request"));
    let mut buffer = [0; 100];
    assert_eq!(stream.read(&mut buffer).now_or_never().unwrap().unwrap(), 7);
    stream.write_all(b"answer").now_or_never().unwrap().unwrap();
    hand.hear(&bench.drain());
    assert_eq!(bench.pass(Duration::from_millis(500)).len(), 0);
    assert_eq!(bench.stack.occupancy().rings, 1);
    bench.feed(&hand.say(ACK, &[]));
    bench.drain();
    assert_eq!(bench.stack.occupancy().rings, 1, "it may go on at once");
    assert_eq!(bench.pass(Duration::from_millis(1500)).len(), 0);
    assert_eq!((bench.stack.occupancy().rings, bench.stack.occupancy().flows), (0, 1));
    (bench, hand, stream)
}

#[test]
fn an_idle_connection_holds_no_rings_and_goes_on_where_it_was() {
    let (mut bench, mut hand, mut stream) = parked();
    for round in 0..20u8 {
        if round % 2 == 0 {
            bench.feed(&hand.say(ACK, &[round; 1000]));
            assert_eq!(bench.stack.occupancy().rings, 1);
            let mut buffer = [0; 1000];
            stream.read_exact(&mut buffer).now_or_never().unwrap().unwrap();
            assert_eq!(buffer, [round; 1000]);
        } else {
            stream.write_all(&[round; 3000]).now_or_never().unwrap().unwrap();
        }
        let heard = bench.pass(Duration::from_millis(20));
        hand.hear(&heard);
        let said: Vec<u8> = heard.iter().flat_map(|one| one.payload.clone()).collect();
        assert!(said == if round % 2 == 0 { Vec::new() } else { vec![round; 3000] }, "{}", said.len());
        assert_eq!(heard.last().unwrap().acknowledgement, hand.next);
        bench.feed(&hand.say(ACK, &[]));
        bench.pass(Duration::from_secs(3));
        assert_eq!(bench.stack.occupancy().rings, 0);
    }
    stream.shutdown().now_or_never().unwrap().unwrap();
    hand.hear(&bench.drain());
    bench.feed(&hand.say(ACK | FIN, &[]));
    bench.drain();
    assert_eq!(stream.read(&mut [0; 10]).now_or_never().unwrap().unwrap(), 0);
    bench.pass(Duration::from_mins(2));
    assert_nothing_leaks(&bench.stack);
    assert_eq!(bench.stack.counts().ended, 1);
}

#[test]
fn a_reader_that_waits_is_woken_across_parking() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    struct Woken(AtomicBool);
    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Relaxed);
        }
    }
    let kept = StackSettings::on(PLAIN);
    // Where the pool is full, rings are thrown away.
    let thrown_away = StackSettings { limits: Limits { idle_ring_bytes: 0, ..kept.limits }, ..kept };
    for settings in [kept, thrown_away] {
        let (mut bench, mut hand, mut stream) = parked_with(settings);
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut context = Context::from_waker(&waker);
        let mut buffer = [0; 10];
        let mut reading = Box::pin(stream.read(&mut buffer));
        assert!(reading.as_mut().poll(&mut context).is_pending());
        bench.feed(&hand.say(ACK, b"more"));
        assert!(woken.0.swap(false, Relaxed), "data wake");
        assert!(matches!(reading.as_mut().poll(&mut context), Poll::Ready(Ok(4))));
        drop(reading);
        // And when the connection is parked while somebody reads.
        let mut reading = Box::pin(stream.read(&mut buffer));
        assert!(reading.as_mut().poll(&mut context).is_pending());
        bench.pass(Duration::from_secs(3));
        assert_eq!(bench.stack.occupancy().rings, 0);
        assert!(woken.0.swap(false, Relaxed), "it must wait at the parked connection");
        assert!(reading.as_mut().poll(&mut context).is_pending());
        bench.feed(&hand.at_number(RST, hand.next, &[]));
        assert!(woken.0.load(Relaxed), "a reset wakes");
        let error = reading.as_mut().poll(&mut context);
        assert!(
            matches!(error, Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
}

#[test]
fn a_parked_connection_answers_probes_and_remembers_windows() {
    let (mut bench, mut hand, mut stream) = parked();
    let (verdict, answer) = bench.give(&hand.at_number(ACK, hand.next.minus(1), &[0]));
    assert!(matches!(verdict, Verdict::Answer(_)));
    assert_eq!(answer.unwrap().acknowledgement, hand.next);
    assert_eq!(bench.stack.occupancy().rings, 0);
    // The client closes its window while the connection is parked.
    hand.window = 0;
    bench.feed(&hand.say(ACK, &[]));
    stream.write_all(b"held back").now_or_never().unwrap().unwrap();
    let heard = bench.drain();
    assert!(heard.iter().all(|one| one.payload.len() <= 1), "at most a probe");
    hand.window = 100;
    bench.feed(&hand.say(ACK, &[]));
    hand.hear(&bench.drain());
    bench.feed(&hand.say(ACK, &[]));
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.stack.occupancy().rings, 0);
}

#[test]
fn dropping_a_parked_stream_resets() {
    let (mut bench, hand, stream) = parked();
    drop(stream);
    let heard = bench.drain();
    assert!(heard[0].flags.rst() && heard[0].sequence == hand.expected);
    assert_nothing_leaks(&bench.stack);
}

#[test]
fn bytes_beyond_a_gap_are_asked_for_again_after_parking() {
    let (mut bench, mut hand, mut stream) = parked();
    bench.feed(&hand.at_number(ACK, hand.next.plus(100), &[2; 100]));
    bench.pass(Duration::from_secs(5));
    bench.feed(&hand.say(ACK, &[1; 100]));
    bench.feed(&hand.say(ACK, &[2; 100]));
    let mut buffer = [0; 200];
    stream.read_exact(&mut buffer).now_or_never().unwrap().unwrap();
    assert_eq!((&buffer[..100], &buffer[100..]), (&[1; 100][..], &[2; 100][..]));
}
