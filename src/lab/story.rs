//! The story: what is tried in the network, in which order, and what is said about it.
//!
//! It is told the same way about namespaces and about memory, since it knows only a [`Network`]. Each
//! act prints what it finds as it finds it, and keeps it for the result in JSON.
//!
//! What the story may claim depends on what happened, not on what should have: a sentence that
//! explains an answer looks at the answer first. [`Story::surprise`] is the first thing that should
//! not have happened: silence, or a request that failed while its backend was well.

use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;

use super::attempt::{Attempt, End, Try};
use super::console::{Console, Look};
use super::error::LabError;
use super::network::Network;
use super::topology::{self, Topology};
use crate::packet::Family;

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
    /// The first thing that should not have happened.
    pub surprise: Option<String>,
    /// The number of the last request over HTTP.
    requests: usize,
    /// The number of the last act: not every story has all of them.
    acts: usize,
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
        Self { topology, told: Vec::new(), surprise: None, requests: 0, acts: 0 }
    }

    /// An act: requests to the VIP, and who answers them.
    ///
    /// # Errors
    ///
    /// The lab's; what the network does is told, not returned.
    pub fn requests(&mut self, console: &mut Console, network: &mut dyn Network) -> Result<(), LabError> {
        let target = self.web(Family::V4);
        self.heading(console, format_args!("Six requests: the client asks for http://{target}/"))?;
        let mut last = None;
        for _ in 0..REQUESTS {
            let attempt = self.attempt(network, "requests", Try::Http(target), Expect::Answer)?;
            self.requests += 1;
            let came = describe(console, &attempt);
            let seen = seen(&attempt).map(|seen| format!("sees {seen} as its client")).unwrap_or_default();
            console.line(format_args!("   #{:<2} {came}  {seen}", self.requests))?;
            last = Some(attempt);
        }
        if let Some(seen) = last.as_ref().and_then(seen) {
            let client = self.topology.client(Family::V4);
            let remark = if seen.ip() == client {
                format!("The backend sees {client}: DNAT leaves the client's address as it is.")
            } else if self.topology.local(Family::V4).contains(&seen.ip()) {
                format!("The client is {client}: full NAT puts a local address of the balancer in its place.")
            } else {
                format!("The client is {client}, and the backend sees another address.")
            };
            console.line(format_args!("   {remark}"))?;
        }
        Ok(())
    }

    /// An act: UDP, ping, IPv6.
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
        self.heading(console, "Not only TCP, not only IPv4")?;
        let (v4, v6) = (self.topology.vip(Family::V4), self.topology.vip(Family::V6));
        let tries = match servers {
            Servers::BuiltIn => vec![
                ("UDP", Try::Datagram((v4, topology::ECHO).into())),
                ("ping", Try::Ping(v4)),
                ("HTTP", Try::Http((v6, topology::HTTP).into())),
            ],
            Servers::Foreign => vec![("ping", Try::Ping(v4)), ("ping", Try::Ping(v6))],
        };
        for (word, what) in tries {
            let attempt = self.attempt(network, "protocols", what, Expect::Answer)?;
            let target = match what {
                Try::Http(target) | Try::Datagram(target) => target.to_string(),
                Try::Ping(target) => target.to_string(),
            };
            let came = match (what, attempt.answered()) {
                (Try::Ping(_), true) => {
                    let text = column("balancer", &attempt);
                    format!("{}  a VIP answers ping itself", console.paint(Look::Good, text))
                }
                _ => match seen(&attempt) {
                    Some(seen) => format!("{}  sees {seen}", describe(console, &attempt)),
                    None => describe(console, &attempt),
                },
            };
            console.line(format_args!("   {word:<5}{target:<15} {came}"))?;
        }
        Ok(())
    }

    /// An act: a backend's server ends, then a whole backend, while requests go on.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn failures(&mut self, console: &mut Console, network: &mut dyn Network) -> Result<(), LabError> {
        self.heading(console, "Backends fail while requests go on")?;
        let first = self.next_victim(None);
        network.stop_server(first)?;
        let name = Topology::backend_name(first);
        console.line(format_args!(
            "   {name}: its server is ended. Its host still answers, and refuses (RST)."
        ))?;
        self.until_noticed(console, network, "server_ends")?;
        let second = self.next_victim(Some(first));
        if second == first {
            return Ok(());
        }
        network.cut(second)?;
        let name = Topology::backend_name(second);
        console.line(format_args!("   {name}: loses power. Its namespace and its link are gone."))?;
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
        let mut cells = Vec::new();
        while cells.len() < most && after < REQUESTS / 2 {
            let attempt = self.attempt(network, act, Try::Http(target), Expect::NoSilence)?;
            self.requests += 1;
            if failed >= FALL {
                after += 1;
            } else if !attempt.answered() {
                failed += 1;
            }
            cells.push((format!("#{:<2} ", self.requests), attempt));
        }
        rows(console, &cells)?;
        let late: Vec<_> = cells.iter().rev().take(after).map(|(_, attempt)| attempt).collect();
        let remark = if failed < FALL || late.is_empty() {
            "The balancer did not choose it often enough to notice.".to_owned()
        } else if late.iter().all(|attempt| attempt.answered()) {
            format!(
                "{FALL} failures in a row: the balancer asks it no more for 10 s, and the others take over."
            )
        } else if late.iter().all(|attempt| attempt.end == End::Refused) {
            "No backend is left: the balancer itself refuses, and at once.".to_owned()
        } else {
            "The balancer has not noticed.".to_owned()
        };
        console.line(format_args!("   {remark}"))
    }

    /// An act: a port where there is nothing.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn nothing(&mut self, console: &mut Console, network: &mut dyn Network) -> Result<(), LabError> {
        let target = SocketAddr::new(self.topology.vip(Family::V4), topology::NOTHING);
        let attempt = self.attempt(network, "nothing", Try::Http(target), Expect::Refusal)?;
        let came = describe(console, &attempt);
        let remark = if attempt.end == End::Refused { "the balancer itself says no" } else { "" };
        self.heading(console, format_args!("A port without a service, {target}"))?;
        console.line(format_args!("   {came}  {remark}"))
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
        if !well && self.surprise.is_none() {
            self.surprise = Some(format!("{act}: {what:?} came to {:?}", attempt.end));
        }
        self.told.push(Told { act, what, attempt: attempt.clone() });
        Ok(attempt)
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

/// Prints tries in rows of three, without the middle where there are many.
fn rows(console: &mut Console, cells: &[(String, Attempt)]) -> Result<(), LabError> {
    const SHOWN: usize = 2;
    let rows: Vec<_> = cells.chunks(3).collect();
    for (place, row) in rows.iter().enumerate() {
        if rows.len() > 2 * SHOWN + 1 && place >= SHOWN && place < rows.len() - SHOWN {
            if place == SHOWN {
                let hidden = rows.get(SHOWN..rows.len() - SHOWN).unwrap_or_default().concat();
                let failed = hidden.iter().filter(|(_, attempt)| !attempt.answered()).count();
                console
                    .line(format_args!("     … {} more, {failed} of them not answered …", hidden.len()))?;
            }
            continue;
        }
        let row: Vec<_> =
            row.iter().map(|(number, attempt)| format!("{number}{}", describe(console, attempt))).collect();
        console.line(format_args!("     {}", row.join("  ")))?;
    }
    Ok(())
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

#[expect(clippy::cast_precision_loss, reason = "for people, to a tenth")]
fn column(text: &str, attempt: &Attempt) -> String {
    let took = format!("{:.1} ms", attempt.micros as f64 / 1000.0);
    format!("{text:<11} {took:>7}")
}

fn seen(attempt: &Attempt) -> Option<SocketAddr> {
    match attempt.end {
        End::Answered { seen, .. } => seen,
        End::Refused | End::Unreachable | End::Silence | End::Broken { .. } => None,
    }
}
