//! A network to try the balancer in.
//!
//! Namespaces held by processes ([`sandbox`], [`host`], [`crew`]), the servers and clients that run in
//! them ([`serve`], [`client`], [`load`]), and the story that is told with them.

pub mod account;
pub mod attempt;
pub mod browser;
pub mod client;
mod clock;
pub mod console;
pub mod crew;
pub mod error;
pub mod host;
pub mod inside;
pub mod limits;
pub mod load;
pub mod memory;
pub mod namespaces;
pub mod network;
pub mod order;
pub mod pattern;
pub mod picture;
pub mod report;
pub mod sandbox;
pub mod serve;
pub mod story;
pub mod topology;
pub mod visit;

pub use error::LabError;
