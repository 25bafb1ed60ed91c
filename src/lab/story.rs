//! The story: what is tried in the network, in which order, and what is said about it.
//!
//! It is told the same way about namespaces and about memory, since it knows only a [`Network`]. Each
//! act prints what it finds as it finds it, and keeps it for the result in JSON.
//!
//! What the story may claim depends on what happened, not on what should have: a sentence that
//! explains an answer looks at the answer first. [`Story::surprise`] is the first thing that should
//! not have happened: silence, or a request that failed while its backend was well.

mod layer7;

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::attempt::{Attempt, End, Try};
use super::console::{Console, Look, wrap};
use super::error::LabError;
use super::network::Network;
use super::topology::{self, Topology};
use crate::packet::Family;
pub use layer7::Call;

/// Requests in the first act.
const REQUESTS: usize = 6;
/// After how many refusals in a row the balancer stops asking a backend.
const FALL: usize = 3;

/// What has been told so far.
#[derive(Debug)]
pub struct Story {
    topology: Topology,
    /// What every try came to, act by act.
    pub told: Vec<Told>,
    /// What every visit came to.
    pub calls: Vec<Call>,
    /// The first thing that should not have happened.
    pub surprise: Option<String>,
    /// The number of the last request over HTTP.
    requests: usize,
    /// The number of the last act: not every story has all of them.
    acts: usize,
    /// The last thing that was said of a failure: once is enough.
    remarked: String,
}

/// One try, and the act it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// The act.
    pub act: &'static str,
    /// What was tried.
    #[serde(flatten)]
    pub what: Try,
    /// What came of it.
    #[serde(flatten)]
    pub attempt: Attempt,
}

/// What must not come of a try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expect {
    /// Anything but an answer is a surprise.
    Answer,
    /// Anything but an answer or a prompt no is.
    NoSilence,
    /// Anything but a refusal is.
    Refusal,
}

impl Story {
    /// A story that has not begun.
    pub const fn new(topology: Topology) -> Self {
        Self {
            topology,
            told: Vec::new(),
            calls: Vec::new(),
            surprise: None,
            requests: 0,
            acts: 0,
            remarked: String::new(),
        }
    }

    /// An act: requests to the VIP, and who answers them.
    ///
    /// # Errors
    ///
    /// The lab's; what the network does is told, not returned.
    pub fn requests(&mut self, console: &mut Console, network: &mut dyn Network) -> Result<(), LabError> {
        let target = self.web(Family::V4);
        self.heading(
            console,
            format_args!("Layer 4: http://{target}/ six times, then what is not TCP or IPv4"),
        )?;
        let mut attempts = Vec::new();
        for _ in 0..REQUESTS {
            attempts.push(self.attempt(network, "requests", Try::Http(target), Expect::Answer)?);
            self.requests += 1;
        }
        for (place, row) in attempts.chunks(3).enumerate() {
            let cell =
                |(column, attempt)| format!("#{} {}", 3 * place + column + 1, describe(console, attempt));
            let row: Vec<_> = row.iter().enumerate().map(cell).collect();
            console.line(format_args!("   {}", row.join("   ")))?;
        }
        if let Some((seen, attempt)) = attempts.last().and_then(|last| Some((seen(last)?, last))) {
            let client = self.topology.client(Family::V4);
            let name = attempt.backend().unwrap_or("the backend");
            let remark = if seen.ip() == client {
                "DNAT keeps the client."
            } else if self.topology.local(Family::V4).contains(&seen.ip()) {
                "full NAT hides the client."
            } else {
                "another address."
            };
            console.line(format_args!("   {client} asks, {name} sees {seen}: {remark}"))?;
        }
        Ok(())
    }

    /// The rest of that act: UDP, ping, IPv6, and a port where there is nothing.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn protocols(
        &mut self,
        console: &mut Console,
        network: &mut dyn Network,
        servers: Servers,
    ) -> Result<(), LabError> {
        let (v4, v6) = (self.topology.vip(Family::V4), self.topology.vip(Family::V6));
        let tries = match servers {
            Servers::BuiltIn => vec![
                ("UDP", Try::Datagram((v4, topology::ECHO).into())),
                ("ping", Try::Ping(v4)),
                ("HTTP", Try::Http((v6, topology::HTTP).into())),
            ],
            Servers::Foreign => vec![("ping", Try::Ping(v4)), ("ping", Try::Ping(v6))],
        };
        let mut cells = Vec::new();
        for (word, what) in tries {
            let attempt = self.attempt(network, "protocols", what, Expect::Answer)?;
            let (target, came) = match what {
                Try::Http(target) | Try::Datagram(target) => {
                    (target.to_string(), describe(console, &attempt))
                }
                Try::Ping(target) if attempt.answered() => {
                    (target.to_string(), console.paint(Look::Good, column("balancer", &attempt)))
                }
                Try::Ping(target) => (target.to_string(), describe(console, &attempt)),
            };
            cells.push(format!("{word:<4} {target:<14} {came}"));
        }
        let target = SocketAddr::new(v4, topology::NOTHING);
        let attempt = self.attempt(network, "nothing", Try::Http(target), Expect::Refusal)?;
        cells.push(format!("HTTP {target:<14} {}", describe(console, &attempt)));
        cells.chunks(2).try_for_each(|row| console.line(format_args!("   {}", row.join("  "))))
    }

    /// An act: a backend's server ends, then a whole backend, while requests go on.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn failures(&mut self, console: &mut Console, network: &mut dyn Network) -> Result<(), LabError> {
        self.heading(console, "Layer 4: backends fail while connections are opened")?;
        let first = self.next_victim(None);
        network.stop_server(first)?;
        let name = Topology::backend_name(first);
        console
            .line(format_args!("   {name}: its server is ended. Its host still answers, and refuses (×)."))?;
        self.until_noticed(console, network, "server_ends")?;
        let second = self.next_victim(Some(first));
        if second == first {
            return Ok(());
        }
        network.cut(second)?;
        let name = Topology::backend_name(second);
        console
            .line(format_args!("   {name}: loses power. Its link is gone, and so it is unreachable (!)."))?;
        self.until_noticed(console, network, "backend_ends")
    }

    /// The number of the backend that answered last, or where nobody says so the first one that is
    /// not `gone`.
    fn next_victim(&self, gone: Option<u8>) -> u8 {
        let mut answers =
            self.told.iter().rev().filter(|told| matches!(told.what, Try::Http(to) if to.is_ipv4()));
        let name = answers.find_map(|told| told.attempt.backend());
        let answered = name
            .and_then(|name| self.topology.backends().find(|&number| Topology::backend_name(number) == name));
        answered.or_else(|| self.topology.backends().find(|&number| Some(number) != gone)).unwrap_or(1)
    }

    /// Sends requests until enough have failed for the balancer to notice, and some more.
    fn until_noticed(
        &mut self,
        console: &mut Console,
        network: &mut dyn Network,
        act: &'static str,
    ) -> Result<(), LabError> {
        let target = self.web(Family::V4);
        let most = (FALL + 2) * self.topology.backends().count();
        let (mut failed, mut after) = (0, 0);
        let mut cells: Vec<Attempt> = Vec::new();
        let first = self.requests + 1;
        while cells.len() < most && after < REQUESTS / 2 {
            let attempt = self.attempt(network, act, Try::Http(target), Expect::NoSilence)?;
            self.requests += 1;
            if failed >= FALL {
                after += 1;
            } else if !attempt.answered() {
                failed += 1;
            }
            cells.push(attempt);
        }
        let shown: Vec<_> = cells.iter().map(mark).collect();
        marks(console, &format!("#{first}-#{} by backend", self.requests), &shown)?;
        let late: Vec<_> = cells.iter().rev().take(after).collect();
        let remark = if failed < FALL || late.is_empty() {
            "The balancer did not choose it often enough to notice.".to_owned()
        } else if late.iter().all(|attempt| attempt.answered()) {
            format!("{FALL} failures in a row: it gets no more for 10 s, and the others take over.")
        } else if late.iter().all(|attempt| attempt.end == End::Refused) {
            "No backend is left: the balancer itself refuses, and at once.".to_owned()
        } else {
            "The balancer has not noticed.".to_owned()
        };
        if remark == self.remarked {
            return Ok(());
        }
        console.line(format_args!("   {remark}"))?;
        self.remarked = remark;
        Ok(())
    }

    /// What layer 7 would have told, where it cannot.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn without_layer7(&mut self, console: &mut Console, why: &str) -> Result<(), LabError> {
        self.heading(console, "Layer 7 is left out here")?;
        wrap(why, 74).into_iter().try_for_each(|line| console.line(format_args!("   {line}")))
    }

    fn heading(&mut self, console: &mut Console, title: impl fmt::Display) -> Result<(), LabError> {
        self.acts += 1;
        console.heading(format_args!("{}  {title}", self.acts))
    }

    fn attempt(
        &mut self,
        network: &mut dyn Network,
        act: &'static str,
        what: Try,
        expect: Expect,
    ) -> Result<Attempt, LabError> {
        let attempt = network.attempt(what)?;
        let well = match (&attempt.end, expect) {
            (End::Answered { .. }, Expect::Answer | Expect::NoSilence)
            | (End::Refused | End::Unreachable, Expect::NoSilence)
            | (End::Refused, Expect::Refusal) => true,
            (
                End::Answered { .. } | End::Refused | End::Unreachable | End::Silence | End::Broken { .. },
                _,
            ) => false,
        };
        if !well {
            self.note(|| format!("{act}: {what:?} came to {:?}", attempt.end));
        }
        self.told.push(Told { act, what, attempt: attempt.clone() });
        Ok(attempt)
    }

    /// Takes note of what should not have happened, if it is the first of its kind.
    fn note(&mut self, what: impl FnOnce() -> String) {
        self.surprise.get_or_insert_with(what);
    }

    fn web(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.topology.vip(family), topology::HTTP)
    }
}

/// Whose servers the backends run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Servers {
    /// Ours: they say who they are, echo over UDP, and listen on both families.
    BuiltIn,
    /// The user's: HTTP over IPv4 is all that can be asked of them.
    Foreign,
}

/// Prints what became of many requests in little room: a number is the backend that answered. Where there are very
/// many the middle is left out.
fn marks(console: &mut Console, title: &str, cells: &[String]) -> Result<(), LabError> {
    const SHOWN: usize = 2;
    let lines = wrap(&cells.join(" "), 76 - title.chars().count());
    for (place, line) in lines.iter().enumerate() {
        if place >= SHOWN && place + 1 < lines.len() {
            continue;
        }
        let line =
            if place + 1 == SHOWN && lines.len() > SHOWN + 1 { format!("{line} …") } else { line.clone() };
        let bad = ["×", "!"].into_iter();
        let line = bad.fold(line, |line, mark| line.replace(mark, &console.paint(Look::Bad, mark)));
        let (title, width) = (if place == 0 { title } else { "" }, title.chars().count());
        console.line(format_args!("   {title:<width$}  {line}"))?;
    }
    Ok(())
}

/// What came of a try, in one mark.
fn mark(attempt: &Attempt) -> String {
    match &attempt.end {
        End::Answered { backend, .. } => match backend {
            Some(name) => name.strip_prefix("backend-").unwrap_or(name).to_owned(),
            None => "ok".to_owned(),
        },
        End::Refused => "×".to_owned(),
        End::Unreachable => "!".to_owned(),
        End::Silence => "SILENCE".to_owned(),
        End::Broken { why } => why.clone(),
    }
}

/// What came of a try, and after how long, in a column.
fn describe(console: &Console, attempt: &Attempt) -> String {
    let (look, text) = match &attempt.end {
        End::Answered { backend, .. } => (Look::Good, backend.clone().unwrap_or_else(|| "answered".into())),
        End::Refused => (Look::Bad, "refused".into()),
        End::Unreachable => (Look::Bad, "unreachable".into()),
        End::Silence => (Look::Bad, "SILENCE".into()),
        End::Broken { why } => (Look::Bad, why.clone()),
    };
    console.paint(look, column(&text, attempt))
}

fn column(text: &str, attempt: &Attempt) -> String {
    format!("{text:<9} {:>7}", milliseconds(attempt.micros))
}

#[expect(clippy::cast_precision_loss, reason = "for people, to a tenth")]
fn milliseconds(micros: u64) -> String {
    format!("{:.1} ms", micros as f64 / 1000.0)
}

fn seen(attempt: &Attempt) -> Option<SocketAddr> {
    match attempt.end {
        End::Answered { seen, .. } => seen,
        End::Refused | End::Unreachable | End::Silence | End::Broken { .. } => None,
    }
}
