//! Broken files: what was readable is used, and the message says where it ended.

use std::io::Read;

use super::super::Source;
use super::{File, Notes, ReadError, read_all, rich};

#[test]
fn a_file_may_be_cut_anywhere() {
    let pcap = File::new(false).pcap(0xa1b2_3c4d, 1).record(0, 0, b"abc", 3).record(1, 0, b"defg", 4).bytes;
    for (name, bytes, boundaries) in
        [("pcap", pcap, vec![24, 43, 63]), ("pcapng", rich(), boundaries(&rich()))]
    {
        let (all, end) = read_all(&bytes);
        assert!(end.is_ok(), "{name}");
        for cut in 0..bytes.len() {
            let (packets, end) = read_all(&bytes[..cut]);
            assert!(all.starts_with(&packets), "{name}, cut at {cut}");
            match end {
                Ok(_) => assert!(boundaries.contains(&cut), "{name}, cut at {cut}: nothing said"),
                Err(ReadError::NotACapture { .. }) => assert!(cut < 4, "{name}, cut at {cut}"),
                Err(ReadError::CutOff { offset, .. }) => assert_eq!(offset, cut as u64, "{name}"),
                Err(other) => panic!("{name}, cut at {cut}: {other}"),
            }
        }
    }
}

/// Where the blocks of a file end; its second section is big-endian.
fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length: [u8; 4] = bytes[at + 4..at + 8].try_into().unwrap();
        at += u32::from_le_bytes(length).min(u32::from_be_bytes(length)) as usize;
        ends.push(at);
    }
    ends
}

fn ng() -> File {
    File::new(false).section().interface(101, 0, |options| options).packet(0, 0, b"good", |options| options)
}

#[test]
fn what_makes_no_sense_ends_the_file_with_a_message() {
    let pcap = || File::new(false).pcap(0xa1b2_c3d4, 1).record(0, 0, b"good", 4);
    for (name, file, packets, message) in [
        ("nothing", File::new(false), 0, "not a capture: it begins with nothing, and neither"),
        ("text", File::new(false).raw(b"hello"), 0, "not a capture: it begins with 68656c6c, and"),
        (
            "a pcap of the future",
            File::new(false).u32(0xa1b2_c3d4).u16(3).u16(1).raw(&[0; 16]),
            0,
            "at byte 4: version 3.1 of the pcap format, where only 2 is known",
        ),
        (
            "a pcap packet of gigabytes",
            pcap().u32(0).u32(0).u32(0xffff_fff0).u32(4).raw(&[0; 99]),
            1,
            "at byte 44: a packet of 4294967280 bytes, where 262144 is the most there can be",
        ),
        (
            "a block of nothing",
            ng().u32(6).u32(0).u32(0),
            1,
            "at byte 84: a block of 0 bytes, which none can have",
        ),
        ("a block of 13 bytes", ng().u32(6).u32(13).raw(&[0; 9]), 1, "at byte 84: a block of 13 bytes"),
        (
            "a packet's block of gigabytes",
            ng().u32(6).u32(0xffff_fff0).raw(&[0; 99]),
            1,
            "at byte 84: a block of 4294967280 bytes, where 1310720 is the most for its kind (6)",
        ),
        (
            "an unknown block of gigabytes",
            ng().u32(99).u32(0xffff_fff0).raw(&[0; 92]),
            1,
            "the capture ends at byte 184, in the middle of a block",
        ),
        (
            "lengths that differ",
            ng().u32(99).u32(16).raw(&[0; 4]).u32(20),
            1,
            "at byte 84: a block that begins as 16 bytes long and ends as 20",
        ),
        (
            "lengths that differ around a packet",
            ng().u32(3).u32(20).raw(&[0; 8]).u32(24),
            1,
            "at byte 84: a block that begins as 20 bytes long and ends as 24",
        ),
        (
            "a section of no order",
            ng().u32(0x0a0d_0d0a).u32(28).raw(&[0; 20]),
            1,
            "at byte 84: a section whose byte order is neither",
        ),
        (
            "an interface of four bytes",
            ng().block(1, |block| block.u32(1)),
            1,
            "at byte 84: an interface whose description is too short",
        ),
    ] {
        let (got, end) = read_all(&file.bytes);
        assert_eq!(got.len(), packets, "{name}");
        let error = end.expect_err(name).to_string();
        assert!(error.contains(message), "{name}: {error}");
    }
}

#[test]
fn what_can_be_passed_over_is_noted() {
    let after = |file: File| file.packet(0, 9, b"after", |options| options);
    for (name, file, blocks, packets, message) in [
        ("an unknown block", ng().block(77, |block| block.u32(1)), 1, 0, "at byte 84: a block of kind 0x4d"),
        ("a block with no body", ng().block(77, |block| block), 1, 0, "at byte 84: a block of kind 0x4d"),
        (
            "a packet of an interface that is not there",
            ng().packet(3, 0, b"x", |options| options),
            0,
            1,
            "at byte 84: packet 2 is of interface 3, which is not described",
        ),
        (
            "a packet that is longer than its block",
            ng().block(6, |block| block.u32(0).u32(0).u32(0).u32(40).u32(40).raw(&[0; 36])),
            0,
            1,
            "packet 2 is longer than its block",
        ),
        (
            "a packet of gigabytes in a small block",
            ng().block(6, |block| block.u32(0).u32(0).u32(0).u32(u32::MAX).u32(4).raw(&[0; 4])),
            0,
            1,
            "packet 2 has 4294967295 bytes",
        ),
        (
            "a packet with half a header",
            ng().block(6, |block| block.u32(0)),
            0,
            1,
            "packet 2 has no whole header",
        ),
        ("a simple packet of nothing", ng().block(3, |block| block), 0, 1, "packet 2 has no whole header"),
    ] {
        let (got, end) = read_all(&after(file).bytes);
        let Notes { blocks_skipped, packets_skipped, first } = end.expect(name);
        assert_eq!((blocks_skipped, packets_skipped), (blocks, packets), "{name}");
        let first = first.unwrap_or_default();
        assert!(first.contains(message), "{name}: {first}");
        assert_eq!(got.last().unwrap().bytes, b"after", "{name}");
    }
}

#[test]
fn odd_options_do_no_harm() {
    let odd: [(&str, &dyn Fn(File) -> File); 6] = [
        ("no value", &|options| options.option(9, &[]).option(14, &[]).option(2, &[])),
        ("a short offset", &|options| options.option(14, &[1, 2, 3])),
        ("past the block", &|options| options.u16(9).u16(60_000).raw(&[6; 4])),
        ("half a header", &|options| options.u16(9)),
        ("after the end", &|options| options.u32(0).option(9, &[0])),
        ("unknown", &|options| options.option(60_000, b"abc")),
    ];
    for (name, options) in odd {
        let file = File::new(false).section().interface(101, 0, options).packet(0, 1, b"x", options);
        let (packets, end) = read_all(&file.bytes);
        assert!(end.is_ok(), "{name}");
        assert_eq!(packets[0].nanos, Some(1000), "{name}: microseconds, as without options");
    }
}

#[test]
fn link_types_may_be_mixed_and_snap_lengths_absurd() {
    let file = File::new(false)
        .section()
        .interface(1, u32::MAX, |options| options)
        .interface(147, 1, |options| options)
        .packet(0, 0, &[0; 60], |options| options)
        .packet(1, 0, &[0; 60], |options| options);
    let (packets, end) = read_all(&file.bytes);
    assert!(end.is_ok());
    assert_eq!(packets.iter().map(|packet| packet.bytes.len()).collect::<Vec<_>>(), [60, 60]);
}

#[test]
fn interfaces_without_end_are_not_remembered() {
    let mut file = File::new(false).section();
    for _ in 0..65_537 {
        file = file.interface(1, 0, |options| options);
    }
    let error = read_all(&file.bytes).1.unwrap_err().to_string();
    assert!(error.contains("more than 65536 interfaces"), "{error}");
}

#[test]
fn memory_follows_what_has_come_and_not_what_is_promised() {
    let mut source = Source::new(std::io::repeat(0).take(1000)).unwrap();
    assert!(source.take(usize::MAX, "everything").is_err());
    assert!(source.memory() <= 512 << 10);
    let mut source = Source::new(std::io::repeat(0).take(1 << 30)).unwrap();
    source.skip(100 << 20, "much").unwrap();
    source.peek(1 << 20);
    assert!(source.memory() <= 4 << 20);
}
