//! The host's network: links, addresses, routes, rules and settings, over netlink and `/proc/sys`.

pub mod link;
mod netlink;
mod plan;

pub use link::Route;
pub use netlink::Netlink;
pub use plan::{Host, HostPlan};
