//! How fast the way through a device is, with a core that does nothing. Not checked, only printed:
//! `cargo test --release --test io_tun speed -- --ignored --nocapture --test-threads 1`.
//!
//! ```text
//!   client ── veth ── balancer (fs0, pass-through) ── veth ── server
//! ```

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use fourseven::io::host::Route;
use fourseven::io::{IoChoice, Pinning, TunRequest, WorkerOptions, open};

use super::cores::{PassThrough, Run};
use super::namespace::{Namespace, private};

/// Three namespaces; what crosses the middle one goes by way of fs0, where there is one.
struct Line {
    client: Namespace,
    balancer: Namespace,
    server: Namespace,
}

impl Line {
    fn new() -> Self {
        let [client, balancer, server] = [(); 3].map(|()| Namespace::new());
        for (end, near, far, net) in [(&client, "vc", "c", 1), (&server, "vs", "s", 2)] {
            let pid = end.pid;
            balancer.netlink(move |netlink| {
                netlink.add_veth(near, far).unwrap();
                netlink.move_to_pid(far, pid).unwrap();
                netlink.set_up(near).unwrap();
                netlink.add_address(near, format!("10.47.{net}.1/24").parse().unwrap()).unwrap();
            });
            end.netlink(move |netlink| {
                netlink.set_up(far).unwrap();
                netlink.add_address(far, format!("10.47.{net}.2/24").parse().unwrap()).unwrap();
                let router = format!("10.47.{net}.1").parse().unwrap();
                netlink.add_route(&Route::via("0.0.0.0/0".parse().unwrap(), router)).unwrap();
            });
        }
        balancer.run(|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap());
        Self { client, balancer, server }
    }

    fn balance(&self, io: IoChoice, queues: usize, options: WorkerOptions) -> Run {
        let run = self.balancer.run(move || {
            let opened = open(&TunRequest { name: "fs0".into(), io, queues }).unwrap();
            Run::start(opened, &PassThrough, options)
        });
        self.balancer.command("ip link set fs0 up");
        self.balancer.run(|| std::fs::write("/proc/sys/net/ipv4/conf/fs0/rp_filter", "0").unwrap());
        self.balancer.command("ip route replace default dev fs0 table 100");
        for near in ["vc", "vs"] {
            self.balancer.try_command(&format!("ip rule add iif {near} lookup 100 pref 100"));
        }
        run
    }

    fn unbalance(&self) {
        for near in ["vc", "vs"] {
            self.balancer.try_command(&format!("ip rule del iif {near} lookup 100 pref 100"));
        }
    }

    fn gigabits(&self, seconds: u32, streams: u32) -> f64 {
        let mut server = self.server.run(|| {
            let mut iperf = std::process::Command::new("iperf3");
            iperf.args(["-s", "-1"]).stdout(std::process::Stdio::null()).spawn().unwrap()
        });
        thread::sleep(Duration::from_millis(200));
        let report = self.client.command(&format!("iperf3 -c 10.47.2.2 -t {seconds} -P {streams} -J"));
        let _ = server.wait();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
    }

    /// Round trips of 64 bytes over one TCP connection: p50, p99 in µs, and how many a second.
    fn ping_pong(&self, duration: Duration) -> (f64, f64, f64) {
        let listener = self.server.run(|| TcpListener::bind("10.47.2.2:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        let echo = thread::spawn(move || {
            let mut stream = listener.accept().unwrap().0;
            stream.set_nodelay(true).unwrap();
            let mut bytes = [0; 64];
            while stream.read_exact(&mut bytes).is_ok() {
                stream.write_all(&bytes).unwrap();
            }
        });
        let mut times = self.client.run(move || {
            let mut stream = TcpStream::connect(("10.47.2.2", port)).unwrap();
            stream.set_nodelay(true).unwrap();
            let (start, mut times, mut bytes) = (Instant::now(), Vec::new(), [0; 64]);
            while start.elapsed() < duration {
                let sent = Instant::now();
                stream.write_all(&bytes).unwrap();
                stream.read_exact(&mut bytes).unwrap();
                times.push(sent.elapsed());
            }
            times
        });
        echo.join().unwrap();
        times.sort_unstable();
        let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e6;
        (at(0.5), at(0.99), times.len() as f64 / duration.as_secs_f64())
    }
}

/// CPU seconds of this process until now.
fn cpu() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn options(spin: u64, pinning: Pinning) -> WorkerOptions {
    WorkerOptions { spin: Duration::from_micros(spin), pinning }
}

#[test]
#[ignore = "a measurement"]
fn bulk() {
    private("speed::bulk", || {
        let line = Line::new();
        for round in 1..=3 {
            println!("round {round}: routing alone {:.1} Gbit/s", line.gigabits(3, 1));
            for (io, queues, streams, options) in [
                (IoChoice::Plain, 1, 1, options(0, Pinning::Own)),
                (IoChoice::Offload, 1, 1, options(0, Pinning::Own)),
                (IoChoice::Offload, 1, 1, options(0, Pinning::Free)),
                (IoChoice::Offload, 1, 1, options(50, Pinning::Own)),
                (IoChoice::Offload, 1, 1, options(50, Pinning::Free)),
                (IoChoice::Offload, 2, 4, options(0, Pinning::Own)),
                (IoChoice::Offload, 2, 4, options(0, Pinning::Free)),
                (IoChoice::Offload, 2, 4, options(50, Pinning::Own)),
            ] {
                let run = line.balance(io, queues, options.clone());
                let rate = line.gigabits(3, streams);
                line.unbalance();
                let totals = run.stop();
                println!(
                    "round {round}: {io} x {queues}, {streams} streams, spin {:?} {:?}: {rate:.1} Gbit/s, {} packets",
                    options.spin, options.pinning, totals.received
                );
            }
        }
    });
}

#[test]
#[ignore = "a measurement"]
fn ping_pong() {
    private("speed::ping_pong", || {
        let line = Line::new();
        for round in 1..=3 {
            let (p50, p99, rate) = line.ping_pong(Duration::from_secs(2));
            println!("round {round}: routing alone p50 {p50:.1} µs, p99 {p99:.1} µs, {rate:.0}/s");
            for pinning in [Pinning::Own, Pinning::Free] {
                for spin in [0, 10, 20, 50, 100, 200] {
                    let run = line.balance(IoChoice::Offload, 1, options(spin, pinning));
                    let before = cpu();
                    let (p50, p99, rate) = line.ping_pong(Duration::from_secs(2));
                    let busy = (cpu() - before) / 2.0;
                    let before = cpu();
                    thread::sleep(Duration::from_secs(1));
                    let idle = cpu() - before;
                    line.unbalance();
                    run.stop();
                    println!(
                        "round {round}: spin {spin} µs {pinning:?}: p50 {p50:.1} µs, p99 {p99:.1} µs, {rate:.0}/s, CPU busy {busy:.2} idle {idle:.4}"
                    );
                }
            }
        }
    });
}
