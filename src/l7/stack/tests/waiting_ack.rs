//! Acknowledgements that wait for an answer to go with.

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

#[test]
fn a_small_request_is_acknowledged_by_its_answer() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    bench.feed(&hand.say(ACK, b"request"));
    assert!(bench.drain().is_empty(), "there is nothing to say but an acknowledgement");
    stream.write_all(b"answer").now_or_never().unwrap().unwrap();
    let heard = bench.drain();
    assert_eq!((heard.len(), heard[0].payload.as_slice()), (1, &b"answer"[..]));
    assert_eq!(heard[0].acknowledgement, hand.next);
    hand.hear(&heard);
    bench.feed(&hand.say(ACK, &[]));
    assert!(bench.pass(Duration::from_millis(100)).is_empty(), "it was said already");
}

#[test]
fn without_an_answer_it_is_acknowledged_in_time() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let _stream = hand.connect(&mut bench);
    bench.feed(&hand.say(ACK, b"request"));
    assert!(bench.pass(Duration::from_millis(8)).is_empty());
    let heard = bench.pass(Duration::from_millis(4));
    assert_eq!(heard.len(), 1);
    assert_eq!(heard[0].acknowledgement, hand.next);
}

#[test]
fn a_second_segment_and_a_large_one_are_acknowledged_at_once() {
    for parts in [&[10, 10][..], &[1460], &[10, 1460]] {
        let mut bench = Bench::new(StackSettings::on(PLAIN));
        let mut hand = Hand::at("198.51.100.1:4000");
        let _stream = hand.connect(&mut bench);
        for length in parts {
            bench.feed(&hand.say(ACK, &vec![b'x'; *length]));
        }
        let heard = bench.drain();
        assert_eq!(heard.last().map(|one| one.acknowledgement), Some(hand.next), "{parts:?}");
    }
}

#[test]
fn a_reset_behind_what_is_not_acknowledged_yet_is_no_guess() {
    let mut bench = Bench::new(StackSettings::on(PLAIN));
    let mut hand = Hand::at("198.51.100.1:4000");
    let mut stream = hand.connect(&mut bench);
    bench.feed(&hand.say(ACK, b"request"));
    let mut buffer = [0; 7];
    stream.read_exact(&mut buffer).now_or_never().unwrap().unwrap();
    assert!(bench.drain().is_empty());
    bench.feed(&hand.say(RST, &[]));
    bench.drain();
    let error = stream.write_all(b"answer").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}
