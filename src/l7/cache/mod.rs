//! The cache: answers that are kept, and given again as far as RFC 9111 allows a shared cache to.
//!
//! ```text
//!   Exchange ──▶ caching ──find──▶ store: resources, variants ──▶ hit: head, chunks
//!                   │                 ▲ insert
//!                   │ wait         fetch: a task of its own ──▶ Forward ──▶ backend
//!                   └──▶ flight ◀─────┘ │
//!                          └─────▶ flow: a body that many read while it comes
//! ```
//!
//! [`Caching`] stands before the upstreams of one worker and is one itself; [`Cache`] is one a site, and shared by all
//! workers. What is allowed says `rules`, in plain functions of heads and times; what was done says [`CacheStatus`], in the words of
//! RFC 9211, with the reason.
//!
//! *Bounded:* all that is kept, and all that is on its way to be, is charged to one bound (see `budget`).
//! *Nobody waits for somebody who is gone:* a fetch is nobody's but its own task's.
//! *Whole or not at all:* a body is stored when its end has come and was not the end of the connection alone.
//!
//! The library http-cache-semantics answers the questions of `rules` with yes and no. It is not used: each answer here has
//! its reason, `stale-while-revalidate`, `stale-if-error` and `must-understand` are part of it, and a look allocates nothing.

mod body;
mod budget;
mod caching;
mod clock;
mod counters;
mod directives;
mod entry;
mod fetch;
mod flight;
mod flow;
mod range;
mod resolve;
mod rules;
mod status;
mod store;
mod validate;
mod vary;

#[cfg(test)]
mod tests;

pub use body::CacheBody;
pub use caching::Caching;
pub use clock::Clock;
pub use counters::CacheCounters;
pub use status::{CacheStatus, Detail, Handling};
pub use store::Cache;
