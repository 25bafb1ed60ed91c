//! Layer 4: one packet in, the same packet out, rewritten.
//!
//! A packet is read as far as its ports, looked up, and rewritten in place. Nothing is
//! reassembled and nothing above the ports is looked at, so one TCP connection runs from the
//! client to the backend, and TLS stays between the two.
//!
//! ```text
//!                      ┌ known flow ──▶ rewrite as bound ───────────────▶ Forward
//!   packet ─▶ View ─▶ find ─ another worker's ──────────────────────────▶ HandOver
//!                      └ unknown ─▶ a VIP's service? ─▶ pick ─▶ bind ───▶ Forward
//!                                        │ no            │ none  │ full
//!                                        └───────────────┴───────┴──────▶ Answer or Drop
//! ```
//!
//! A packet of a known flow that came by another queue than the one before it first waits for those that it may have overtaken
//! (`order.rs`). The rest is in the branches: ICMP errors are translated together with the packet that they
//! quote (`icmp.rs`), fragments follow their first one (`fragments.rs`, `pieces.rs`), and whatever
//! cannot be forwarded is answered as its protocol wants (`refuse.rs`).
//!
//! Invariants: no packet of a flow ever leaves untranslated; the way back is the exact
//! inverse of the way there, since both come from one binding; each packet gets one verdict
//! with one reason.

mod fragments;
mod icmp;
mod identification;
mod limits;
mod order;
mod pieces;
mod refuse;
mod telling;
mod translator;

#[cfg(test)]
mod tests;

pub use translator::{Setup, Translator};
