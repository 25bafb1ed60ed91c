//! Where the IP packet is, for every link type.

use crate::capture::{Ip, LinkType, NotIp};

/// A whole IPv4 packet of 24 bytes.
const V4: [u8; 24] = [0x45, 0, 0, 24, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 1, 2, 3, 4];

/// A whole IPv6 packet of 41 bytes.
fn v6() -> Vec<u8> {
    [&[0x60, 0, 0, 0, 0, 1, 59, 64][..], &[1; 32], &[9]].concat()
}

fn ip(link: LinkType, bytes: &[u8]) -> Result<(Vec<u8>, usize, u8), NotIp> {
    let Ip { bytes, missing, tags } = link.ip(bytes, u32::try_from(bytes.len()).unwrap())?;
    Ok((bytes.to_vec(), missing, tags))
}

#[test]
fn ip_is_found_behind_every_header() {
    let mac = [0; 12];
    let sll = [0; 14];
    let sll2 = |kind: [u8; 2]| [&kind[..], &[0; 18]].concat();
    for (name, link, header, tags) in [
        ("raw", LinkType::RAW, vec![], 0),
        ("raw, as BSD numbers it", LinkType(12), vec![], 0),
        ("raw, as OpenBSD numbers it", LinkType(14), vec![], 0),
        ("IPv4", LinkType::IPV4, vec![], 0),
        ("Ethernet", LinkType::ETHERNET, [&mac[..], &[8, 0]].concat(), 0),
        ("802.1Q", LinkType::ETHERNET, [&mac[..], &[0x81, 0, 0, 5, 8, 0]].concat(), 1),
        ("QinQ", LinkType::ETHERNET, [&mac[..], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0]].concat(), 2),
        ("SLL", LinkType::LINUX_SLL, [&sll[..], &[8, 0]].concat(), 0),
        ("SLL with a tag", LinkType::LINUX_SLL, [&sll[..], &[0x81, 0, 0, 5, 8, 0]].concat(), 1),
        ("SLL2", LinkType::LINUX_SLL2, sll2([8, 0]), 0),
        ("loopback, little-endian", LinkType::NULL, vec![2, 0, 0, 0], 0),
        ("loopback, big-endian", LinkType::NULL, vec![0, 0, 0, 2], 0),
        ("OpenBSD loopback", LinkType::LOOP, vec![0, 0, 0, 2], 0),
        ("OpenBSD loopback, wrongly little-endian", LinkType::LOOP, vec![2, 0, 0, 0], 0),
    ] {
        let whole = [&header[..], &V4, &[0; 7]].concat();
        assert_eq!(ip(link, &whole), Ok((V4.to_vec(), 0, tags)), "{name}, padding cut off");
        for end in 0..header.len() {
            assert_eq!(ip(link, &whole[..end]), Err(NotIp::CutOff), "{name}, cut at {end}");
        }
    }
    for (name, link, header) in [
        ("IPv6", LinkType::IPV6, vec![]),
        ("Ethernet", LinkType::ETHERNET, [&mac[..], &[0x86, 0xdd]].concat()),
        ("SLL2", LinkType::LINUX_SLL2, sll2([0x86, 0xdd])),
        ("Linux", LinkType::NULL, vec![10, 0, 0, 0]),
        ("NetBSD and OpenBSD", LinkType::NULL, vec![24, 0, 0, 0]),
        ("FreeBSD", LinkType::NULL, vec![0, 0, 0, 28]),
        ("Darwin", LinkType::NULL, vec![30, 0, 0, 0]),
    ] {
        let whole = [&header[..], &v6(), &[0; 4]].concat();
        assert_eq!(ip(link, &whole), Ok((v6(), 0, 0)), "{name}");
    }
}

#[test]
fn what_was_not_kept_is_counted() {
    let whole = [&[0; 12][..], &[8, 0], &V4].concat();
    let snapped = LinkType::ETHERNET.ip(&whole[..34], 38).unwrap();
    assert_eq!((snapped.bytes, snapped.missing), (&V4[..20], 4));
    // A header that lies about its length is no reason to miss what never was there.
    let mut lies = V4;
    lies[2] = 0xff;
    assert_eq!(LinkType::RAW.ip(&lies, 24).unwrap().missing, 0);
    // A large segment may have left its length to the network card.
    let mut large = V4;
    large[3] = 0;
    assert_eq!(LinkType::RAW.ip(&large, 24).unwrap().bytes, large);
}

#[test]
fn what_is_not_ip_is_named() {
    let arp = [&[0; 12][..], &[8, 6], &[0; 28]].concat();
    for (link, bytes, want, text) in [
        (LinkType::ETHERNET, &arp[..], NotIp::Protocol(0x0806), "protocol 0x0806 is not IP"),
        (LinkType(127), &arp, NotIp::LinkType(LinkType(127)), "link type 127 (IEEE802_11_RADIO) is not read"),
        (LinkType(9999), &arp, NotIp::LinkType(LinkType(9999)), "link type 9999 is not read"),
        (LinkType::RAW, &[0x55; 30], NotIp::Version, "an IP version that is neither 4 nor 6"),
        (LinkType::RAW, &[], NotIp::CutOff, "the header of its link is cut off"),
        (LinkType::NULL, &[7, 0, 0, 0, 0x45], NotIp::Protocol(7), "protocol 0x0007 is not IP"),
    ] {
        assert_eq!(ip(link, bytes), Err(want));
        assert_eq!(want.to_string(), text);
    }
}
