//! What TCP at layer 7 costs: a packet at 1, 1,000 and 50,000 connections, bulk both ways, and
//! memory for each idle connection. `cargo bench --bench stack`.
//!
//! A round is a request of 100 bytes and its whole consequence: taken in, read by the stream,
//! answered by 200 bytes, sent, and the acknowledgement of that taken in. So a round is
//! two packets in and one out. Connections take turns in an order that no cache foresees.
//! The client is a template that is patched; its cost is in the figures, and small.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant as Clock};

use etherparse::PacketBuilder;
use fourseven::datapath::{Arrival, Instant, Verdict};
use fourseven::l7::FlowStream;
use fourseven::l7::stack::{
    Congestion, DeviceTraits, Limits, Listener, Offloads, RingSize, Rings, Share, Stack, StackSettings,
};
use fourseven::packet::{ChecksumState, Frame, Offload, View};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VIP: [u8; 4] = [203, 0, 113, 1];

fn main() {
    println!("a packet, in ns (request in, answer out, acknowledgement in; each a third of a round)");
    let mut first = 0.0;
    for flows in [1, 1000, 50_000] {
        let mut world = World::new(flows, RingSize::K16);
        let nanos = world.rounds(600_000) / 3.0;
        if flows == 1 {
            first = nanos;
        }
        println!("  {flows:>6} connections  {nanos:>6.0}   x{:.2}", nanos / first);
    }
    for flows in [1, 50_000] {
        println!("  {flows:>6} connections, opening one and closing it: {:.0} ns", World::churn(flows));
    }
    println!("bulk, in Gbit/s, one connection, memory to memory");
    let (up, down) = bulk();
    println!("  up {up:.1}   down {down:.1}");
    println!("memory of a connection that was used once and is idle, in KB of resident memory");
    for ring in [RingSize::K16, RingSize::K64, RingSize::K256] {
        let before = resident();
        let mut world = World::new(10_000, ring);
        let opened = resident() - before;
        world.rounds(10_000);
        let used = resident() - before;
        println!("  {ring:?} rings: opened {:.1}   used {:.1}", opened / 10_000.0, used / 10_000.0);
    }
}

/// Connections of hand-made clients, and their streams.
struct World {
    stack: Stack,
    now: Instant,
    clients: Vec<Client>,
    streams: Vec<FlowStream>,
    frame: Frame,
    template: Vec<u8>,
}

/// One client: its address, and the numbers that go into its next packet. Small, so that its own
/// cache misses are not counted as the stack's.
struct Client {
    number: u32,
    next: u32,
    expected: u32,
}

fn settings() -> StackSettings {
    let device = DeviceTraits { mtu: 1500, offloads: Offloads::Segments };
    let limits = Limits {
        flows: 200_000,
        flows_per_client: 200_000,
        answers_per_second: 1 << 30,
        ..Limits::default()
    };
    StackSettings { limits, ..StackSettings::on(device) }
}

fn stack(ring: RingSize) -> Stack {
    let mut stack = Stack::new(settings(), Share::ALL, [3; 32]);
    let rings = Rings { receive: ring, transmit: ring };
    let vip = std::net::SocketAddr::from((VIP, 80));
    stack.listen(vip.into(), Listener { rings, congestion: Congestion::None });
    stack
}

fn packet(number: usize, sequence: u32, acknowledgement: Option<u32>, payload: &[u8]) -> Vec<u8> {
    let host = u8::try_from(number / 50_000).expect("few enough");
    let port = u16::try_from(10_000 + number % 50_000).expect("in range");
    let tcp = PacketBuilder::ipv4([198, 51, 100, host], VIP, 64).tcp(port, 80, sequence, 65_000);
    let tcp = match acknowledgement {
        Some(number) => tcp.ack(number),
        None => tcp
            .syn()
            .options(&[
                etherparse::TcpOptionElement::MaximumSegmentSize(1460),
                etherparse::TcpOptionElement::WindowScale(8),
            ])
            .expect("two options fit"),
    };
    let mut packet = Vec::new();
    tcp.write(&mut packet, payload).expect("a vector takes all");
    packet
}

impl World {
    fn new(flows: usize, ring: RingSize) -> Self {
        let mut world = Self {
            stack: stack(ring),
            now: Instant::START + Duration::from_secs(1),
            clients: Vec::new(),
            streams: Vec::new(),
            frame: Frame::new(),
            template: packet(0, 0, Some(0), &[b'x'; 1460]),
        };
        for number in 0..flows {
            world.open(number);
        }
        world
    }

    fn open(&mut self, number: usize) {
        let syn = packet(number, 1000, None, &[]);
        self.frame.rewrite(|space| {
            space[..syn.len()].copy_from_slice(&syn);
            syn.len()
        });
        self.frame.offload = Offload::default();
        let verdict = self.stack.handle_frame(self.now, &mut self.frame, Arrival::Queue);
        assert!(matches!(verdict, Verdict::Answer(_)), "{verdict:?}");
        let expected = word(self.frame.packet(), 24).wrapping_add(1);
        let mut client = Client { number: u32::try_from(number).expect("few"), next: 1001, expected };
        client.give(&mut self.stack, self.now, &mut self.frame, &self.template, 0);
        self.clients.push(client);
        self.streams.push(self.stack.accept().expect("opened").stream);
    }

    /// Nanoseconds that each of so many rounds takes.
    fn rounds(&mut self, rounds: usize) -> f64 {
        let mut buffer = vec![0; 4096];
        let start = Clock::now();
        let mut at = 0usize;
        for _ in 0..rounds {
            at = (at + 40_503) % self.clients.len();
            self.now = self.now + Duration::from_nanos(700);
            let client = &mut self.clients[at];
            client.give(&mut self.stack, self.now, &mut self.frame, &self.template, 100);
            let stream = &mut self.streams[at];
            assert_eq!(read(stream, &mut buffer), 100);
            assert_eq!(write(stream, &buffer[..200]), 200);
            self.stack.poll_egress(self.now, &mut |frame| client.take(frame));
            client.give(&mut self.stack, self.now, &mut self.frame, &self.template, 0);
            self.stack.poll_egress(self.now, &mut |frame| client.take(frame));
            if self.stack.poll_timeout().is_some_and(|due| due <= self.now) {
                self.stack.handle_timeout(self.now);
            }
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(u32::try_from(rounds).expect("few"))
    }

    /// Nanoseconds to open and reset a connection beside so many others.
    fn churn(flows: usize) -> f64 {
        const TIMES: u32 = 20_000;
        let mut world = Self::new(flows, RingSize::K16);
        let start = Clock::now();
        for _ in 0..TIMES {
            world.open(flows);
            world.streams.pop();
            world.stack.poll_egress(world.now, &mut |_| {});
            world.clients.pop();
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
    }
}

impl Client {
    /// Gives the stack so many bytes.
    fn give(&mut self, stack: &mut Stack, now: Instant, frame: &mut Frame, template: &[u8], payload: usize) {
        let length = 40 + payload;
        frame.rewrite(|space| {
            space[..length].copy_from_slice(&template[..length]);
            space[15] = u8::try_from(self.number / 50_000).expect("few enough");
            let port = u16::try_from(10_000 + self.number % 50_000).expect("in range");
            space[20..22].copy_from_slice(&port.to_be_bytes());
            space[2..4].copy_from_slice(&u16::try_from(length).expect("a packet").to_be_bytes());
            space[24..28].copy_from_slice(&self.next.to_be_bytes());
            space[28..32].copy_from_slice(&self.expected.to_be_bytes());
            space[10..12].fill(0);
            let sum = fourseven::packet::checksum::of(&space[..20]);
            space[10..12].copy_from_slice(&sum.to_be_bytes());
            length
        });
        frame.offload = Offload { checksum: ChecksumState::Verified, segments: None };
        let verdict = stack.handle_frame(now, frame, Arrival::Queue);
        assert!(matches!(verdict, Verdict::Deliver(_)), "{verdict:?}");
        self.next = self.next.wrapping_add(u32::try_from(payload).expect("a packet"));
    }

    /// Takes what the stack sends.
    fn take(&mut self, frame: &Frame) {
        let payload = frame.packet().len() - 40;
        if payload > 0 {
            assert_eq!(word(frame.packet(), 24), self.expected);
            self.expected = self.expected.wrapping_add(u32::try_from(payload).expect("a packet"));
        }
    }
}

/// Upload and download of one connection.
fn bulk() -> (f64, f64) {
    const TOTAL: usize = 4 << 30;
    let mut world = World::new(1, RingSize::M1);
    world.template.resize(40 + 65_000, b'y');
    let client = &mut world.clients[0];
    let mut buffer = vec![0; 256 << 10];
    let gigabits = |start: Clock| {
        f64::from(u32::try_from(TOTAL >> 20).expect("few")) * 8.388_608e-3 / start.elapsed().as_secs_f64()
    };

    let start = Clock::now();
    let mut done = 0;
    while done < TOTAL {
        for _ in 0..8 {
            client.give(&mut world.stack, world.now, &mut world.frame, &world.template, 65_000);
        }
        while let got @ 1.. = read(&mut world.streams[0], &mut buffer) {
            done += got;
        }
        world.stack.poll_egress(world.now, &mut |frame| client.take(frame));
    }
    let up = gigabits(start);

    let start = Clock::now();
    let mut done = 0;
    while done < TOTAL {
        while let got @ 1.. = write(&mut world.streams[0], &buffer) {
            done += got;
        }
        world.stack.poll_egress(world.now, &mut |frame| {
            assert!(View::of(frame.packet()).is_ok());
            client.take(frame);
        });
        client.give(&mut world.stack, world.now, &mut world.frame, &world.template, 0);
    }
    (up, gigabits(start))
}

fn read(stream: &mut FlowStream, space: &mut [u8]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    let mut buffer = ReadBuf::new(space);
    match Pin::new(stream).poll_read(&mut context, &mut buffer) {
        Poll::Ready(Ok(())) => buffer.filled().len(),
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => 0,
    }
}

fn write(stream: &mut FlowStream, bytes: &[u8]) -> usize {
    let mut context = Context::from_waker(Waker::noop());
    match Pin::new(stream).poll_write(&mut context, bytes) {
        Poll::Ready(Ok(length)) => length,
        Poll::Ready(Err(error)) => panic!("{error}"),
        Poll::Pending => 0,
    }
}

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(packet[at..at + 4].try_into().expect("four bytes"))
}

/// Resident memory in KB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u32 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number");
    f64::from(pages) * 4.0
}
