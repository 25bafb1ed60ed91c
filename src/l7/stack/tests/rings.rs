//! Rings: how windows follow from them, how they are used again, and who waits when they are full.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::segment::{BareKind, Offer};
use super::*;

#[test]
fn the_scale_that_is_announced_is_the_one_that_smoltcp_uses() {
    for receive in RingSize::ALL {
        let listener =
            Listener { rings: Rings { receive, transmit: RingSize::K16 }, congestion: Congestion::None };
        let mut bench = Bench::new(StackSettings::on(PLAIN));
        bench.stack.listen(vip(), listener);
        let mut hand = Hand::at("198.51.100.1:4000");
        let mut frame = Frame::new();
        let offer = Offer { mss: 1460, scale: Some(7), sack: false };
        super::super::segment::Bare {
            from: hand.client,
            to: hand.vip,
            kind: BareKind::Syn(offer),
            sequence: hand.next,
            window: 60_000,
        }
        .replace(&mut frame);
        let answer = bench.give(frame.packet()).1.unwrap();
        let view = View::of(&answer.packet).unwrap();
        let shift = Segment::of(&answer.packet, &view).unwrap().offer(&answer.packet).scale.unwrap();
        hand.next = hand.next.plus(1);
        hand.expected = answer.sequence.plus(1);
        bench.feed(&hand.say(ACK, b"x"));
        let heard = bench.pass(Duration::from_millis(20));
        let window = usize::from(heard[0].window) << shift;
        let ring = receive.bytes();
        assert!(window < ring && window + (2 << shift) >= ring, "{receive:?}: {window} of {ring}");
    }
}

#[test]
fn a_client_that_ignores_the_window_is_cut_off_and_does_no_harm() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    // 160 KB at a ring of 64 KB, in order and in one turn, and before that beyond a gap.
    for at in (0..160_000u32).step_by(16_000).rev().chain((0..160_000).step_by(16_000)) {
        bench.feed(&hand.at_number(ACK, hand.next.plus(at), &[7; 16_000]));
    }
    bench.drain();
    let mut buffer = vec![0; 200_000];
    let mut got = 0;
    while let Some(length) = stream.read(&mut buffer).now_or_never() {
        got += length.unwrap();
    }
    assert!(got <= RingSize::K64.bytes(), "{got}");
}

#[test]
fn a_reader_that_stops_closes_the_window_and_opens_it_again() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    for _ in 0..64 {
        bench.feed(&hand.say(ACK, &[7; 1024]));
    }
    // Without a window scale, 65,535 bytes are all that can be said.
    assert_eq!(bench.drain().last().unwrap().window, 1);
    let mut crumb = [0; 100];
    stream.read_exact(&mut crumb).now_or_never().unwrap().unwrap();
    assert!(bench.drain().is_empty(), "a crumb opens no window");
    let mut more = vec![0; 40_000];
    stream.read_exact(&mut more).now_or_never().unwrap().unwrap();
    assert!(bench.drain().last().unwrap().window > 30_000);
}

#[test]
fn a_writer_waits_for_the_client_and_is_woken() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let listener = Listener {
        rings: Rings { receive: RingSize::K16, transmit: RingSize::K16 },
        congestion: Congestion::None,
    };
    bench.stack.listen(vip(), listener);
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let mut all = Box::pin(async move {
        stream.write_all(&vec![1; 50_000]).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    });
    let (waker, count) = futures_util_count();
    let mut context = Context::from_waker(&waker);
    let mut polls = 0;
    while all.as_mut().poll(&mut context).is_pending() {
        polls += 1;
        assert_eq!(count(), 0, "nothing has changed yet");
        hand.hear(&bench.drain());
        bench.feed(&hand.say(ACK, &[]));
        assert!(count() > 0, "an acknowledgement wakes the writer");
    }
    assert!(polls > 2);
}

/// A waker that counts, and the count since it was asked last.
fn futures_util_count() -> (std::task::Waker, impl Fn() -> usize) {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    struct Counter(AtomicUsize);
    impl std::task::Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Relaxed);
        }
    }
    let counter = Arc::new(Counter(AtomicUsize::new(0)));
    let waker = std::task::Waker::from(Arc::clone(&counter));
    (waker, move || counter.0.swap(0, Relaxed))
}

#[test]
fn rings_are_used_again_and_old_bytes_are_not_seen() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    for round in 0..50u8 {
        let mut hand = Hand { next: Sequence(u32::from(round) << 24), ..Hand::at("198.51.100.1:4000") };
        let mut stream = hand.connect(&mut bench);
        bench.feed(&hand.say(ACK, &[round; 3000]));
        let mut buffer = [0xff; 4000];
        // Half of it is left unread, and a reply unsent.
        let length = stream.read(&mut buffer[..1500]).now_or_never().unwrap().unwrap();
        assert!(buffer[..length].iter().all(|&byte| byte == round));
        stream.write_all(&[round; 5000]).now_or_never().unwrap().unwrap();
        drop(stream);
        assert!(bench.drain().last().unwrap().flags.rst());
        assert_eq!(bench.stack.occupancy().rings, 0);
        assert_eq!(bench.stack.occupancy().idle_ring_bytes, (64 + 256) << 10);
    }
}

#[test]
fn several_writes_of_one_turn_leave_together() {
    let mut bench = Bench::new(StackSettings::on(CUTS));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    for _ in 0..8 {
        stream.write_all(&[3; 1000]).now_or_never().unwrap().unwrap();
    }
    let parts = [std::io::IoSlice::new(&[4; 300]), std::io::IoSlice::new(&[5; 200])];
    assert_eq!(stream.write_vectored(&parts).now_or_never().unwrap().unwrap(), 500);
    let heard = bench.drain();
    assert_eq!((heard.len(), heard[0].payload.len()), (1, 8500));
}

#[test]
fn nothing_is_sent_again_beyond_the_window() {
    for device in [PLAIN, CUTS] {
        let mut bench = Bench::new(StackSettings::on(device));
        let listener = Listener { congestion: Congestion::None, ..Listener::default() };
        bench.stack.listen(vip(), listener);
        let mut hand = Hand { window: 3000, ..Hand::at("198.51.100.1:4000") };
        let mut stream = hand.connect(&mut bench);
        let start = hand.expected;
        stream.write_all(&vec![7; 50_000]).now_or_never().unwrap().unwrap();
        let mut heard = bench.drain();
        for _ in 0..4 {
            bench.feed(&hand.say(ACK, &[]));
        }
        heard.extend(bench.drain());
        let ends = heard.iter().map(|one| one.sequence.plus(u32::try_from(one.payload.len()).unwrap()));
        let sent: Vec<u32> = ends.map(|end| end.since(start)).collect();
        assert!(sent.len() > 1 && sent.iter().all(|&sent| sent <= 3000), "{device:?}: {sent:?}");
        assert!(heard.iter().filter(|one| one.sequence == start).count() > 1, "it was sent again");
    }
}

#[test]
fn a_fin_beyond_the_window_does_not_end_the_stream_early() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    let ring = Listener::default().rings.receive.bytes();
    let mut sent = 0;
    while sent + 1460 <= ring - 700 {
        bench.feed(&hand.say(ACK, &[7; 1460]));
        bench.drain();
        sent += 1460;
    }
    let rest = [9; 1460];
    let begin = hand.next;
    bench.feed(&hand.at_number(ACK | FIN, begin, &rest));
    bench.drain();
    let mut buffer = vec![0; ring + 1];
    let mut got = 0;
    while let Some(Ok(length)) = stream.read(&mut buffer).now_or_never() {
        assert_ne!(length, 0, "the stream is not over");
        got += length;
    }
    assert!(got >= sent);
    bench.drain();
    bench.feed(&hand.at_number(ACK | FIN, begin, &rest));
    while let length @ 1.. = stream.read(&mut buffer).now_or_never().unwrap().unwrap() {
        got += length;
    }
    assert_eq!(got, sent + rest.len());
}
