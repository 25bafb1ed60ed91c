//! The host's network: links, addresses, routes, rules and settings, over netlink and `/proc/sys`.

pub mod link;
mod netlink;

pub use link::Route;
pub use netlink::Netlink;
