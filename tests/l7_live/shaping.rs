//! What routes do with requests, over real connections: canaries, clients that stay, redirects, limits, compression, copies.

use std::io::Read;

use fourseven::lab::topology::BACKEND;
use http_body_util::BodyExt;
use hyper::Request;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, listen, vip};
use super::talk::{empty, get, http1, read, talk, tcp};

const REQUESTS: u64 = 300;

#[test]
fn what_routes_say_is_done_and_counted() {
    private("shaping::what_routes_say_is_done_and_counted", || {
        let net = Net::new(4);
        let files = Files::new("shaping");
        let at = |number: u8| format!("\"{}:{BACKEND}\"", net.topology.backend(FAMILIES[0], number));
        let balancer = files.start(
            &net.balancer,
            &format!(
                "seed = 47\n[tun]\nqueues = 2\n
                 [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\ndebug = true
                 [[service.route]]\npath = \"/api\"\nrewrite = {{ prefix = \"/\" }}\nmirror = \"shadow\"
                 backends = [{{ group = \"web\", weight = 9 }}, {{ group = \"beta\", weight = 1 }}]
                 [[service.route]]\npath = \"/cart\"\nbackends = \"web\"\nsticky = true
                 [[service.route]]\npath = \"/text\"\nbackends = \"web\"\ncompress = {{ min_bytes = 1 }}
                 [[service.route]]\npath = \"/few\"\nbackends = \"web\"\nlimit = {{ source = \"2/h\" }}
                 [[service.route]]\npath = \"/old\"\nredirect = {{ status = 308, scheme = \"https\", path = \"/new\" }}
                 [backends.web]\nmembers = [{}, {}]
                 [backends.beta]\nmembers = [{}]
                 [backends.shadow]\nmembers = [{}]\n",
                listen(&net, CLEAR),
                at(1),
                at(2),
                at(3),
                at(4)
            ),
        );
        let to = vip(&net, FAMILIES[0], CLEAR);
        let canaries = talk(&net.client, move || async move {
            let mut sender = http1(tcp(to).await.unwrap()).await;
            let mut canaries = 0;
            for _ in 0..REQUESTS {
                let answer = sender.send_request(get("a.example", "/api/x?q=1")).await.unwrap();
                canaries += u64::from(answer.headers()["x-backend"] == "backend-3");
                let (status, body) = read(answer).await;
                assert_eq!(status, 200);
                assert!(body.contains("request: GET /x?q=1 "), "{body}");
            }
            canaries
        });
        assert!((10..60).contains(&canaries), "{canaries} of {REQUESTS}");
        talk(&net.client, move || async move {
            let mut sender = http1(tcp(to).await.unwrap()).await;
            let first = sender.send_request(get("a.example", "/cart")).await.unwrap();
            let backend = first.headers()["x-backend"].clone();
            let cookie =
                first.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
            read(first).await;
            for _ in 0..5 {
                let request = Request::get("/cart").header("host", "a.example").header("cookie", &cookie);
                let answer = sender.send_request(request.body(empty()).unwrap()).await.unwrap();
                assert_eq!(answer.headers()["x-backend"], backend);
                assert!(!answer.headers().contains_key("set-cookie"));
                read(answer).await;
            }

            let request = Request::get("/text").header("host", "a.example").header("accept-encoding", "gzip");
            let answer = sender.send_request(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(answer.headers()["content-encoding"], "gzip");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let mut text = String::new();
            flate2::read::GzDecoder::new(&body[..]).read_to_string(&mut text).unwrap();
            assert!(text.contains("request: GET /text "), "{text}");

            let answer = sender.send_request(get("a.example", "/old/x")).await.unwrap();
            assert_eq!(answer.status(), 308);
            assert_eq!(answer.headers()["location"], "https://a.example/new");
            read(answer).await;
            for (path, status, reason) in [
                ("/few", 200, None),
                ("/few", 200, None),
                ("/few", 429, Some("source_rate")),
                ("/x", 404, Some("no_route")),
            ] {
                let answer = sender.send_request(get("a.example", path)).await.unwrap();
                let told =
                    answer.headers().get("fourseven-reason").map(|told| told.to_str().unwrap().to_owned());
                assert_eq!(told.as_deref(), reason, "{path}");
                assert_eq!(answer.headers().contains_key("retry-after"), status == 429, "{path}");
                assert_eq!(read(answer).await.0, status, "{path}");
            }
        });
        let report = balancer.stop();
        let counts = |word: &str| report.site("site", word);
        // The last copies may be under way when the program ends.
        let copies = counts("mirrored") + counts("mirror_full");
        assert!((REQUESTS - 64..=REQUESTS).contains(&copies), "{}", report.0);
        assert!(report.group("shadow", "opened") >= 1, "{}", report.0);
        for (word, count) in [
            ("sticky_new", 1),
            ("sticky_kept", 5),
            ("compressed_gzip", 1),
            ("redirected", 1),
            ("source_rate", 1),
            ("no_route", 1),
        ] {
            assert_eq!(counts(word), count, "{word}: {}", report.0);
        }
    });
}
