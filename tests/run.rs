//! `fourseven run` in a network namespace of its own: what it says, how it ends, and with which status.
//!
//! Each test starts the program in a fresh, empty namespace with `unshare --net`. Where that or
//! a TUN device is not allowed the tests say so and pass.

mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::copy::Copy;

const FLAGS: &[&str] = &[
    "--mode",
    "l4",
    "--vip",
    "tcp/10.47.0.1:80",
    "--vip",
    "udp/[fd47::1]:53",
    "--backend",
    "10.47.2.2:8080",
    "--backend",
    "[fd47:2::2]:53",
];

/// A balancer that runs, with what it says on stderr line by line.
struct Running {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Running {
    /// Starts `fourseven run` with these arguments.
    fn start(arguments: &[&str]) -> Self {
        Self::start_by(&[], arguments)
    }

    /// The same, by a program that becomes it.
    fn start_by(by: &[&str], arguments: &[&str]) -> Self {
        let mut child = unshared()
            .args(by)
            .args([env!("CARGO_BIN_EXE_fourseven"), "run"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines, said: Vec::new() }
    }

    /// Waits until it says a line that starts so.
    fn await_line(&mut self, start: &str) {
        loop {
            let Ok(line) = self.lines.recv_timeout(Duration::from_secs(30)) else {
                panic!("no line `{start}` among {:#?}", self.said);
            };
            let found = line.starts_with(start);
            self.said.push(line);
            if found {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        // `unshare` becomes the program that it starts, so that its id is the balancer's.
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).unwrap();
    }

    /// Waits for its end: status, stdout, and all that it said.
    fn end(mut self) -> (ExitStatus, String, String) {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status, out, self.said.join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command in a network namespace of its own.
fn unshared() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net").env_remove("RUST_LOG").stdin(Stdio::null());
    command
}

/// Whether this machine lets us have a namespace and a TUN device in it.
fn allowed() -> bool {
    let tun = "test -w /dev/net/tun && ip tuntap add probe mode tun && ip link show probe";
    let allowed = unshared().args(["sh", "-c", tun]).output().is_ok_and(|output| output.status.success());
    if !allowed {
        support::skip_or_fail("no network namespace with a TUN device for this user");
    }
    allowed
}

fn report(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_signal_ends_it_with_a_report_and_status_0() {
    if !allowed() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut running = Running::start(&[FLAGS, &["--json"]].concat());
        running.await_line("ready: fs0");
        running.signal(signal);
        let (status, out, said) = running.end();
        assert_eq!(status.code(), Some(0), "{said}");
        let report = report(&out);
        assert_eq!(report["agree"], true, "{out}");
        assert_eq!(report["services"][0]["backends"][1]["address"], "[fd47:2::2]:53");
        assert!(said.contains("device fs0: "), "{said}");
        let service = "service service: tcp/10.47.0.1:80 udp/[fd47::1]:53 to 2 backends, full NAT, rr";
        assert!(said.contains(service), "{said}");
    }
}

#[test]
fn usr1_prints_the_report_to_stderr_and_it_goes_on() {
    if !allowed() {
        return;
    }
    let mut running = Running::start(FLAGS);
    running.await_line("ready:");
    for _ in 0..2 {
        running.signal(Signal::SIGUSR1);
        running.await_line("packets  ");
    }
    running.signal(Signal::SIGTERM);
    let (status, out, said) = running.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(out.starts_with("packets  ") && out.contains("10.47.2.2:8080"), "{out}");
}

#[test]
fn it_runs_from_a_file_on_the_device_that_is_named_there() {
    if !allowed() {
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/good/full.toml");
    let mut running = Running::start(&["-c", file, "--json"]);
    running.await_line("ready: fs0");
    running.signal(Signal::SIGINT);
    let (status, out, said) = running.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(report(&out)["services"][1]["name"], "dns");
}

#[test]
fn it_leaves_the_host_alone_where_that_is_asked_for() {
    if !allowed() {
        return;
    }
    let mut running = Running::start(&[FLAGS, &["--no-configure"]].concat());
    running.await_line("ready:");
    running.signal(Signal::SIGINT);
    let (status, _, said) = running.end();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(!said.contains("host:"), "{said}");
}

#[test]
fn what_it_changes_on_the_host_is_taken_back() {
    if !allowed() {
        return;
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/good/full.toml");
    // Which settings and rules there are; then a run that configures, until a signal; then the same again.
    let script = r#"
        state() { grep -r . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/ip_early_demux /proc/sys/net/ipv4/conf /proc/sys/net/ipv6/conf \
                      2>/dev/null | sort; ip rule; ip -6 rule; ip route show table all type unicast; }
        rm -f "$3".*  # what an earlier run has said would be taken for this one's
        state > "$3.before"
        "$1" run -c "$2" > "$3.report" 2> "$3.said" & balancer=$!
        for _ in $(seq 300); do grep -qs ^ready: "$3.said" && break; sleep 0.1; done
        state > "$3.during"
        kill -INT $balancer; wait $balancer || exit
        state > "$3.after"
        cmp -s "$3.before" "$3.during" && { echo "it changed nothing"; exit 1; }
        diff "$3.before" "$3.after""#;
    let scratch = format!("{}/host", env!("CARGO_TARGET_TMPDIR"));
    let output = unshared()
        .args(["sh", "-c", script, "sh", env!("CARGO_BIN_EXE_fourseven"), file, &scratch])
        .output()
        .unwrap();
    let said = std::fs::read_to_string(format!("{scratch}.said")).unwrap();
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stdout));
}

/// The rights that each thread of a process has, as `/proc` shows them.
fn rights(process: u32) -> Vec<u64> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of_task = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let value = |key| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
        assert_eq!(value("NoNewPrivs:"), "1");
        u64::from_str_radix(&value("CapPrm:"), 16).unwrap()
    };
    tasks.map(|task| of_task(task.unwrap())).collect()
}

/// `linux/capability.h`, as a mask.
const NET_ADMIN: u64 = 1 << 12;

#[test]
fn it_gives_up_all_rights_but_one_and_that_one_is_enough() {
    if !allowed() {
        return;
    }
    // The program itself must be readable for who starts it, so this is root with a single right, and not nobody.
    let with_one: &[&str] = &["setpriv", "--bounding-set=-all,+net_admin"];
    let certificate: &[&str] = &["--mode", "l7", "--vip", "tcp/10.47.0.1:443", "--tls", "auto"];
    let site = [certificate, &["--backend", "10.47.2.2:8080", "--queues", "2"]].concat();
    for (by, arguments) in [(&[][..], FLAGS), (with_one, FLAGS), (&[][..], &site[..])] {
        if !by.is_empty() && !support::has("setpriv") {
            support::skip_or_fail("there is no setpriv");
            continue;
        }
        let mut running = Running::start_by(by, arguments);
        running.await_line("ready: fs0");
        let rights = rights(running.child.id());
        assert!(rights.len() > 1 && rights.iter().all(|held| *held == NET_ADMIN), "{rights:x?}");
        running.signal(Signal::SIGINT);
        let (status, _, said) = running.end();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(!said.contains("warning: "), "{said}");
    }
}

#[test]
fn a_device_that_is_deleted_ends_it_with_a_report_and_status_1() {
    if !allowed() {
        return;
    }
    let mut running = Running::start(&[FLAGS, &["--json"]].concat());
    running.await_line("ready:");
    let pid = running.child.id().to_string();
    let delete = ["-t", &pid, "-n", "ip", "link", "delete", "fs0"];
    assert!(Command::new("nsenter").args(delete).status().unwrap().success());
    let (status, out, said) = running.end();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("fs0 is gone"), "{said}");
    assert_eq!(report(&out)["agree"], true, "{out}");
}

#[test]
fn a_name_that_is_taken_is_told_of_with_status_1() {
    if !allowed() {
        return;
    }
    let (status, out, said) = Running::start(&[FLAGS, &["--tun", "lo"]].concat()).end();
    assert_eq!((status.code(), out.as_str()), (Some(1), ""), "{said}");
    assert!(said.contains("the name lo is taken") && said.contains("--tun NAME"), "{said}");
}

#[test]
fn without_rights_it_says_what_to_do_with_status_1() {
    let copy = Copy::make("without-rights");
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"])
        .args([&copy.path(), "run"])
        .args(FLAGS)
        .output();
    let Ok(output) = output else { return support::skip_or_fail("there is no setpriv") };
    let said = String::from_utf8(output.stderr).unwrap();
    if said.starts_with("setpriv: ") {
        let reason = format!("cannot become nobody here: {said}");
        return support::skip_or_fail(&reason);
    }
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("fourseven lab") && output.stdout.is_empty(), "{said}");
}
