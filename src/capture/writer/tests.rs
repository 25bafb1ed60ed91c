//! What is written is read again, by our reader and by another.

use std::net::SocketAddr;

use etherparse::PacketBuilder;
use pcap_parser::{Block, parse_block_le};

use super::*;
use crate::capture::{Direction, Reader};
use crate::datapath::{FlowNumber, Reason, WorkerId};
use crate::packet::rewrite::{Passage, translate};
use crate::packet::{FiveTuple, Protocol, SegmentKind, Segments, View};

fn segment(payload: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ipv4([198, 51, 100, 9], [203, 0, 113, 1], 64)
        .tcp(40_000, 80, 7, 1000)
        .write(&mut packet, &vec![0x5a; payload])
        .unwrap();
    packet
}

fn endpoint(text: &str) -> crate::packet::Endpoint {
    text.parse::<SocketAddr>().unwrap().into()
}

fn translated(packet: &[u8]) -> Vec<u8> {
    let to = FiveTuple {
        protocol: Protocol::Tcp,
        source: endpoint("10.0.0.1:1024"),
        destination: endpoint("10.0.0.2:8080"),
    };
    let mut bytes = packet.to_vec();
    let view = View::of(packet).unwrap();
    let passage = Passage { decrement_hops: true, identification: Some(9) };
    translate(&mut bytes, &view, &to, ChecksumState::Whole, passage);
    bytes
}

fn picture(bytes: &[u8], offload: Offload) -> Picture<'_> {
    Picture { bytes, original_length: u32::try_from(bytes.len()).unwrap(), offload }
}

fn decision() -> Decision {
    Decision {
        verdict: Some(Verdict::Forward(Reason::NewFlow)),
        side: Side::Client,
        flow: Some(FlowNumber { worker: WorkerId(1), number: 0x3_0000_0011 }),
        service: Some(endpoint("203.0.113.1:80")),
        backend: Some(endpoint("10.0.0.2:8080")),
        why: Some("rr"),
        before: None,
        after: Some("opening"),
        more: None,
    }
}

fn written(records: &[Record<'_>]) -> Vec<u8> {
    let about = About {
        comment: "a test".into(),
        names: vec![
            ([203, 0, 113, 1].into(), "web".into()),
            (std::net::Ipv6Addr::LOCALHOST.into(), "itself".into()),
        ],
    };
    let mut writer = Writer::new(Vec::new(), &about).unwrap();
    writer.secrets("CLIENT_RANDOM 00 11\n").unwrap();
    for record in records {
        writer.record(record).unwrap();
    }
    writer.finish(Statistics { received: 9, lost: 2 }).unwrap()
}

#[test]
fn a_packet_is_there_as_it_came_and_as_it_left_with_one_id_and_one_comment() {
    let came = segment(20);
    let left = translated(&came);
    let record = Record {
        time: Timestamp(1_700_000_000_123_456_789),
        id: 7,
        came: Some(picture(&came, Offload::default())),
        left: Some(picture(&left, Offload::default())),
        decision: decision(),
    };
    let bytes = written(&[record]);
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let comment = "verdict=forwarded reason=new_flow flow=1.17.3 service=203.0.113.1:80 backend=10.0.0.2:8080 \
                   why=rr state=none>opening rewrote=source:198.51.100.9:40000>10.0.0.1:1024,\
                   destination:203.0.113.1:80>10.0.0.2:8080,ttl:64>63,id:0>9";
    for (number, interface, direction, ip) in
        [(1, 0, Direction::Inbound, &came), (2, 1, Direction::Outbound, &left)]
    {
        let packet = reader.read().unwrap().unwrap();
        assert_eq!((packet.number, packet.interface, packet.id), (number, interface, Some(7)));
        assert_eq!((packet.time, packet.direction), (Some(record_time()), Some(direction)));
        assert_eq!(packet.ip().unwrap().bytes, ip);
        assert_eq!(packet.comment, Some(comment));
        assert!(!packet.is_snapped());
    }
    assert!(reader.read().unwrap().is_none());
    assert_eq!(reader.notes().first, None);
    let names: Vec<_> = reader.interfaces().iter().map(|one| one.name.clone().unwrap()).collect();
    assert_eq!(names, ["clients", "backends"]);
}

fn record_time() -> Timestamp {
    Timestamp(1_700_000_000_123_456_789)
}

#[test]
fn another_reader_finds_the_blocks_and_what_is_in_them() {
    let came = segment(3);
    let record = Record {
        time: record_time(),
        id: 1,
        came: Some(picture(&came, Offload::default())),
        left: None,
        decision: Decision { verdict: Some(Verdict::Drop(Reason::NoFlow)), ..Decision::default() },
    };
    let bytes = written(&[record]);
    let mut rest = &bytes[..];
    let mut kinds = Vec::new();
    while !rest.is_empty() {
        let (behind, block) = parse_block_le(rest).unwrap();
        rest = behind;
        kinds.push(match block {
            Block::SectionHeader(_) => "section",
            Block::InterfaceDescription(interface) => {
                assert_eq!((interface.linktype.0, interface.if_tsresol), (1, 9));
                "interface"
            }
            Block::NameResolution(names) => {
                // The third one ends the list.
                assert_eq!(names.nr.len(), 3);
                "names"
            }
            Block::DecryptionSecrets(secrets) => {
                assert_eq!(&secrets.data[..20], b"CLIENT_RANDOM 00 11\n");
                "secrets"
            }
            Block::EnhancedPacket(packet) => {
                assert_eq!((packet.caplen, packet.origlen), (57, 57));
                "packet"
            }
            Block::InterfaceStatistics(statistics) => {
                let value = |code| {
                    let option = statistics.options.iter().find(|option| option.code.0 == code).unwrap();
                    option.as_u64_le().unwrap()
                };
                assert_eq!((value(4), value(5)), (9, 2));
                "statistics"
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(kinds, ["section", "interface", "interface", "names", "secrets", "packet", "statistics"]);
}

#[test]
fn every_verdict_has_its_words_and_its_sides() {
    let packet = segment(0);
    let both = |verdict, side| {
        let record = Record {
            time: Timestamp(0),
            id: 1,
            came: Some(picture(&packet, Offload::default())),
            left: Some(picture(&packet, Offload::default())),
            decision: Decision { verdict, side, ..Decision::default() },
        };
        let bytes = written(&[record]);
        let mut reader = Reader::new(&bytes[..]).unwrap();
        let [first, second] = [(); 2].map(|()| {
            let packet = reader.read().unwrap().unwrap();
            (packet.interface, packet.comment.unwrap().to_owned())
        });
        (first.0, second.0, first.1)
    };
    for (verdict, side, want) in [
        (
            Some(Verdict::Forward(Reason::KnownFlow)),
            Side::Client,
            (0, 1, "verdict=forwarded reason=known_flow"),
        ),
        (
            Some(Verdict::Forward(Reason::KnownFlow)),
            Side::Backend,
            (1, 0, "verdict=forwarded reason=known_flow"),
        ),
        (
            Some(Verdict::Answer(Reason::NoService)),
            Side::Client,
            (0, 0, "verdict=answered reason=no_service"),
        ),
        (
            Some(Verdict::Deliver(Reason::KnownFlow)),
            Side::Client,
            (0, 0, "verdict=delivered reason=known_flow"),
        ),
        (Some(Verdict::Drop(Reason::NoFlow)), Side::Backend, (1, 1, "verdict=dropped reason=no_flow")),
        (Some(Verdict::Held), Side::Client, (0, 0, "verdict=held")),
        (Some(Verdict::HandOver(WorkerId(3))), Side::Client, (0, 0, "verdict=handed_over worker=3")),
        (None, Side::Client, (0, 0, "verdict=originated")),
    ] {
        let (came, left, words) = want;
        assert_eq!(both(verdict, side), (came, left, words.to_owned()));
    }
}

#[test]
fn an_unfinished_checksum_is_finished_and_a_large_segment_says_how_it_is_cut() {
    let right = segment(3000);
    let view = View::of(&right).unwrap();
    let mut unfinished = right.clone();
    let length = right.len() - view.transport_at;
    let sum = checksum::pseudo_header(&right[12..16], &right[16..20], 6, length);
    unfinished[36..38].copy_from_slice(&sum.to_be_bytes());
    let segments = Segments { kind: SegmentKind::TcpV4, size: 1448, header_length: 0, ecn: false };
    let offload =
        Offload { checksum: ChecksumState::Partial { start: 20, offset: 16 }, segments: Some(segments) };
    let record = |kept: usize| Record {
        time: Timestamp(0),
        id: 1,
        came: Some(Picture { original_length: 3040, ..picture(&unfinished[..kept], offload) }),
        left: None,
        decision: Decision { verdict: Some(Verdict::Deliver(Reason::KnownFlow)), ..Decision::default() },
    };
    let bytes = written(&[record(3040), record(100)]);
    let mut reader = Reader::new(&bytes[..]).unwrap();
    let whole = reader.read().unwrap().unwrap();
    assert_eq!(whole.ip().unwrap().bytes, right);
    assert_eq!(whole.offload, Offload { segments: Some(segments), ..Offload::default() });
    let snapped = reader.read().unwrap().unwrap();
    assert_eq!((snapped.bytes.len(), snapped.original_length), (114, 3054));
    assert!(snapped.comment.unwrap().ends_with("gso=tcp4/1448 checksum=unfinished"));
    assert_eq!(snapped.ip().unwrap().missing, 2940);
}

#[test]
fn what_is_no_ip_packet_is_written_all_the_same() {
    for bytes in [&[][..], &[0xff; 30], &[0x45], &[0x60; 4]] {
        let record = Record {
            time: Timestamp(0),
            id: 1,
            came: Some(picture(bytes, Offload::default())),
            left: Some(picture(bytes, Offload::default())),
            decision: decision(),
        };
        let file = written(&[record]);
        let mut reader = Reader::new(&file[..]).unwrap();
        assert_eq!(&reader.read().unwrap().unwrap().bytes[14..], bytes);
    }
}

#[test]
fn a_full_disk_is_an_error() {
    struct Full;
    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    assert!(Writer::new(Full, &About::default()).is_err());
}
