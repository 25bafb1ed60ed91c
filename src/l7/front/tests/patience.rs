//! How long clients are waited for, and how sessions end when they are told to.

use super::*;
use tokio::time::{Instant, advance, sleep};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// How long the session lasts from now on, and what is said until then.
async fn lasts(bench: &mut Bench) -> (Duration, String) {
    let start = Instant::now();
    let said = bench.rest().await;
    (start.elapsed(), said)
}

fn about(time: Duration, wanted: Duration) -> bool {
    time >= wanted && time < wanted + Duration::from_secs(1)
}

#[test]
fn a_client_that_says_nothing_is_left_without_a_word() {
    for alpn in [None, Some(Alpn::Http11)] {
        run(async {
            let mut bench = Bench::serve(Does::Echo, alpn, Security::Clear);
            let (time, said) = lasts(&mut bench).await;
            assert!(about(time, PATIENCE.head) && said.is_empty(), "{alpn:?}: {time:?} {said}");
        });
    }
}

#[test]
fn a_head_that_does_not_end_gets_408_however_often_a_byte_comes() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let start = Instant::now();
        for byte in GET.iter().cycle().take(14).chain(&[b'a'; 100]) {
            if bench.client.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
            if start.elapsed() > PATIENCE.head + Duration::from_secs(5) {
                break;
            }
        }
        let said = bench.rest().await;
        assert!(said.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{said}");
        assert_eq!(bench.refused(), [Refusal::HeadTimeout]);
    });
}

#[test]
fn a_second_head_has_its_time_from_its_first_byte() {
    run(async {
        let mut bench = Bench::clear(Does::Ignore);
        bench.client.write_all(GET).await.unwrap();
        bench.until("ignored").await;
        sleep(Duration::from_secs(70)).await;
        bench.client.write_all(b"GET ").await.unwrap();
        let (time, said) = lasts(&mut bench).await;
        assert!(about(time, PATIENCE.head) && said.starts_with("HTTP/1.1 408 "), "{time:?} {said}");
    });
}

#[test]
fn a_client_that_asks_for_nothing_more_is_left_without_a_word() {
    run(async {
        let mut bench = Bench::clear(Does::Ignore);
        for _ in 0..3 {
            bench.client.write_all(GET).await.unwrap();
            bench.until("ignored").await;
            sleep(Duration::from_secs(60)).await;
        }
        let (time, said) = lasts(&mut bench).await;
        assert!(about(time, PATIENCE.keep_alive.saturating_sub(Duration::from_secs(60))), "{time:?}");
        assert_eq!(said, "");
    });
}

#[test]
fn a_request_that_is_being_answered_is_not_silence() {
    run(async {
        let mut bench = Bench::clear(Does::Nothing);
        bench.client.write_all(GET).await.unwrap();
        sleep(Duration::from_mins(10)).await;
        assert!(!bench.session.is_finished());
        bench.client.write_all(b"").await.unwrap();
    });
}

#[test]
fn a_session_that_drains_finishes_its_request() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n";
        bench.client.write_all(head).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        bench.drain.send_replace(true);
        sleep(Duration::from_secs(1)).await;
        bench.client.write_all(b"abc").await.unwrap();
        let said = bench.rest().await;
        assert!(said.contains("\r\nconnection: close\r\n") && said.ends_with("abc"), "{said}");
        bench.session.await.unwrap();
    });
}

#[test]
fn a_session_that_drains_and_has_nothing_to_do_ends_at_once() {
    for asked in [false, true] {
        run(async {
            let mut bench = Bench::serve(Does::Ignore, Some(Alpn::Http11), Security::Clear);
            if asked {
                bench.client.write_all(GET).await.unwrap();
                bench.until("ignored").await;
            }
            advance(Duration::from_secs(1)).await;
            bench.drain.send_replace(true);
            let (time, said) = lasts(&mut bench).await;
            assert!(time < Duration::from_secs(1) && said.is_empty(), "{asked}: {time:?} {said}");
        });
    }
}
