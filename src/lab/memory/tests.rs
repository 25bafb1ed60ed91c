//! The network around a stub balancer: plain destination NAT to the backends in turn.

use std::net::{IpAddr, SocketAddr};

use smoltcp::wire::{Ipv4Packet, TcpPacket, UdpPacket};

use super::*;
use crate::lab::topology::{self, Topology};
use crate::packet::{Family, Transport};

/// Picks the backend by the client's port, so that it need not remember anything.
struct Stub {
    topology: Topology,
}

impl Datapath for Stub {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, _: Arrival, _: &mut Outbox) -> Verdict {
        let view = View::of(frame.packet()).unwrap();
        let backends = self.topology.backends().count();
        let (from_client, port) = match view.transport {
            Transport::Tcp { source_port, destination_port, .. }
            | Transport::Udp { source_port, destination_port } => {
                if IpAddr::from(view.destination) == self.topology.vip(view.family) {
                    (true, source_port)
                } else {
                    (false, destination_port)
                }
            }
            _ => return Verdict::Drop(Reason::IcmpUnsupported),
        };
        let number = u8::try_from(usize::from(port) % backends).unwrap() + 1;
        let backend = self.topology.backend(Family::V4, number);
        let (IpAddr::V4(backend), IpAddr::V4(vip)) = (backend, self.topology.vip(Family::V4)) else {
            unreachable!("both are asked for in IPv4")
        };
        let mut ip = Ipv4Packet::new_unchecked(frame.packet_mut());
        if from_client {
            ip.set_dst_addr(backend);
        } else {
            ip.set_src_addr(vip);
        }
        ip.fill_checksum();
        let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
        let vip_port = if view.tuple().unwrap().protocol == crate::packet::Protocol::Tcp {
            topology::HTTP
        } else {
            topology::ECHO
        };
        if let Transport::Tcp { .. } = view.transport {
            let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
            if from_client {
                tcp.set_dst_port(topology::BACKEND);
            } else {
                tcp.set_src_port(vip_port);
            }
            tcp.fill_checksum(&source, &destination);
        } else {
            let mut udp = UdpPacket::new_unchecked(ip.payload_mut());
            if from_client {
                udp.set_dst_port(topology::BACKEND);
            } else {
                udp.set_src_port(vip_port);
            }
            udp.fill_checksum(&source, &destination);
        }
        Verdict::Forward(Reason::KnownFlow)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

fn network(backends: u8) -> (Memory, Arc<Counters>) {
    let topology = Topology::new(backends).unwrap();
    let counters = Arc::new(Counters::new(0));
    let balancer = Balancer {
        core: Box::new(Stub { topology }),
        counters: Arc::clone(&counters),
        report: Box::new(Report::default),
    };
    (Memory::new(topology, balancer), counters)
}

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(Topology::new(1).unwrap().vip(Family::V4), port)
}

#[test]
fn http_and_udp_reach_a_backend_and_come_back() {
    let (mut network, counters) = network(2);
    for what in [Try::Http(vip(80)), Try::Datagram(vip(7)), Try::Http(vip(80))] {
        let attempt = network.attempt(what).unwrap();
        assert!(attempt.backend().is_some_and(|name| name.starts_with("backend-")), "{what:?}: {attempt:?}");
    }
    let totals = crate::datapath::Totals::of([&*counters]);
    assert!(totals.received > 10 && totals.agree(), "{totals:?}");
}

#[test]
fn many_requests_leave_no_sockets_behind_at_the_client() {
    let (mut network, _) = network(1);
    for number in 0..100 {
        let attempt = network.attempt(Try::Http(vip(80))).unwrap();
        assert!(attempt.answered(), "request {number}: {attempt:?}");
    }
    assert!(network.client.is_idle());
}

#[test]
fn a_server_that_ended_refuses() {
    let (mut network, _) = network(1);
    network.stop_server(1).unwrap();
    assert_eq!(network.attempt(Try::Http(vip(80))).unwrap().end, End::Refused);
}

#[test]
fn silence_costs_no_time() {
    let (mut network, _) = network(1);
    let started = super::super::clock::now();
    let attempt = network.attempt(Try::Ping(vip(0).ip())).unwrap();
    assert_eq!(attempt.end, End::Silence);
    assert!(attempt.micros >= 3_000_000 && started.elapsed() < Duration::from_secs(1), "{attempt:?}");
}

#[test]
fn a_packet_for_a_backend_that_is_gone_is_answered_by_the_router() {
    let (mut network, counters) = network(1);
    network.cut(1).unwrap();
    // The stub does not translate the router's message, so the client waits in vain; but it came.
    assert_eq!(network.attempt(Try::Http(vip(80))).unwrap().end, End::Silence);
    let totals = crate::datapath::Totals::of([&*counters]);
    assert!(totals.count(Outcome::Dropped, Reason::IcmpUnsupported) > 0, "{totals:?}");
}

#[test]
fn icmp_errors_end_a_try_as_a_kernel_would() {
    for (family, kind, code, want) in [
        (Family::V4, 3, 1, Some(End::Unreachable)),
        (Family::V4, 3, 3, Some(End::Refused)),
        (Family::V4, 3, 4, None),
        (Family::V4, 0, 0, None),
        (Family::V6, 1, 4, Some(End::Refused)),
        (Family::V6, 2, 0, None),
    ] {
        assert_eq!(icmp::meaning(family, kind, code), want, "{family:?} {kind} {code}");
    }
}
