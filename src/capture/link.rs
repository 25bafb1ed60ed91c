//! What packets of a capture begin with, and where the IP packet in them is.

use std::fmt;

/// A link type, by its number in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

/// An IP packet within a packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip<'a> {
    /// From the first byte of the IP header. Bytes after the packet (padding, a frame check sequence) are cut off where
    /// the IP header says where it ends.
    pub bytes: &'a [u8],
    /// How many bytes of it the capture did not keep.
    pub missing: usize,
    /// How many VLAN tags were around it.
    pub tags: u8,
}

/// Why there is no IP packet in a packet of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum NotIp {
    /// The link type is none that we can read.
    #[error("link type {0} is not read")]
    LinkType(LinkType),
    /// It carries something else, by its number for the next protocol (an Ethernet type, where the link has those).
    #[error("protocol 0x{0:04x} is not IP")]
    Protocol(u32),
    /// The header of the link is not whole.
    #[error("the header of its link is cut off")]
    CutOff,
    /// It should be IP, and its version is neither 4 nor 6.
    #[error("an IP version that is neither 4 nor 6")]
    Version,
}

impl LinkType {
    /// BSD loopback: the address family in the byte order of the host.
    pub const NULL: Self = Self(0);
    /// Ethernet.
    pub const ETHERNET: Self = Self(1);
    /// IPv4 or IPv6 without anything before it.
    pub const RAW: Self = Self(101);
    /// OpenBSD loopback: the address family in network order.
    pub const LOOP: Self = Self(108);
    /// Linux "cooked" capture.
    pub const LINUX_SLL: Self = Self(113);
    /// IPv4.
    pub const IPV4: Self = Self(228);
    /// IPv6.
    pub const IPV6: Self = Self(229);
    /// Linux "cooked" capture, version 2.
    pub const LINUX_SLL2: Self = Self(276);

    /// The name that tcpdump has for it.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "NULL",
            1 => "EN10MB",
            6 => "IEEE802",
            7 => "ARCNET",
            8 => "SLIP",
            9 => "PPP",
            10 => "FDDI",
            12 | 14 | 101 => "RAW",
            51 => "PPP_ETHER",
            105 => "IEEE802_11",
            108 => "LOOP",
            113 => "LINUX_SLL",
            127 => "IEEE802_11_RADIO",
            147 => "USER0",
            187 => "BLUETOOTH_HCI_H4",
            195 => "IEEE802_15_4",
            220 => "USB_LINUX_MMAPPED",
            228 => "IPV4",
            229 => "IPV6",
            239 => "NFLOG",
            253 => "NETLINK",
            276 => "LINUX_SLL2",
            _ => return None,
        })
    }

    /// The IP packet in these bytes of a packet that was `original_length` long.
    ///
    /// # Errors
    /// Where there is none.
    pub fn ip(self, bytes: &[u8], original_length: u32) -> Result<Ip<'_>, NotIp> {
        let (payload, tags) = self.payload(bytes)?;
        let header = bytes.len() - payload.len();
        let whole = (original_length as usize).saturating_sub(header);
        let first = payload.first().ok_or(NotIp::CutOff)?;
        let declared = match first >> 4 {
            // A length of 0 is a segment that its host has left to the network card to cut.
            4 => match field(payload, 2)? {
                0 => whole,
                length => usize::from(length),
            },
            6 => match field(payload, 4)? {
                0 => whole,
                length => 40 + usize::from(length),
            },
            _ => return Err(NotIp::Version),
        };
        let length = declared.min(whole.max(payload.len()));
        let bytes = payload.get(..length).unwrap_or(payload);
        Ok(Ip { bytes, missing: length - bytes.len(), tags })
    }

    /// What is behind the header of the link, and how many VLAN tags were in it.
    fn payload(self, bytes: &[u8]) -> Result<(&[u8], u8), NotIp> {
        match self.0 {
            12 | 14 | 101 | 228 | 229 => Ok((bytes, 0)),
            0 | 108 => {
                let (family, payload) = bytes.split_first_chunk().ok_or(NotIp::CutOff)?;
                // NULL has the byte order of whoever wrote it, and some write LOOP so too. Families are small.
                let family = u32::from_le_bytes(*family).min(u32::from_be_bytes(*family));
                match family {
                    // AF_INET; AF_INET6 of Linux, NetBSD and OpenBSD, FreeBSD, Darwin.
                    2 | 10 | 24 | 28 | 30 => Ok((payload, 0)),
                    other => Err(NotIp::Protocol(other)),
                }
            }
            1 => ether(bytes.get(12..).ok_or(NotIp::CutOff)?),
            113 => ether(bytes.get(14..).ok_or(NotIp::CutOff)?),
            276 => {
                let kind = field(bytes, 0)?;
                by_ether_type(kind, bytes.get(20..).ok_or(NotIp::CutOff)?)
            }
            _ => Err(NotIp::LinkType(self)),
        }
    }
}

impl fmt::Display for LinkType {
    /// The number, and the name where there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => self.0.fmt(f),
        }
    }
}

/// From an Ethernet type on.
fn ether(bytes: &[u8]) -> Result<(&[u8], u8), NotIp> {
    by_ether_type(field(bytes, 0)?, bytes.get(2..).ok_or(NotIp::CutOff)?)
}

/// What follows an Ethernet type and the VLAN tags (IEEE 802.1Q, 802.1ad, and what went before that) behind it.
fn by_ether_type(mut kind: u16, mut bytes: &[u8]) -> Result<(&[u8], u8), NotIp> {
    let mut tags: u8 = 0;
    while matches!(kind, 0x8100 | 0x88a8 | 0x9100 | 0x9200) {
        kind = field(bytes, 2)?;
        bytes = bytes.get(4..).ok_or(NotIp::CutOff)?;
        tags = tags.saturating_add(1);
    }
    match kind {
        0x0800 | 0x86dd => Ok((bytes, tags)),
        other => Err(NotIp::Protocol(other.into())),
    }
}

fn field(bytes: &[u8], at: usize) -> Result<u16, NotIp> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or(NotIp::CutOff)?;
    Ok(u16::from_be_bytes(*bytes))
}
