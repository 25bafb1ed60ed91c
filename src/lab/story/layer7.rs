//! The acts about TLS and layer 7, beside what layer 4 makes of the same requests.
//!
//! All of them are visits to a [`Layer7`] network. As elsewhere in the story, what is said looks at what happened.

use std::collections::BTreeSet;

use super::{Story, marks};
use crate::lab::console::{Console, Look};
use crate::lab::error::LabError;
use crate::lab::network::Layer7;
use crate::lab::topology::{self, Topology};
use crate::lab::visit::{Ask, Connection, Over, Said, Visit, Visited};
use crate::packet::Family;
use serde::Serialize;

/// Requests for the comparison of upstreams, of each kind.
const COMPARED: usize = 12;
/// Requests before and after the end of a backend.
const AROUND: usize = 6;

/// One visit, and the act it belongs to.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// The act.
    pub act: &'static str,
    /// What was asked for.
    pub visit: Visit,
    /// What came of it.
    #[serde(flatten)]
    pub visited: Visited,
}

impl Story {
    /// Acts: HTTPS through layer 4, HTTPS that ends at layer 7, and what comes of that.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn layer7(&mut self, console: &mut Console, network: &mut dyn Layer7) -> Result<(), LabError> {
        self.through(console, network)?;
        self.ended(console, network)?;
        self.compared(console, network)
    }

    /// An act: TLS that goes through.
    fn through(&mut self, console: &mut Console, network: &mut dyn Layer7) -> Result<(), LabError> {
        let (host, port) = (topology::SHOP, topology::HTTPS_THROUGH);
        self.heading(console, format_args!("TLS through layer 4, unread: https://{host}:{port}/"))?;
        let asks = vec![Ask::of(host, "/api/users"), Ask::of(host, "/img/cat")];
        let visited = self.visit(network, "through", port, Over::New, asks)?;
        self.must_be_signed_by("through", &visited, topology::AUTHORITY_OF_BACKENDS);
        let (Some(connection), Some(last)) = (&visited.connection, visited.answers.last()) else {
            return broken(console, &visited);
        };
        let cell = |said: &Said| format!("{}  {}", said.ask.path, who(console, said));
        let cells: Vec<_> = visited.answers.iter().map(cell).collect();
        console.line(format_args!("   {}", cells.join("   ")))?;
        certificate(console, connection)?;
        let seen = last.seen.map(|seen| seen.to_string()).unwrap_or_default();
        let backend = last.backend.as_deref().unwrap_or("a backend");
        console.line(format_args!("   one connection: {} ▸ {backend}, which sees {seen}", connection.client))
    }

    /// An act: TLS that ends at the balancer.
    fn ended(&mut self, console: &mut Console, network: &mut dyn Layer7) -> Result<(), LabError> {
        let (host, port) = (topology::SHOP, topology::HTTPS);
        self.heading(console, format_args!("TLS ended at layer 7: https://{host}/, over one connection"))?;
        let asks = vec![
            Ask::of(host, "/api/users"),
            Ask::of(host, "/api/users"),
            Ask::of(host, "/img/cat"),
            Ask::of(topology::IMAGES, "/"),
        ];
        let visited = self.visit(network, "ended", port, Over::New, asks)?;
        self.must_be_signed_by("ended", &visited, topology::AUTHORITY_OF_BALANCER);
        let Some(connection) = &visited.connection else { return broken(console, &visited) };
        for said in &visited.answers {
            let url = format!("{}{}", said.ask.host, said.ask.path);
            let seen = said.seen.map(|seen| format!("  sees {seen}")).unwrap_or_default();
            console.line(format_args!("   {url:<26} {}{seen}", who(console, said)))?;
        }
        certificate(console, connection)?;
        self.must_be_routed(&visited);
        let Some(Said { backend: Some(backend), seen: Some(seen), forwarded_for, .. }) =
            visited.answers.last()
        else {
            return Ok(());
        };
        console
            .line(format_args!("   two connections: {} ▸ balancer, {seen} ▸ {backend}", connection.client))?;
        let told = forwarded_for.as_deref().unwrap_or("nothing");
        console.line(format_args!(
            "   The second says X-Forwarded-For: {told}. Host and path chose the backend."
        ))
    }

    /// An act: upstreams of the two kinds.
    fn compared(&mut self, console: &mut Console, network: &mut dyn Layer7) -> Result<(), LabError> {
        self.heading(
            console,
            format_args!("To the backends: new connections or a pool, {COMPARED} requests each"),
        )?;
        let mut opened_by_kind = Vec::new();
        for (group, port, path) in
            [("new", topology::HTTPS_NEW, "/new/"), ("pool", topology::HTTPS, "/pool/")]
        {
            let asks = vec![Ask::of(topology::SHOP, path); COMPARED];
            let visited = self.visit(network, group, port, Over::New, asks)?;
            let seen: BTreeSet<_> =
                visited.answers.iter().filter_map(|said| Some((said.backend.clone()?, said.seen?))).collect();
            let (opened, reused) = network.account()?.layer7.unwrap_or_default().upstreams(group);
            let mut times: Vec<_> = visited.answers.iter().map(|said| said.micros).collect();
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or_default();
            console.line(format_args!(
                "   {group:<5} {:>2} connections seen by backends; {opened:>2} opened, {reused:>2} reused;  median {}",
                seen.len(),
                super::milliseconds(median)
            ))?;
            if u64::try_from(seen.len()).ok() != Some(opened) {
                self.note(|| {
                    format!("{group}: {opened} upstreams opened, and {} seen by backends", seen.len())
                });
            }
            opened_by_kind.push(opened);
        }
        if let [new, pool] = opened_by_kind.as_slice()
            && pool >= new
        {
            self.note(|| format!("a pool opened {pool} upstreams, and {new} were opened without one"));
        }
        Ok(())
    }

    /// An act: a backend ends, and the client's connection goes on. Where there is one backend only it is left out.
    ///
    /// # Errors
    ///
    /// The lab's.
    pub fn outlives(&mut self, console: &mut Console, network: &mut dyn Layer7) -> Result<(), LabError> {
        const ACT: &str = "outlives";
        if self.topology.api().count() < 2 {
            return Ok(());
        }
        self.heading(console, "Layer 7: a backend ends, the client's connection stays")?;
        let asks = || vec![Ask::of(topology::SHOP, "/api/users"); AROUND];
        let before = self.visit(network, ACT, topology::HTTPS, Over::New, asks())?;
        let last = before.answers.last().and_then(|said| said.backend.as_deref());
        let victim =
            self.topology.api().find(|&number| last == Some(Topology::backend_name(number).as_str()));
        let victim = victim.unwrap_or(1);
        let counted = network.account()?.layer7.unwrap_or_default();
        network.stop_server(victim)?;
        let after = self.visit(network, ACT, topology::HTTPS, Over::Kept, asks())?;
        let counts = network.account()?.layer7.unwrap_or_default();
        network.start_server(victim)?;
        let cells = |visited: &Visited| visited.answers.iter().map(mark).collect::<Vec<_>>();
        let name = Topology::backend_name(victim);
        marks(console, &format!("before {name}'s server is ended, by backend"), &cells(&before))?;
        marks(console, &format!("after  {name}'s server is ended, by backend"), &cells(&after))?;
        if let Some(why) = before.failed.as_ref().or(after.failed.as_ref()) {
            return console.line(format_args!("   {}", console.paint(Look::Bad, why)));
        }
        let vain = counts.times("api", "unopened").saturating_sub(counted.times("api", "unopened"));
        let all = before.answers.iter().chain(&after.answers).all(|said| said.status == 200);
        let came = if all { "All were answered" } else { "NOT all were answered with 200" };
        console.line(format_args!("   {came}; {vain} that {name} had refused were asked again elsewhere."))
    }

    fn visit(
        &mut self,
        network: &mut dyn Layer7,
        act: &'static str,
        port: u16,
        over: Over,
        asks: Vec<Ask>,
    ) -> Result<Visited, LabError> {
        let at = (self.topology.vip(Family::V4), port).into();
        let visit = Visit { at, name: topology::SHOP.into(), over, asks };
        let visited = network.visit(visit.clone())?;
        if let Some(why) = &visited.failed {
            self.note(|| format!("{act}: {why}"));
        }
        for said in visited.answers.iter().filter(|said| said.status != 200) {
            self.note(|| format!("{act}: {} came to {}", said.ask.path, said.status));
        }
        self.calls.push(Call { act, visit, visited: visited.clone() });
        Ok(visited)
    }

    fn must_be_signed_by(&mut self, act: &str, visited: &Visited, whom: &str) {
        let issuer = visited.connection.as_ref().map(|connection| connection.issuer.as_str());
        if issuer.is_some_and(|issuer| issuer != whom) {
            self.note(|| format!("{act}: the certificate is signed by {issuer:?}"));
        }
    }

    /// Each request is for the backends of its own group.
    fn must_be_routed(&mut self, visited: &Visited) {
        let named = |numbers: &mut dyn Iterator<Item = u8>| numbers.map(Topology::backend_name).collect();
        let (api, images): (Vec<_>, Vec<_>) =
            (named(&mut self.topology.api()), named(&mut self.topology.images()));
        for said in &visited.answers {
            let right = if said.ask.path.starts_with("/api/") { &api } else { &images };
            if said.backend.as_ref().is_some_and(|backend| !right.contains(backend)) {
                self.note(|| format!("{}{} went to {:?}", said.ask.host, said.ask.path, said.backend));
            }
        }
    }
}

fn who(console: &Console, said: &Said) -> String {
    let ok = said.status == 200;
    let text = said.backend.clone().filter(|_| ok).unwrap_or_else(|| format!("status {}", said.status));
    let look = if ok { Look::Good } else { Look::Bad };
    console.paint(look, format_args!("{text:<9} {:>7}", super::milliseconds(said.micros)))
}

fn mark(said: &Said) -> String {
    let number = said.backend.as_deref().and_then(|name| name.strip_prefix("backend-"));
    number.filter(|_| said.status == 200).map_or_else(|| format!("status {}", said.status), str::to_owned)
}

fn certificate(console: &mut Console, connection: &Connection) -> Result<(), LabError> {
    let Connection { subject, issuer, .. } = connection;
    let whose = match issuer.as_str() {
        topology::AUTHORITY_OF_BACKENDS => "the backend's own",
        topology::AUTHORITY_OF_BALANCER => "the balancer's",
        _ => "a stranger's",
    };
    console.line(format_args!("   certificate: {subject}, by {issuer}: {whose}"))
}

fn broken(console: &mut Console, visited: &Visited) -> Result<(), LabError> {
    let why = visited.failed.as_deref().unwrap_or("there was no answer");
    let why = console.paint(Look::Bad, why);
    console.line(format_args!("   {why}"))
}
