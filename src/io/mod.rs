//! The world: TUN queues, the clock, the workers, the host's network.
//!
//! Cores decide and this room acts. [`open()`] gets the queues of a TUN device, [`run_workers`] drives one core
//! a queue, each on a thread of its own, [`run_with_tasks`] cores that have asynchronous tasks beside them, and [`host`] makes the host send its packets to the device, and
//! takes that back.

mod clock;
mod drive;
mod error;
pub mod host;
mod mailbox;
pub mod memory;
mod offload;
mod open;
mod plain;
mod queue;
mod signals;
mod spinner;
mod stop;
mod tap;
mod tasks;
mod upstream;
mod virtio;
mod worker;

pub use clock::Clock;
pub use drive::{More, Turn, Worker, settle_mail};
pub use error::IoError;
pub use offload::OffloadQueue;
pub use open::{IoChoice, Opened, TunRequest, UnknownChoice, is_tun_node, open};
pub use plain::PlainQueue;
pub use queue::{Queue, QueueKind, is_gone};
pub use signals::SignalWatch;
pub use stop::Stop;
pub use tap::{Copied, Heard, Listener, Taps, Told, Wanted, taps};
pub use tasks::run_with_tasks;
pub use upstream::{Peek, UpstreamProbe, UpstreamSocket};
pub use worker::{Pinning, WorkerOptions, run_workers};
