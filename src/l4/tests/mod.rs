//! The translator whole, as its driver sees it: packets in, packets and counts out.

mod any_bytes;
mod flows;
mod fragments;
mod icmp;
mod refusals;
mod telling;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use etherparse::PacketBuilder;

use super::{Setup, Translator};
use crate::balance::{BackendSpec, Balancer, PassiveHealth, SchedulerKind, ServiceSpec, Weight};
use crate::datapath::{
    Arrival, Counters, Datapath, Instant, Nat, Outbox, Outcome, Reason, Totals, Verdict, WorkerId, WorkerSet,
};
use crate::flow::{LocalPool, Settings, Shared};
use crate::packet::{Frame, Offload, checksum};

pub const CLIENT: &str = "198.51.100.7:40000";
pub const CLIENT6: &str = "[2001:db8:1::7]:40000";
pub const VIP: &str = "203.0.113.1:80";
pub const VIP6: &str = "[2001:db8:f::1]:80";
pub const BACKENDS: [&str; 3] = ["10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080"];
pub const BACKENDS6: [&str; 2] = ["[2001:db8:2::2]:8080", "[2001:db8:2::3]:8080"];

/// A balancer with its workers, driven by hand.
pub struct Rig {
    pub translators: Vec<Translator>,
    pub counters: Vec<Arc<Counters>>,
    pub balancer: Arc<Balancer>,
    pub now: Instant,
    /// What left beside the answer to the last packet.
    pub extra: Vec<Vec<u8>>,
}

/// How a rig is made.
pub struct Plan {
    pub nat: Nat,
    pub scheduler: SchedulerKind,
    pub workers: u8,
    pub settings: Settings,
    pub drained: bool,
    pub locals: &'static [&'static str],
    pub ports: std::ops::RangeInclusive<u16>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            nat: Nat::Full,
            scheduler: SchedulerKind::Rr,
            workers: 1,
            settings: Settings { max_flows: 4096, ..Settings::default() },
            drained: false,
            locals: &["10.9.0.0/29", "2001:db8:9::/125"],
            ports: 1024..=65535,
        }
    }
}

impl Plan {
    pub fn build(self) -> Rig {
        let backends = BACKENDS.iter().chain(&BACKENDS6);
        let services = vec![ServiceSpec {
            name: "web".into(),
            listen: [
                "tcp/203.0.113.1:80",
                "tcp/[2001:db8:f::1]:80",
                "udp/203.0.113.1:80",
                "udp/[2001:db8:f::1]:80",
                "tcp/203.0.113.1:443",
                "udp/203.0.113.1:443",
            ]
            .iter()
            .map(|listen| listen.parse().unwrap())
            .collect(),
            nat: self.nat,
            scheduler: self.scheduler,
            backends: backends
                .map(|backend| BackendSpec {
                    endpoint: socket(backend).into(),
                    weight: Weight::ONE,
                    drain: self.drained,
                })
                .collect(),
        }];
        let balancer = Arc::new(Balancer::new(services, PassiveHealth::default(), 1).unwrap());
        let vips = balancer.vips().iter().map(|vip| (vip.listen.protocol, vip.listen.endpoint)).collect();
        let backends: Vec<_> = balancer.backends().iter().map(|backend| backend.endpoint).collect();
        let counted = backends.len();
        let pool = LocalPool::new(
            &self.locals.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>(),
            self.ports,
        )
        .unwrap();
        let flows = Arc::new(Shared::new(self.settings, vips, &backends, pool, 1));
        let setup = Setup {
            balancer: Arc::clone(&balancer),
            flows,
            fragment_lifetime: Duration::from_secs(15),
            workers: self.workers,
            seed: 1,
        };
        let counters: Vec<_> = (0..self.workers).map(|_| Arc::new(Counters::new(counted))).collect();
        let translators = counters
            .iter()
            .zip(0u8..)
            .map(|(counters, worker)| Translator::new(&setup, WorkerId(worker), Arc::clone(counters)))
            .collect();
        Rig { translators, counters, balancer, now: Instant::from_nanos(1_000_000_000), extra: Vec::new() }
    }
}

impl Rig {
    /// Gives a packet to a worker, and to the ones that it is handed on to, as a driver does.
    pub fn send(&mut self, worker: u8, packet: &[u8]) -> (Verdict, Vec<u8>) {
        let mut frame = Frame::copy_of(packet, Offload::default());
        let verdict = self.drive(worker, &mut frame);
        (verdict, frame.packet().to_vec())
    }

    /// As [`Rig::send`], for a frame with offloads.
    pub fn drive(&mut self, worker: u8, frame: &mut Frame) -> Verdict {
        self.counters[usize::from(worker)].received.add(1);
        self.extra.clear();
        self.step(WorkerId(worker), frame, Arrival::Queue)
    }

    fn step(&mut self, worker: WorkerId, frame: &mut Frame, arrival: Arrival) -> Verdict {
        let mut out = Outbox::default();
        let verdict = self.translators[worker.index()].handle_frame(self.now, frame, arrival, &mut out);
        let mut verdict = self.obey(worker, frame, arrival, verdict);
        let mut others: Vec<_> = out.drain().collect();
        // No packet lies in any queue here, so each fence has passed as soon as it is asked for.
        let fences = out.take_fences();
        for queue in fences.iter() {
            self.translators[worker.index()].handle_fence(self.now, queue, &mut out);
        }
        assert!(out.take_fences().is_empty(), "nothing waits any more");
        let mut let_go: Vec<_> = out.drain().collect();
        if !fences.is_empty() {
            let (own, end) = let_go.pop().expect("it is let go");
            *frame = own;
            verdict = self.obey(worker, frame, arrival, end);
        }
        others.append(&mut let_go);
        for (mut frame, verdict) in others {
            let verdict = self.obey(worker, &mut frame, Arrival::Queue, verdict);
            if matches!(verdict, Verdict::Forward(_) | Verdict::Answer(_)) {
                self.extra.push(frame.packet().to_vec());
            }
        }
        verdict
    }

    fn obey(&mut self, worker: WorkerId, frame: &mut Frame, arrival: Arrival, verdict: Verdict) -> Verdict {
        if let Verdict::HandOver(owner) = verdict {
            let seen = arrival.visited();
            assert!(
                !seen.contains(owner) || seen == WorkerSet::default().with(owner),
                "goes round in circles"
            );
            let (visited, queue) = (seen.with(worker), arrival.queue(worker));
            return self.step(owner, frame, Arrival::HandedOver { visited, queue });
        }
        if let Some((outcome, reason)) = verdict.outcome() {
            self.counters[worker.index()].count(outcome, reason);
        }
        verdict
    }

    /// Lets time pass, and the timers that fall due with it.
    pub fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        for translator in &mut self.translators {
            let mut calls = 0;
            while translator.poll_timeout().is_some_and(|due| due <= self.now) {
                translator.handle_timeout(self.now, &mut Outbox::default());
                calls += 1;
                assert!(calls < 1_000_000, "timers never come to an end");
            }
        }
    }

    pub fn totals(&self) -> Totals {
        Totals::of(self.counters.iter().map(AsRef::as_ref))
    }

    pub fn count(&self, outcome: Outcome, reason: Reason) -> u64 {
        self.totals().count(outcome, reason)
    }
}

pub fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What a test wants to know about a packet that came out.
#[derive(Debug, PartialEq, Eq, Clone)]
pub struct Seen {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub hops: u8,
}

/// Reads a packet with ports, strictly, and checks every checksum in it by summing anew.
pub fn seen(packet: &[u8]) -> Seen {
    let sliced = etherparse::SlicedPacket::from_ip(packet).unwrap();
    let (source, destination, hops) = match sliced.net.as_ref().unwrap() {
        etherparse::NetSlice::Ipv4(v4) => {
            assert_eq!(checksum::of(v4.header().slice()), 0, "IPv4 header checksum");
            (IpAddr::from(v4.header().source()), IpAddr::from(v4.header().destination()), v4.header().ttl())
        }
        etherparse::NetSlice::Ipv6(v6) => {
            (v6.header().source_addr().into(), v6.header().destination_addr().into(), v6.header().hop_limit())
        }
        etherparse::NetSlice::Arp(_) => unreachable!(),
    };
    let ports = match sliced.transport.unwrap() {
        etherparse::TransportSlice::Tcp(tcp) => {
            let sum = match (source, destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => tcp.calc_checksum_ipv4(a.octets(), b.octets()),
                (IpAddr::V6(a), IpAddr::V6(b)) => tcp.calc_checksum_ipv6(a.octets(), b.octets()),
                _ => unreachable!(),
            };
            assert_eq!(sum.unwrap(), tcp.checksum(), "TCP checksum");
            (tcp.source_port(), tcp.destination_port())
        }
        etherparse::TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let sum = match (source, destination) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    header.calc_checksum_ipv4_raw(a.octets(), b.octets(), udp.payload())
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    header.calc_checksum_ipv6_raw(a.octets(), b.octets(), udp.payload())
                }
                _ => unreachable!(),
            };
            assert_eq!(sum.unwrap(), udp.checksum(), "UDP checksum");
            (udp.source_port(), udp.destination_port())
        }
        _ => (0, 0),
    };
    Seen {
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        hops,
    }
}

fn ip(from: SocketAddr, to: SocketAddr) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let headers = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, from.octets(), to.octets())
                    .unwrap();
            header.dont_fragment = true;
            etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default())
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => etherparse::IpHeaders::Ipv6(
            etherparse::Ipv6Header {
                hop_limit: 64,
                source: from.octets(),
                destination: to.octets(),
                ..etherparse::Ipv6Header::default()
            },
            etherparse::Ipv6Extensions::default(),
        ),
        _ => panic!("mixed families"),
    };
    PacketBuilder::ip(headers)
}

/// A TCP segment; flags as letters of "SAFR".
pub fn tcp(from: &str, to: &str, flags: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (socket(from), socket(to));
    let mut step = ip(from, to).tcp(from.port(), to.port(), 1000, 64_000);
    for flag in flags.chars() {
        step = match flag {
            'S' => step.syn(),
            'A' => step.ack(2000),
            'F' => step.fin(),
            'R' => step.rst(),
            _ => panic!("no flag {flag}"),
        };
    }
    let mut bytes = Vec::new();
    step.write(&mut bytes, payload).unwrap();
    bytes
}

/// A UDP datagram.
pub fn udp(from: &str, to: &str, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (socket(from), socket(to));
    let mut bytes = Vec::new();
    ip(from, to).udp(from.port(), to.port()).write(&mut bytes, payload).unwrap();
    bytes
}
