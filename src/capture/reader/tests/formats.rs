//! Whole files of both formats, in every order, resolution and compression.

use std::io::{self, Read, Write};

use super::{File, Got, read_all, rich};
use crate::capture::{Direction, Format, LinkType, Packet, Reader, Timestamp};
use crate::packet::{Offload, SegmentKind, Segments};

fn got(number: u64, nanos: u64, bytes: &[u8], original: u32) -> Got {
    Got { number, nanos: Some(nanos), interface: 0, bytes: bytes.to_vec(), original }
}

#[test]
fn pcap_is_read_in_both_orders_and_resolutions() {
    for (name, magic, nanos) in [("micro", 0xa1b2_c3d4, 5_000), ("nano", 0xa1b2_3c4d, 5)] {
        for big in [false, true] {
            let file = File::new(big).pcap(magic, 1).record(1, 5, b"abc", 3).record(2, 0, b"defg", 1500);
            let (packets, end) = read_all(&file.bytes);
            let want = [got(1, 1_000_000_000 + nanos, b"abc", 3), got(2, 2_000_000_000, b"defg", 1500)];
            assert_eq!(packets, want, "{name}, big-endian: {big}");
            assert_eq!(end.unwrap().first, None, "{name}");
        }
    }
}

#[test]
fn old_pcaps_are_read() {
    // Version 2.3 with the two lengths the other way round; and the longer records of a patched libpcap.
    let header = File::new(false).u32(0xa1b2_c3d4).u16(2).u16(3).u32(0).u32(0).u32(96).u32(12);
    let swapped = header.u32(1).u32(0).u32(99).u32(2).raw(b"ab");
    assert_eq!(read_all(&swapped.bytes).0, [got(1, 1_000_000_000, b"ab", 99)]);
    let patched = File::new(true).pcap(0xa1b2_cd34, 1).u32(1).u32(0).u32(2).u32(2).raw(&[7; 8]).raw(b"xy");
    assert_eq!(read_all(&patched.bytes).0, [got(1, 1_000_000_000, b"xy", 2)]);
}

#[test]
fn pcapng_is_read_over_sections_interfaces_orders_and_kinds_of_packets() {
    let (packets, notes) = read_all(&rich());
    let want = [
        Got { interface: 1, ..got(1, 5_000_000_000, &[0x45; 21], 21) },
        got(2, 7_000_000_001, &[1; 60], 60),
        Got { nanos: None, ..got(3, 0, &[9; 4], 4) },
        Got { interface: 2, ..got(4, 102_000_000_000, &[4; 3], 99) },
        Got { interface: 2, ..got(5, 101_000_000_000, &[5; 5], 5) },
    ];
    assert_eq!(packets, want);
    let notes = notes.unwrap();
    assert_eq!((notes.blocks_skipped, notes.packets_skipped), (1, 0));
    assert!(notes.first.unwrap().contains("0x12345678"));
}

#[test]
fn what_is_beside_a_packet_is_read_too() {
    let bytes = rich();
    let mut reader = Reader::new(&bytes[..]).unwrap();
    assert_eq!(reader.format(), Format::PcapNg);
    assert_eq!(reader.read().unwrap().unwrap().comment, Some("a comment"));
    for _ in 0..3 {
        reader.read().unwrap().unwrap();
    }
    let Packet { id, direction, link_type, comment, .. } = reader.read().unwrap().unwrap();
    assert_eq!((id, direction), (Some(7), Some(Direction::Inbound)));
    assert_eq!((link_type, comment), (LinkType::IPV4, None));
    let names: Vec<_> = reader.interfaces().iter().map(|interface| interface.name.as_deref()).collect();
    assert_eq!(names, [Some("eth0"), None, None]);
}

#[test]
fn a_simple_packet_ends_at_the_snap_length() {
    let file = File::new(false)
        .section()
        .interface(1, 2, |options| options)
        .block(3, |block| block.u32(60).raw(b"ab"));
    let (packets, _) = read_all(&file.bytes);
    assert_eq!(packets, [Got { nanos: None, ..got(1, 0, b"ab", 60) }]);
}

#[test]
fn times_are_exact_in_every_resolution() {
    for (name, resolution, offset, ticks, want) in [
        ("microseconds", 6, 0, 1_500_000, 1_500_000_000),
        ("seconds", 0, 0, 3, 3_000_000_000),
        ("tenths of nanoseconds", 10, 0, 19, 1),
        ("10^-127", 127, 0, u64::MAX, 0),
        ("2^-1", 0x81, 0, 3, 1_500_000_000),
        ("2^-32", 0xa0, 0, 1 << 31, 500_000_000),
        ("2^-127", 0xff, 0, u64::MAX, 0),
        ("before 1970", 9, -1, 5, 0),
        ("moved back", 9, -1, 1_000_000_005, 5),
        ("past the end of time", 0, 0, u64::MAX, u64::MAX),
        ("moved past the end of time", 0, i64::MAX, u64::MAX, u64::MAX),
    ] {
        let offset: i64 = offset;
        for big in [false, true] {
            let file = File::new(big)
                .section()
                .interface(101, 0, |options| {
                    options.option(9, &[resolution]).u64_option(14, offset.cast_unsigned())
                })
                .packet(0, ticks, b"x", |options| options);
            assert_eq!(read_all(&file.bytes).0[0].nanos, Some(want), "{name}, big-endian: {big}");
        }
    }
    assert_eq!(Timestamp(1_000_000_005).to_string(), "1.000000005");
}

#[test]
fn how_a_segment_is_cut_is_read_from_our_own_files_only() {
    for (application, known) in [("fourseven 0.1.0", true), ("another", false)] {
        let file = File::new(false)
            .block(0x0a0d_0d0a, |block| {
                block.u32(0x1a2b_3c4d).u16(1).u16(0).raw(&[0xff; 8]).option(4, application.as_bytes())
            })
            .interface(101, 0, |options| options)
            .packet(0, 0, b"x", |options| options.option(1, b"verdict=forwarded gso=tcp6/1428/cwr"));
        let mut reader = Reader::new(&file.bytes[..]).unwrap();
        let segments = Segments { kind: SegmentKind::TcpV6, size: 1428, header_length: 0, ecn: true };
        let want = Offload { segments: known.then_some(segments), ..Offload::default() };
        assert_eq!(reader.read().unwrap().unwrap().offload, want, "{application}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

#[test]
fn compression_is_seen_by_content_and_may_come_in_parts() {
    let plain = rich();
    let want = read_all(&plain).0;
    let (head, tail) = plain.split_at(100);
    // pzstd begins with a frame that is to be skipped.
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstd(&plain)].concat();
    for (name, bytes) in [
        ("gzip", gzip(&plain)),
        ("two members", [gzip(head), gzip(tail)].concat()),
        ("zstd", zstd(&plain)),
        ("two frames", [zstd(head), zstd(tail)].concat()),
        ("a frame of no data before", skippable),
    ] {
        let (packets, end) = read_all(&bytes);
        assert_eq!(packets, want, "{name}");
        assert!(end.is_ok(), "{name}: {end:?}");
        // Cut off, it gives what there was, and says so.
        let (packets, end) = read_all(&bytes[..bytes.len() - 3]);
        assert!(want.starts_with(&packets), "{name}");
        let error = end.unwrap_err().to_string();
        assert!(error.starts_with("after byte "), "{name}: {error}");
    }
}

#[test]
fn a_window_of_gigabytes_is_refused() {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.include_contentsize(false).unwrap();
    encoder.write_all(&rich()).unwrap();
    let (packets, end) = read_all(&encoder.finish().unwrap());
    assert!(packets.is_empty());
    assert!(end.unwrap_err().to_string().contains("memory"));
}

#[test]
fn an_input_may_give_a_byte_at_a_time_and_be_interrupted() {
    struct Drip<'a>(&'a [u8], bool);
    impl Read for Drip<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let one = self.0.len().min(1).min(buffer.len());
            self.0.read(&mut buffer[..one])
        }
    }
    let bytes = rich();
    let mut reader = Reader::new(Drip(&bytes, false)).unwrap();
    let mut packets = 0;
    while reader.read().unwrap().is_some() {
        packets += 1;
    }
    assert_eq!(packets, 5);
}

#[test]
fn an_input_that_fails_is_told_from_one_that_ends() {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the disk is on fire"))
        }
    }
    let error = Reader::new(Failing).err().unwrap().to_string();
    assert!(error.contains("on fire"), "{error}");
    let head = File::new(false).pcap(0xa1b2_c3d4, 1).record(0, 0, b"a", 1);
    let mut reader = Reader::new(head.bytes.chain(Failing)).unwrap();
    assert!(reader.read().unwrap().is_some());
    let error = reader.read().unwrap_err().to_string();
    assert!(error.contains("after byte 41: the disk is on fire"), "{error}");
}
