//! What has been seen: bindings by five-tuple, TCP state, idle timeouts, local ports.
mod binding;
mod clients;
mod endpoints;
mod entry;
mod index;
mod open;
mod ports;
mod settings;
mod shared;
mod slab;
mod table;
mod tcp;
mod timers;

#[cfg(test)]
mod tests;

pub use binding::{Binding, Direction, Nat};
pub use entry::Traffic;
pub use open::{NewFlow, OpenError};
pub use ports::{LocalPool, PoolError};
pub use settings::{Settings, Timeouts};
pub use shared::Shared;
pub use slab::FlowId;
pub use table::{Change, Ended, Event, FlowTable, Lookup, Why};
pub use tcp::{State, TcpFlags};
