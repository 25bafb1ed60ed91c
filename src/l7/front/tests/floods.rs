//! HTTP/2 floods: frames that cost a client nothing, in any number. Each ends the connection within a bound, by its name.

use tokio::time::{Instant, sleep};

use super::*;
use crate::l7::front::life::Life;

/// A frame: its kind, flags, stream and content.
fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(content.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(content);
    bytes
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// `GET https://a/` without HPACK's tables: indexed fields, and a literal authority.
const BLOCK: &[u8] = &[0x82, 0x87, 0x84, 0x01, 0x01, b'a'];

/// The n-th stream of a client.
fn stream(number: u32) -> u32 {
    2 * number + 1
}

/// A request on the n-th stream, which goes on where `flags` do not end it.
fn request(number: u32, flags: u8) -> Vec<u8> {
    frame(1, 4 | flags, stream(number), BLOCK)
}

/// Opens a connection, and sends what comes of numbers until it is ended; gives how many that took.
async fn flood(bench: &mut Bench, first: &[u8], each: impl Fn(u32) -> Vec<u8>) -> u32 {
    bench.client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), first].concat()).await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(&mut bench.client);
    // What it says is read, so that it is not ended because it is not.
    let reading = async {
        let mut said = Vec::new();
        let _reset = reader.read_to_end(&mut said).await;
        said
    };
    let writing = async {
        for number in 0..200_000 {
            if writer.write_all(&each(number)).await.is_err() {
                return number;
            }
        }
        panic!("never ended");
    };
    let (said, number) = futures_util::future::join(reading, writing).await;
    // GOAWAY with ENHANCE_YOUR_CALM, by h2 or by us.
    let calm = said.windows(9).any(|at| at[..4] == [0, 0, 0, 0][..0] || at[3] == 7);
    assert!(calm, "no GOAWAY");
    number
}

#[test]
fn floods_of_frames_end_the_connection_within_bounds() {
    type Each = fn(u32) -> Vec<u8>;
    type Case<'a> = (&'a str, &'a [u8], Each, u32, &'a [Cut]);
    let cases: [Case<'_>; 9] = [
        ("ping", &[], |_| frame(6, 0, 0, &[7; 8]), 2_100, &[Cut::PingFlood]),
        ("settings", &[], |_| frame(4, 0, 0, &[]), 2_100, &[Cut::SettingsFlood]),
        (
            "settings that change",
            &[],
            |n| {
                let size = (16_384 + n % 100).to_be_bytes();
                frame(4, 0, 0, &[&[0, 5][..], &size].concat())
            },
            2_100,
            &[Cut::SettingsFlood],
        ),
        (
            "rapid reset",
            &[],
            |n| [request(n, 1), frame(3, 0, stream(n), &[0, 0, 0, 8])].concat(),
            600,
            &[Cut::ResetFlood, Cut::Excess],
        ),
        ("priority", &[], |n| frame(2, 0, stream(n % 1000), &[0, 0, 0, 0, 9]), 2_100, &[Cut::PriorityFlood]),
        ("windows", &[], |_| frame(8, 0, 0, &[0, 0, 0, 1]), 2_100, &[Cut::WindowFlood]),
        ("unknown", &[], |_| frame(0x77, 0, 0, b"?"), 2_100, &[Cut::UnknownFlood]),
        (
            "empty data",
            b"\x00\x00\x06\x01\x04\x00\x00\x00\x01\x82\x87\x84\x01\x01a",
            |_| frame(0, 0, 1, &[]),
            2_100,
            &[Cut::EmptyFlood, Cut::Excess],
        ),
        (
            "continuation",
            b"\x00\x00\x00\x01\x01\x00\x00\x00\x01",
            |_| frame(9, 0, 1, &[]),
            2_100,
            &[Cut::ContinuationFlood, Cut::Excess],
        ),
    ];
    for (name, first, each, most, cuts) in cases {
        run(async {
            let mut bench = Bench::serve(Does::Nothing, Some(Alpn::H2), Security::Clear);
            let took = flood(&mut bench, first, each).await;
            // What is under way when it ends is no more than a connection holds.
            assert!(took < most + 6_000, "{name}: {took}");
            sleep(Duration::from_secs(1)).await;
            assert!(bench.session.is_finished(), "{name}");
            assert!(bench.cut().len() == 1 && cuts.contains(&bench.cut()[0]), "{name}: {:?}", bench.cut());
            let word = bench.cut()[0].word();
            for line in bench.lines() {
                assert!([word, "cancelled"].contains(&line.why.unwrap()), "{name}: {line:?}");
            }
        });
    }
}

/// Reads all that is said, and says this every so often, until the session is over; gives how long that took.
async fn trickle(bench: &mut Bench, every: Duration, frame: &[u8]) -> Duration {
    let (other, _) = tokio::io::duplex(1);
    let (mut reader, mut writer) = tokio::io::split(std::mem::replace(&mut bench.client, other));
    tokio::task::spawn_local(async move {
        let mut said = Vec::new();
        let _reset = reader.read_to_end(&mut said).await;
    });
    let start = Instant::now();
    while !bench.session.is_finished() {
        let _gone = writer.write_all(frame).await;
        sleep(every).await;
        assert!(start.elapsed() < PATIENCE.send * 4, "never ended");
    }
    start.elapsed()
}

#[test]
fn a_stream_that_takes_nothing_is_ended_though_its_connection_is_lively() {
    for (name, every, frame) in [
        ("pings", 5, frame(6, 0, 0, &[1; 8])),
        ("a window that is opened byte by byte", 1, frame(8, 0, 1, &[0, 0, 0, 1])),
    ] {
        run(async {
            let mut bench = Bench::serve(Does::Large, Some(Alpn::H2), Security::Clear);
            // SETTINGS_INITIAL_WINDOW_SIZE of nothing.
            let settings = self::frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
            bench.client.write_all(&[PREFACE, &settings, &request(0, 1)].concat()).await.unwrap();
            let time = trickle(&mut bench, Duration::from_secs(every), &frame).await;
            assert!(time >= PATIENCE.send, "{name}");
            let end = (bench.cut(), bench.whys());
            assert_eq!(end, (vec![Cut::SendTimeout], vec![Some("send_timeout")]), "{name}");
        });
    }
}

#[test]
fn no_more_streams_than_may_be_are_open_at_once() {
    run(async {
        let mut bench = Bench::by(Does::Nothing, Some(Alpn::H2), Security::Clear, |site| {
            site.requests.streams = 3;
        });
        let requests: Vec<u8> = (0..10).flat_map(|number| request(number, 1)).collect();
        bench.client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &requests[..]].concat()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.backend.seen.borrow().len(), 3);
    });
}

#[test]
fn fields_of_http_2_are_counted_too() {
    run(async {
        let mut bench = Bench::by(Does::Echo, Some(Alpn::H2), Security::Clear, |site| {
            site.requests.fields = 2;
        });
        let fields: Vec<u8> = (0..3).flat_map(|n| [0x00, 0x01, b'x' + n, 0x01, b'v']).collect();
        let block = [BLOCK, &fields[..]].concat();
        let ask = frame(1, 5, 1, &block);
        bench.client.write_all(&[PREFACE, &frame(4, 0, 0, &[]), &ask[..]].concat()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.refused(), [Refusal::HeadTooLarge]);
        assert_eq!(bench.whys(), [Some("head_too_large")]);
    });
}

#[test]
fn a_session_without_answers_waits_for_no_client() {
    let life = Life::new();
    assert_eq!(life.stalled_since(), None);
    life.hand_out();
    assert!(life.stalled_since().is_some());
    life.take_back();
    assert_eq!(life.stalled_since(), None);
}
