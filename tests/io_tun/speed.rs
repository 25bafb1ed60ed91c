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

    /// Gbit/s of one TCP connection or several.
    fn bulk(&self, streams: u32) -> f64 {
        let mut server = self.server.run(|| {
            let mut iperf = std::process::Command::new("iperf3");
            iperf.args(["-s", "-1"]).stdout(std::process::Stdio::null()).spawn().unwrap()
        });
        thread::sleep(Duration::from_millis(100));
        let report = self.client.command(&format!("iperf3 -c 10.47.2.2 -t 1 -P {streams} -J"));
        let _ = server.wait();
        let report: serde_json::Value = serde_json::from_str(&report).unwrap();
        report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
    }

    /// Round trips of 64 bytes over one TCP connection, for a quarter of a second: all their times, sorted.
    fn round_trips(&self) -> Vec<Duration> {
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
            while start.elapsed() < ROUND {
                let sent = Instant::now();
                stream.write_all(&bytes).unwrap();
                stream.read_exact(&mut bytes).unwrap();
                times.push(sent.elapsed());
            }
            times
        });
        echo.join().unwrap();
        times.sort_unstable();
        times
    }
}

const ROUND: Duration = Duration::from_millis(250);

/// CPU time of this process until now.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let duration = |time: nix::sys::time::TimeVal| {
        Duration::from_secs(time.tv_sec().cast_unsigned())
            + Duration::from_micros(time.tv_usec().cast_unsigned())
    };
    duration(usage.user_time()) + duration(usage.system_time())
}

/// How the middle is crossed: by routing alone, or with workers like these.
type Case = Option<(IoChoice, usize, WorkerOptions)>;

fn case(io: IoChoice, queues: usize, spin: u64, pinning: Pinning) -> (IoChoice, usize, WorkerOptions) {
    (io, queues, WorkerOptions { spin: Duration::from_micros(spin), pinning, taps: None })
}

/// Measures all cases in turn, in many short rounds, since what else the machine does comes and goes; prints the best
/// and the median of each.
fn compare<const N: usize>(
    rounds: usize,
    cases: &[(Case, &str)],
    names: [&str; N],
    measure: impl Fn(&Line, &str) -> [f64; N],
) {
    let line = Line::new();
    let mut results = vec![Vec::new(); cases.len()];
    for _ in 0..rounds {
        for ((case, argument), results) in cases.iter().zip(&mut results) {
            let run = case.clone().map(|(io, queues, options)| line.balance(io, queues, options));
            results.push(measure(&line, argument));
            if let Some(run) = run {
                line.unbalance();
                run.stop();
            }
        }
    }
    for ((case, argument), results) in cases.iter().zip(results) {
        let name = case.as_ref().map_or("routing alone".into(), |(io, queues, options)| {
            format!("{io} x {queues}, spin {:?}, {:?}", options.spin, options.pinning)
        });
        print!("{name:36} {argument:2}");
        for (at, name) in names.iter().enumerate() {
            let mut values: Vec<f64> = results.iter().map(|result| result[at]).collect();
            values.sort_by(f64::total_cmp);
            print!(
                "  {name}: {:.3} .. {:.3} .. {:.3}",
                values[0],
                values[values.len() / 2],
                values[values.len() - 1]
            );
        }
        println!();
    }
}

#[test]
#[ignore = "a measurement"]
fn bulk() {
    private("speed::bulk", || {
        use IoChoice::{Offload, Plain};
        let cases = [
            (None, "1"),
            (Some(case(Plain, 1, 0, Pinning::Own)), "1"),
            (Some(case(Offload, 1, 0, Pinning::Own)), "1"),
            (Some(case(Offload, 1, 0, Pinning::Free)), "1"),
            (Some(case(Offload, 1, 20, Pinning::Free)), "1"),
            (Some(case(Offload, 1, 50, Pinning::Free)), "1"),
            (None, "4"),
            (Some(case(Offload, 1, 0, Pinning::Free)), "4"),
            (Some(case(Offload, 1, 50, Pinning::Free)), "4"),
            (Some(case(Offload, 2, 0, Pinning::Own)), "4"),
            (Some(case(Offload, 2, 0, Pinning::Free)), "4"),
            (Some(case(Offload, 2, 50, Pinning::Own)), "4"),
        ];
        compare(9, &cases, ["Gbit/s"], |line, streams| [line.bulk(streams.parse().unwrap())]);
    });
}

#[test]
#[ignore = "a measurement"]
fn ping_pong() {
    private("speed::ping_pong", || {
        let mut cases = vec![(None, "")];
        for pinning in [Pinning::Own, Pinning::Free] {
            cases.extend(
                [0, 10, 20, 50, 100].map(|spin| (Some(case(IoChoice::Offload, 1, spin, pinning)), "")),
            );
        }
        cases.push((Some(case(IoChoice::Plain, 1, 50, Pinning::Free)), ""));
        compare(20, &cases, ["p50 µs", "p99 µs", "CPU", "CPU idle"], |line, _| {
            let before = cpu();
            let times = line.round_trips();
            let busy = cpu().saturating_sub(before);
            let before = cpu();
            thread::sleep(ROUND);
            let idle = cpu().saturating_sub(before);
            let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6;
            [at(50), at(99), busy.div_duration_f64(ROUND), idle.div_duration_f64(ROUND)]
        });
    });
}
