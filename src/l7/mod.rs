//! The proxy: TCP is ended here, and what it carries is read.
//!
//! [`stack`] takes frames and time, and gives frames and a deadline; it opens no socket and
//! reads no clock. [`stream`] is what an accepted connection looks like from above: an
//! asynchronous stream of bytes that copies straight into and out of the stack's rings.
//! All of one connection lives on one worker's thread: `Rc`, no locks.
//!
//! ```text
//!   frames ──▶ stack ──▶ stream ──▶ tls ──▶ front: hyper, checks, route, headers
//!                                                  │ Exchange        ▲ Answer, Failure
//!                                                  ▼                 │
//!                                           upstream: pool, retries, hyper ──Connect──▶ backend
//! ```
//!
//! [`spec`] says what is configured, [`exchange`] what the two halves say to each other, [`connect`] how backends are
//! reached; [`proxy`] is all of it for one worker. Nothing here opens a socket or a file.

pub mod access;
pub mod cache;
pub mod client_body;
pub mod connect;
pub mod exchange;
pub mod front;
pub mod proxy;
pub mod rooms;
pub mod spec;
pub mod stack;
pub mod stream;
pub mod tls;
pub mod trace;
pub mod upstream;
mod words;

pub use stack::{Accepted, Stack};
pub use stream::FlowStream;
