//! Each limit and each time, reached on purpose: the answer, the counter and the access log say the same word.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::balancer::Report;
use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net, await_that};
use super::site::{CLEAR, Files, Layer7, SECURE, listen, vip};

/// More than anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client's connections that may be open at once.
const PER_SOURCE: usize = 8;

/// Where scripted backends listen: one that does what paths say, one that does it at once, one that is full, one that is not there.
const SCRIPTED: u16 = 8100;
const QUICK: u16 = 8101;
const FULL: u16 = 8102;
const CLOSED: u16 = 8103;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Does what the paths of its requests say.
fn scripted(mut stream: TcpStream) {
    let mut read = Vec::new();
    let mut byte = [0];
    while matches!(stream.read(&mut byte), Ok(1)) {
        read.push(byte[0]);
        if !read.ends_with(b"\r\n\r\n") {
            continue;
        }
        let head = String::from_utf8(std::mem::take(&mut read)).unwrap();
        let path = head.split(' ').nth(1).unwrap_or_default();
        let said = match path {
            "/never" | "/slow-body" | "/count" => {
                thread::sleep(PATIENCE);
                return;
            }
            "/slow" => {
                thread::sleep(Duration::from_secs(3));
                stream.write_all(OK)
            }
            "/stall" => {
                let half = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
                thread::sleep(Duration::from_secs(5));
                half
            }
            "/busy" => stream.write_all(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"),
            "/large" => {
                let head = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n");
                head.and_then(|()| stream.write_all(&vec![b'x'; 64 << 20]))
            }
            _ => stream.write_all(OK),
        };
        if said.is_err() {
            return;
        }
    }
}

/// Serves connections on threads, as long as the test runs.
fn serve(host: &Namespace, at: SocketAddr, each: fn(TcpStream)) {
    host.run(move || {
        let listener = TcpListener::bind(at).unwrap();
        thread::spawn(move || {
            listener.incoming().flatten().for_each(|stream| drop(thread::spawn(move || each(stream))));
        });
    });
}

/// Answers whatever it is asked.
fn quick(mut stream: TcpStream) {
    let mut read = [0; 4096];
    while matches!(stream.read(&mut read), Ok(1..)) && stream.write_all(OK).is_ok() {}
}

/// Listens and takes nobody: the kernel lets those wait who come when its queue is full.
fn full(host: &Namespace, at: SocketAddr) {
    host.run(move || {
        let socket =
            socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None).unwrap();
        socket.bind(&at.into()).unwrap();
        socket.listen(0).unwrap();
        let first = TcpStream::connect(at).unwrap();
        thread::spawn(move || {
            thread::sleep(PATIENCE * 10);
            drop((socket, first));
        });
    });
}

/// What is said to these bytes, until the connection ends.
fn ask(from: &Namespace, to: SocketAddr, bytes: &'static [u8]) -> String {
    from.run(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _refused = stream.write_all(bytes);
        let mut said = Vec::new();
        let _reset = stream.read_to_end(&mut said);
        String::from_utf8_lossy(&said).into_owned()
    })
}

/// A request for a path that is the last one of its connection.
fn get(from: &Namespace, to: SocketAddr, path: &str) -> String {
    let text = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    ask(from, to, text.leak().as_bytes())
}

/// The lines of a log about this path.
fn lines(log: &[Value], path: &str) -> Vec<(Option<u64>, Option<String>)> {
    let about = log.iter().filter(|line| line["path"] == path);
    about.map(|line| (line["status"].as_u64(), line["why"].as_str().map(str::to_owned))).collect()
}

/// Asks for much, and reads nothing of it for long.
fn takes_nothing(client: &Namespace, to: SocketAddr) {
    let took = client.run(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        thread::sleep(Duration::from_secs(5));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = Vec::new();
        let _reset = stream.read_to_end(&mut said);
        said.len()
    });
    assert!(took < 32 << 20, "{took} bytes of an answer that nobody took were held");
}

/// Sends pings until nobody takes them.
fn pings_without_end(client: &Namespace, to: SocketAddr) {
    client.run(move || {
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let mut reader = stream.try_clone().unwrap();
        let reading = thread::spawn(move || drop(reader.read_to_end(&mut Vec::new())));
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
        let pings = b"\0\0\x08\x06\0\0\0\0\x0012345678".repeat(100);
        let sent = (0..10_000).take_while(|_| stream.write_all(&pings).is_ok()).count();
        assert!(sent < 10_000, "a million pings were taken");
        reading.join().unwrap();
    });
}

/// Opens more connections than one source may have. The reset may come before the client knows that it is connected.
fn crowds(client: &Namespace, to: SocketAddr) {
    client.run(move || {
        let all: Vec<_> = (0..PER_SOURCE + 4).map(|_| TcpStream::connect(to)).collect();
        let refused = all.into_iter().filter_map(|stream| {
            // Those that are taken are closed without a word, since they say none.
            let read = stream.and_then(|mut stream| {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.read(&mut [0])
            });
            read.err().filter(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        });
        assert!(refused.count() >= 1, "all connections were taken");
    });
}

struct Scene {
    net: Net,
    files: Files,
}

impl Scene {
    fn new(name: &str) -> Self {
        let net = Net::new(2);
        let scene = Self { files: Files::new(name), net };
        for number in [1, 2] {
            let host = &scene.net.backends[usize::from(number) - 1].host;
            serve(host, scene.at(number, SCRIPTED), scripted);
            serve(host, scene.at(number, QUICK), quick);
        }
        full(&scene.net.backends[0].host, scene.at(1, FULL));
        scene
    }

    fn at(&self, number: u8, port: u16) -> SocketAddr {
        SocketAddr::new(self.net.topology.backend(FAMILIES[0], number), port)
    }

    fn log(&self, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.files.path(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn each_limit_of_clients_is_reached_and_named() {
    private("limits::each_limit_of_clients_is_reached_and_named", || {
        let scene = Scene::new("limits-clients");
        let Scene { net, files } = &scene;
        let balancer = files.start(
            &net.balancer,
            &format!(
                "access_log = {log:?}\naccess_log_format = \"json\"\n\n[clients]\nper_source = {PER_SOURCE}\n\n\
                 [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {clear}\nbackends = [\"{scripted}\"]\n\
                 patience = {{ head = \"1s\", body = \"1s\", send = \"2s\", keep_alive = \"1s\" }}\n\
                 requests = {{ max_head = \"1KiB\", max_fields = 5, max_body = \"10B\" }}\n\n\
                 [[service]]\nname = \"secure\"\nmode = \"l7\"\nlisten = {secure}\nbackends = [\"{scripted}\"]\ntls = \"auto\"\n\
                 patience = {{ handshake = \"1s\" }}\n\n\
                 [[service]]\nname = \"total\"\nmode = \"l7\"\nlisten = {total}\nbackends = [\"{scripted}\"]\n\
                 patience = {{ total = \"1s\" }}\n",
                log = files.path("access.log"),
                clear = listen(net, CLEAR),
                secure = listen(net, SECURE),
                total = listen(net, 81),
                scripted = scene.at(1, SCRIPTED),
            ),
        );
        let (client, to) = (&net.client, vip(net, FAMILIES[0], CLEAR));
        let long: &[u8] =
            format!("GET /head HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(2000)).leak().as_bytes();
        let refusals: [(&str, &'static [u8], u16); 6] = [
            ("head_too_large", long, 431),
            ("head_too_large", b"GET /fields HTTP/1.1\r\nHost: a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\nE: 5\r\n\r\n", 431),
            ("head_timeout", b"GET /slow-head HTTP/1.1\r\nHost: a\r\n", 408),
            ("body_too_large", b"POST /length HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", 413),
            ("body_too_large", b"POST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n", 413),
            ("body_timeout", b"POST /slow-body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", 408),
        ];
        for (word, bytes, status) in refusals {
            let said = ask(client, to, bytes);
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{word}: {said}");
            assert!(said.contains(&format!("details=\"{word}\"")), "{word}: {said}");
        }
        // A second request does not come.
        let said = ask(client, to, b"GET /once HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(said.ends_with("\r\n\r\nok"), "{said}");
        takes_nothing(client, to);
        pings_without_end(client, to);
        // No word at all, where TLS is expected.
        let started = Instant::now();
        assert!(ask(client, vip(net, FAMILIES[0], SECURE), b"").len() < 100);
        assert!(started.elapsed() >= Duration::from_secs(1));
        let said = get(client, vip(net, FAMILIES[0], 81), "/never");
        assert!(said.starts_with("HTTP/1.1 504 ") && said.contains("details=\"total_timeout\""), "{said}");
        crowds(client, to);
        let report = balancer.stop();
        for (service, word, least) in [
            ("site", "head_too_large", 2),
            ("site", "head_timeout", 1),
            ("site", "body_too_large", 2),
            ("site", "body_timeout", 1),
            ("site", "keep_alive", 1),
            ("site", "send_timeout", 1),
            ("site", "ping_flood", 1),
            ("site", "too_many_from_source", 1),
            ("secure", "timeout", 1),
            ("total", "total_timeout", 1),
        ] {
            assert!(report.site(service, word) >= least, "{word}: {}", report.0);
        }
        let log = scene.log("access.log");
        for (path, status, why) in [
            ("/length", Some(413), Some("body_too_large")),
            ("/count", Some(413), Some("body_too_large")),
            ("/slow-body", Some(408), Some("body_timeout")),
            ("/once", Some(200), None),
            ("/large", Some(200), Some("send_timeout")),
            ("/never", Some(504), Some("total_timeout")),
        ] {
            assert_eq!(lines(&log, path), [(status, why.map(str::to_owned))], "{path}: {log:#?}");
        }
        let whys: Vec<_> = log.iter().filter_map(|line| line["why"].as_str()).collect();
        for word in ["head_too_large", "head_timeout", "too_many_from_source"] {
            assert!(whys.contains(&word), "{word}: {whys:?}");
        }
        let once = log.iter().find(|line| line["path"] == "/once").unwrap();
        assert_eq!(
            (&once["backend"], &once["sent"]),
            (&scene.at(1, SCRIPTED).to_string().into(), &2.into()),
            "{once}"
        );
        assert_eq!(
            (&once["tries"], &once["route"], &once["site"]),
            (&1.into(), &"*/".into(), &"site".into()),
            "{once}"
        );
        assert!(once["total_ms"].as_f64().unwrap() >= once["first_byte_ms"].as_f64().unwrap(), "{once}");
        let written = report.0["layer7"]["access_logs"][0]["written"].as_u64().unwrap();
        assert_eq!(written, log.len() as u64, "{}", report.0);
    });
}

/// What became of second tries and ways, and what the log says of all of them.
fn chances(report: &Report, log: &[Value]) {
    let groups = report.0["layer7"]["groups"].as_array().unwrap();
    let of = |name: &str, word: &str| {
        let group = groups.iter().find(|group| group["group"] == name).unwrap();
        let ends = group["ends"].as_array().unwrap();
        ends.iter().find(|end| end["word"] == word).map_or(0, |end| end["count"].as_u64().unwrap())
    };
    assert!(
        of("busy", "retries") >= 1 && of("hedged", "hedges") == 1 && of("hedged", "hedges_won") == 1,
        "{}",
        report.0
    );
    for (path, status, why) in [
        ("/full", 504, Some("connect_timeout")),
        ("/closed", 502, Some("connect_failed")),
        ("/never", 504, Some("response_timeout")),
        ("/stall", 200, Some("answer_timeout")),
    ] {
        assert_eq!(lines(log, path), [(Some(status), why.map(str::to_owned))], "{path}: {log:#?}");
    }
    let busy: Vec<_> = log.iter().filter(|line| line["path"] == "/busy").collect();
    let tries: u64 = busy.iter().map(|line| line["tries"].as_u64().unwrap()).sum();
    assert!(tries > busy.len() as u64 && busy.iter().all(|line| line["status"] == 200), "{busy:#?}");
    let waited = log.iter().filter(|line| line["why"] == "queue_timeout");
    assert!(
        waited.clone().count() == 1 && waited.clone().all(|line| line["wait_ms"].as_f64().unwrap() >= 900.0),
        "{log:#?}"
    );
}

#[test]
fn each_limit_of_backends_is_reached_and_named() {
    private("limits::each_limit_of_backends_is_reached_and_named", || {
        let scene = Scene::new("limits-backends");
        let Scene { net, files } = &scene;
        let both = [scene.at(1, SCRIPTED), scene.at(2, QUICK)].map(|at| at.to_string());
        let one = [scene.at(1, SCRIPTED).to_string()];
        let groups = [
            ("full", &[scene.at(1, FULL).to_string()][..], "connect = \"1s\""),
            ("closed", &[scene.at(1, CLOSED).to_string()], "connect = \"5s\""),
            ("never", &one, "response = \"1s\""),
            ("stall", &one, "body = \"1s\""),
            ("slow", &one, "requests = 1, waiting = 1, wait = \"1s\""),
            ("busy", &both, "retry_on = [503]"),
        ];
        let routes = groups
            .map(|(name, ..)| format!("[[service.route]]\npath = \"/{name}\"\nbackends = \"{name}\"\n"));
        let groups = groups.map(|(name, members, limits)| {
            format!("[backends.{name}]\nmembers = {members:?}\nlimits = {{ {limits} }}\n\n")
        });
        let (routes, groups) = (routes.concat(), groups.concat());
        let balancer = files.start(
            &net.balancer,
            &format!(
                "access_log = {log:?}\naccess_log_format = \"json\"\n\n\
                 [[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {clear}\n{routes}\n\
                 [[service]]\nname = \"hedged\"\nmode = \"l7\"\nlisten = {hedged}\nbackends = \"hedged\"\n\n\
                 {groups}[backends.hedged]\nmembers = {both:?}\nlimits = {{ hedge = \"300ms\" }}\n",
                log = files.path("access.log"),
                clear = listen(net, CLEAR),
                hedged = listen(net, 81),
            ),
        );
        let (client, to) = (&net.client, vip(net, FAMILIES[0], CLEAR));
        for (path, status, word) in [
            ("/full", 504, "connect_timeout"),
            ("/closed", 502, "connect_failed"),
            ("/never", 504, "response_timeout"),
        ] {
            let said = get(client, to, path);
            assert!(said.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {said}");
            assert!(said.contains(&format!("details=\"{word}\"")), "{path}: {said}");
        }
        let said = get(client, to, "/stall");
        assert!(said.starts_with("HTTP/1.1 200 ") && said.ends_with("half"), "{said}");
        // The first one has the backend, the second waits too long, the third may not wait.
        let answers = client.run(move || {
            let ask = |delay: u64| {
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(delay));
                    let mut stream = TcpStream::connect(to).unwrap();
                    stream.set_read_timeout(Some(PATIENCE)).unwrap();
                    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
                    let mut said = String::new();
                    stream.read_to_string(&mut said).unwrap();
                    said
                })
            };
            [ask(0), ask(300), ask(600)].map(|asked| asked.join().unwrap())
        });
        for (said, word) in answers.iter().zip(["200 OK", "queue_timeout", "queue_full"]) {
            assert!(said.contains(word), "{word}: {answers:?}");
        }
        // One of two backends is busy: whoever comes to it is sent on.
        for _ in 0..4 {
            assert!(get(client, to, "/busy").starts_with("HTTP/1.1 200 "));
        }
        let started = Instant::now();
        for _ in 0..2 {
            assert!(get(client, vip(net, FAMILIES[0], 81), "/slow").starts_with("HTTP/1.1 200 "));
        }
        assert!(started.elapsed() < Duration::from_secs(3), "the slow one was waited for");
        let mut balancer = balancer;
        // What was cut off is logged when hyper has let go of it.
        await_that("all is logged", || {
            balancer.report().0["layer7"]["access_logs"][0]["written"].as_u64().unwrap() >= 13
        });
        let report = balancer.stop();
        for word in [
            "connect_timeout",
            "connect_failed",
            "response_timeout",
            "answer_timeout",
            "queue_timeout",
            "queue_full",
        ] {
            assert!(report.site("site", word) >= 1, "{word}: {}", report.0);
        }
        chances(&report, &scene.log("access.log"));
    });
}
