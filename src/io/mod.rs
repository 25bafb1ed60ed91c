//! The world: TUN queues, the clock, the workers, the host's network.
//!
//! Cores decide and this room acts. [`open`](open::open) gets the queues of a TUN device,
//! [`run_workers`](worker::run_workers) drives one core a queue, each on a thread of its own,
//! and [`Host`](host::Host) makes the host send its packets to the device, and takes that back.

pub mod error;
pub mod host;
pub mod queue;

pub use error::IoError;
pub use queue::{Queue, QueueKind};
