//! What a packet costs to read from a capture and to write into one, with what was decided about it.
//! `cargo bench --bench capture`. Files are in memory; the figures are for one packet, and the aim is 1,000 ns.

use std::hint::black_box;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use fourseven::capture::{About, Filter, Picture, Reader, Record, Statistics, Timestamp, Writer};
use fourseven::datapath::{Decision, FlowNumber, Reason, Side, Verdict, WorkerId};
use fourseven::packet::Offload;

const PACKETS: u64 = 20_000;

fn segment(from: [u8; 4], to: [u8; 4], payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4(from, to, 64)
        .tcp(40_000, 80, 7, 1000)
        .write(&mut packet, &vec![0x5a; payload])
        .expect("a vector takes all");
    packet
}

fn endpoint(text: &str) -> fourseven::packet::Endpoint {
    text.parse::<SocketAddr>().expect("an endpoint").into()
}

fn decision() -> Decision {
    Decision {
        verdict: Some(Verdict::Forward(Reason::KnownFlow)),
        side: Side::Client,
        flow: Some(FlowNumber { worker: WorkerId(0), number: 17 }),
        service: Some(endpoint("203.0.113.1:80")),
        backend: Some(endpoint("10.0.0.2:8080")),
        why: Some(Decision::BOUND),
        before: Some("established"),
        after: Some("established"),
        more: None,
    }
}

/// Writes so many packets as they came and, where it is given, as they left.
fn write<W: Write>(out: W, came: &[u8], left: Option<&[u8]>) -> W {
    let look = |bytes| Picture { bytes, original_length: length(bytes), offload: Offload::default() };
    let mut writer = Writer::new(out, &About::default()).expect("it takes all");
    for id in 1..=PACKETS {
        let record = Record {
            time: Timestamp(1_700_000_000_000_000_000 + id * 1_000),
            id,
            came: Some(look(came)),
            left: left.map(look),
            decision: decision(),
        };
        writer.record(&record).expect("it takes all");
    }
    writer.finish(Statistics::default()).expect("it takes all")
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("a packet is short")
}

fn pcap(packet: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for field in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 101] {
        file.extend(u32::to_le_bytes(field));
    }
    for _ in 0..PACKETS {
        for field in [1, 2, length(packet), length(packet)] {
            file.extend(u32::to_le_bytes(field));
        }
        file.extend(packet);
    }
    file
}

fn read(file: &[u8]) -> u64 {
    let mut reader = Reader::new(file).expect("a capture");
    let mut bytes = 0;
    while let Some(packet) = reader.read().expect("a whole capture") {
        bytes += packet.ip().map_or(0, |ip| ip.bytes.len() as u64);
    }
    bytes
}

fn captures(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("capture");
    group.throughput(Throughput::Elements(PACKETS)).measurement_time(Duration::from_secs(3)).sample_size(20);
    for payload in [0, 1400] {
        let came = segment([198, 51, 100, 9], [203, 0, 113, 1], payload);
        let left = segment([10, 0, 0, 1], [10, 0, 0, 2], payload);
        let classic = pcap(&came);
        let ours = write(Vec::new(), &came, None);
        group.bench_function(format!("read pcap, {payload} bytes"), |bencher| {
            bencher.iter(|| read(black_box(&classic)));
        });
        group.bench_function(format!("read pcapng with comments, {payload} bytes"), |bencher| {
            bencher.iter(|| read(black_box(&ours)));
        });
        group.bench_function(format!("write a drop, {payload} bytes"), |bencher| {
            bencher.iter(|| write(std::io::sink(), black_box(&came), None));
        });
        group.bench_function(format!("write came and left, {payload} bytes"), |bencher| {
            bencher.iter(|| write(std::io::sink(), black_box(&came), Some(&left)));
        });
        let compressed = zstd::encode_all(&classic[..], 1).expect("it is compressed");
        group.bench_function(format!("read pcap in zstd, {payload} bytes"), |bencher| {
            bencher.iter_batched(|| compressed.clone(), |file| read(&file), BatchSize::LargeInput);
        });
    }
    let packet = segment([198, 51, 100, 9], [203, 0, 113, 1], 0);
    let filter: Filter = "tcp port 443 or host 203.0.113.1".parse().expect("a filter");
    group.throughput(Throughput::Elements(1));
    group.bench_function("filter", |bencher| bencher.iter(|| filter.passes(black_box(&packet))));
    group.finish();
}

criterion_group!(benches, captures);
criterion_main!(benches);
