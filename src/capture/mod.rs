//! Captures: packets in files, as they are read, and as they are written with the decision beside each.
//!
//! Nothing here opens a file: a [`Reader`] reads from whatever bytes come, a [`Writer`] writes to whatever takes them.
//!
//! ```text
//!   bytes ─▶ gzip? zstd? ─▶ pcap or pcapng ─▶ Packet { time, interface, link type, bytes, … } ─ ip() ─▶ an IP packet
//!
//!   Record { came, decision, left } ─▶ pcapng: two packets with one id, and the decision as the comment of both
//! ```

mod filter;
mod link;
mod packet;
mod reader;
mod words;
mod writer;

pub use filter::{Filter, FilterError};
pub use link::{Ip, LinkType, NotIp};
pub use packet::{Direction, Interface, Packet, Timestamp};
pub use reader::{Format, Notes, ReadError, Reader};
pub use writer::{About, Picture, Record, Statistics, Writer};
