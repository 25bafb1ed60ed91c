//! What one packet of a known flow costs at layer 4, from its bytes to its bytes: read, look up, follow,
//! rewrite, count. `cargo bench --bench translate`.
//!
//! Each measured step translates a packet that lies in a frame. The frame's headers are restored from a
//! template before each step, as a queue would have read them; that copy of some dozen bytes is in the figures.
//! The rows with many flows take them in an order that no cache foresees.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use fourseven::app::core::Listens;
use fourseven::balance::{BackendSpec, Balancer, PassiveHealth, SchedulerKind, ServiceSpec, Weight};
use fourseven::datapath::{Arrival, Counters, Datapath, Instant, Nat, Outbox, Verdict, WorkerId};
use fourseven::flow::{LocalPool, Settings, Shared};
use fourseven::l4::{Setup, Translator};
use fourseven::l7::spec::{Plan, SiteSpec};
use fourseven::packet::checksum;
use fourseven::packet::{ChecksumState, Frame, Offload, SegmentKind, Segments, View};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A family of addresses for client, VIP and backends.
#[derive(Clone, Copy)]
enum Family {
    V4,
    V6,
}

impl Family {
    const ALL: [(&str, Self); 2] = [("IPv4", Self::V4), ("IPv6", Self::V6)];

    fn address(self, net: u8, host: u32) -> IpAddr {
        let [a, b, c, d] = host.to_be_bytes();
        match self {
            Self::V4 => Ipv4Addr::new(net, b, c, d).into(),
            Self::V6 => Ipv6Addr::from([0x20, 1, 0xd, 0xb8, net, 0, 0, 0, 0, 0, 0, 0, a, b, c, d]).into(),
        }
    }

    fn vip(self) -> SocketAddr {
        SocketAddr::new(self.address(203, 1), 80)
    }

    fn client(self, number: u32) -> SocketAddr {
        let port = 1024 + u16::try_from(number % 50_000).expect("50,000 ports fit");
        SocketAddr::new(self.address(198, 1 + number / 50_000 + number % 1000 * 64), port)
    }
}

fn segment(from: SocketAddr, to: SocketAddr, syn: bool, payload: &[u8]) -> Vec<u8> {
    let builder = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header =
                etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, from.octets(), to.octets())
                    .expect("an empty payload fits");
            header.dont_fragment = true;
            PacketBuilder::ip(etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default()))
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64),
        _ => unreachable!("one family"),
    };
    let tcp = builder.tcp(from.port(), to.port(), 1, 64_000);
    let tcp = if syn { tcp.syn() } else { tcp.ack(1) };
    let mut bytes = Vec::new();
    tcp.write(&mut bytes, payload).expect("memory takes it");
    bytes
}

fn translator(flows: u32) -> Translator {
    let services = vec![ServiceSpec {
        name: "web".into(),
        listen: ["tcp", "udp"]
            .iter()
            .flat_map(|protocol| Family::ALL.map(|(_, family)| format!("{protocol}/{}", family.vip())))
            .map(|listen| listen.parse().expect("it is one"))
            .collect(),
        nat: Nat::Full,
        scheduler: SchedulerKind::Rr,
        backends: Family::ALL
            .iter()
            .flat_map(|(_, family)| (2..5).map(|host| SocketAddr::new(family.address(10, host), 8080)))
            .map(|endpoint| BackendSpec { endpoint: endpoint.into(), weight: Weight::ONE, drain: false })
            .collect(),
    }];
    let balancer = Arc::new(Balancer::new(services, PassiveHealth::default(), 1).expect("they fit"));
    let vips = balancer.vips().iter().map(|vip| (vip.listen.protocol, vip.listen.endpoint)).collect();
    let backends: Vec<_> = balancer.backends().iter().map(|backend| backend.endpoint).collect();
    let locals = ["10.9.0.0/24", "2001:db8:9::/120"].map(|net| net.parse().expect("a prefix"));
    let pool = LocalPool::new(&locals, LocalPool::DEFAULT_PORTS).expect("it has ports");
    let settings = Settings { max_flows_per_client: flows, ..Settings::new(flows) };
    let setup = Setup {
        balancer,
        flows: Arc::new(Shared::new(settings, vips, &backends, pool, 1)),
        fragment_lifetime: Duration::from_secs(15),
        workers: 1,
        seed: 1,
    };
    Translator::new(&setup, WorkerId(0), Arc::new(Counters::new(backends.len())))
}

/// Opens a flow, and gives back its packets in both directions with this payload.
fn open(translator: &mut Translator, family: Family, number: u32, payload: &[u8]) -> [Vec<u8>; 2] {
    let (client, vip) = (family.client(number), family.vip());
    let mut frame = Frame::copy_of(&segment(client, vip, true, &[]), Offload::default());
    let verdict = translate(translator, &mut frame);
    assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    let view = View::of(frame.packet()).expect("it was translated");
    let tuple = view.tuple().expect("it has ports");
    let (local, backend) = (tuple.source.into(), tuple.destination.into());
    let mut answer = segment(backend, local, true, &[]);
    let flags = if vip.is_ipv4() { 33 } else { 53 };
    answer[flags] |= 0x10;
    let start = if vip.is_ipv4() { 20 } else { 40 };
    answer[start + 16..start + 18].fill(0);
    let _ = translate(translator, &mut Frame::copy_of(&answer, Offload::default()));
    let there = segment(client, vip, false, payload);
    let _ = translate(translator, &mut Frame::copy_of(&there, Offload::default()));
    [there, segment(backend, local, false, payload)]
}

fn translate(translator: &mut Translator, frame: &mut Frame) -> Verdict {
    translator.handle_frame(Instant::from_nanos(1), frame, Arrival::Queue, &mut Outbox::default())
}

fn known_flow(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("known TCP flow");
    for (name, family) in Family::ALL {
        for (size, payload) in [("64 bytes", 64usize), ("1448 bytes", 1448), ("64 KB", 64_000)] {
            let mut translator = translator(1024);
            let packets = open(&mut translator, family, 1, &vec![7; payload]);
            for (direction, packet) in ["there", "back"].iter().zip(&packets) {
                let header = if matches!(family, Family::V4) { 40 } else { 60 };
                let mut frame = Frame::copy_of(packet, offload(family, payload));
                let template = packet[..header].to_vec();
                group.bench_function(BenchmarkId::new(format!("{name}, {size}"), direction), |bencher| {
                    bencher.iter(|| {
                        frame.packet_mut()[..header].copy_from_slice(&template);
                        let verdict = translate(&mut translator, black_box(&mut frame));
                        assert!(matches!(verdict, Verdict::Forward(_)));
                    });
                });
            }
        }
    }
    group.finish();
}

/// Large packets come with their checksum unfinished, as from the kernel.
fn offload(family: Family, payload: usize) -> Offload {
    if payload < 2000 {
        return Offload::default();
    }
    let (kind, start) = match family {
        Family::V4 => (SegmentKind::TcpV4, 20u16),
        Family::V6 => (SegmentKind::TcpV6, 40),
    };
    Offload {
        checksum: ChecksumState::Partial { start, offset: 16 },
        segments: Some(Segments { kind, size: 1448, header_length: start + 20, ecn: false }),
    }
}

fn many_flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("known TCP flow among many");
    group.sample_size(20);
    for flows in [1u32, 1000, 100_000, 1_000_000] {
        let mut translator = translator(1_100_000);
        for number in 0..flows {
            let _packets = open(&mut translator, Family::V4, number, &[]);
        }
        // A fixed walk that visits all in an order without locality. Each packet is made from its number, since
        // to keep a million of them would cost a cache miss that is not the translator's.
        let step = 7_368_787 % flows;
        let mut number = 0;
        let template = segment(Family::V4.client(0), Family::V4.vip(), false, &[]);
        let mut frame = Frame::copy_of(&template, Offload::default());
        group.bench_function(BenchmarkId::from_parameter(flows), |bencher| {
            bencher.iter(|| {
                number = (number + step) % flows;
                come_from(frame.packet_mut(), &template, number);
                let verdict = translate(&mut translator, black_box(&mut frame));
                assert!(matches!(verdict, Verdict::Forward(_)));
            });
        });
    }
    group.finish();
}

/// Makes the packet one of that client's, as far as layer 4 looks: address, port and header checksum.
fn come_from(packet: &mut [u8], template: &[u8], number: u32) {
    packet.copy_from_slice(template);
    let client = Family::V4.client(number);
    let IpAddr::V4(address) = client.ip() else { unreachable!("it is of this family") };
    packet[12..16].copy_from_slice(&address.octets());
    packet[20..22].copy_from_slice(&client.port().to_be_bytes());
    packet[10..12].fill(0);
    let sum = checksum::of(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn new_flow(criterion: &mut Criterion) {
    let mut translator = translator(1_000_000);
    let mut number = 0u32;
    criterion.bench_function("new TCP flow, the closed and half-open giving way", |bencher| {
        bencher.iter(|| {
            number = number.wrapping_add(1);
            let packet = segment(Family::V4.client(number % 40_000_000), Family::V4.vip(), true, &[]);
            let mut frame = Frame::copy_of(&packet, Offload::default());
            let now = Instant::from_nanos(u64::from(number) * 100_000);
            black_box(translator.handle_frame(now, &mut frame, Arrival::Queue, &mut Outbox::default()))
        });
    });
}

/// What layer 4 pays where layer 7 is there too: the look at whose a packet is.
fn look(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whose a packet is, with layer 7 beside");
    for (name, family) in Family::ALL {
        let listen = [Family::V4, Family::V6].map(|family| SocketAddr::new(family.vip().ip(), 443).into());
        let site = SiteSpec::plain("site", listen.into());
        let listens = Listens::new(&[], &Plan { sites: vec![site], ..Plan::default() });
        for (whose, port) in [("layer 4", 80), ("layer 7", 443)] {
            let to = SocketAddr::new(family.vip().ip(), port);
            let packet = segment(family.client(1), to, false, &[0; 64]);
            assert_eq!(listens.take(&packet), port == 443);
            group.bench_function(BenchmarkId::new(name, whose), |bencher| {
                bencher.iter(|| listens.take(black_box(&packet)));
            });
        }
    }
}

criterion_group!(benches, known_flow, many_flows, new_flow, look);
criterion_main!(benches);
