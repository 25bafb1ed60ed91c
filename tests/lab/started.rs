//! A lab that a test has started, and what must be gone when it has ended.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub const FOURSEVEN: &str = env!("CARGO_BIN_EXE_fourseven");
const MARK: &str = "FOURSEVEN_LAB_TEST";
const PATIENCE: Duration = Duration::from_mins(1);

/// A lab that runs, and what the host's network looked like before.
pub struct Lab {
    child: Child,
    pub mark: String,
    pub before: BTreeSet<String>,
    lines: Receiver<String>,
    said: Vec<String>,
}

impl Lab {
    /// Starts `command` with these arguments as a lab.
    pub fn start(mut command: Command, arguments: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let before = network();
        let mut child = command
            .args(arguments)
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            let _ = stdout.lines().map_while(Result::ok).try_for_each(|line| tell.send(line));
        });
        Self { child, mark, before, lines, said: Vec::new() }
    }

    pub fn here(arguments: &[&str]) -> Self {
        let mut command = Command::new(FOURSEVEN);
        command.arg("lab");
        Self::start(command, arguments)
    }

    /// Waits for a line that contains this.
    pub fn await_line(&mut self, part: &str) -> String {
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("no line with `{part}` in:\n{}\n{}", self.said.join("\n"), self.stderr());
            };
            self.said.push(line.clone());
            if line.contains(part) {
                return line;
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id().try_into().unwrap()), signal).expect("it still runs");
    }

    pub fn stderr(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            let _ = stderr.read_to_string(&mut text);
        }
        text
    }

    /// Waits for its end, and for what it leaves behind: nothing. Gives its status and its output.
    pub fn end(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end; it said:\n{}", self.said.join("\n"));
            sleep(Duration::from_millis(10));
        };
        // What the kernel does when the director was killed takes it a moment.
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (processes, network) = (processes(&self.mark), &network() - &self.before);
            if processes.is_empty() && network.is_empty() {
                break;
            }
            assert!(Instant::now() < deadline, "left behind: {processes:?} {network:?}");
            sleep(Duration::from_millis(20));
        }
        self.said.extend(self.lines.iter());
        let stderr = self.stderr();
        (status, format!("{}\n{stderr}", self.said.join("\n")))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command lines of all processes that carry a mark.
pub fn processes(mark: &str) -> Vec<String> {
    let wanted = format!("{MARK}={mark}");
    let folders = fs::read_dir("/proc").expect("/proc is there").flatten();
    folders
        .filter_map(|folder| {
            // A zombie has no environment any more, and is gone but for its status.
            let environment = fs::read(folder.path().join("environ")).ok()?;
            let carries = environment.split(|&byte| byte == 0).any(|entry| entry == wanted.as_bytes());
            let line = fs::read(folder.path().join("cmdline")).unwrap_or_default();
            carries.then(|| String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

/// What the lab could leave in the host's network: devices with its names, and named namespaces.
pub fn network() -> BTreeSet<String> {
    let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let devices =
        devices.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim().to_owned());
    let devices =
        devices.filter(|name| name.starts_with("fs") || name.starts_with("backend") || name == "client");
    let named = fs::read_dir("/run/netns").into_iter().flatten().flatten();
    devices.chain(named.map(|entry| format!("netns {}", entry.file_name().display()))).collect()
}
