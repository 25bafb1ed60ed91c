//! `run -w --secrets`: tshark shows the HTTP in TLS from the file alone, in every version, resumed or not.

use std::os::unix::fs::PermissionsExt;

use fourseven::lab::topology::BACKEND;

use super::balancer::Balancer;
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{Files, SECURE, backends, curl, have, listen, run, vip};

/// Fields of packets, as tshark finds them.
fn tshark(net: &Net, file: &str, filter: &str, fields: &[&str]) -> String {
    let mut arguments = vec!["-n", "-r", file, "-Y", filter, "-T", "fields"];
    arguments.extend(["-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"]);
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    let output = run(&net.client, "tshark", &arguments, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tshark_decrypts_http_from_the_file_alone_in_every_version_and_resumed() {
    private("capture::tshark_decrypts_http_from_the_file_alone_in_every_version_and_resumed", || {
        if !have(&["tshark", "curl", "openssl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("capture");
        files.write_pair("site", &files.issue(&["site.example.com"]));
        let configuration = format!(
            "[tun]\nio = \"offload\"\nqueues = 2\n
             [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = {}
             tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\n",
            listen(&net, SECURE),
            backends(&net, BACKEND)
        );
        let file = files.path("out.pcapng");
        let arguments = ["-c", &files.write("fourseven.toml", &configuration), "-w", &file, "--secrets"];
        let balancer = Balancer::start_with(&net.balancer, arguments.map(str::to_owned).into());
        assert!(balancer.said.iter().any(|line| line.contains("THE SECRETS OF ALL TLS SESSIONS")));
        talk_in_every_version(&net, &files);
        balancer.signal(nix::sys::signal::Signal::SIGTERM);
        let (status, out, said) = balancer.end();
        assert!(status.success(), "{said}");
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(
            (&report["capture"]["lost"], &report["capture"]["secrets_lost"]),
            (&0.into(), &0.into()),
            "{out}"
        );
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

        look_into(&net, &file);
    });
}

/// Asks over HTTP/1.1 and 2, TLS 1.2 and 1.3, new and resumed, in both families.
fn talk_in_every_version(net: &Net, files: &Files) {
    let ca = files.path("ca.pem");
    std::fs::write(files.path("body"), vec![b'x'; 300_000]).unwrap();
    let upload = format!("@{}", files.path("body"));
    for family in FAMILIES {
        let at = vip(net, family, SECURE);
        let resolve = match at {
            std::net::SocketAddr::V4(at) => format!("site.example.com:{SECURE}:{}", at.ip()),
            std::net::SocketAddr::V6(at) => format!("site.example.com:{SECURE}:[{}]", at.ip()),
        };
        for (way, options) in [
            ("h1-12", ["--http1.1", "--tls-max", "1.2"]),
            ("h1-13", ["--http1.1", "--tlsv1.3", "--tlsv1.3"]),
            ("h2-12", ["--http2", "--tls-max", "1.2"]),
            ("h2-13", ["--http2", "--tlsv1.3", "--tlsv1.3"]),
        ] {
            let url = format!("https://site.example.com/bytes/40000?{way}");
            let got = curl(
                &net.client,
                &[&["--cacert", &ca, "--resolve", &resolve], &options[..], &[&url]].concat(),
            );
            assert_eq!((got.status.as_str(), got.body.len()), ("200", 40_000), "{way}: {}", got.said);
        }
        let echo = "https://site.example.com/echo";
        let got = curl(
            &net.client,
            &["--cacert", &ca, "--resolve", &resolve, "--http1.1", "--data-binary", &upload, echo],
        );
        assert_eq!((got.status.as_str(), got.body.len()), ("200", 300_000), "{}", got.said);
        let session = files.path("session");
        for (version, requests) in [
            (
                "-tls1_2",
                [
                    &b"GET /?new-12 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"[..],
                    b"GET /?resumed-12 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                ],
            ),
            (
                "-tls1_3",
                [
                    b"GET /?new-13 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                    b"GET /?resumed-13 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
                ],
            ),
        ] {
            for (turn, request) in [("-sess_out", requests[0]), ("-sess_in", requests[1])] {
                let to = at.to_string();
                let output = run(
                    &net.client,
                    "openssl",
                    &["s_client", "-connect", &to, "-ign_eof", version, turn, &session],
                    request,
                );
                let said = String::from_utf8_lossy(&output.stdout);
                assert!(said.contains("200 OK"), "{version} {turn}: {said}");
                assert_eq!(said.contains("Reused, TLSv1"), turn == "-sess_in", "{version}: {said}");
            }
        }
    }
}

/// Everything that was said is there to be read.
fn look_into(net: &Net, file: &str) {
    let uris = tshark(net, file, "tls && http.request", &["http.request.uri"]);
    let paths = tshark(net, file, "tls && http2.headers.path", &["http2.headers.path"]);
    for (found, words) in [
        (&uris, ["?h1-12", "?h1-13", "/echo", "?new-12", "?resumed-12", "?new-13", "?resumed-13"].as_slice()),
        (&paths, &["?h2-12", "?h2-13"]),
    ] {
        for word in words {
            assert_eq!(found.matches(word).count(), 2, "{word}, once in each family: {found}");
        }
    }
    let answers = tshark(net, file, "tls && http.response.code == 200", &["http.response.code"]);
    assert_eq!(answers.lines().count(), 14, "{answers}");
    let h2_answers = tshark(net, file, "tls && http2.headers.status == 200", &["frame.number"]);
    assert_eq!(h2_answers.lines().count(), 4, "{h2_answers}");
    // Large segments and unfinished checksums came in and went out, and none looks wrong.
    let wrong = "ip.checksum.status == 0 || tcp.checksum.status == 0 || _ws.malformed";
    assert_eq!(tshark(net, file, wrong, &["frame.number", "_ws.col.Info"]), "");
    let large = tshark(net, file, "frame.comment contains \"gso=tcp\"", &["frame.len"]);
    assert!(large.lines().any(|length| length.parse::<u32>().is_ok_and(|length| length > 3000)), "{large}");
    // The connection's number is on what came and on what left.
    let flow = "frame.comment contains \"flow=\"";
    for verdict in ["verdict=delivered", "verdict=originated"] {
        let words = format!("{flow} && frame.comment contains \"{verdict}\"");
        assert_ne!(tshark(net, file, &words, &["frame.number"]), "", "{verdict}");
    }
}
