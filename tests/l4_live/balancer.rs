//! The balancer under test: the program itself, in the namespace in the middle.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use fourseven::lab::topology::Topology;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::namespace::Namespace;
use super::net::Net;

/// How packets are rewritten.
pub const NATS: [&str; 2] = ["full", "dnat"];
/// Debug builds on busy machines are slow; nothing here should ever take so long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A balancer that runs, killed when this is dropped.
pub struct Balancer {
    child: Child,
    lines: Receiver<String>,
    pub said: Vec<String>,
}

/// The flags for the lab's VIPs and all backends.
pub fn flags(topology: Topology, nat: &str) -> Vec<String> {
    let vips = topology.vips().into_iter().map(|(protocol, at)| format!("--vip={protocol}/{at}"));
    let backends = topology.backend_endpoints().into_iter().map(|at| format!("--backend={at}"));
    vips.chain(backends).chain([format!("--nat={nat}")]).collect()
}

impl Balancer {
    /// Starts one for the lab's VIPs with these flags beside, and waits until it balances.
    pub fn start(net: &Net, nat: &str, more: &[&str]) -> Self {
        let more = more.iter().map(|&flag| flag.to_owned());
        Self::start_with(&net.balancer, flags(net.topology, nat).into_iter().chain(more).collect())
    }

    /// Starts one with these arguments, and waits until it balances.
    pub fn start_with(host: &Namespace, arguments: Vec<String>) -> Self {
        let mut balancer = Self::spawn(host, arguments);
        balancer.await_line("ready: ");
        balancer
    }

    fn spawn(host: &Namespace, arguments: Vec<String>) -> Self {
        Self::spawn_by(host, &[], arguments)
    }

    /// Starts one by a program that becomes it.
    pub fn spawn_by(host: &Namespace, by: &[&str], arguments: Vec<String>) -> Self {
        let by: Vec<String> = by.iter().map(ToString::to_string).collect();
        let mut child = host.run(move || {
            // It goes with the thread that starts it, whatever ends that.
            Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--"])
                .args(by)
                .args([env!("CARGO_BIN_EXE_fourseven"), "run", "--json"])
                .args(arguments)
                .env_remove("RUST_LOG")
                .env_remove("SSLKEYLOGFILE")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (tell, lines) = mpsc::channel();
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Self { child, lines, said: Vec::new() }
    }

    /// Waits until it says a line that starts so, and gives that.
    pub fn await_line(&mut self, start: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line `{start}` among {:#?}", self.said);
            };
            self.said.push(line.clone());
            if line.starts_with(start) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    fn pid(&self) -> Pid {
        // `setpriv` becomes the program that it starts, so that its id is the balancer's.
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// What it has counted so far.
    pub fn report(&mut self) -> Report {
        self.signal(Signal::SIGUSR1);
        Report::read(&self.await_line("{"))
    }

    /// Waits for its end: its status, its stdout, and all that it said.
    pub fn end(mut self) -> (ExitStatus, String, String) {
        let mut out = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        let status = self.child.wait().unwrap();
        self.said.extend(self.lines.iter());
        (status, out, self.said.join("\n"))
    }

    /// Ends it as Ctrl-C does. It must end well, with sums that agree.
    pub fn stop(self) -> Report {
        self.signal(Signal::SIGINT);
        let (status, out, said) = self.end();
        assert!(status.success() && !said.contains("warning"), "{status}: {said}\n{out}");
        let report = Report::read(&out);
        assert_eq!(report.0["agree"], true, "{out}");
        report
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // Where a test fails, what the balancer has counted often says why.
        if thread::panicking() && kill(self.pid(), Signal::SIGUSR1).is_ok() {
            while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(2)) {
                println!("{line}");
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a balancer has counted.
pub struct Report(pub Value);

impl Report {
    pub fn read(text: &str) -> Self {
        Self(serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// How many packets came to this end for this reason.
    pub fn reason(&self, outcome: &str, reason: &str) -> u64 {
        let rows = self.0["reasons"].as_array().unwrap();
        let row = rows.iter().find(|row| row["outcome"] == outcome && row["reason"] == reason);
        row.map_or(0, |row| row["packets"].as_u64().unwrap())
    }

    /// What was dropped, and why: nothing, mostly. A host's own talk to its neighbours is no traffic.
    pub fn dropped(&self) -> Vec<(&str, u64)> {
        let rows = self.0["reasons"].as_array().unwrap();
        rows.iter()
            .filter(|row| row["outcome"] == "dropped" && row["reason"] != "link_local")
            .map(|row| (row["reason"].as_str().unwrap(), row["packets"].as_u64().unwrap()))
            .collect()
    }

    pub fn packets(&self, of: &str) -> u64 {
        self.0["packets"][of].as_u64().unwrap()
    }

    pub fn flows(&self, of: &str) -> u64 {
        self.0["flows"][of].as_u64().unwrap()
    }
}
