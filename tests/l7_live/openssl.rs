//! `openssl s_client`: certificates by SNI, ALPN, versions, resumption, certificates of clients.

use std::net::SocketAddr;

use fourseven::lab::topology::BACKEND;

use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net};
use super::site::{Files, Layer7, SECURE, backends, curl, have, listen, run, vip};

/// What `openssl s_client` says of a connection on which it asks for `/`.
fn s_client(from: &Namespace, to: SocketAddr, options: &[&str]) -> String {
    let to = to.to_string();
    let common = ["s_client", "-connect", &to, "-ign_eof"];
    let asked = b"GET / HTTP/1.1\r\nHost: one.example.com\r\nConnection: close\r\n\r\n";
    let output = run(from, "openssl", &[&common[..], options].concat(), asked);
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn site(net: &Net, more: &str) -> String {
    format!(
        "[tun]\nio = \"offload\"\nqueues = 2\n
         [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = {}\n{more}\n",
        listen(net, SECURE),
        backends(net, BACKEND)
    )
}

#[test]
fn sni_picks_the_certificate_alpn_the_protocol_and_sessions_are_resumed() {
    private("openssl::sni_picks_the_certificate_alpn_the_protocol_and_sessions_are_resumed", || {
        if !have(&["openssl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("openssl");
        files.write_pair("one", &files.issue(&["one.example.com"]));
        files.write_pair("two", &files.issue(&["*.two.example.com"]));
        let tls =
            "tls = [{ chain = \"one.pem\", key = \"one.key\" }, { chain = \"two.pem\", key = \"two.key\" }]";
        let balancer = files.start(&net.balancer, &site(&net, tls));
        let ca = files.path("ca.pem");
        let mut handshakes = 0;
        for family in FAMILIES {
            let to = vip(&net, family, SECURE);
            let mut ask = |options: &[&str]| {
                handshakes += 1;
                s_client(&net.client, to, &[&["-CAfile", &ca], options].concat())
            };
            for (sni, shown) in [
                ("one.example.com", "CN = one.example.com"),
                ("x.two.example.com", "CN = *.two.example.com"),
                ("other.example.com", "CN = one.example.com"),
            ] {
                for version in ["-tls1_2", "-tls1_3"] {
                    let said = ask(&["-servername", sni, version]);
                    assert!(said.contains(shown) && said.contains("HTTP/1.1 200 OK"), "{sni}: {said}");
                    assert!(said.contains("Verify return code: 0 (ok)"), "{sni}: {said}");
                }
            }
            let said = ask(&["-noservername"]);
            assert!(said.contains("CN = one.example.com") && said.contains("200 OK"), "{said}");
            let said = ask(&["-alpn", "h2,http/1.1", "-no_ign_eof"]);
            assert!(said.contains("ALPN protocol: h2"), "{said}");
            let said = ask(&["-alpn", "http/1.1"]);
            assert!(said.contains("ALPN protocol: http/1.1") && said.contains("200 OK"), "{said}");
            let said = s_client(&net.client, to, &["-alpn", "spdy/3"]);
            assert!(said.contains("no application protocol"), "{said}");
            let said = s_client(&net.client, to, &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]);
            assert!(
                said.contains("alert handshake failure") || said.contains("alert protocol version"),
                "{said}"
            );
            // By the session that the first one left, whichever worker each comes to.
            let session = files.path("session");
            for version in ["-tls1_2", "-tls1_3"] {
                let said = ask(&[version, "-sess_out", &session]);
                assert!(said.contains("New, TLSv1"), "{said}");
                for _ in 0..4 {
                    let said = s_client(&net.client, to, &["-CAfile", &ca, version, "-sess_in", &session]);
                    assert!(said.contains("Reused, TLSv1") && said.contains("200 OK"), "{said}");
                }
            }
            let said = s_client(&net.client, to, &["-tls1_2", "-reconnect", "-no_ign_eof"]);
            assert_eq!(said.matches("Reused, TLSv1.2").count(), 5, "{said}");
            handshakes += 1;
        }
        let (status, out, said) = {
            balancer.signal(nix::sys::signal::Signal::SIGTERM);
            balancer.end()
        };
        assert!(status.success(), "{said}");
        let report = super::balancer::Report::read(&out);
        assert_eq!(report.site("site", "tls_full"), handshakes, "{out}");
        assert_eq!(report.site("site", "tls_resumed"), 2 * (8 + 5), "{out}");
        for cause in ["no_shared_protocol", "no_shared_version"] {
            assert_eq!(report.site("site", cause), 2, "{out}");
            assert!(said.contains(&format!("cause={cause}")), "{said}");
        }
    });
}

#[test]
fn certificates_of_clients_are_required_optional_or_refused() {
    private("openssl::certificates_of_clients_are_required_optional_or_refused", || {
        if !have(&["curl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("mtls");
        files.write_pair("site", &files.issue(&["one.example.com"]));
        files.write_pair("known", &files.authority.client("known").unwrap());
        let others = Files::new("mtls-others");
        others.write_pair("stranger", &others.authority.client("stranger").unwrap());
        let to = vip(&net, FAMILIES[0], SECURE);
        let ca = files.path("ca.pem");
        for auth in ["required", "optional"] {
            let tls = format!(
                "tls = [{{ chain = \"site.pem\", key = \"site.key\" }}]\nclient_ca = \"ca.pem\"\nclient_auth = {auth:?}"
            );
            let balancer = files.start(&net.balancer, &site(&net, &tls));
            for version in ["1.2", "1.3"] {
                let resolve = format!("one.example.com:443:{}", to.ip());
                let ask = |pair: Option<(&Files, &str)>| {
                    let pair = pair.map(|(files, name)| {
                        [files.path(&format!("{name}.pem")), files.path(&format!("{name}.key"))]
                    });
                    let pair = pair.as_ref().map(|[cert, key]| ["--cert", cert, "--key", key]);
                    let common = [
                        "--tls-max",
                        version,
                        "--cacert",
                        &ca,
                        "--resolve",
                        &resolve,
                        "https://one.example.com/",
                    ];
                    curl(&net.client, &[pair.as_ref().map_or(&[][..], |pair| &pair[..]), &common].concat())
                };
                let known = ask(Some((&files, "known")));
                assert!(known.ok && known.status == "200", "{auth} {version}: {known:?}");
                let nobody = ask(None);
                assert_eq!(nobody.status == "200", auth == "optional", "{auth} {version}: {nobody:?}");
                let stranger = ask(Some((&others, "stranger")));
                assert!(!stranger.ok && stranger.status == "000", "{auth} {version}: {stranger:?}");
            }
            let report = balancer.stop();
            let (missing, answered) = if auth == "required" { (2, 2) } else { (0, 4) };
            assert_eq!(report.site("site", "client_certificate_missing"), missing, "{}", report.0);
            assert_eq!(report.site("site", "client_certificate_refused"), 2, "{}", report.0);
            assert_eq!(report.site("site", "2xx"), answered, "{}", report.0);
        }
    });
}
