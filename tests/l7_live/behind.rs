//! What backends see: nginx, which says so itself, and Python's server, which speaks HTTP/1.0.

use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net, await_that};
use super::site::{CLEAR, Files, Layer7, curl, have, listen, vip};

/// A program that is ended when this is dropped.
struct Running(Child);

impl Running {
    fn start(host: &Namespace, line: &str) -> Self {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        Self(host.run(move || {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "--"]).args(words);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        }))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// nginx with TLS on one port, and the PROXY protocol on another, each of which answers with what it sees.
fn nginx(net: &Net, files: &Files) -> Running {
    let of_tls = "sni=$ssl_server_name host=$http_host on=$connection/ as=$server_protocol";
    let of_proxy = "client=$proxy_protocol_addr:$proxy_protocol_port \
                    vip=$proxy_protocol_server_addr:$proxy_protocol_server_port \
                    told=$http_x_forwarded_for/$http_x_forwarded_proto on=$connection";
    let folder = files.path("");
    let text = format!(
        "daemon off; master_process off; pid {folder}pid; error_log {folder}errors;
         events {{ worker_connections 500; }}
         http {{
             access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
             fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
             server {{
                 listen 8443 ssl; listen [::]:8443 ssl; http2 on;
                 ssl_certificate api.pem; ssl_certificate_key api.key;
                 location / {{ return 200 '{of_tls}'; }}
             }}
             server {{
                 listen 8081 proxy_protocol; listen [::]:8081 proxy_protocol;
                 location / {{ return 200 '{of_proxy}'; }}
             }}
         }}"
    );
    let configuration = files.write("nginx.conf", &text);
    // Before 1.25.1, HTTP/2 was an option of `listen`.
    let test = format!("nginx -t -p {folder} -c {configuration}");
    if !net.backends[0].host.try_command(&test).0 {
        files.write("nginx.conf", &text.replace(" http2 on;", "").replace(" ssl;", " ssl http2;"));
        net.backends[0].host.command(&test);
    }
    Running::start(&net.backends[0].host, &format!("nginx -p {folder} -c {configuration}"))
}

/// A route to each way of talking to that nginx.
fn ways(net: &Net, backend: IpAddr) -> String {
    let groups: Vec<String> = [
        ("named", "http1", "{ ca = \"internal.pem\", name = \"api.internal\" }"),
        ("streams", "http2", "{ ca = \"internal.pem\", name = \"api.internal\" }"),
        ("stranger", "http1", "{ ca = \"ca.pem\", name = \"api.internal\" }"),
        ("misnamed", "http1", "{ ca = \"internal.pem\", name = \"other.internal\" }"),
    ]
    .iter()
    .map(|(name, protocol, tls)| {
        format!(
            "[[service.route]]\npath = \"/{name}\"\nbackends = {name:?}
             [backends.{name}]\nprotocol = {protocol:?}\nmembers = [\"{backend}:8443\"]\ntls = {tls}\n"
        )
    })
    .collect();
    format!(
        "[[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\n{}
             [[service.route]]\npath = \"/told\"\nbackends = \"told\"
             [backends.told]\nmembers = [\"{backend}:8081\"]\nproxy_protocol = \"v2\"\n",
        listen(net, CLEAR),
        groups.concat()
    )
}

#[test]
fn nginx_sees_the_name_by_sni_the_client_by_proxy_v2_and_kept_connections() {
    private("behind::nginx_sees_the_name_by_sni_the_client_by_proxy_v2_and_kept_connections", || {
        if !have(&["nginx", "curl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("nginx");
        let internal = Files::new("nginx-internal");
        files.write("internal.pem", &internal.authority.pem());
        files.write_pair("api", &internal.issue(&["api.internal"]));
        let _nginx = nginx(&net, &files);
        let backend = net.topology.backend(FAMILIES[0], 1);
        await_that("nginx listens", || {
            net.balancer.run(move || std::net::TcpStream::connect((backend, 8081)).is_ok())
        });
        let balancer = files.start(&net.balancer, &ways(&net, backend));
        for family in FAMILIES {
            let to = vip(&net, family, CLEAR);
            let ask = |path: &str| curl(&net.client, &[&format!("http://{to}{path}")]);
            for (name, version) in [("named", "HTTP/1.1"), ("streams", "HTTP/2.0")] {
                let mut connections = Vec::new();
                for _ in 0..3 {
                    let got = ask(&format!("/{name}"));
                    let text = got.text();
                    assert!(
                        text.starts_with(&format!("sni=api.internal host={} ", to.ip_in_url())),
                        "{got:?}"
                    );
                    assert!(text.ends_with(version), "{got:?}");
                    let on = text.split("on=").nth(1).unwrap().split('/').next().unwrap().to_owned();
                    connections.push(on);
                }
                connections.dedup();
                assert_eq!(connections.len(), 1, "{name}: one connection serves all");
            }
            for name in ["stranger", "misnamed"] {
                let got = ask(&format!("/{name}"));
                assert_eq!((got.status.as_str(), got.text().trim()), ("502", "502 Bad Gateway: tls_failed"));
            }
            let client = net.topology.client(family);
            let mut connections = Vec::new();
            for _ in 0..3 {
                let text = ask("/told").text();
                assert!(text.starts_with(&format!("client={client}:")), "{text}");
                assert!(text.contains(&format!(" vip={}:80 told={client}/http", to.ip())), "{text}");
                connections.push(text.split("on=").nth(1).unwrap().to_owned());
            }
            connections.dedup();
            assert_eq!(connections.len(), 3, "each tells of one client only");
        }
        let report = balancer.stop();
        assert_eq!(report.site("site", "2xx"), 2 * (3 + 3 + 3), "{}", report.0);
        assert_eq!(report.site("site", "tls_failed"), 4, "{}", report.0);
        assert_eq!(report.group("told", "proxy_protocol"), 6, "{}", report.0);
        for group in ["named", "streams"] {
            assert_eq!(
                (report.group(group, "opened"), report.group(group, "reused")),
                (1, 5),
                "{}",
                report.0
            );
        }
    });
}

/// How a URL has an address.
trait InUrl {
    fn ip_in_url(&self) -> String;
}

impl InUrl for std::net::SocketAddr {
    fn ip_in_url(&self) -> String {
        match self {
            Self::V4(at) => at.ip().to_string(),
            Self::V6(at) => format!("[{}]", at.ip()),
        }
    }
}

#[test]
fn a_server_that_closes_behind_each_answer_serves_all_the_same() {
    private("behind::a_server_that_closes_behind_each_answer_serves_all_the_same", || {
        if !have(&["python3", "curl"]) {
            return;
        }
        let net = Net::new(1);
        let files = Files::new("python");
        files.write("page.txt", "a page\n");
        let backend = net.topology.backend(FAMILIES[0], 1);
        let line = format!("python3 -m http.server --directory {} 8081", files.path(""));
        let _python = Running::start(&net.backends[0].host, &line);
        await_that("python listens", || {
            net.balancer.run(move || std::net::TcpStream::connect((backend, 8081)).is_ok())
        });
        let listen = listen(&net, CLEAR);
        let balancer = files.start(
            &net.balancer,
            &format!(
                "[[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {listen}\nbackends = [\"{backend}:8081\"]\n"
            ),
        );
        let url = format!("http://{}/page.txt", vip(&net, FAMILIES[1], CLEAR));
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            // Not one curl for all: some lose their way when they ask twice on one connection with prior knowledge.
            for _ in 0..3 {
                let got = curl(&net.client, &[version, &url]);
                assert!(got.ok && got.text() == "a page\n", "{got:?}");
            }
        }
        let report = balancer.stop();
        assert_eq!(report.site("site", "2xx"), 6, "{}", report.0);
        assert_eq!(report.group("site", "opened"), 6, "{}", report.0);
    });
}
