//! Tests of the stack: by hand-made segments, and by a whole TCP on the other end of a bad link.

#![expect(clippy::cast_possible_truncation, reason = "lengths of packets that the tests made")]

mod client;
mod closing;
mod garbage;
mod handshake;
mod link;
mod liveness;
mod offload;
mod parking;
mod rings;
mod streams;
mod waiting_ack;

use std::net::SocketAddr;
use std::time::Duration;

use etherparse::PacketBuilder;

use super::segment::{Segment, checksum_is_right};
use super::sequence::Sequence;
use super::*;
use crate::datapath::Reason;
use crate::packet::{Offload, TcpFlags, View};

pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
pub(super) const FIN: u8 = 1;

pub(super) const PLAIN: DeviceTraits = DeviceTraits { mtu: 1500, offloads: Offloads::None };
pub(super) const CUTS: DeviceTraits = DeviceTraits { mtu: 1500, offloads: Offloads::Segments };

pub(super) fn endpoint(text: &str) -> Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

pub(super) fn vip() -> Endpoint {
    endpoint("203.0.113.1:80")
}

pub(super) fn stack(settings: StackSettings) -> Stack {
    let mut stack = Stack::new(settings, Share::ALL, [7; 32]);
    for vip in ["203.0.113.1:80", "[2001:db8::1]:80"] {
        stack.listen(endpoint(vip), Listener::default());
    }
    stack
}

/// So many cases, or as many as `PROPTEST_CASES` says.
pub(super) fn cases(usual: u32) -> proptest::test_runner::Config {
    let config = proptest::test_runner::Config::default();
    let usual = if std::env::var_os("PROPTEST_CASES").is_some() { config.cases } else { usual };
    proptest::test_runner::Config { cases: usual, ..config }
}

/// Asserts that nothing is left of any connection.
pub(super) fn assert_nothing_leaks(stack: &Stack) {
    let Occupancy { flows, half_open, tombstones, listed, timers, clients, rings, .. } = stack.occupancy();
    let left = [flows, half_open, tombstones, listed, timers, clients, rings];
    assert_eq!(left, [0; 7], "flows, half open, tombstones, listed, timers, clients, rings");
}

/// What a packet of the stack's says.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) flags: TcpFlags,
    pub(super) sequence: Sequence,
    pub(super) acknowledgement: Sequence,
    pub(super) window: u16,
    pub(super) payload: Vec<u8>,
    pub(super) packet: Vec<u8>,
}

pub(super) fn heard(frame: &Frame) -> Heard {
    let view = View::of(frame.packet()).expect("the stack writes whole packets");
    assert_eq!(view.length, frame.packet().len());
    assert!(checksum_is_right(frame, &view), "wrong TCP checksum");
    let segment = Segment::of(frame.packet(), &view).expect("the stack writes TCP");
    let payload = frame.packet()[view.length - segment.payload as usize..].to_vec();
    Heard {
        flags: segment.flags,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        window: segment.window,
        payload,
        packet: frame.packet().to_vec(),
    }
}

/// A stack and its clock.
pub(super) struct Bench {
    pub(super) stack: Stack,
    pub(super) now: Instant,
}

impl Bench {
    pub(super) fn new(settings: StackSettings) -> Self {
        Self { stack: stack(settings), now: Instant::START + Duration::from_secs(1000) }
    }

    /// Gives the stack a packet; its answer, if the verdict is one.
    pub(super) fn give(&mut self, packet: &[u8]) -> (Verdict, Option<Heard>) {
        let mut frame = Frame::copy_of(packet, Offload::default());
        let verdict = self.stack.handle_frame(self.now, &mut frame, Arrival::Queue);
        (verdict, matches!(verdict, Verdict::Answer(_)).then(|| heard(&frame)))
    }

    /// Gives the stack a packet that it must not drop.
    pub(super) fn feed(&mut self, packet: &[u8]) {
        let (verdict, _) = self.give(packet);
        assert!(!matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
    }

    /// What the stack has to say.
    pub(super) fn drain(&mut self) -> Vec<Heard> {
        let mut all = Vec::new();
        self.stack.poll_egress(self.now, &mut |frame| all.push(heard(frame)));
        all
    }

    /// Lets time pass, with all that falls due; what is said meanwhile.
    pub(super) fn pass(&mut self, time: Duration) -> Vec<Heard> {
        let until = self.now + time;
        let mut all = self.drain();
        while let Some(due) = self.stack.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.stack.handle_timeout(self.now);
            all.extend(self.drain());
        }
        self.now = until;
        all
    }
}

/// A client of hand-made segments.
pub(super) struct Hand {
    pub(super) client: Endpoint,
    pub(super) vip: Endpoint,
    /// The next number to send, and the next one expected.
    pub(super) next: Sequence,
    pub(super) expected: Sequence,
    pub(super) window: u16,
    pub(super) mss: u16,
}

impl Hand {
    pub(super) fn at(client: &str) -> Self {
        let client = endpoint(client);
        let vip = match client.address.family() {
            Family::V4 => vip(),
            Family::V6 => endpoint("[2001:db8::1]:80"),
        };
        Self { client, vip, next: Sequence(u32::MAX - 5), expected: Sequence(0), window: 60_000, mss: 1460 }
    }

    /// A segment with these flags at a sequence number.
    pub(super) fn at_number(&self, flags: u8, sequence: Sequence, payload: &[u8]) -> Vec<u8> {
        let ip = match self.client.address.family() {
            Family::V4 => {
                PacketBuilder::ipv4(self.client.address.v4_octets(), self.vip.address.v4_octets(), 64)
            }
            Family::V6 => PacketBuilder::ipv6(self.client.address.octets(), self.vip.address.octets(), 64),
        };
        let mut tcp = ip.tcp(self.client.port, self.vip.port, sequence.0, self.window);
        if flags & SYN != 0 {
            tcp = tcp.syn().options(&[etherparse::TcpOptionElement::MaximumSegmentSize(self.mss)]).unwrap();
        }
        if flags & RST != 0 {
            tcp = tcp.rst();
        }
        if flags & FIN != 0 {
            tcp = tcp.fin();
        }
        if flags & ACK != 0 {
            tcp = tcp.ack(self.expected.0);
        }
        let mut packet = Vec::new();
        tcp.write(&mut packet, payload).unwrap();
        packet
    }

    /// The next segment, which moves the number on.
    pub(super) fn say(&mut self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let packet = self.at_number(flags, self.next, payload);
        let taken = payload.len() as u32 + u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        self.next = self.next.plus(taken);
        packet
    }

    /// Takes note of what the stack has sent in order.
    pub(super) fn hear(&mut self, heard: &[Heard]) {
        for one in heard {
            if one.sequence == self.expected && !one.flags.rst() {
                self.expected = self.expected.plus(one.payload.len() as u32 + u32::from(one.flags.fin()));
            }
        }
    }

    /// Shakes hands; the stream on the other side.
    pub(super) fn connect(&mut self, bench: &mut Bench) -> FlowStream {
        let (_, answer) = bench.give(&self.say(SYN, &[]));
        let answer = answer.expect("a SYN is answered");
        assert!(answer.flags.syn() && answer.flags.ack());
        self.expected = answer.sequence.plus(1);
        let (verdict, _) = bench.give(&self.say(ACK, &[]));
        assert_eq!(verdict, Verdict::Deliver(Reason::NewFlow));
        assert!(bench.drain().iter().all(|heard| heard.payload.is_empty()));
        bench.stack.accept().expect("the connection is accepted").stream
    }
}
