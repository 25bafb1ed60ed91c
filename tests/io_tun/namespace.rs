//! Private network namespaces, each held by a thread that does in it what it is told.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fourseven::io::host::Netlink;
use nix::sched::{CloneFlags, unshare};

const INSIDE: &str = "FOURSEVEN_TEST_INSIDE";

/// Runs `body` where namespaces can be made and TUN devices be opened. Without the privilege the test
/// `name` is run again by itself, as root of a user namespace: that can only be entered by a process
/// that has no threads yet.
pub fn private(name: &str, body: impl FnOnce()) {
    let may_unshare = thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET).is_ok()).join().unwrap();
    if let Err(error) = OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        return skip(name, &format!("/dev/net/tun: {error}"));
    }
    if may_unshare {
        return body();
    }
    assert!(
        std::env::var_os(INSIDE).is_none(),
        "{name}: no network namespace even as root of a user namespace"
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "--net"]);
    let probe = Command::new("unshare")
        .args(["--user", "--map-root-user", "--net", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        return skip(name, "neither network namespaces nor user namespaces are allowed");
    }
    let test = std::env::current_exe().unwrap();
    let status = unshare.arg(test).args([name, "--exact", "--nocapture"]).env(INSIDE, "1").status().unwrap();
    assert!(status.success(), "{name} failed in a user namespace");
}

fn skip(name: &str, why: &str) {
    assert!(std::env::var("FOURSEVEN_CI").as_deref() != Ok("1"), "{name} could not be run: {why}");
    // Not by `eprintln!`, which the harness keeps to itself while a test passes.
    let _ = writeln!(std::io::stderr(), "SKIPPED {name}: {why}");
}

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, gone when this is dropped and nothing else is in it.
pub struct Namespace {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
    /// The id of its thread, which stands for the namespace where a process id is asked for.
    pub pid: u32,
}

impl Namespace {
    pub fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell_pid, pid) = mpsc::channel();
        let thread = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            // Until its link-local address is known to be nobody else's, a router asks for no neighbour.
            for of in ["all", "default"] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{of}/accept_dad"), "0").unwrap();
            }
            Netlink::open().unwrap().set_up("lo").unwrap();
            tell_pid.send(nix::unistd::gettid().as_raw().cast_unsigned()).unwrap();
            for job in inbox {
                job();
            }
        });
        Self { jobs: Some(jobs), thread: Some(thread), pid: pid.recv().unwrap() }
    }

    /// Does something in the namespace, and waits for it. Threads and processes that it starts are in
    /// the namespace too.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, result) = mpsc::channel();
        let job = Box::new(move || {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            tell.send(outcome).unwrap();
        });
        self.jobs.as_ref().unwrap().send(job).unwrap();
        result.recv().unwrap().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Asks netlink in the namespace.
    pub fn netlink<T: Send + 'static>(&self, ask: impl FnOnce(&Netlink) -> T + Send + 'static) -> T {
        self.run(move || ask(&Netlink::open().unwrap()))
    }

    /// Waits for IPv6, which gets ready a moment after a link is up or an address given: for the link-local
    /// addresses of these links, and for these addresses to be where packets to them are taken in.
    pub fn settle(&self, links: &[&str], addresses: &[&str]) {
        for _ in 0..1000 {
            let local = self.command("ip -6 route show table local");
            let has_link_local = |link: &&str| {
                local
                    .lines()
                    .any(|line| line.starts_with("local fe80:") && line.contains(&format!("dev {link} ")))
            };
            let has =
                |address: &&str| local.lines().any(|line| line.starts_with(&format!("local {address} ")));
            if links.iter().all(has_link_local) && addresses.iter().all(has) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("{links:?} and {addresses:?} do not get ready");
    }

    /// Runs a command in the namespace and gives what it printed. It must succeed.
    pub fn command(&self, line: &str) -> String {
        let (ok, output) = self.try_command(line);
        assert!(ok, "{line}: {output}");
        output
    }

    /// Runs a command in the namespace and gives what it printed, and whether it succeeded.
    pub fn try_command(&self, line: &str) -> (bool, String) {
        let line = line.to_owned();
        self.run(move || {
            let mut words = line.split_whitespace();
            let output = Command::new(words.next().unwrap()).args(words).output();
            let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
            let both = [output.stdout, output.stderr].concat();
            (output.status.success(), String::from_utf8_lossy(&both).into_owned())
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.jobs = None;
        let _ = self.thread.take().unwrap().join();
    }
}
