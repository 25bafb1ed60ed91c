//! A network to try the balancer in.
//!
//! Namespaces held by processes ([`sandbox`], [`host`], [`crew`]), the servers and clients that run in
//! them ([`serve`], [`client`], [`load`]), and the story that is told with them.

pub mod attempt;
pub mod client;
mod clock;
pub mod host;
pub mod link;
pub mod load;
pub mod order;
pub mod pattern;
pub mod sandbox;
pub mod serve;
pub mod topology;
