//! The director's side of the hosts: it spawns them, talks to them, notices when one is gone.
//!
//! Everything that can happen comes through one channel, so that the director waits in one place
//! only, and neither a host that hangs nor a signal can be missed:
//!
//! ```text
//!   host's stdout ──▶ thread ──┐   Line, Gone
//!   host's stderr ──▶ thread ──┼──▶ events ──▶ director (main thread)
//!   signals       ──▶ thread ──┘   Log, Signal
//! ```
//!
//! Invariant: a host that is not `gone` has a live process or one whose end is still in the
//! channel. When the crew is dropped, all of them are killed and waited for. When the director is
//! killed there is nobody to do so, and the kernel kills them (see [`host`](super::host)).

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::attempt::{Attempt, Try};
use super::clock;
use super::error::LabError;
use super::order::{Answer, Order, say};
use super::visit::{Visit, Visited};

/// How long a host may take to answer: longer than its own tries wait.
const PATIENCE: Duration = Duration::from_secs(10);
/// Lines of a host's standard error that are kept.
const MAX_LOG: usize = 200;
/// Lines of it that an error shows.
const MAX_LAST_WORDS: usize = 5;

/// One host, by its place in the crew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostId(usize);

/// All hosts of a lab.
#[derive(Debug)]
pub struct Crew {
    hosts: Vec<Host>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    signals: signal_hook::iterator::Handle,
    interrupted: Option<i32>,
}

#[derive(Debug)]
struct Host {
    name: String,
    child: Child,
    orders: Option<ChildStdin>,
    /// Lines of its standard output that nobody has asked for yet.
    lines: VecDeque<String>,
    log: VecDeque<String>,
    /// Its standard output has ended, and so has it.
    gone: bool,
    /// Its end is no surprise.
    ending: bool,
}

#[derive(Debug)]
enum Event {
    Line(HostId, String),
    Log(HostId, String),
    Gone(HostId),
    Signal(i32),
}

impl Crew {
    /// A crew with nobody in it. From here on SIGINT, SIGTERM and SIGHUP end what is being waited
    /// for, with [`LabError::Interrupted`], instead of the process.
    ///
    /// # Errors
    ///
    /// Signals cannot be caught, or no thread be started.
    pub fn new() -> Result<Self, LabError> {
        let (sender, events) = mpsc::channel();
        let mut signals =
            Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(LabError::system("catch signals"))?;
        let handle = signals.handle();
        let to = sender.clone();
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                for signal in &mut signals {
                    if to.send(Event::Signal(signal)).is_err() {
                        break;
                    }
                }
            })
            .map_err(LabError::system("start a thread"))?;
        Ok(Self { hosts: Vec::new(), events, sender, signals: handle, interrupted: None })
    }

    /// Starts a host. Only the main thread may call this, since hosts live no longer than the
    /// thread that spawned them. [`Crew::greet`] waits until its namespace is there.
    ///
    /// # Errors
    ///
    /// The process cannot be started.
    pub fn spawn(&mut self, name: &str) -> Result<HostId, LabError> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("fourseven")
            .args(["lab", "host", name, "--parent"])
            .arg(std::process::id().to_string())
            // A group of its own keeps the terminal's Ctrl-C from it: the director decides.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(LabError::system("start a host"))?;
        let id = HostId(self.hosts.len());
        let (orders, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        self.hosts.push(Host {
            name: name.to_owned(),
            child,
            orders,
            lines: VecDeque::new(),
            log: VecDeque::new(),
            gone: false,
            ending: false,
        });
        if let Some(output) = output {
            self.listen(output, move |line| Event::Line(id, line), Some(Event::Gone(id)))?;
        }
        if let Some(errors) = errors {
            self.listen(errors, move |line| Event::Log(id, line), None)?;
        }
        Ok(id)
    }

    fn listen(
        &self,
        from: impl Read + Send + 'static,
        event: impl Fn(String) -> Event + Send + 'static,
        last: Option<Event>,
    ) -> Result<(), LabError> {
        let to = self.sender.clone();
        let read = move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if to.send(event(text)).is_err() {
                    return;
                }
                line.clear();
            }
            if let Some(last) = last {
                let _ = to.send(last);
            }
        };
        thread::Builder::new().spawn(read).map(drop).map_err(LabError::system("start a thread"))
    }

    /// A host's process id.
    pub fn pid(&self, id: HostId) -> u32 {
        self.host(id).map_or(0, |host| host.child.id())
    }

    /// A command that will run what is added to it as arguments in a host's network, with all that
    /// this starts, no longer than this thread runs (see [`inside`](super::inside)).
    pub fn inside(&self, id: HostId, name: Option<&str>) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("fourseven").args(["lab", "inside"]);
        if let Some(name) = name {
            command.args(["--name", name]);
        }
        command.arg("--parent").arg(std::process::id().to_string());
        command.arg("--pid").arg(self.pid(id).to_string()).arg("--");
        command
    }

    /// Waits until a new host's namespace is there.
    ///
    /// # Errors
    ///
    /// It cannot have one, or we were interrupted.
    pub fn greet(&mut self, id: HostId) -> Result<(), LabError> {
        self.answer(id, &Answer::Ready)
    }

    /// Gives an order without waiting: follow with [`Crew::done`].
    ///
    /// # Errors
    ///
    /// The host is gone.
    pub fn order(&mut self, id: HostId, order: &Order) -> Result<(), LabError> {
        let host = self.host_mut(id)?;
        match host.orders.as_mut().map(|orders| say(orders, order)) {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => {
                Err(LabError::HostGone { host: host.name.clone(), said: host.log.iter().cloned().collect() })
            }
        }
    }

    /// Waits until an order is carried out.
    ///
    /// # Errors
    ///
    /// It was not, or we were interrupted.
    pub fn done(&mut self, id: HostId) -> Result<(), LabError> {
        self.answer(id, &Answer::Done)
    }

    /// Orders, and waits until that is done.
    ///
    /// # Errors
    ///
    /// As [`Crew::order`] and [`Crew::done`].
    pub fn carry_out(&mut self, id: HostId, order: &Order) -> Result<(), LabError> {
        self.order(id, order)?;
        self.done(id)
    }

    /// Orders a try, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// As [`Crew::order`], or we were interrupted. What the network does is no error.
    pub fn attempt(&mut self, id: HostId, what: Try) -> Result<Attempt, LabError> {
        self.order(id, &Order::Try { what })?;
        match self.hear(id)? {
            Answer::Tried { attempt } => Ok(attempt),
            other => Err(self.unexpected(id, other)),
        }
    }

    /// Orders a visit, and waits for what comes of it.
    ///
    /// # Errors
    ///
    /// As [`Crew::attempt`].
    pub fn visit(&mut self, id: HostId, what: Visit) -> Result<Visited, LabError> {
        self.order(id, &Order::Visit { what })?;
        match self.hear(id)? {
            Answer::Visited { visited } => Ok(visited),
            other => Err(self.unexpected(id, other)),
        }
    }

    /// Sends a host's process a signal.
    pub fn signal(&self, id: HostId, signal: Signal) {
        let pid = i32::try_from(self.pid(id)).unwrap_or(0);
        if pid > 0 {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    fn answer(&mut self, id: HostId, want: &Answer) -> Result<(), LabError> {
        let answer = self.hear(id)?;
        if answer == *want { Ok(()) } else { Err(self.unexpected(id, answer)) }
    }

    fn unexpected(&self, id: HostId, answer: Answer) -> LabError {
        let why = match answer {
            Answer::Failed { why } => why,
            other => format!("an answer out of turn: {other:?}"),
        };
        LabError::Failed { host: self.host(id).map(|host| host.name.clone()).unwrap_or_default(), why }
    }

    fn hear(&mut self, id: HostId) -> Result<Answer, LabError> {
        let deadline = clock::now() + PATIENCE;
        loop {
            let host = self.host_mut(id)?;
            if let Some(line) = host.lines.pop_front() {
                return serde_json::from_str(&line)
                    .map_err(|_| LabError::Failed { host: host.name.clone(), why: line });
            }
            if !self.wait(deadline)? {
                let host = self.host_mut(id)?.name.clone();
                return Err(LabError::Unresponsive { host });
            }
        }
    }

    /// Waits for a line of a host's standard error that starts with `start`; gives all lines up
    /// to it. `None` if it does not come in time.
    ///
    /// # Errors
    ///
    /// The host is gone, or we were interrupted.
    pub fn await_log(
        &mut self,
        id: HostId,
        start: &str,
        patience: Duration,
    ) -> Result<Option<Vec<String>>, LabError> {
        let deadline = clock::now() + patience;
        loop {
            let log = &mut self.host_mut(id)?.log;
            if let Some(place) = log.iter().position(|line| line.starts_with(start)) {
                return Ok(Some(log.drain(..=place).collect()));
            }
            if !self.wait(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Waits for whatever comes next, for a long time.
    ///
    /// # Errors
    ///
    /// A host ended that should not have, or a signal came.
    pub fn wait_for_an_end(&mut self) -> Result<(), LabError> {
        self.wait(clock::now() + Duration::from_hours(1)).map(drop)
    }

    /// Kills a host: as if the machine lost power. Returns when its process is gone.
    ///
    /// # Errors
    ///
    /// There is no such host.
    pub fn kill(&mut self, id: HostId) -> Result<(), LabError> {
        let host = self.host_mut(id)?;
        host.ending = true;
        host.orders = None;
        let _ = host.child.kill();
        let _ = host.child.wait();
        Ok(())
    }

    /// Asks a host's process to end (SIGTERM), kills it where it does not, and gives what it wrote
    /// to standard output since it was last listened to.
    pub fn end(&mut self, id: HostId, patience: Duration) -> String {
        let deadline = clock::now() + patience;
        let Ok(host) = self.host_mut(id) else { return String::new() };
        host.ending = true;
        if !host.gone && host.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.signal(id, Signal::SIGTERM);
        }
        // Neither a signal nor the end of another host may cut this short: it is bounded anyway.
        while self.host(id).is_some_and(|host| !host.gone) {
            match self.next(deadline) {
                Some(event) => self.note(event),
                None => break,
            }
        }
        let Ok(host) = self.host_mut(id) else { return String::new() };
        let _ = host.child.kill();
        let _ = host.child.wait();
        host.lines.drain(..).collect::<Vec<_>>().join("\n")
    }

    /// What a host has written to standard error, and nobody has asked for.
    pub fn log(&mut self, id: HostId) -> Vec<String> {
        self.host_mut(id).map(|host| host.log.drain(..).collect()).unwrap_or_default()
    }

    /// Waits for one event, and takes note of it; `false` when the time is up.
    fn wait(&mut self, deadline: Instant) -> Result<bool, LabError> {
        let Some(event) = self.next(deadline) else { return Ok(false) };
        self.note(event);
        if let Some(signal) = self.interrupted.take() {
            return Err(LabError::Interrupted(signal));
        }
        match self.hosts.iter().position(|host| host.gone && !host.ending) {
            None => Ok(true),
            Some(place) => Err(self.last_words(HostId(place))?),
        }
    }

    /// The error for a host that ended on its own. What it said last may still be on its way
    /// here through another thread.
    fn last_words(&mut self, id: HostId) -> Result<LabError, LabError> {
        self.host_mut(id)?.ending = true;
        let deadline = clock::now() + Duration::from_millis(100);
        while let Some(event) = self.next(deadline) {
            self.note(event);
        }
        let host = self.host_mut(id)?;
        let skipped = host.log.len().saturating_sub(MAX_LAST_WORDS);
        let said = host.log.iter().skip(skipped).cloned().collect();
        Ok(LabError::HostGone { host: host.name.clone(), said })
    }

    fn next(&self, deadline: Instant) -> Option<Event> {
        // We hold a sender ourselves, so that the channel is never closed: an error is the time.
        self.events.recv_timeout(deadline.saturating_duration_since(clock::now())).ok()
    }

    fn note(&mut self, event: Event) {
        match event {
            Event::Signal(signal) => self.interrupted = Some(signal),
            Event::Line(id, line) => {
                if let Ok(host) = self.host_mut(id) {
                    host.lines.push_back(line);
                }
            }
            Event::Log(id, line) => {
                if let Ok(host) = self.host_mut(id) {
                    if host.log.len() >= MAX_LOG {
                        host.log.pop_front();
                    }
                    host.log.push_back(line);
                }
            }
            Event::Gone(id) => {
                if let Ok(host) = self.host_mut(id) {
                    host.gone = true;
                }
            }
        }
    }

    fn host(&self, id: HostId) -> Option<&Host> {
        self.hosts.get(id.0)
    }

    fn host_mut(&mut self, id: HostId) -> Result<&mut Host, LabError> {
        let missing = || LabError::system("find a host")(io::ErrorKind::NotFound.into());
        self.hosts.get_mut(id.0).ok_or_else(missing)
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.signals.close();
        for host in &mut self.hosts {
            let _ = host.child.kill();
        }
        for host in &mut self.hosts {
            let _ = host.child.wait();
        }
    }
}
