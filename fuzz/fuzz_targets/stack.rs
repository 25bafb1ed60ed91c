//! Any sequence of frames, reads, writes, ends and jumps of time on a stack whose bounds are small: nothing panics, no
//! bound is passed, each thing has its timer, each turn comes to an end, and time takes everything away.
//!
//! Clients say segments whose numbers are right, or wrong by a little or a lot: bytes alone would hardly ever open a
//! connection. Whole frames of any bytes are among the steps as well.

#![no_main]

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use arbitrary::Arbitrary;
use etherparse::{PacketBuilder, TcpOptionElement};
use fourseven::datapath::{Arrival, Instant};
use fourseven::l7::FlowStream;
use fourseven::l7::stack::{
    Congestion, DeviceTraits, Limits, Listener, Offloads, RingSize, Rings, Share, Stack, StackSettings,
};
use fourseven::packet::{Address, ChecksumState, Endpoint, Family, Frame, Offload, Transport, View};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SYN: u8 = 2;
const ACK: u8 = 16;
const FLOWS: usize = 6;
const HALF_OPEN: usize = 4;
const TOMBSTONES: usize = 4;

#[derive(Arbitrary, Debug)]
struct Input {
    cuts: bool,
    cubic: bool,
    receive: Ring,
    transmit: Ring,
    steps: Vec<Step>,
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Ring {
    K16,
    K64,
    K256,
}

#[derive(Arbitrary, Debug)]
enum Step {
    /// Shakes hands, as far as the stack takes part.
    Open {
        client: u8,
        window: u16,
        scale: u8,
        mss: u16,
    },
    Segment {
        client: u8,
        flags: u8,
        sequence: Near,
        acknowledgement: Near,
        window: u16,
        length: Length,
        state: Sum,
    },
    Icmp {
        client: u8,
        kind: u8,
        code: u8,
        mtu: u16,
        sequence: Near,
    },
    Ping {
        sum: bool,
    },
    Bytes {
        bytes: Vec<u8>,
    },
    Read {
        stream: u8,
        most: u16,
    },
    Write {
        stream: u8,
        length: u16,
    },
    Shutdown {
        stream: u8,
    },
    Drop {
        stream: u8,
    },
    Drain,
    Pass {
        milliseconds: u16,
    },
    PassLong {
        seconds: u16,
    },
    Unlisten,
    Listen,
}

/// A number, seen from the right one.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Near {
    Right,
    Off(i8),
    OffRing(i8),
    Any(u32),
}

impl Near {
    fn from(self, right: u32) -> u32 {
        match self {
            Self::Right => right,
            Self::Off(by) => right.wrapping_add_signed(by.into()),
            Self::OffRing(by) => right.wrapping_add_signed(i32::from(by) * 8192 - 1),
            Self::Any(number) => number,
        }
    }
}

#[derive(Arbitrary, Debug, Clone, Copy)]
enum Length {
    None,
    Some(u8),
    Large(u16),
}

/// What is said of the checksum.
#[derive(Arbitrary, Debug, Clone, Copy)]
enum Sum {
    Right,
    Wrong,
    Verified,
    Partial { start: u16, offset: u16 },
}

/// A client, as far as it must be known to say something sensible.
#[derive(Clone, Copy)]
struct Hand {
    next: u32,
    expected: u32,
}

fn endpoint(v6: bool, net: u8, host: u8, port: u16) -> Endpoint {
    let address = if v6 {
        let mut octets = [0; 16];
        octets[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
        (octets[5], octets[15]) = (net, host);
        Address::v6(octets)
    } else {
        Address::v4([net, 51, 100, host])
    };
    Endpoint { address, port }
}

const CLIENTS: usize = 16;

fn client(number: usize) -> Endpoint {
    let number = number as u8;
    endpoint(number & 1 == 1, 198, 1 + (number >> 1 & 1), 4000 + u16::from(number >> 2))
}

fn vip(v6: bool) -> Endpoint {
    endpoint(v6, 203, 1, 80)
}

struct Bench {
    stack: Stack,
    now: Instant,
    hands: [Hand; CLIENTS],
    streams: Vec<FlowStream>,
    frame: Frame,
}

impl Bench {
    fn builder(from: Endpoint, to: Endpoint) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        match from.address.family() {
            Family::V4 => PacketBuilder::ipv4(from.address.v4_octets(), to.address.v4_octets(), 64),
            Family::V6 => PacketBuilder::ipv6(from.address.octets(), to.address.octets(), 64),
        }
    }

    fn segment(
        &self,
        number: usize,
        flags: u8,
        numbers: [u32; 2],
        window: u16,
        length: usize,
        options: &[TcpOptionElement],
    ) -> Vec<u8> {
        let from = client(number);
        let to = vip(number & 1 == 1);
        let mut tcp = Self::builder(from, to).tcp(from.port, to.port, numbers[0], window);
        for (bit, with) in [
            (0x01, etherparse::PacketBuilderStep::fin as fn(_) -> _),
            (SYN, etherparse::PacketBuilderStep::syn),
            (0x04, etherparse::PacketBuilderStep::rst),
            (0x08, etherparse::PacketBuilderStep::psh),
        ] {
            if flags & bit != 0 {
                tcp = with(tcp);
            }
        }
        if flags & ACK != 0 {
            tcp = tcp.ack(numbers[1]);
        }
        if flags & 0x20 != 0 {
            tcp = tcp.urg(numbers[1] as u16);
        }
        let tcp = tcp.options(options).expect("few options");
        let mut packet = Vec::new();
        tcp.write(&mut packet, &vec![b'x'; length]).expect("a packet of at most 64 KB");
        packet
    }

    /// Gives a packet to the stack, and takes note of its answer.
    fn give(&mut self, packet: &[u8], offload: Offload) {
        self.frame = Frame::copy_of(packet, offload);
        let mut frame = std::mem::take(&mut self.frame);
        let verdict = self.stack.handle_frame(self.now, &mut frame, Arrival::Queue);
        if let fourseven::datapath::Verdict::Answer(_) = verdict {
            hear(&mut self.hands, &frame);
        }
        self.frame = frame;
        while let Some(accepted) = self.stack.accept() {
            self.streams.push(accepted.stream);
        }
    }

    fn drain(&mut self) {
        self.stack.handle_timeout(self.now);
        let hands = &mut self.hands;
        let mut sent = 0usize;
        self.stack.poll_egress(self.now, &mut |frame| {
            sent += frame.packet().len();
            assert!(sent < 16 << 20, "a turn does not end");
            hear(hands, frame);
        });
    }

    /// Lets time pass; each deadline has its turn.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        let mut at_once = 0;
        self.drain();
        while let Some(due) = self.stack.poll_timeout().filter(|due| *due <= until) {
            at_once = if due > self.now { 0 } else { at_once + 1 };
            assert!(at_once < 200, "a deadline does not move on: {:?}", self.stack.occupancy());
            self.now = self.now.max(due);
            self.drain();
        }
        self.now = until;
    }

    fn check(&self) {
        let there = self.stack.occupancy();
        assert!(
            there.flows <= FLOWS && there.half_open <= HALF_OPEN && there.tombstones <= TOMBSTONES,
            "{there:?}"
        );
        let all = there.flows + there.half_open + there.tombstones;
        assert_eq!(there.timers, all, "each has one timer: {there:?}");
        assert!(there.listed <= all, "{there:?}");
        assert!(there.listed >= there.half_open, "{there:?}");
        assert!(there.rings <= there.flows, "{there:?}");
        assert!(there.clients <= there.flows + there.half_open, "{there:?}");
        assert_eq!(
            self.stack.poll_timeout().is_some(),
            all > 0 || self.stack.poll_timeout() == Some(Instant::START),
            "{there:?}"
        );
    }
}

/// Takes note of what the stack says. What it writes must be readable.
fn hear(hands: &mut [Hand; CLIENTS], frame: &Frame) {
    let view = View::of(frame.packet()).expect("the stack writes whole packets");
    let Transport::Tcp { .. } = view.transport else { return };
    let Some(tuple) = view.tuple() else { return };
    let Some(number) = (0..CLIENTS).find(|number| client(*number) == tuple.destination) else { return };
    let header = &frame.packet()[view.transport_at..view.length];
    let length = (header.len() - usize::from(header[12] >> 4) * 4) as u32;
    let sequence = u32::from_be_bytes(header[4..8].try_into().unwrap());
    let flags = header[13];
    let hand = &mut hands[number];
    if flags & SYN != 0 {
        hand.expected = sequence.wrapping_add(1);
    } else if sequence == hand.expected {
        hand.expected = sequence.wrapping_add(length).wrapping_add(u32::from(flags & 1));
    }
}

fn now_or_never<T>(future: impl Future<Output = T>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fuzz_target!(|input: Input| {
    let offloads = if input.cuts { Offloads::Segments } else { Offloads::None };
    let limits = Limits {
        flows: FLOWS,
        flows_per_client: 4,
        half_open: HALF_OPEN,
        half_open_per_client: 2,
        tombstones: TOMBSTONES,
        idle_ring_bytes: 300 << 10,
        answers_per_second: 50,
        turn_bytes: 32 << 10,
    };
    let settings = StackSettings { limits, ..StackSettings::on(DeviceTraits { mtu: 1500, offloads }) };
    let ring = |ring| match ring {
        Ring::K16 => RingSize::K16,
        Ring::K64 => RingSize::K64,
        Ring::K256 => RingSize::K256,
    };
    let listener = Listener {
        rings: Rings { receive: ring(input.receive), transmit: ring(input.transmit) },
        congestion: if input.cubic { Congestion::Cubic } else { Congestion::None },
    };
    let mut stack = Stack::new(settings, Share::ALL, [7; 32]);
    for v6 in [false, true] {
        stack.listen(vip(v6), listener);
    }
    let hand = Hand { next: u32::MAX - 5, expected: 0 };
    let mut bench = Bench {
        stack,
        now: Instant::START + Duration::from_secs(1),
        hands: [hand; CLIENTS],
        streams: Vec::new(),
        frame: Frame::new(),
    };
    let mut buffer = vec![0; 1 << 16];

    for step in input.steps.into_iter().take(200) {
        match step {
            Step::Open { client, window, scale, mss } => {
                let number = usize::from(client) % CLIENTS;
                let options = [
                    TcpOptionElement::MaximumSegmentSize(mss),
                    TcpOptionElement::WindowScale(scale),
                    TcpOptionElement::SelectiveAcknowledgementPermitted,
                ];
                let options = &options[..usize::from(scale) % 4];
                let next = bench.hands[number].next;
                let syn = bench.segment(number, SYN, [next, 0], window, 0, options);
                bench.give(&syn, Offload::default());
                let Hand { expected, .. } = bench.hands[number];
                bench.hands[number].next = next.wrapping_add(1);
                let ack = bench.segment(number, ACK, [next.wrapping_add(1), expected], window, 0, &[]);
                bench.give(&ack, Offload::default());
            }
            Step::Segment { client, flags, sequence, acknowledgement, window, length, state } => {
                let number = usize::from(client) % CLIENTS;
                let hand = bench.hands[number];
                let length = match length {
                    Length::None => 0,
                    Length::Some(length) => usize::from(length),
                    Length::Large(length) => usize::from(length).min(65_000),
                };
                let numbers = [sequence.from(hand.next), acknowledgement.from(hand.expected)];
                let mut packet = bench.segment(number, flags, numbers, window, length, &[]);
                let checksum = match state {
                    Sum::Right => ChecksumState::Whole,
                    Sum::Wrong => {
                        let last = packet.len() - 1;
                        packet[last] ^= 1;
                        ChecksumState::Whole
                    }
                    Sum::Verified => ChecksumState::Verified,
                    Sum::Partial { start, offset } => ChecksumState::Partial { start, offset },
                };
                bench.give(&packet, Offload { checksum, segments: None });
                if matches!(sequence, Near::Right) && flags & 6 == 0 {
                    bench.hands[number].next = hand.next.wrapping_add(length as u32 + u32::from(flags & 1));
                }
            }
            Step::Icmp { client: number, kind, code, mtu, sequence } => {
                let number = usize::from(number) % CLIENTS;
                let v6 = number & 1 == 1;
                let (from, to) = (vip(v6), client(number));
                let mut quoted = Vec::new();
                let tcp = Bench::builder(from, to).tcp(
                    from.port,
                    to.port,
                    sequence.from(bench.hands[number].expected),
                    0,
                );
                tcp.write(&mut quoted, &[0; 8]).unwrap();
                let mut packet = Vec::new();
                let rest = [0, 0, mtu.to_be_bytes()[0], mtu.to_be_bytes()[1]];
                let built = match from.address.family() {
                    Family::V4 => {
                        Bench::builder(to, from).icmpv4_raw(kind, code, rest).write(&mut packet, &quoted)
                    }
                    Family::V6 => {
                        Bench::builder(to, from).icmpv6_raw(kind, code, rest).write(&mut packet, &quoted)
                    }
                };
                built.unwrap();
                bench.give(&packet, Offload::default());
            }
            Step::Ping { sum } => {
                let mut packet = Vec::new();
                Bench::builder(client(0), vip(false))
                    .icmpv4_echo_request(1, 2)
                    .write(&mut packet, b"ping")
                    .unwrap();
                if sum {
                    packet[24] ^= 1;
                }
                bench.give(&packet, Offload::default());
            }
            Step::Bytes { bytes } => bench.give(&bytes, Offload::default()),
            Step::Read { stream, most } => {
                let Some(stream) = pick(&mut bench.streams, stream) else { continue };
                let _ = now_or_never(stream.read(&mut buffer[..usize::from(most)]));
            }
            Step::Write { stream, length } => {
                let Some(stream) = pick(&mut bench.streams, stream) else { continue };
                let _ = now_or_never(stream.write(&buffer[..usize::from(length)]));
            }
            Step::Shutdown { stream } => {
                let Some(stream) = pick(&mut bench.streams, stream) else { continue };
                let _ = now_or_never(stream.shutdown());
            }
            Step::Drop { stream } => {
                if !bench.streams.is_empty() {
                    let place = usize::from(stream) % bench.streams.len();
                    drop(bench.streams.swap_remove(place));
                }
            }
            Step::Drain => bench.drain(),
            Step::Pass { milliseconds } => bench.pass(Duration::from_millis(milliseconds.into())),
            Step::PassLong { seconds } => bench.pass(Duration::from_secs(u64::from(seconds % 1000))),
            Step::Unlisten => bench.stack.unlisten(vip(false)),
            Step::Listen => bench.stack.listen(vip(false), listener),
        }
        bench.check();
    }

    // Streams that are held end by themselves: their clients say nothing any more.
    bench.pass(Duration::from_secs(1000));
    bench.check();
    for stream in &mut bench.streams {
        loop {
            match now_or_never(stream.read(&mut buffer)) {
                Some(Ok(1..)) => {}
                Some(_) => break,
                None => panic!("a stream outlives its client: {:?}", bench.stack.occupancy()),
            }
        }
    }
    bench.streams.clear();
    bench.pass(Duration::from_secs(1000));
    let there = bench.stack.occupancy();
    let left = [
        there.flows,
        there.half_open,
        there.tombstones,
        there.listed,
        there.timers,
        there.clients,
        there.rings,
    ];
    assert_eq!(left, [0; 7], "{there:?}");
    assert!(there.idle_ring_bytes <= limits.idle_ring_bytes, "{there:?}");
});

fn pick(streams: &mut [FlowStream], number: u8) -> Option<&mut FlowStream> {
    let count = streams.len();
    streams.get_mut(usize::from(number) % count.max(1))
}
