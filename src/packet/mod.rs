//! IP packets as bytes: read a header, rewrite a field in place, keep the sums right.
//!
//! This room knows no flows, no services and no devices. A [`View`](view::View) says where things are in
//! a packet, after etherparse has checked that they are there; the setters change fields of
//! the packet and carry every change into the checksums that cover it.

pub mod frame;
pub mod tuple;

pub use frame::{ChecksumState, Frame, HEADROOM, MAX_PACKET, Offload, SegmentKind, Segments};
pub use tuple::{Address, Endpoint, Family, FiveTuple, Protocol};
