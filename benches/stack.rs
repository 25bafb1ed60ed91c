//! What TCP at layer 7 costs: a packet at 1, 1,000 and 50,000 connections, bulk both ways, and
//! memory for each idle connection. `cargo bench --bench stack`.
//!
//! A round is a request of 100 bytes and its whole consequence: taken in, read by the stream,
//! answered by 200 bytes, sent, and the acknowledgement of that taken in. So a round is
//! two packets in and one out. Connections take turns in an order that no cache foresees.
//! The client is a template that is patched; its cost is in the figures, and small.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

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
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, ring, when] = &arguments[..] {
        return memory(ring, when);
    }
    if arguments.get(1).is_some_and(|what| what == "bulk") {
        let (up, down) = bulk();
        return println!("bulk, in Gbit/s: up {up:.1}   down {down:.1}");
    }
    println!("a packet, in ns (request in, answer out, acknowledgement in; each a third of a round)");
    let mut first = 0.0;
    for flows in [1, 1000, 50_000] {
        let mut world = World::new(flows, RingSize::K16);
        // Once for each, so that all have rings.
        world.rounds(flows);
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
    println!("memory of a connection, in KB of resident memory, at 10,000");
    for ((ring, _), when) in RINGS.into_iter().flat_map(|ring| [(ring, "in use"), (ring, "idle")]) {
        // In a process of its own, where no memory has been used before.
        let program = std::env::current_exe().expect("this program has a path");
        let child = std::process::Command::new(program).args([ring, when]).status();
        assert!(child.is_ok_and(|status| status.success()));
    }
}

const RINGS: [(&str, RingSize); 4] =
    [("16", RingSize::K16), ("64", RingSize::K64), ("256", RingSize::K256), ("1024", RingSize::M1)];

/// Memory of a connection with rings of this size: while all are used at once, and where each
/// was used once some time ago.
fn memory(ring: &str, when: &str) {
    const FLOWS: usize = 10_000;
    let (_, size) = RINGS.into_iter().find(|(name, _)| *name == ring).expect("a size of ring");
    let before = resident();
    let mut world = World::new(0, size);
    let mut buffer = vec![0; 4096];
    for number in 0..FLOWS {
        world.open(number);
        world.round(number, &mut buffer);
        if when == "idle" && number % 200 == 199 {
            world.now = world.now + Duration::from_millis(1100);
            while world.stack.poll_timeout().is_some_and(|due| due <= world.now) {
                world.stack.handle_timeout(world.now);
                world.stack.poll_egress(world.now, &mut |_| {});
            }
        }
    }
    assert_eq!(world.stack.occupancy().flows, FLOWS);
    println!("  rings of 2 x {ring:>4} KB, {when}: {:.1}", (resident() - before) / 10_000.0);
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
        let start = cpu();
        let mut at = 0usize;
        for _ in 0..rounds {
            at = (at + 40_503) % self.clients.len();
            self.now = self.now + Duration::from_nanos(700);
            self.round(at, &mut buffer);
            if self.stack.poll_timeout().is_some_and(|due| due <= self.now) {
                self.stack.handle_timeout(self.now);
            }
        }
        (cpu() - start) * 1e9 / f64::from(u32::try_from(rounds).expect("few"))
    }

    /// A request of one client, its answer, and the acknowledgement of that.
    fn round(&mut self, at: usize, buffer: &mut [u8]) {
        let client = &mut self.clients[at];
        client.give(&mut self.stack, self.now, &mut self.frame, &self.template, 100);
        let stream = &mut self.streams[at];
        assert_eq!(read(stream, buffer), 100);
        assert_eq!(write(stream, &buffer[..200]), 200);
        self.stack.poll_egress(self.now, &mut |frame| client.take(frame));
        client.give(&mut self.stack, self.now, &mut self.frame, &self.template, 0);
        self.stack.poll_egress(self.now, &mut |frame| client.take(frame));
    }

    /// Nanoseconds to open and reset a connection beside so many others.
    fn churn(flows: usize) -> f64 {
        const TIMES: u32 = 20_000;
        let mut world = Self::new(flows, RingSize::K16);
        let start = cpu();
        for _ in 0..TIMES {
            world.open(flows);
            world.streams.pop();
            world.stack.poll_egress(world.now, &mut |_| {});
            world.clients.pop();
        }
        (cpu() - start) * 1e9 / f64::from(TIMES)
    }
}

impl Client {
    /// Gives the stack so many bytes.
    fn give(&mut self, stack: &mut Stack, now: Instant, frame: &mut Frame, template: &[u8], payload: usize) {
        let length = 40 + payload;
        frame.rewrite(|space| {
            // The bytes of a long payload are whatever is there.
            let copied = length.min(template.len());
            space[..copied].copy_from_slice(&template[..copied]);
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
    world.template.truncate(40);
    let client = &mut world.clients[0];
    let mut buffer = vec![0; 256 << 10];
    let gigabits =
        |start: f64| f64::from(u32::try_from(TOTAL >> 20).expect("few")) * 8.388_608e-3 / (cpu() - start);

    let start = cpu();
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

    let start = cpu();
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

/// Seconds that this thread has run, so that other work on the machine does not count.
fn cpu() -> f64 {
    let stat =
        std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with scheduler statistics");
    stat.split(' ').next().and_then(|text| text.parse::<f64>().ok()).expect("a number") / 1e9
}

/// Resident memory in KB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u32 = statm.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number");
    f64::from(pages) * 4.0
}
