//! The front: what clients speak to.
//!
//! ```text
//!   connection ── secured ──▶ session ── guard ──▶ hyper ──▶ target, limits, route, headers ──▶ Forward
//!                                │                                   │ refused, answered          │ failed
//!                                ◀──────── shape ◀── answer ◀────────┴────────────────────────────┘
//! ```
//!
//! [`serve`] takes one connection from its first byte to its last. Nothing is forwarded of a request that can be read
//! in two ways, or that no route takes: such a one has a [`Refusal`].

mod answer;
mod answered;
mod chunks;
mod counters;
mod cut;
mod entry;
mod frames;
mod guard;
mod head;
mod headers;
mod life;
mod path;
mod refusal;
mod refused;
mod request;
mod rewind;
mod route;
mod session;
mod shape;
mod slots;
mod target;
mod tunnel;

#[cfg(test)]
mod tests;

pub use answer::BodyError;
pub use counters::{FrontCounters, Spoken};
pub use cut::Cut;
pub use headers::Security;
pub use refusal::Refusal;
pub use route::{Asked, Route, Routes};
pub use session::{Arrived, Drain, Site, serve};
pub use shape::Shaped;
