//! The PROXY protocol header, version 2, that tells a backend who its client is.
//!
//! Written before the first byte of everything else, TLS included (section 2.2 of the specification that comes with HAProxy).

use std::net::IpAddr;

use crate::packet::Endpoint;

/// What every header of version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Version 2, command PROXY: this connection is somebody else's.
const VERSION_AND_COMMAND: u8 = 0x21;

/// TCP over IPv4.
const TCP4: u8 = 0x11;
/// TCP over IPv6.
const TCP6: u8 = 0x21;

/// The header for a client's connection to a VIP.
///
/// Both ends have to be of one family, and those of one connection are. Should they differ, both are written as IPv6, the
/// IPv4 one mapped (RFC 4291 §2.5.5.2).
pub(super) fn header(client: Endpoint, vip: Endpoint) -> Vec<u8> {
    let mut header = Vec::with_capacity(16 + 36);
    header.extend_from_slice(&SIGNATURE);
    header.push(VERSION_AND_COMMAND);
    let (source, destination) = (IpAddr::from(client.address), IpAddr::from(vip.address));
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (source, destination) {
        header.extend_from_slice(&[TCP4, 0, 12]);
        header.extend_from_slice(&source.octets());
        header.extend_from_slice(&destination.octets());
    } else {
        header.extend_from_slice(&[TCP6, 0, 36]);
        header.extend_from_slice(&sixteen(source));
        header.extend_from_slice(&sixteen(destination));
    }
    header.extend_from_slice(&client.port.to_be_bytes());
    header.extend_from_slice(&vip.port.to_be_bytes());
    header
}

fn sixteen(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<SocketAddr>().unwrap().into()
    }

    #[test]
    fn a_header_is_what_the_specification_draws() {
        let v4 = header(endpoint("198.51.100.7:40000"), endpoint("203.0.113.1:443"));
        let mut want = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c".to_vec();
        want.extend([198, 51, 100, 7, 203, 0, 113, 1, 0x9c, 0x40, 0x01, 0xbb]);
        assert_eq!(v4, want);

        let v6 = header(endpoint("[2001:db8::7]:1"), endpoint("[2001:db8::1]:80"));
        assert_eq!(v6.len(), 16 + 36);
        assert_eq!(v6[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!((v6[16], v6[31], v6[47]), (0x20, 7, 1));
        assert_eq!(v6[48..], [0, 1, 0, 80]);
    }

    #[test]
    fn mixed_families_are_written_as_ipv6() {
        let mixed = header(endpoint("198.51.100.7:1"), endpoint("[2001:db8::1]:80"));
        assert_eq!(mixed[12..16], [0x21, 0x21, 0, 36]);
        assert_eq!(mixed[26..32], [0xff, 0xff, 198, 51, 100, 7]);
    }
}
