//! What has been seen: bindings by five-tuple, TCP state, idle timeouts, local ports.
//!
//! # Theory of operation
//!
//! Each worker, a thread, has a [`FlowTable`] of its own; all of them share one [`Shared`]. A flow belongs to the
//! worker that opened it, and only that one ever looks at its entry. So a packet of a known flow that comes to
//! its owner takes no lock, and nothing that it touches is written by another thread.
//!
//! ```text
//!               ╭──────────────────── Shared ────────────────────╮
//!   tuple ────▶ │ index: tuple ─▶ (worker, entry)     lock-free  │   full?  live flows against max_flows
//!               │ clients: flows of each client       a sketch   │   ports? the pool, and uses by backend
//!               │ endpoints: what VIP and backend ids mean       │
//!               ╰───────┬─────────────────────┬──────────────────╯
//!          mine         │                     │        another's: Lookup::Elsewhere,
//!                       ▼                     ▼        the frame is handed over
//!          ╭─ FlowTable of worker 0 ─╮   ╭─ of worker 1 ─╮
//!          │ entries   64 bytes each │   │               │
//!          │ links     16 bytes each │   │      …        │
//!          │ wheel, opening, closed  │   │               │
//!          ╰─────────────────────────╯   ╰───────────────╯
//! ```
//!
//! A flow is entered once and found twice: under the tuple that its client sends (*original*), and under the
//! tuple that its backend answers with (*reply*). The life of a flow, as the layer-4 core sees it:
//!
//! 1. [`FlowTable::find`] says `Nowhere`. A backend is picked, and [`FlowTable::open`] enters both keys, with a local
//!    endpoint in full NAT.
//! 2. For this packet and all others, [`FlowTable::observe`] counts it, follows the TCP state and restarts the
//!    idle timeout, and [`FlowTable::rewritten`] gives the tuple that it leaves with.
//! 3. `observe` says `Reopen` when the client starts anew on a tuple that is over: back to 1, where `open`
//!    replaces the old flow.
//! 4. [`FlowTable::expire`], called when [`FlowTable::next_deadline`] asks for it, ends what has been idle too long.
//!
//! # Invariants
//!
//! - Both keys of a flow are in the index, or neither is; and no key is there twice. They are added in `open` only
//!   and removed in one place (`end`).
//! - No two live flows share a local endpoint towards one backend endpoint and protocol: it would be the same reply key.
//! - A live flow is in exactly one list of its worker's timers, the one for its phase.
//! - The counts of live flows, of each client's flows and of each backend's ports are those of the live flows.
//! - A flow never changes its binding. Neither a SYN nor a RST, ICMP error or reload re-points it.
//!
//! `tests` holds the table against these after every step of random operations.
//!
//! # Cost
//!
//! At `n` flows the table takes 32 bytes a flow of index, 80 of entry and links, and 4 of the clients' sketch: 116
//! and a little, once it is full; entries are allocated as they are needed. A known flow costs two lines that
//! may not be in the cache, one of the index and one of entries; a quarter of the keys in a full table, and hardly any
//! in one half full, cost one more of the index. `benches/flow_table.rs` measures all of it.
//!
//! # Limits
//!
//! - A worker can only let its own flows give way. Where the table is full and a worker has neither closed nor old half-open
//!   flows of its own, it refuses new ones, though others may have some. The kernel spreads new flows over the
//!   queues, so the workers are much alike in that.
//! - TCP windows are not tracked; `tcp` says what that means for forged packets.
//! - The same client may be sent from different local addresses (RFC 4787 REQ-2 recommends one, for the
//!   peers of a NAT's hosts; a balancer's backends are told the client's address by other means).

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

pub use binding::{Binding, Direction};
pub use entry::{CameBy, Traffic};
pub use open::{NewFlow, OpenError};
pub use ports::{LocalPool, PoolError};
pub use settings::{Settings, Timeouts};
pub use shared::Shared;
pub use slab::FlowId;
pub use table::{Change, Ended, Event, FlowTable, Lookup, Why};
pub use tcp::State;
