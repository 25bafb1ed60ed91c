//! What routes do with requests, seen from both sides.

use http::StatusCode;

use super::*;
use crate::balance::{BackendSpec, SchedulerKind, Weight};
use crate::datapath::BackendId;
use crate::l7::exchange::Failure;
use crate::l7::front::Shaped;
use crate::l7::spec::{
    Action, CompressSpec, FieldChanges, ForwardSpec, GroupSpec, MirrorSpec, PathRewrite, ProxyProtocol, Rate,
    RateLimits, RatePeriod, RedirectScheme, RedirectSpec, RespondSpec, Share, StickySpec, UpstreamLimits,
    UpstreamProtocol,
};

fn forward(change: impl FnOnce(&mut ForwardSpec)) -> RouteSpec {
    let mut spec = ForwardSpec::to(GroupId(0));
    change(&mut spec);
    RouteSpec { action: Action::Forward(Box::new(spec)), ..RouteSpec::to(GroupId(0)) }
}

fn group(name: &str, members: u8) -> GroupSpec {
    let member = |number| BackendSpec {
        endpoint: endpoint(&format!("10.0.0.{number}:8080")),
        weight: Weight::ONE,
        drain: false,
    };
    GroupSpec {
        name: name.to_owned(),
        scheduler: SchedulerKind::Rr,
        members: (1..=members).map(member).collect(),
        protocol: UpstreamProtocol::Http1,
        tls: None,
        proxy_protocol: ProxyProtocol::None,
        limits: UpstreamLimits::default(),
    }
}

fn serving(does: Does, routes: &[RouteSpec]) -> Bench {
    let routes = Routes::with(routes, &RateLimits::default(), &[group("a", 2), group("b", 1)], 7);
    Bench::with(routes, Reasons::Hidden, does, None, Security::Clear)
}

fn field(name: &'static str, value: &'static str) -> (http::HeaderName, http::HeaderValue) {
    (http::HeaderName::from_static(name), http::HeaderValue::from_static(value))
}

async fn ask(bench: &mut Bench, lines: &str) -> String {
    bench.client.write_all(format!("{lines}\r\nHost: a.example\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = bench.until("\r\n\r\n").await;
    if let Some((_, rest)) = answer.split_once("content-length: ") {
        let mut body = vec![0; rest.lines().next().unwrap().parse().unwrap()];
        bench.client.read_exact(&mut body).await.unwrap();
        answer += std::str::from_utf8(&body).unwrap();
    }
    answer
}

#[test]
fn a_redirect_and_a_fixed_answer_need_no_backend_and_keep_the_connection() {
    run(async {
        let redirect = RedirectSpec {
            status: StatusCode::PERMANENT_REDIRECT,
            scheme: Some(RedirectScheme::Https),
            host: None,
            port: None,
            path: None,
        };
        let respond = RespondSpec {
            status: StatusCode::SERVICE_UNAVAILABLE,
            content_type: Some("text/html".parse().unwrap()),
            body: "<p>noon</p>".into(),
        };
        let at = |path: &str, action| RouteSpec {
            path: PathPattern::Prefix(path.to_owned()),
            action,
            response_headers: FieldChanges { set: vec![field("x-env", "prod")], ..FieldChanges::default() },
            ..RouteSpec::to(GroupId(0))
        };
        let routes = [at("/old", Action::Redirect(redirect)), at("/closed", Action::Respond(respond))];
        let mut bench = serving(Does::Echo, &routes);
        let answer = ask(&mut bench, "GET /old/x?q=1 HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
        assert!(answer.contains("\r\nlocation: https://a.example/old/x?q=1\r\n"), "{answer}");
        assert!(answer.contains("\r\nx-env: prod\r\n"), "{answer}");
        let answer = ask(&mut bench, "GET /closed HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\n<p>noon</p>"), "{answer}");
        assert!(answer.contains("\r\ncontent-type: text/html\r\n"), "{answer}");
        assert!(bench.backend.heads().is_empty() && bench.refused().is_empty());
        let counts = [Shaped::Redirected, Shaped::Responded].map(|shaped| bench.site.counters.shaped(shaped));
        assert_eq!(counts, [1, 1]);
    });
}

#[test]
fn a_path_and_fields_are_rewritten_on_the_way_and_what_was_asked_for_is_still_known() {
    run(async {
        let mut route = forward(|spec| {
            spec.rewrite = Some(PathRewrite::Prefix("/".to_owned()));
            spec.request_headers = FieldChanges {
                remove: vec!["x-secret".parse().unwrap()],
                set: vec![field("x-env", "prod"), field("via", "me")],
                add: vec![field("x-more", "2")],
            };
        });
        route.path = PathPattern::Prefix("/api".to_owned());
        route.response_headers = FieldChanges {
            remove: vec!["server".parse().unwrap()],
            set: vec![field("strict-transport-security", "max-age=1")],
            add: Vec::new(),
        };
        let mut bench = serving(Does::Status(200), &[route]);
        let lines = "GET /%61pi//x?q HTTP/1.1\r\nX-Secret: 1\r\nX-Env: test\r\nX-More: 1";
        let answer = ask(&mut bench, lines).await;
        let seen = bench.backend.last();
        assert_eq!(seen.uri, "http://a.example//x?q");
        let all = |name| seen.headers.get_all(name).iter().collect::<Vec<_>>();
        assert!(!seen.headers.contains_key("x-secret"));
        assert_eq!(all("x-env"), ["prod"]);
        assert_eq!(all("x-more"), ["1", "2"]);
        assert_eq!(all("via"), ["me"]);
        assert_eq!(bench.backend.asked.borrow().as_slice(), ["http://a.example/%61pi//x?q"]);
        assert!(answer.contains("\r\nstrict-transport-security: max-age=1\r\n"), "{answer}");
        assert!(!answer.contains("\r\nserver:") && !answer.contains("keep-alive"), "{answer}");
    });
}

#[test]
fn a_canary_gets_its_share() {
    run(async {
        let share = |group, weight| Share { group: GroupId(group), weight };
        let mut bench =
            serving(Does::Ignore, &[forward(|spec| spec.shares = vec![share(0, 9), share(1, 1)])]);
        for _ in 0..400 {
            ask(&mut bench, "GET / HTTP/1.1").await;
        }
        let seen = bench.backend.seen.borrow();
        let canaries = seen.iter().filter(|seen| seen.group == GroupId(1)).count();
        assert!((20..=60).contains(&canaries), "{canaries} of 400");
    });
}

#[test]
fn a_client_stays_with_the_backend_that_its_cookie_names() {
    run(async {
        let share = |group, weight| Share { group: GroupId(group), weight };
        let sticky = StickySpec { cookie: "stay".to_owned(), max_age: None };
        let route = forward(|spec| {
            spec.shares = vec![share(0, 1), share(1, 0)];
            spec.sticky = Some(sticky);
        });
        let mut bench = serving(Does::Ignore, &[route]);
        let answer = ask(&mut bench, "GET / HTTP/1.1").await;
        let (_, cookie) = answer.split_once("\r\nset-cookie: ").expect("a cookie");
        let (cookie, rest) = cookie.split_once("; ").unwrap();
        assert!(rest.starts_with("Path=/; HttpOnly; SameSite=Lax\r\n"), "{rest}");
        let answer = ask(&mut bench, &format!("GET / HTTP/1.1\r\nCookie: a=b; {cookie}; c=d")).await;
        assert!(!answer.contains("set-cookie"), "{answer}");
        assert_eq!(bench.backend.last().headers["cookie"], "a=b; c=d");
        let answer = ask(&mut bench, "GET / HTTP/1.1\r\nCookie: stay=0123456789abcdef").await;
        assert!(answer.contains("set-cookie"), "{answer}");
        assert_eq!(*bench.backend.stays.borrow(), [None, Some(BackendId(0)), None]);
        let shaped = [Shaped::StickyNew, Shaped::StickyKept, Shaped::StickyMoved];
        assert_eq!(shaped.map(|shaped| bench.site.counters.shaped(shaped)), [2, 1, 0]);

        // The backend is gone: somebody else answers, and that is who the client stays with.
        bench.backend.elsewhere.set(Some(2));
        let answer = ask(&mut bench, &format!("GET / HTTP/1.1\r\nCookie: {cookie}")).await;
        let (_, other) = answer.split_once("\r\nset-cookie: ").expect("another cookie");
        assert_ne!(other.split("; ").next().unwrap(), cookie);
        assert_eq!(bench.site.counters.shaped(Shaped::StickyMoved), 1);
    });
}

#[test]
fn who_asks_too_often_is_told_when_to_come_back_and_may_then() {
    run(async {
        let rate = |requests, per| Some(Rate { requests, per, burst: requests });
        let site = RateLimits { source: rate(3, RatePeriod::Minute), total: None };
        let mut route =
            RouteSpec { path: PathPattern::Prefix("/one".to_owned()), ..RouteSpec::to(GroupId(0)) };
        route.limits.total = rate(1, RatePeriod::Second);
        let routes = Routes::with(&[route, RouteSpec::to(GroupId(0))], &site, &[], 7);
        let mut bench = Bench::with(routes, Reasons::Shown, Does::Ignore, None, Security::Clear);
        assert!(ask(&mut bench, "GET /one HTTP/1.1").await.starts_with("HTTP/1.1 200 "));
        let answer = ask(&mut bench, "GET /one HTTP/1.1").await;
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 1\r\n"), "{answer}");
        assert!(answer.contains("\r\nfourseven-reason: total_rate\r\n"), "{answer}");
        assert!(answer.contains("error=http_request_denied; details=\"total_rate\""), "{answer}");
        assert!(ask(&mut bench, "GET / HTTP/1.1").await.starts_with("HTTP/1.1 200 "));
        let answer = ask(&mut bench, "GET / HTTP/1.1").await;
        assert!(
            answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nretry-after: 20\r\n"),
            "{answer}"
        );
        assert!(answer.contains("\r\nfourseven-reason: source_rate\r\n"), "{answer}");
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(ask(&mut bench, "GET / HTTP/1.1").await.starts_with("HTTP/1.1 200 "));
        assert_eq!(bench.refused(), [Refusal::SourceRate, Refusal::TotalRate]);
        assert_eq!(bench.site.counters.answers(4), 2);
    });
}

#[test]
fn a_reason_is_shown_in_a_field_only_where_that_is_wanted() {
    run(async {
        let only = RouteSpec { host: HostPattern::Exact("a.example".into()), ..RouteSpec::to(GroupId(0)) };
        for (reasons, shown) in [(Reasons::Hidden, false), (Reasons::Shown, true)] {
            let routes = Routes::new(std::slice::from_ref(&only));
            let fails = Does::Fail(Failure::NoBackend);
            let mut bench = Bench::with(routes, reasons, fails, None, Security::Clear);
            let answer = ask(&mut bench, "GET / HTTP/1.1").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert_eq!(answer.contains("\r\nfourseven-reason: no_backend\r\n"), shown, "{answer}");
            let answer = bench.exchange(b"GET / HTTP/1.1\r\nHost: b\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
            assert_eq!(answer.contains("\r\nfourseven-reason: no_route\r\n"), shown, "{answer}");
        }
    });
}

#[test]
fn an_answer_is_compressed_for_who_asks_and_its_head_is_the_same_for_head() {
    run(async {
        let route = RouteSpec { compress: Some(CompressSpec::default()), ..RouteSpec::to(GroupId(0)) };
        let mut bench = serving(Does::Page, &[route]);
        let plain = ask(&mut bench, "GET / HTTP/1.1").await;
        assert!(plain.contains("\r\ncontent-length: 12000\r\n") && plain.contains("\r\netag: \"page\"\r\n"));
        assert!(plain.contains("\r\nvary: accept-encoding\r\n"), "{plain}");
        let head = ask(&mut bench, "HEAD / HTTP/1.1\r\nAccept-Encoding: gzip").await;
        assert!(
            head.contains("\r\ncontent-encoding: gzip\r\n") && !head.contains("content-length"),
            "{head}"
        );
        let whole = b"GET / HTTP/1.1\r\nHost: a.example\r\nAccept-Encoding: gzip\r\n\r\n";
        bench.client.write_all(whole).await.unwrap();
        let compressed = bench.until("\r\n\r\n").await;
        assert!(compressed.contains("\r\netag: W/\"page\"\r\n"), "{compressed}");
        assert!(compressed.contains("\r\ntransfer-encoding: chunked\r\n"), "{compressed}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            body.push(bench.client.read_u8().await.unwrap());
        }
        assert!(body.len() < 1000, "{} bytes", body.len());
        assert_eq!(bench.site.counters.shaped(Shaped::Gzip), 1);
        // A part of it is what the backend says it is.
        let part = ask(&mut bench, "GET / HTTP/1.1\r\nAccept-Encoding: gzip\r\nRange: bytes=0-9").await;
        assert!(!part.contains("content-encoding"), "{part}");
    });
}

fn mirrored(at_once: usize, max_body: usize) -> Bench {
    let mirror = MirrorSpec { group: GroupId(5), percent: 100, at_once, max_body };
    serving(Does::Echo, &[forward(|spec| spec.mirror = Some(mirror))])
}

fn post(body: &str) -> String {
    let length = body.len();
    format!("POST /x?q HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n{body}")
}

async fn settle(bench: &Bench, shaped: Shaped) {
    while bench.site.counters.shaped(shaped) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_copy_is_as_the_request_and_nobody_sees_its_answer() {
    run(async {
        let mut bench = mirrored(1, 5);
        for body in ["hello", ""] {
            let answer = bench.client.write_all(post(body).as_bytes()).await;
            answer.unwrap();
            bench.until(if body.is_empty() { "\r\n\r\n" } else { body }).await;
            while bench.backend.seen.borrow().len() % 2 == 1 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let chunked =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n1\r\ny\r\n0\r\n\r\n";
        bench.client.write_all(chunked).await.unwrap();
        while bench.site.counters.shaped(Shaped::Mirrored) < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let seen = bench.backend.seen.borrow();
        for (pair, body) in seen.chunks(2).zip(["hello", "", "hey"]) {
            let mut groups: Vec<_> = pair.iter().map(|seen| seen.group).collect();
            groups.sort_by_key(|group| group.0);
            assert_eq!(groups, [GroupId(0), GroupId(5)]);
            for seen in pair {
                assert_eq!((seen.body.as_deref(), &pair[0].head), (Ok(body), &seen.head));
                assert!(seen.group == GroupId(0) || !seen.headers.contains_key("expect"));
            }
        }
        assert_eq!(seen.len(), 6);
    });
}

#[test]
fn what_becomes_of_a_copy_is_counted_and_the_original_does_not_know() {
    run(async {
        // It is never answered: the next ones find no room, until its time is over.
        let mut bench = mirrored(1, 5);
        bench.backend.copies.set(Some(Does::Nothing));
        for _ in 0..3 {
            bench.client.write_all(post("hello").as_bytes()).await.unwrap();
            bench.until("hello").await;
        }
        assert_eq!(bench.site.counters.shaped(Shaped::MirrorFull), 2);
        settle(&bench, Shaped::MirrorFailed).await;

        // Its group has nobody; its body is too large, as said or as found; its body breaks off.
        let mut bench = mirrored(9, 5);
        bench.backend.copies.set(Some(Does::Fail(Failure::NoBackend)));
        bench.client.write_all(post("hello").as_bytes()).await.unwrap();
        bench.until("hello").await;
        settle(&bench, Shaped::MirrorFailed).await;
        bench.client.write_all(post("hello!").as_bytes()).await.unwrap();
        bench.until("hello!").await;
        assert_eq!(bench.site.counters.shaped(Shaped::MirrorTooLarge), 1);
        let chunked =
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nhello!\r\n0\r\n\r\n";
        bench.client.write_all(chunked).await.unwrap();
        bench.until("hello!\r\n0\r\n\r\n").await;
        assert_eq!(bench.site.counters.shaped(Shaped::MirrorTooLarge), 2);
        let half = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe";
        bench.client.write_all(half).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(bench.client);
        while bench.site.counters.shaped(Shaped::MirrorCutOff) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let copies = bench.backend.seen.borrow().iter().filter(|seen| seen.group == GroupId(5)).count();
        assert_eq!(copies, 0);
    });
}
