//! The network in memory: for machines that allow no namespaces, and for a look without any.
//!
//! Client and backends are smoltcp stacks, joined by queues of packets. The balancer is the real
//! one: the core that `run` drives from a TUN device is driven here from these queues, and counts
//! the same. The packets are real to the last checksum; what is missing are other people's
//! kernels, and figures of speed mean nothing.
//!
//! ```text
//!   client ──┐                      ┌── core says forward or answer: to whom it is addressed
//!   backend ─┼─▶ queue ─▶ core ─────┤
//!   backend ─┘     ▲                └── addressed to a backend that is gone: the router in front
//!                  └───────────────────────────────── says so, to whom the packet came from
//! ```
//!
//! Time is the real clock plus what was skipped: as soon as nothing moves any more and somebody
//! waits for a timer, the clock jumps there. So a silence of seconds costs none.

mod backend;
mod client;
mod icmp;
mod stack;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::attempt::{Attempt, End, Try};
use super::clock::Skipping;
use super::error::LabError;
use super::network::{Layer7, Network};
use super::report::Report;
use super::topology::Topology;
use crate::datapath::{Arrival, Counters, Datapath, Instant, Outbox, Outcome, Reason, Verdict};
use crate::packet::{Address, Frame, Offload, View};
use backend::Backend;
use client::Client;

/// How long a try may take, in the network's own time.
const PATIENCE: Duration = super::client::PATIENCE;
/// Packets that may cross the balancer at one moment. Two stacks that answer each other for ever
/// would be a defect; this makes it one that ends.
const MAX_BURST: usize = 10_000;

/// What balances, and how to ask it what it counted.
pub struct Balancer {
    /// The core.
    pub core: Box<dyn Datapath>,
    /// Where the core's driver counts.
    pub counters: Arc<Counters>,
    /// The account at the end.
    pub report: Box<dyn Fn() -> Report>,
}

impl fmt::Debug for Balancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balancer").field("counters", &self.counters).finish_non_exhaustive()
    }
}

/// The network.
#[derive(Debug)]
pub struct Memory {
    clock: Skipping,
    client: Client,
    /// By number less one; none where it was cut off.
    backends: Vec<Option<Backend>>,
    topology: Topology,
    balancer: Balancer,
    /// What waits to cross the balancer.
    queue: VecDeque<Vec<u8>>,
}

impl Memory {
    /// A network around a balancer that knows the topology's VIPs and backends.
    pub fn new(topology: Topology, balancer: Balancer) -> Self {
        Self {
            clock: Skipping::start(),
            client: Client::new(topology),
            backends: topology.backends().map(|number| Some(Backend::new(topology, number))).collect(),
            topology,
            balancer,
            queue: VecDeque::new(),
        }
    }

    /// Lets everything happen that can happen without waiting.
    fn settle(&mut self) {
        let mut crossed = 0;
        loop {
            let now = self.clock.now();
            self.client.poll(now, &mut self.queue);
            for backend in self.backends.iter_mut().flatten() {
                backend.poll(now, &mut self.queue);
            }
            let mut outbox = Outbox::default();
            if self.balancer.core.poll_timeout().is_some_and(|due| due <= now) {
                self.balancer.core.handle_timeout(now, &mut outbox);
            }
            let Some(packet) = self.queue.pop_front().filter(|_| crossed < MAX_BURST) else {
                self.release(&mut outbox);
                return;
            };
            crossed += 1;
            self.balance(now, &packet, &mut outbox);
            self.release(&mut outbox);
        }
    }

    /// Drives the core with one packet, as a worker does in `run`.
    fn balance(&mut self, now: Instant, packet: &[u8], outbox: &mut Outbox) {
        let counters = &self.balancer.counters;
        counters.received.add(1);
        counters.received_bytes.add(packet.len() as u64);
        let mut frame = Frame::copy_of(packet, Offload::default());
        let verdict = self.balancer.core.handle_frame(now, &mut frame, Arrival::Queue, outbox);
        self.obey(verdict, &frame);
    }

    fn release(&mut self, outbox: &mut Outbox) {
        let frames: Vec<_> = outbox.drain().collect();
        for (frame, verdict) in frames {
            self.obey(verdict, &frame);
        }
    }

    fn obey(&mut self, verdict: Verdict, frame: &Frame) {
        if let Some((outcome, reason)) = verdict.outcome() {
            self.balancer.counters.count(outcome, reason);
        }
        match verdict {
            Verdict::Forward(_) | Verdict::Answer(_) => self.deliver(frame.packet()),
            // There is one worker only, and nobody to hand a frame to.
            Verdict::HandOver(_) => self.balancer.counters.count(Outcome::Dropped, Reason::HandoverFull),
            Verdict::Drop(_) | Verdict::Held | Verdict::Deliver(_) => {}
        }
    }

    /// Brings a packet to whom it is addressed.
    fn deliver(&mut self, packet: &[u8]) {
        let Ok(view) = View::of(packet) else { return };
        let to = IpAddr::from(view.destination);
        if to == self.topology.client(view.family) {
            self.client.receive(packet);
        } else if let Some(number) =
            self.topology.backends().find(|&number| to == self.topology.backend(view.family, number))
        {
            let place = usize::from(number).saturating_sub(1);
            if let Some(Some(backend)) = self.backends.get_mut(place) {
                backend.receive(packet);
            } else {
                let router = Address::from(self.topology.backend_router(view.family));
                self.queue.extend(icmp::no_route(packet, &view, router));
            }
        }
    }

    /// Skips to the next moment at which something is due, no later than `deadline`.
    fn skip(&mut self, deadline: Instant) {
        let due = self
            .backends
            .iter_mut()
            .flatten()
            .filter_map(Backend::due)
            .chain(self.client.due())
            .chain(self.balancer.core.poll_timeout())
            .fold(deadline, Instant::min);
        self.clock.skip_to(due);
    }
}

impl Network for Memory {
    fn attempt(&mut self, what: Try) -> Result<Attempt, LabError> {
        let started = self.clock.now();
        let deadline = started + PATIENCE;
        self.client.begin(what);
        let end = loop {
            self.settle();
            if let Some(end) = self.client.end() {
                break end;
            }
            if self.clock.now() >= deadline {
                break End::Silence;
            }
            self.skip(deadline);
        };
        let attempt = Attempt::new(self.clock.now().since(started), end);
        self.client.forget();
        self.settle();
        Ok(attempt)
    }

    fn stop_server(&mut self, backend: u8) -> Result<(), LabError> {
        let place = usize::from(backend).saturating_sub(1);
        if let Some(Some(backend)) = self.backends.get_mut(place) {
            backend.stop();
        }
        self.settle();
        Ok(())
    }

    fn cut(&mut self, backend: u8) -> Result<(), LabError> {
        let place = usize::from(backend).saturating_sub(1);
        if let Some(backend) = self.backends.get_mut(place) {
            *backend = None;
        }
        Ok(())
    }

    /// The proxy asks backends over the kernel's TCP, and no kernel is here.
    fn layer7(&mut self) -> Option<&mut dyn Layer7> {
        None
    }

    fn finish(&mut self) -> Result<Report, LabError> {
        self.settle();
        Ok((self.balancer.report)())
    }
}
