//! Layer 7 by flags, the secrets of its sessions in a file, and how a run ends.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use fourseven::lab::topology::BACKEND;
use nix::sys::signal::Signal;

use super::balancer::{Balancer, Report};
use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, SECURE, backends, curl, have, listen, vip};
use super::talk::PATIENCE;

#[test]
fn flags_alone_make_a_certificate_and_the_secrets_of_sessions_go_where_the_environment_says() {
    let name =
        "ends::flags_alone_make_a_certificate_and_the_secrets_of_sessions_go_where_the_environment_says";
    private(name, || {
        if !have(&["curl"]) {
            return;
        }
        let net = Net::new(2);
        let files = Files::new("flags");
        let keys = files.path("keys");
        let vips = FAMILIES.map(|family| vip(&net, family, SECURE));
        let mut arguments = vec!["--mode=l7".to_owned(), "--tls=auto".to_owned(), "--queues=2".to_owned()];
        arguments.extend(vips.map(|vip| format!("--vip=tcp/{vip}")));
        arguments.extend(net.topology.backend_endpoints().iter().map(|at| format!("--backend={at}")));
        let environment = format!("SSLKEYLOGFILE={keys}");
        let mut balancer = Balancer::spawn_by(&net.balancer, &["env", &environment], arguments);
        balancer.await_line("ready: ");
        let said = balancer.said.join("\n");
        assert!(said.contains("SSLKEYLOGFILE IS SET") && said.contains(&keys), "{said}");
        assert!(said.contains("made a certificate for 10.47.0.1, fd47::1"), "{said}");
        for to in vips {
            for (option, lines) in
                [("--tlsv1.3", "CLIENT_TRAFFIC_SECRET_0 "), ("--tls-max", "CLIENT_RANDOM ")]
            {
                let url = format!("https://{to}/");
                let options = if option == "--tls-max" { vec![option, "1.2"] } else { vec![option] };
                let got = curl(&net.client, &[&options[..], &["-k", &url]].concat());
                assert!(got.ok && got.status == "200" && got.version == "2", "{got:?}");
                let strict = curl(&net.client, &[&options[..], &[url.as_str()]].concat());
                assert!(!strict.ok, "nobody has signed it: {strict:?}");
                let text = std::fs::read_to_string(&keys).unwrap();
                assert!(text.contains(lines), "{text}");
            }
        }
        balancer.signal(Signal::SIGTERM);
        let (status, out, said) = balancer.end();
        assert!(status.success(), "{said}");
        let report = Report::read(&out);
        assert_eq!(report.site("service", "2xx"), 4, "{out}");
        assert_eq!(report.site("service", "unknown_ca_alert"), 4, "{out}");
        assert!(said.contains("side=theirs cause=unknown_ca_alert"), "{said}");
    });
}

#[test]
fn layer_4_and_layer_7_work_side_by_side_and_a_signal_ends_both_with_one_report() {
    let name = "ends::layer_4_and_layer_7_work_side_by_side_and_a_signal_ends_both_with_one_report";
    private(name, || {
        let net = Net::new(2);
        let files = Files::new("ends");
        let (l7, l4, to) = (listen(&net, CLEAR), listen(&net, 8080), backends(&net, BACKEND));
        let configuration = format!(
            "[tun]\nqueues = 2\n
             [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {l7}\nbackends = {to}
             [[service]]\nname = \"packets\"\nlisten = {l4}\nbackends = {to}\n"
        );
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let balancer = files.start(&net.balancer, &configuration);
            let mut open = Vec::new();
            for (family, port) in FAMILIES.into_iter().flat_map(|family| [(family, CLEAR), (family, 8080)]) {
                let to = vip(&net, family, port);
                open.push(net.client.run(move || {
                    let mut stream = TcpStream::connect_timeout(&to, PATIENCE).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
                    let mut answer = [0; 12];
                    stream.read_exact(&mut answer).unwrap();
                    assert_eq!(answer, *b"HTTP/1.1 200");
                    // And half of another one, which is open at the end.
                    stream.write_all(b"GET / HTTP/1.1\r\nho").unwrap();
                    stream
                }));
            }
            let began = Instant::now();
            balancer.signal(signal);
            let (status, out, said) = balancer.end();
            assert!(status.success() && !said.contains("warning"), "{signal}: {said}");
            assert!(began.elapsed() < Duration::from_secs(5), "{signal}: {:?}", began.elapsed());
            let report = Report::read(&out);
            assert_eq!(report.0["agree"], true, "{signal}: {out}");
            assert_eq!(report.site("site", "2xx"), 2, "{signal}: {out}");
            let ends = ["shutdown", "closed_by_backend"].map(|end| report.group("site", end));
            assert_eq!(ends, [report.group("site", "opened"), 0], "{signal}: {out}");
            assert_eq!(report.flows("opened"), 2, "{signal}: {out}");
            assert_eq!(report.0["layer7"]["connections"]["opened"], 2, "{signal}: {out}");
            drop(open);
        }
    });
}
