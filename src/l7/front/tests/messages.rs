//! What passes, and how it looks on the other side.

use super::*;
use crate::l7::exchange::Failure;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_connection_serves_one_request_after_the_other() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        for body in ["one", "two"] {
            let length = body.len();
            let head = format!("POST /{body} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}");
            bench.client.write_all(head.as_bytes()).await.unwrap();
            let answer = bench.until(body).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.contains("\r\nvia: 1.1 fourseven\r\n"), "{answer}");
        }
        assert_eq!(bench.site.counters.requests(crate::l7::front::Spoken::Http11), 2);
        assert_eq!(bench.site.counters.answers(2), 2);
        assert_eq!(bench.site.counters.open(), 1);
        drop(bench.client);
        bench.session.await.unwrap();
        assert_eq!(bench.site.counters.open(), 0);
    });
}

#[test]
fn requests_that_come_together_are_answered_in_order() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let mut all = String::new();
        for n in 10..30 {
            all += "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n";
            all += &n.to_string();
            all += "\r\n0\r\n\r\n";
        }
        let answer = bench.exchange(all.as_bytes()).await;
        let bodies: Vec<&str> = answer.split("\r\n2\r\n").skip(1).map(|part| &part[..2]).collect();
        let wanted: Vec<String> = (10..30).map(|n| n.to_string()).collect();
        assert_eq!(bodies, wanted);
    });
}

#[test]
fn a_client_that_has_ended_its_half_is_still_answered() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let answer = bench.exchange(GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        bench.session.await.unwrap();
    });
}

#[test]
fn the_exchange_carries_what_was_asked_for_and_where_it_goes() {
    run(async {
        let cases = [
            (
                "GET /v1/x?y HTTP/1.1\r\nHost: API.example.com:8080\r\n\r\n",
                1,
                "http://API.example.com:8080/v1/x?y",
            ),
            ("GET /v10 HTTP/1.1\r\nHost: api.example.com\r\n\r\n", 0, "http://api.example.com/v10"),
            ("GET /x/../%61dmin HTTP/1.1\r\nHost: b\r\n\r\n", 2, "http://b/x/../%61dmin"),
            ("GET / HTTP/1.0\r\n\r\n", 0, "http://203.0.113.1:80/"),
        ];
        for (request, group, uri) in cases {
            let mut bench = Bench::clear(Does::Echo);
            bench.exchange(request.as_bytes()).await;
            let seen = bench.backend.last();
            assert_eq!((seen.group, &*seen.uri), (GroupId(group), uri));
        }
    });
}

#[test]
fn a_request_that_no_route_takes_gets_404_and_the_connection_goes_on() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let routes =
            Routes::new(&[RouteSpec { host: HostPattern::Exact("b".into()), ..RouteSpec::to(GroupId(0)) }]);
        let site = Site {
            routes: routes.into(),
            mode: UpstreamMode::Pool,
            patience: PATIENCE,
            requests: RequestLimits::default(),
            log: None,
            reasons: Reasons::Hidden,
            forward: Rc::clone(&bench.backend),
            counters: FrontCounters::default().into(),
        };
        let (client, server) = tokio::io::duplex(1 << 16);
        let arrived = Arrived {
            client: endpoint("198.51.100.7:4711"),
            vip: endpoint("203.0.113.1:80"),
            security: Security::Clear,
            alpn: None,
            server_name: None,
            handshake: None,
        };
        bench.client = client;
        tokio::task::spawn_local(serve(server, arrived, Rc::new(site), bench.drain.subscribe()));
        let both = [GET, b"GET / HTTP/1.1\r\nHost: b\r\n\r\n"].concat();
        let answer = bench.exchange(&both).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(answer.contains("error=destination_not_found; details=\"no_route\""), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    });
}

#[test]
fn a_backends_answer_keeps_what_is_its_own_and_loses_what_was_for_us() {
    for status in [200, 204, 301, 304, 500] {
        run(async {
            let mut bench = Bench::clear(Does::Status(status));
            let answer = bench.exchange(GET).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            for kept in
                ["server: backend", "date: Thu, 01 Jan 1970 00:00:00 GMT", "via: 1.0 cache, 1.1 fourseven"]
            {
                assert_eq!(answer.matches(&format!("\r\n{kept}\r\n")).count(), 1, "{kept} in {answer}");
            }
            for gone in ["x-hop", "keep-alive:", "connection:", "transfer-encoding"] {
                assert!(!answer.contains(gone), "{gone} in {answer}");
            }
            assert_eq!(answer.matches("date:").count() + answer.matches("server:").count(), 2, "{answer}");
            assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        });
    }
}

#[test]
fn head_is_answered_with_the_length_and_without_the_body() {
    run(async {
        let mut bench = Bench::clear(Does::Ignore);
        let both = [&b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"[..], GET].concat();
        let answer = bench.exchange(&both).await;
        let (head, rest) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\ncontent-length: 7"), "{answer}");
        assert!(rest.starts_with("HTTP/1.1 200 OK"), "{answer}");
    });
}

#[test]
fn a_get_with_a_body_keeps_it() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        bench
            .exchange(b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
            .await;
        assert_eq!(bench.backend.last().body, Ok("abc".to_owned()));
    });
}

#[test]
fn trailers_pass_both_ways() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\nTrailer: x-sum\r\n\
                        Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n";
        let answer = bench.exchange(request).await;
        let seen = bench.backend.last();
        assert_eq!(seen.headers["te"], "trailers");
        assert_eq!(seen.trailers.unwrap()["x-sum"], "7");
        assert!(answer.contains("\r\ntrailer: x-sum\r\n"), "{answer}");
        assert!(answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_body_that_is_not_framed_as_it_must_be_is_told_so() {
    for (name, body) in [
        ("no size", "3\r\nabc\r\nxyz\r\n".to_owned()),
        ("more than the size", "3\r\nabcd\r\n0\r\n\r\n".to_owned()),
        ("a trailer that frames", "3\r\nabc\r\n0\r\ncontent-length: 3\r\n\r\n".to_owned()),
        ("long trailers", format!("3\r\nabc\r\n0\r\nx: {}\r\n\r\n", "x".repeat(17 << 10))),
        ("longer ones", format!("3\r\nabc\r\n0\r\nx: {}\r\n\r\n", "x".repeat(170 << 10))),
    ] {
        run(async {
            let mut bench = Bench::clear(Does::Echo);
            let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
            // Not all of it is read.
            let _broken_pipe = bench.client.write_all(format!("{head}{body}").as_bytes()).await;
            let answer = bench.rest().await;
            assert!(
                answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("bad_chunk\n"),
                "{name}: {answer}"
            );
            assert_eq!(bench.refused(), [Refusal::BadChunk], "{name}");
            assert_eq!(bench.site.counters.failed(Failure::ClientGone), 0, "{name}");
        });
    }
}

#[test]
fn a_client_is_told_to_go_on_when_its_body_is_asked_for() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        bench.client.write_all(head).await.unwrap();
        assert_eq!(bench.until("\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        let answer = bench.exchange(b"abc").await;
        assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
        assert_eq!(bench.backend.last().headers["expect"], "100-continue");
    });
    run(async {
        let mut bench = Bench::clear(Does::Fail(Failure::NoBackend));
        let head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
        bench.client.write_all(head).await.unwrap();
        let answer = bench.rest().await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    });
}

#[test]
fn failures_have_a_status_and_a_word() {
    for (failure, status) in
        Failure::ALL.iter().copied().zip([503, 503, 504, 502, 504, 502, 502, 502, 504, 504, 504, 400, 501])
    {
        run(async {
            let mut bench = Bench::clear(Does::Fail(failure));
            let answer = bench.exchange(GET).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
            assert!(answer.contains(&format!("; details=\"{failure}\"\r\n")), "{answer}");
            assert!(answer.ends_with(&format!(": {failure}\n")), "{answer}");
            assert_eq!(bench.site.counters.failed(failure), 1);
        });
    }
}

#[test]
fn an_answer_that_breaks_off_does_not_look_as_if_it_had_ended() {
    run(async {
        let mut bench = Bench::clear(Does::BreakOff);
        let answer = bench.exchange(GET).await;
        assert!(answer.contains("4\r\nhalf\r\n"), "{answer}");
        assert!(!answer.contains("0\r\n\r\n"), "{answer}");
    });
}

#[test]
fn a_body_that_breaks_off_does_not_look_as_if_it_had_ended() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        bench.exchange(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").await;
        assert!(bench.backend.seen.borrow().iter().all(|seen| seen.body.is_err()));
    });
}

#[test]
fn a_client_that_resets_gives_up_its_request() {
    run(async {
        let mut bench = Bench::clear(Does::Nothing);
        let (client, server) = Reset::pair();
        let arrived = Arrived {
            client: endpoint("198.51.100.7:4711"),
            vip: endpoint("203.0.113.1:80"),
            security: Security::Clear,
            alpn: Some(Alpn::Http11),
            server_name: None,
            handshake: None,
        };
        let session =
            tokio::task::spawn_local(serve(server, arrived, Rc::clone(&bench.site), bench.drain.subscribe()));
        bench.client = client;
        bench.client.write_all(GET).await.unwrap();
        while bench.backend.seen.borrow().is_empty() {
            tokio::task::yield_now().await;
        }
        drop(bench.client);
        session.await.unwrap();
        assert_eq!(*bench.backend.dropped.borrow(), 1);
    });
}

/// A stream whose end is a reset.
struct Reset(DuplexStream);

impl Reset {
    fn pair() -> (DuplexStream, Self) {
        let (client, server) = tokio::io::duplex(1 << 16);
        (client, Self(server))
    }
}

impl tokio::io::AsyncRead for Reset {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(std::pin::Pin::new(&mut self.0).poll_read(context, buffer))?;
        let ended = buffer.filled().len() == before;
        std::task::Poll::Ready(if ended { Err(std::io::ErrorKind::ConnectionReset.into()) } else { Ok(()) })
    }
}

impl tokio::io::AsyncWrite for Reset {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(context, buffer)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[test]
fn a_long_body_is_streamed_and_arrives_whole() {
    run(async {
        let mut bench = Bench::clear(Does::Echo);
        let body: Vec<u8> = (0..3_000_000u32).map(|at| b'a' + (at % 23) as u8).collect();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        let (mut reader, mut writer) = tokio::io::split(bench.client);
        let write = async {
            writer.write_all(head.as_bytes()).await.unwrap();
            writer.write_all(&body).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut answer = Vec::new();
        let ((), read) = futures_util::future::join(write, reader.read_to_end(&mut answer)).await;
        read.unwrap();
        let start = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        assert!(answer.ends_with(&body), "{} bytes: {start}", answer.len());
        bench.client = tokio::io::duplex(1).0;
    });
}
