//! IP packets as bytes: read a header, rewrite a field in place, keep the sums right.
//!
//! This room knows no flows, no services and no devices. A [`View`] says where things are in
//! a packet, after etherparse has checked that they are there; [`rewrite`] changes fields of
//! the packet and carries every change into the checksums that cover it; [`quote`] does the
//! same inside an ICMP error; [`answer`] builds what the balancer says in its own name.

pub mod answer;
pub mod checksum;
mod flags;
pub mod frame;
pub mod quote;
pub mod rewrite;
pub mod tuple;
pub mod view;

#[cfg(test)]
mod tests;

pub use flags::TcpFlags;
pub use frame::{ChecksumState, Frame, HEADROOM, MAX_PACKET, Offload, SegmentKind, Segments, Tags};
pub use tuple::{Address, Endpoint, Family, FiveTuple, Protocol};
pub use view::{FragmentInfo, Transport, Unreadable, View};
