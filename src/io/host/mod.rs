//! The host's network: links, addresses, routes, rules and settings, over netlink and `/proc/sys`.
//!
//! [`Host`] does for a balancer what it needs done, and takes it back. [`Netlink`] has the single steps, for
//! whoever builds networks. Nothing here runs another program.

mod configure;
mod journal;
mod link;
mod netlink;
mod routes;
mod rules;
mod sysctl;

pub use configure::{Host, HostPlan};
pub use link::Route;
pub use netlink::Netlink;
