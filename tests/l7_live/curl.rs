//! curl in both versions of HTTP, clear and over TLS, in both families, on all kinds of queues.

use fourseven::lab::pattern::{self, Digest};
use fourseven::lab::topology::BACKEND;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, QUEUES, SECURE, backends, curl, have, listen, vip};

const WAYS: [(&str, &[&str], &str); 8] = [
    ("http", &["--http1.1"], "1.1"),
    ("http", &["--http1.0"], "1"),
    ("http", &["--http2-prior-knowledge"], "2"),
    ("https", &["--http1.1", "--tls-max", "1.2"], "1.1"),
    ("https", &["--http1.1", "--tlsv1.3"], "1.1"),
    ("https", &["--http2", "--tls-max", "1.2"], "2"),
    ("https", &["--http2", "--tlsv1.3"], "2"),
    ("https", &["--no-alpn", "--http1.1"], "1.1"),
];

/// Bytes up and down in each way.
const LENGTH: usize = 300_000;

fn configuration(net: &Net, queues: &str) -> String {
    let (clear, secure, to) = (listen(net, CLEAR), listen(net, SECURE), backends(net, BACKEND));
    format!(
        "[tun]\n{queues}\n
         [[service]]\nname = \"clear\"\nmode = \"l7\"\nlisten = {clear}\nbackends = {to}\n
         [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {secure}\nbackends = {to}
         tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\n"
    )
}

/// The URL of a VIP by the site's name, and what tells curl where that is.
fn url(net: &Net, family: fourseven::packet::Family, scheme: &str, path: &str) -> [String; 3] {
    let at = vip(net, family, if scheme == "http" { CLEAR } else { SECURE });
    let (host, port) = ("site.example.com", at.port());
    let connect = match at {
        std::net::SocketAddr::V4(at) => format!("{host}:{port}:{}", at.ip()),
        std::net::SocketAddr::V6(at) => format!("{host}:{port}:[{}]", at.ip()),
    };
    ["--resolve".into(), connect, format!("{scheme}://{host}{path}")]
}

#[test]
fn curl_is_answered_in_all_its_ways() {
    private("curl::curl_is_answered_in_all_its_ways", || {
        if !have(&["curl"]) {
            return;
        }
        let net = Net::new(2);
        let files = Files::new("curl");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let ca = files.path("ca.pem");
        let body = (0..LENGTH as u64).map(pattern::byte_at).collect::<Vec<_>>();
        std::fs::write(files.path("body"), &body).unwrap();
        let upload = format!("@{}", files.path("body"));
        let mut digest = Digest::default();
        digest.add(&body);
        for queues in QUEUES {
            let balancer = files.start(&net.balancer, &configuration(&net, queues));
            for (family, (scheme, options, version)) in
                FAMILIES.into_iter().flat_map(|family| WAYS.map(|way| (family, way)))
            {
                let case = format!("{queues}, {family:?}, {scheme}, {options:?}");
                let ask = |path: &str, more: &[&str]| {
                    let url = url(&net, family, scheme, path);
                    let url = url.each_ref().map(String::as_str);
                    let got = curl(&net.client, &[options, more, &["--cacert", &ca], &url].concat());
                    assert!(got.ok && got.status == "200" && got.version == version, "{case}: {got:?}");
                    got
                };
                let got = ask("/x?y", &[]);
                assert!(got.text().contains("request: GET /x?y HTTP/1.1"), "{case}: {got:?}");
                let got = ask(&format!("/bytes/{LENGTH}"), &[]);
                assert!(got.body == body, "{case}: {} bytes came", got.body.len());
                let got = ask("/upload", &["--data-binary", &upload, "-H", "Expect:"]);
                assert!(got.text().contains(&format!("body: {digest}")), "{case}: {}", got.text());
            }
            let report = balancer.stop();
            let ways = |of: &str| WAYS.iter().filter(|way| way.0 == of).count() as u64;
            for (site, scheme) in [("clear", "http"), ("secure", "https")] {
                let requests = 2 * 3 * ways(scheme);
                assert_eq!(report.site(site, "requests"), requests, "{queues}: {}", report.0);
                assert_eq!(report.site(site, "2xx"), requests, "{queues}: {}", report.0);
            }
            assert_eq!(report.site("secure", "tls_full"), 2 * 3 * ways("https"), "{queues}: {}", report.0);
            // A group of its own for each site; all that was asked of backends was asked once.
            let asked: u64 = ["clear", "secure"]
                .iter()
                .flat_map(|group| ["opened", "reused"].map(|of| report.group(group, of)))
                .sum();
            assert_eq!(asked, 2 * 3 * WAYS.len() as u64, "{queues}: {}", report.0);
            // A client that has gone answers each segment that still comes by a reset. The first one ends the connection,
            // and one behind that belongs to none, of which RFC 9293 §3.10.7.1 asks that it be dropped.
            let reset = report.0["layer7"]["connections"]["reset"].as_u64().unwrap();
            let late = report.dropped().iter().find(|of| of.0 == "no_flow").map_or(0, |of| of.1);
            assert!(late <= reset, "{queues}: {}", report.0);
            let others: Vec<_> = report.dropped().into_iter().filter(|of| of.0 != "no_flow").collect();
            assert_eq!(others, [], "{queues}");
        }
    });
}

#[test]
fn bodies_that_are_waited_for_chunked_or_have_trailers_pass() {
    private("curl::bodies_that_are_waited_for_chunked_or_have_trailers_pass", || {
        if !have(&["curl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("bodies");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let balancer = files.start(&net.balancer, &configuration(&net, QUEUES[1]));
        let body = (0..LENGTH as u64).map(pattern::byte_at).collect::<Vec<_>>();
        std::fs::write(files.path("body"), &body).unwrap();
        let file = files.path("body");
        let upload = format!("@{file}");
        let mut digest = Digest::default();
        digest.add(&body);
        let ask = |scheme, options: &[&str], path: &str| {
            let url = url(&net, FAMILIES[0], scheme, path);
            let url = url.each_ref().map(String::as_str);
            let ca = files.path("ca.pem");
            let got = curl(&net.client, &[options, &["-v", "--cacert", &ca], &url].concat());
            assert!(got.ok && got.status == "200", "{options:?}: {got:?}");
            got
        };
        for scheme in ["http", "https"] {
            // Longer than the whole may take: a curl that hears nothing waits in vain.
            let patient = ["--http1.1", "--expect100-timeout", "60", "--data-binary", &upload];
            let waits = [&patient[..], &["-H", "Expect: 100-continue"]].concat();
            let got = ask(scheme, &waits, "/upload");
            assert!(got.said.contains("< HTTP/1.1 100 Continue"), "{got:?}");
            assert!(got.text().contains(&format!("body: {digest}")), "{got:?}");
            for version in ["--http1.1", "--http2-prior-knowledge"] {
                let version = if scheme == "https" && version != "--http1.1" { "--http2" } else { version };
                let chunked = [version, "-T", &file, "-X", "POST", "-H", "Transfer-Encoding: chunked"];
                // HTTP/2 has no chunks, and a field that says so would be wrong in it.
                let got = ask(scheme, if version == "--http1.1" { &chunked } else { &chunked[..5] }, "/echo");
                assert!(got.body == body, "{scheme} {version}: {} bytes came", got.body.len());
                let te = if version == "--http1.1" { "TE: trailers" } else { "te: trailers" };
                let got = ask(scheme, &[version, "-H", te, "-D", "-"], "/trailers");
                let text = got.text();
                assert!(text.contains("trailer: x-digest") || text.contains("Trailer: x-digest"), "{text}");
                // curl lists trailers with the fields of the head.
                let trailer = text.lines().find(|line| line.to_lowercase().starts_with("x-digest: "));
                assert!(trailer.is_some_and(|line| line.contains("fnv1a")), "{scheme} {version}: {text}");
            }
        }
        balancer.stop();
    });
}
