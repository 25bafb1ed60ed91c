//! Backends that go at the wrong moment: what may be sent again is, what had not left is not lost, nothing is sent twice.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hyper::Request;

use super::namespace::{Namespace, private};
use super::net::{FAMILIES, Net, await_that};
use super::site::{CLEAR, Files, Layer7, listen, vip};
use super::talk::{full, get, http1, read, talk, tcp};

const CONNECTIONS: usize = 64;
const PORT: u16 = 8090;

/// A backend with a process of its own, which can be killed.
struct Server(Child);

impl Server {
    fn start(host: &Namespace, at: std::net::SocketAddr, name: &str) -> Self {
        let name = name.to_owned();
        Self(host.run(move || {
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", env!("CARGO_BIN_EXE_fourseven"), "lab", "serve"])
                .args(["--http", &at.to_string(), "--name", &name])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap()
        }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backend_is_killed_under_load_and_every_idempotent_request_is_answered() {
    private("failing::a_backend_is_killed_under_load_and_every_idempotent_request_is_answered", || {
        let net = Net::new(3);
        let files = Files::new("killed");
        let at = |number: u8| std::net::SocketAddr::new(net.topology.backend(FAMILIES[0], number), PORT);
        let start = |number: u8| {
            let host = &net.backends[usize::from(number) - 1].host;
            let server = Server::start(host, at(number), &format!("killable-{number}"));
            await_that("it listens", || {
                net.balancer.run({
                    let at = at(number);
                    move || TcpStream::connect(at).is_ok()
                })
            });
            server
        };
        let mut servers: Vec<Server> = (1..=3).map(start).collect();
        let members: Vec<String> = (1..=3).map(|number| at(number).to_string()).collect();
        let balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nqueues = 2\n\n[[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = {members:?}\n",
                listen(&net, CLEAR)
            ),
        );
        let to = FAMILIES.map(|family| vip(&net, family, CLEAR));
        let load = net.client.run(move || {
            thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                tokio::task::LocalSet::new().block_on(&runtime, async move {
                    let until = Instant::now() + Duration::from_secs(5);
                    let clients = (0..CONNECTIONS).map(|number| async move {
                        let mut sender = http1(tcp(to[number % 2]).await.unwrap()).await;
                        let (mut answered, mut wrong) = (0_u64, Vec::new());
                        while Instant::now() < until {
                            // Some are on their way for a while, so that the kill finds them there.
                            let path = if answered % 4 == 0 { "/slow/20" } else { "/" };
                            let request = match answered % 3 {
                                0 => Request::put(path).header("host", "a").body(full("abc")).unwrap(),
                                _ => get("a", path),
                            };
                            match sender.send_request(request).await {
                                Ok(answer) if answer.status() == 200 => drop(read(answer).await),
                                other => wrong.push(format!("{other:?}")),
                            }
                            if !wrong.is_empty() {
                                break;
                            }
                            answered += 1;
                        }
                        (answered, wrong)
                    });
                    futures_util::future::join_all(clients).await
                })
            })
        });
        for number in [1, 2] {
            thread::sleep(Duration::from_millis(1200));
            servers[usize::from(number) - 1].0.kill().unwrap();
            servers[usize::from(number) - 1].0.wait().unwrap();
            thread::sleep(Duration::from_millis(600));
            servers[usize::from(number) - 1] = start(number);
        }
        let results = load.join().unwrap();
        let wrong: Vec<_> = results.iter().flat_map(|(_, wrong)| wrong).collect();
        let answered: u64 = results.iter().map(|(answered, _)| answered).sum();
        let report = balancer.stop();
        println!("{answered} requests were answered over two kills");
        assert!(wrong.is_empty(), "{wrong:?}\n{}", report.0);
        assert_eq!(report.site("site", "2xx"), answered, "{}", report.0);
        assert_eq!(report.site("site", "requests"), answered, "{}", report.0);
        // The kills were felt.
        assert!(report.group("site", "no_answer") > 0, "{}", report.0);
    });
}

const TRIALS: u32 = 2_000;

/// What the backend saw of each request, by its number.
#[derive(Debug, Default)]
struct Seen {
    answered: HashSet<u32>,
    /// Came on a connection that had been closed on this side before.
    late: HashSet<u32>,
    twice: Vec<u32>,
}

/// Reads one request without a body; its number, or none at the end.
fn request(from: &mut impl BufRead) -> Option<u32> {
    let mut first = String::new();
    from.read_line(&mut first).ok().filter(|&length| length > 0)?;
    let mut line = first.clone();
    let mut length = 0;
    while line != "\r\n" {
        line.clear();
        from.read_line(&mut line).ok().filter(|&length| length > 0)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).ok()?;
    first.split(' ').nth(1)?.strip_prefix('/')?.parse().ok()
}

/// Answers some requests, then closes its side a moment later, while the next one may be on its way; and notes what comes
/// even so.
fn closes_at_the_worst_moment(stream: TcpStream, seen: &Mutex<Seen>, chance: u64) {
    stream.set_nodelay(true).unwrap();
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::new(stream);
    for _ in 0..=chance % 3 {
        let Some(number) = request(&mut from) else { return };
        let mut seen = seen.lock().unwrap();
        if !seen.answered.insert(number) || seen.late.contains(&number) {
            seen.twice.push(number);
        }
        drop(seen);
        if to.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
            return;
        }
    }
    let wait = Duration::from_micros(chance / 3 % 600);
    let began = Instant::now();
    while began.elapsed() < wait {
        std::hint::spin_loop();
    }
    let _ = to.shutdown(Shutdown::Write);
    if let Some(number) = request(&mut from) {
        let mut seen = seen.lock().unwrap();
        if !seen.late.insert(number) || seen.answered.contains(&number) {
            seen.twice.push(number);
        }
    }
}

/// A number that looks random, and is the same in each run.
fn chance(place: u64) -> u64 {
    let mixed = (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
}

#[test]
fn posts_are_lost_only_if_they_had_left_for_a_backend_that_closes_at_the_worst_moment() {
    private(
        "failing::posts_are_lost_only_if_they_had_left_for_a_backend_that_closes_at_the_worst_moment",
        || {
            let net = Net::new(1);
            let files = Files::new("closing");
            let backend = net.topology.backend(FAMILIES[0], 1);
            let seen = Arc::new(Mutex::new(Seen::default()));
            let theirs = Arc::clone(&seen);
            net.backends[0].host.run(move || {
                let listener = TcpListener::bind((backend, PORT)).unwrap();
                thread::spawn(move || {
                    for (place, stream) in (0..).zip(listener.incoming()) {
                        let (stream, seen) = (stream.unwrap(), Arc::clone(&theirs));
                        thread::spawn(move || closes_at_the_worst_moment(stream, &seen, chance(place)));
                    }
                })
            });
            let balancer = files.start(
            &net.balancer,
            &format!(
                "[tun]\nqueues = 2\n\n[[service]]\nname = \"site\"\nmode = \"l7\"\nlisten = {}\nbackends = [\"{backend}:{PORT}\"]\n",
                listen(&net, CLEAR)
            ),
        );
            let to = FAMILIES.map(|family| vip(&net, family, CLEAR));
            let failed = talk(&net.client, move || async move {
                let failed = Rc::new(RefCell::new(HashSet::new()));
                let clients = (0..4).map(|client| {
                    let failed = Rc::clone(&failed);
                    async move {
                        let mut sender = http1(tcp(to[client % 2]).await.unwrap()).await;
                        for number in (0..TRIALS).filter(|number| *number as usize % 4 == client) {
                            let request = Request::post(format!("/{number}")).header("host", "a");
                            let request = request.body(full("x".repeat(number as usize % 100))).unwrap();
                            let (status, text) = read(sender.send_request(request).await.unwrap()).await;
                            if status != 200 {
                                assert_eq!((status, text.trim()), (502, "502 Bad Gateway: closed_early"));
                                failed.borrow_mut().insert(number);
                            }
                            tokio::time::sleep(Duration::from_micros(chance(number.into()) % 500)).await;
                        }
                    }
                });
                futures_util::future::join_all(clients).await;
                failed.take()
            });
            // The last of them are read by threads of their own.
            await_that("each is accounted for", || {
                let seen = seen.lock().unwrap();
                seen.answered.len() + seen.late.len() >= TRIALS as usize
            });
            let report = balancer.stop();
            let seen = seen.lock().unwrap();
            println!(
                "{TRIALS} requests, {} lost, replaced before they left: {}",
                failed.len(),
                report.group("site", "replaced_stale")
            );
            let not_left: Vec<_> = failed.difference(&seen.late).collect();
            assert!(not_left.is_empty(), "lost, and had not left: {not_left:?}\n{}", report.0);
            assert!(seen.twice.is_empty(), "sent twice, and may not be: {}", report.0);
            assert_eq!(report.site("site", "closed_early"), failed.len() as u64, "{}", report.0);
            assert_eq!(report.site("site", "2xx"), u64::from(TRIALS) - failed.len() as u64, "{}", report.0);
        },
    );
}
