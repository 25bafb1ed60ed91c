//! Requests go where their host and path lead, over kept upstreams or new ones, and the report has counted the same.

use fourseven::lab::serve::{Serve, Serving};
use fourseven::lab::topology::BACKEND;

use super::namespace::private;
use super::net::{FAMILIES, Net};
use super::site::{CLEAR, Files, Layer7, listen, vip};
use super::talk::{get, http1, read, talk, tcp};

#[test]
fn requests_go_where_host_and_path_lead() {
    private("routes::requests_go_where_host_and_path_lead", || {
        let net = Net::new(4);
        let files = Files::new("routes");
        let at = |number: u8| format!("{}:{BACKEND}", net.topology.backend(FAMILIES[0], number));
        let v6 = format!("[{}]:{BACKEND}", net.topology.backend(FAMILIES[1], 4));
        let balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nqueues = 2\n
                 [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = [{:?}]
                 [[service.route]]\nhost = \"api.example.com\"\nbackends = \"api\"
                 [[service.route]]\nhost = \"*.example.com\"\npath = \"/img\"\nbackends = [{:?}]
                 [[service.route]]\npath = \"/img/big\"\nbackends = [{v6:?}]
                 [backends.api]\nmembers = [{:?}]\n",
                listen(&net, CLEAR),
                at(1),
                at(3),
                at(2)
            ),
        );
        let cases = [
            ("www.example.com", "/", 1),
            ("api.example.com", "/", 2),
            ("API.Example.COM:80", "/img/x", 2),
            ("www.example.com", "/img", 3),
            ("a.b.example.com", "/img/x", 3),
            ("www.example.com", "/imgs", 1),
            ("example.org", "/img/big/x", 4),
            ("example.com", "/img/big", 4),
            ("example.com", "/img/bigger", 1),
            ("www.example.com", "/x/../img/y", 3),
        ];
        for family in FAMILIES {
            let to = vip(&net, family, CLEAR);
            talk(&net.client, move || async move {
                // One connection: each of its requests has a way of its own.
                let mut sender = http1(tcp(to).await.unwrap()).await;
                for (host, path, backend) in cases {
                    let answer = sender.send_request(get(host, path)).await.unwrap();
                    assert_eq!(answer.headers()["x-backend"], format!("backend-{backend}"), "{host}{path}");
                    assert_eq!(read(answer).await.0, 200, "{host}{path}");
                }
            });
        }
        let report = balancer.stop();
        assert_eq!(report.site("site", "sessions"), 2, "{}", report.0);
        assert_eq!(report.site("site", "requests"), 2 * cases.len() as u64, "{}", report.0);
        assert_eq!(report.site("site", "2xx"), 2 * cases.len() as u64, "{}", report.0);
        assert_eq!(report.group("api", "opened") + report.group("api", "reused"), 4, "{}", report.0);
        assert_eq!(report.0["layer7"]["connections"]["opened"], 2, "{}", report.0);
    });
}

/// How many connections a host's kernel has taken in.
fn taken_in(net: &Net, backend: usize) -> u64 {
    let text =
        net.backends[backend].host.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap());
    let mut rows = text.lines().filter(|line| line.starts_with("Tcp: "));
    let (names, values) = (rows.next().unwrap(), rows.next().unwrap());
    let place = names.split(' ').position(|name| name == "PassiveOpens").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

const REQUESTS: u64 = 200;

#[test]
fn a_pool_needs_few_connections_and_new_one_a_request() {
    private("routes::a_pool_needs_few_connections_and_new_one_a_request", || {
        let net = Net::new(1);
        let files = Files::new("pool");
        let to = net.topology.backend(FAMILIES[0], 1);
        let _second = net.backends[0].host.run(move || {
            let what = Serve { name: "second".into(), http: vec![(to, 8081).into()], ..Serve::default() };
            Serving::start(what).unwrap()
        });
        let service = |name: &str, port: u16, backend: u16| {
            format!(
                "[[service]]\nname = {name:?}\nmode = \"l7\"\nlisten = {}\nupstreams = {name:?}
                 backends = [\"{to}:{backend}\"]\n",
                listen(&net, port)
            )
        };
        let configuration =
            format!("[tun]\nqueues = 2\n\n{}{}", service("pool", 80, BACKEND), service("new", 81, 8081));
        let balancer = files.start(&net.balancer, &configuration);
        let mut opened = Vec::new();
        for port in [80, 81] {
            let before = taken_in(&net, 0);
            let at = vip(&net, FAMILIES[1], port);
            talk(&net.client, move || async move {
                // Over several connections, so that both workers have some.
                for _ in 0..REQUESTS / 10 {
                    let mut sender = http1(tcp(at).await.unwrap()).await;
                    for _ in 0..10 {
                        assert_eq!(read(sender.send_request(get("a", "/")).await.unwrap()).await.0, 200);
                    }
                }
            });
            opened.push(taken_in(&net, 0) - before);
        }
        let report = balancer.stop();
        // What one worker has opened serves the other one, too.
        assert!(opened[0] <= 2, "{opened:?}: {}", report.0);
        assert_eq!(opened[1], REQUESTS, "{}", report.0);
        assert_eq!(report.group("pool", "opened"), opened[0], "{}", report.0);
        assert_eq!(report.group("pool", "reused"), REQUESTS - opened[0], "{}", report.0);
        assert_eq!(report.group("new", "opened"), REQUESTS, "{}", report.0);
        assert_eq!(report.group("new", "single_use"), REQUESTS, "{}", report.0);
    });
}
