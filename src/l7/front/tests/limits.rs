//! Each bound of a request and of patience, reached on purpose: the answer, the counter and the log say the same word.

use tokio::time::{Instant, sleep};

use super::*;
use crate::l7::exchange::Failure;

/// A cleartext session by a site with these bounds.
fn bound(does: Does, change: impl FnOnce(&mut RequestLimits, &mut Patience)) -> Bench {
    Bench::by(does, None, Security::Clear, |site| change(&mut site.requests, &mut site.patience))
}

/// What is refused, with which status and word, and that no backend was sent a whole one.
async fn refused(name: &str, mut bench: Bench, bytes: &[u8], status: &str, refusal: Refusal) {
    bench.client.write_all(bytes).await.unwrap();
    let said = bench.rest().await;
    assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {said}");
    assert!(said.contains(&format!("details=\"{}\"", refusal.word())), "{name}: {said}");
    assert!(said.contains("connection: close\r\n"), "{name}: {said}");
    assert_eq!(bench.refused(), [refusal], "{name}");
    assert_eq!(bench.whys(), [Some(refusal.word())], "{name}");
    let line = &bench.lines()[0];
    assert_eq!(line.status.map(|it| it.to_string()).as_deref(), Some(status), "{name}");
    assert!(bench.backend.seen.borrow().iter().all(|seen| seen.body.is_err()), "{name}");
}

#[test]
fn a_request_that_is_larger_than_it_may_be_is_refused_by_name() {
    let head = |fields: usize| {
        let fields = (0..fields).map(|number| format!("F{number}: x\r\n")).collect::<Vec<_>>().concat();
        format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").into_bytes()
    };
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "a".repeat(2000)).into_bytes();
    let known = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n".to_vec();
    let counted = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                    6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n"
        .to_vec();
    for (name, bytes, status, refusal) in [
        ("head", long, "431", Refusal::HeadTooLarge),
        ("fields", head(10), "431", Refusal::HeadTooLarge),
        ("body by its length", known, "413", Refusal::BodyTooLarge),
        ("body by its bytes", counted, "413", Refusal::BodyTooLarge),
    ] {
        run(async {
            let bench = bound(Does::Echo, |limits, _| {
                *limits = RequestLimits { head: 1024, fields: 10, body: Some(10), streams: 1 };
            });
            refused(name, bench, &bytes, status, refusal).await;
        });
    }
}

#[test]
fn a_request_that_is_as_large_as_it_may_be_passes() {
    run(async {
        let mut bench = bound(Does::Echo, |limits, _| limits.body = Some(10));
        let both = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789\
                     POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
        let said = bench.exchange(both).await;
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
        assert_eq!(bench.whys(), [None, None]);
        let line = &bench.lines()[0];
        assert_eq!((line.asked.as_str(), line.received, line.sent), ("POST a/ HTTP/1.1", 10, 10));
        assert_eq!((line.status, line.route.as_deref()), (Some(200), Some("*/")));
    });
}

#[test]
fn a_body_that_stops_coming_gets_408() {
    run(async {
        let bench = bound(Does::Echo, |_, _| {});
        let start = Instant::now();
        let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234";
        refused("half a body", bench, half, "408", Refusal::BodyTimeout).await;
        assert!(start.elapsed() >= PATIENCE.body && start.elapsed() < PATIENCE.body * 2);
    });
}

#[test]
fn a_body_that_comes_a_byte_at_a_time_is_waited_for() {
    run(async {
        let mut bench = bound(Does::Echo, |_, _| {});
        bench.client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n").await.unwrap();
        for byte in b"01234" {
            sleep(PATIENCE.body.saturating_sub(Duration::from_secs(1))).await;
            bench.client.write_all(&[*byte]).await.unwrap();
        }
        assert!(bench.until("01234").await.starts_with("HTTP/1.1 200 OK"));
    });
}

#[test]
fn a_client_that_takes_nothing_is_ended_in_http_1() {
    run(async {
        let mut bench = Bench::clear(Does::Large);
        bench.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let start = Instant::now();
        while !bench.session.is_finished() {
            sleep(Duration::from_secs(1)).await;
            assert!(start.elapsed() < PATIENCE.send * 3, "never ended");
        }
        assert!(start.elapsed() >= PATIENCE.send);
        assert_eq!((bench.cut(), bench.whys()), (vec![Cut::SendTimeout], vec![Some("send_timeout")]));
        let line = &bench.lines()[0];
        // What hyper and the connection hold, and no more: the rest stays with the backend.
        assert!(line.status == Some(200) && line.sent < 1 << 20, "{line:?}");
    });
}

#[test]
fn a_request_has_its_time_in_all() {
    for (name, does, status) in
        [("no answer", Does::Nothing, Some(504)), ("an answer that does not end", Does::Stall, Some(200))]
    {
        run(async {
            let mut bench = bound(does, |_, patience| patience.total = Some(Duration::from_secs(7)));
            bench.client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let start = Instant::now();
            let _said = bench.rest().await;
            assert!(
                start.elapsed() >= Duration::from_secs(7) && start.elapsed() < Duration::from_secs(9),
                "{name}"
            );
            assert_eq!(bench.whys(), [Some("total_timeout")], "{name}");
            assert_eq!(bench.lines()[0].status, status, "{name}");
            assert_eq!(bench.site.counters.failed(Failure::TotalTimeout), 1, "{name}");
        });
    }
}

#[test]
fn requests_whose_client_is_gone_are_logged_too() {
    run(async {
        let mut bench = Bench::clear(Does::Nothing);
        bench.client.write_all(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let (client, _) = tokio::io::duplex(1);
        drop(std::mem::replace(&mut bench.client, client));
        // A client that has ended may still want its answer, until writing to it fails.
        bench.session.abort();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(bench.whys(), [Some("cancelled")]);
        assert_eq!((bench.lines()[0].asked.as_str(), bench.lines()[0].status), ("GET a/x HTTP/1.1", None));
    });
}

#[test]
fn what_could_not_be_read_is_logged_without_a_request() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        bench.exchange(b"GET / HTTP/1.1\nHost: a\r\n\r\n").await;
        let line = &bench.lines()[0];
        assert_eq!((line.asked.as_str(), line.status, line.why), ("", Some(400), Some("bare_lf")));
    });
}

#[test]
fn an_upgraded_connection_is_one_line_with_its_bytes() {
    run(async {
        let mut bench = Bench::clear(Does::Upgrade);
        let ask = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        bench.client.write_all(ask).await.unwrap();
        bench.until("\r\n\r\n").await;
        bench.client.write_all(b"hello").await.unwrap();
        bench.until("hello").await;
        assert!(bench.lines().is_empty());
        bench.client.shutdown().await.unwrap();
        assert_eq!(bench.rest().await, "bye");
        sleep(Duration::from_secs(1)).await;
        let line = &bench.lines()[0];
        assert_eq!((line.status, line.why, line.received, line.sent), (Some(101), None, 5, 8));
    });
}
