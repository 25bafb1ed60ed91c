//! Whole TCPs as clients, over a link that loses, doubles, delays and damages packets, on a
//! clock of its own. The clients are smoltcp too, set up as anybody would.
//!
//! The device towards the stack cuts large packets and completes sums, as a kernel does.

use std::cell::{Cell, RefCell};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::client::Client;
use super::*;
use crate::packet::{ChecksumState, checksum};

/// What a link does, each in thousandths of all packets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost: u32,
    pub(super) doubled: u32,
    pub(super) late: u32,
    pub(super) damaged: u32,
}

/// What a client and its server do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) upload: usize,
    pub(super) download: usize,
    /// The client's receive ring.
    pub(super) window: usize,
    pub(super) v6: bool,
    /// The server stops reading after this many bytes and drops the stream.
    pub(super) drop_after: Option<usize>,
    /// The client aborts after this many bytes.
    pub(super) abort_after: Option<usize>,
    /// After this many bytes both sides stop to write for so long; an idle connection has no rings.
    pub(super) nap: Option<(usize, Duration)>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            upload: 0,
            download: 0,
            window: 65_535,
            v6: false,
            drop_after: None,
            abort_after: None,
            nap: None,
        }
    }
}

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) client_got: usize,
    pub(super) client_closed: bool,
    /// Whether the client was told, by a FIN, that it got all there was.
    pub(super) client_told: bool,
    /// `None` where the connection never opened.
    pub(super) server: Option<Result<usize, io::ErrorKind>>,
}

/// The byte at a place of a stream.
pub(super) fn byte(stream: usize, at: usize) -> u8 {
    (at ^ at >> 8 ^ at >> 16).wrapping_mul(31).wrapping_add(stream * 7) as u8
}

pub(super) fn bytes(stream: usize, at: usize, length: usize) -> Vec<u8> {
    (at..at + length).map(|at| byte(stream, at)).collect()
}

pub(super) fn check(stream: usize, at: usize, got: &[u8]) {
    assert!(got.iter().enumerate().all(|(i, &b)| b == byte(stream, at + i)), "stream {stream} is not whole");
}

/// Cuts a packet as the device would, and completes its checksums.
pub(super) fn cut(frame: &Frame) -> Vec<Vec<u8>> {
    let packet = frame.packet();
    let v4 = packet[0] >> 4 == 4;
    let at = if v4 { 20 } else { 40 };
    let header = at + usize::from(packet[at + 12] >> 4) * 4;
    let size = frame.offload.segments.map_or(usize::MAX, |segments| {
        assert_eq!(usize::from(segments.header_length), header);
        usize::from(segments.size)
    });
    let payload = &packet[header..];
    let mut pieces = Vec::new();
    let mut done = 0;
    loop {
        let part = &payload[done..payload.len().min(done + size)];
        let last = done + part.len() == payload.len();
        let mut piece = packet[..header].to_vec();
        piece.extend_from_slice(part);
        let number = u32::from_be_bytes(piece[at + 4..at + 8].try_into().unwrap());
        piece[at + 4..at + 8].copy_from_slice(&number.wrapping_add(done as u32).to_be_bytes());
        if !last {
            piece[at + 13] &= !(FIN | 8);
        }
        let length = piece.len();
        if v4 {
            piece[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            piece[10..12].fill(0);
            let sum = checksum::of(&piece[..20]);
            piece[10..12].copy_from_slice(&sum.to_be_bytes());
        } else {
            piece[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
        }
        if let ChecksumState::Partial { start, offset } = frame.offload.checksum {
            assert_eq!((usize::from(start), offset), (at, 16));
            // The sum in the field is that of the pseudo-header of the whole; exchange the length.
            let addresses = if v4 { &packet[12..20] } else { &packet[8..40] };
            let (from, to) = addresses.split_at(addresses.len() / 2);
            let field = u16::from_be_bytes([packet[at + 16], packet[at + 17]]);
            assert_eq!(field, checksum::pseudo_header(from, to, 6, packet.len() - at), "pseudo-header sum");
            piece[at + 16..at + 18].fill(0);
            let sum = !checksum::sum(checksum::pseudo_header(from, to, 6, length - at), &piece[at..]);
            piece[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        }
        pieces.push(piece);
        done += part.len();
        if last {
            return pieces;
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Stack,
    Client(usize),
}

/// When it lands, in which order among those that do then, where, and the packet.
type Flying = (Instant, u64, To, Vec<u8>);

/// Packets on their way, and what becomes of them there.
struct Air {
    chance: StdRng,
    faults: Faults,
    order: u64,
    packets: BinaryHeap<Reverse<Flying>>,
}

impl Air {
    fn hits(&mut self, thousandths: u32) -> bool {
        self.chance.random_range(0..1000) < thousandths
    }

    fn launch(&mut self, now: Instant, to: To, mut packet: Vec<u8>) {
        if self.hits(self.faults.lost) {
            return;
        }
        let copies = 1 + u32::from(self.hits(self.faults.doubled));
        let late = self.hits(self.faults.late);
        if self.hits(self.faults.damaged) {
            let at = self.chance.random_range(0..packet.len());
            packet[at] ^= 1 << self.chance.random_range(0..8);
        }
        for _ in 0..copies {
            let delay = 1000 + if late { self.chance.random_range(0..20_000) } else { 0 };
            self.order += 1;
            self.packets.push(Reverse((now + Duration::from_micros(delay), self.order, to, packet.clone())));
        }
    }

    /// The next packet that arrives by now.
    fn land(&mut self, now: Instant) -> Option<(To, Vec<u8>)> {
        self.next().filter(|at| *at <= now)?;
        let Reverse((.., to, packet)) = self.packets.pop()?;
        Some((to, packet))
    }

    fn next(&self) -> Option<Instant> {
        self.packets.peek().map(|Reverse((at, ..))| *at)
    }
}

/// The time, for tasks.
struct Clock {
    now: Cell<Instant>,
    /// When somebody wants to be asked again.
    alarms: RefCell<Vec<Instant>>,
}

impl Clock {
    async fn sleep(&self, time: Duration) {
        let until = self.now.get() + time;
        self.alarms.borrow_mut().push(until);
        while self.now.get() < until {
            tokio::task::yield_now().await;
        }
    }

    /// The next alarm after the present time.
    fn next(&self) -> Option<Instant> {
        let mut alarms = self.alarms.borrow_mut();
        alarms.retain(|at| *at > self.now.get());
        alarms.iter().min().copied()
    }
}

/// What one server's task does, and how many bytes it read.
async fn serve(
    number: usize,
    plan: Plan,
    clock: Rc<Clock>,
    stream: FlowStream,
) -> Result<usize, io::ErrorKind> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let read = async {
        let mut got = 0;
        let mut buffer = vec![0; 10_000];
        loop {
            let length = reader.read(&mut buffer).await.map_err(|error| error.kind())?;
            check(number, got, &buffer[..length]);
            got += length;
            if length == 0 || plan.drop_after.is_some_and(|after| got >= after) {
                return Ok(got);
            }
        }
    };
    let write = async {
        let mut sent = 0;
        while sent < plan.download {
            let mut goal = plan.download;
            if let Some((at, time)) = plan.nap {
                match sent.cmp(&at) {
                    Ordering::Less => goal = goal.min(at),
                    Ordering::Equal => clock.sleep(time).await,
                    Ordering::Greater => {}
                }
            }
            let part = bytes(number + 1000, sent, (goal - sent).min(5000));
            writer.write_all(&part).await.map_err(|error| error.kind())?;
            sent += part.len();
        }
        if plan.drop_after.is_none() {
            writer.shutdown().await.map_err(|error| error.kind())?;
        }
        Ok(())
    };
    let (got, sent) = futures_util::future::join(read, write).await;
    sent?;
    got
}

/// Runs all plans at once to their end.
pub(super) fn run(
    settings: StackSettings,
    listener: Listener,
    plans: &[Plan],
    faults: Faults,
    seed: u64,
) -> (Vec<Outcome>, Stack) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(world(settings, listener, plans, faults, seed)))
}

async fn world(
    settings: StackSettings,
    listener: Listener,
    plans: &[Plan],
    faults: Faults,
    seed: u64,
) -> (Vec<Outcome>, Stack) {
    let chance = StdRng::seed_from_u64(seed);
    let mut air = Air { chance, faults, order: 0, packets: BinaryHeap::new() };
    let mut stack = stack(settings);
    for vip in ["203.0.113.1:80", "[2001:db8::1]:80"] {
        stack.listen(endpoint(vip), listener);
    }
    let start = Instant::START + Duration::from_secs(1);
    let mut now = start;
    let mut clients: Vec<Client> =
        plans.iter().enumerate().map(|(number, plan)| Client::new(number, *plan, seed, now)).collect();
    let results: Rc<RefCell<BTreeMap<usize, Result<usize, io::ErrorKind>>>> = Rc::default();
    let clock = Rc::new(Clock { now: Cell::new(now), alarms: RefCell::default() });
    let mut running = 0usize;
    let limit = start + Duration::from_hours(1);
    loop {
        let mut arrived: Vec<Vec<Vec<u8>>> = clients.iter().map(|_| Vec::new()).collect();
        while let Some((to, packet)) = air.land(now) {
            match to {
                To::Client(number) => arrived[number].push(packet),
                To::Stack => {
                    let mut frame = Frame::copy_of(&packet, Offload::default());
                    if let Verdict::Answer(_) = stack.handle_frame(now, &mut frame, Arrival::Queue) {
                        air.launch(now, addressee(frame.packet()), frame.packet().to_vec());
                    }
                }
            }
        }
        for (client, arrived) in clients.iter_mut().zip(&mut arrived) {
            for packet in client.act(now, arrived) {
                air.launch(now, To::Stack, packet);
            }
        }
        while let Some(accepted) = stack.accept() {
            let number = usize::from(accepted.client.port - 10_000);
            let (plan, results, clock) = (plans[number], Rc::clone(&results), Rc::clone(&clock));
            running += 1;
            tokio::task::spawn_local(async move {
                let result = serve(number, plan, clock, accepted.stream).await;
                results.borrow_mut().insert(number, result);
            });
        }
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        stack.handle_timeout(now);
        stack.poll_egress(now, &mut |frame| {
            for packet in cut(frame) {
                air.launch(now, addressee(&packet), packet);
            }
        });
        if clients.iter().all(Client::done) && results.borrow().len() == running && air.packets.is_empty() {
            break;
        }
        let timers = clients.iter_mut().flat_map(|client| client.timers(now));
        let next = timers
            .chain(clock.next())
            .chain(air.next())
            .chain(stack.poll_timeout())
            .min()
            .expect("something is still to come");
        now = now.max(next).max(now + Duration::from_micros(1));
        clock.now.set(now);
        assert!(now < limit, "hangs: {:?}, {:?}", stack.occupancy(), results.borrow());
    }
    let outcomes = clients
        .iter()
        .map(|client| Outcome {
            client_got: client.got,
            client_closed: client.done(),
            client_told: client.told,
            server: results.borrow().get(&client.number).copied(),
        })
        .collect();
    // What is left dies with time.
    let until = now + Duration::from_secs(1000);
    while let Some(due) = stack.poll_timeout().filter(|due| *due < until) {
        now = now.max(due);
        stack.handle_timeout(now);
        stack.poll_egress(now, &mut |_| {});
    }
    assert_nothing_leaks(&stack);
    (outcomes, stack)
}

fn addressee(packet: &[u8]) -> To {
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    let port = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
    To::Client(usize::from(port - 10_000))
}
