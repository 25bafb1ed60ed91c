//! Queues, workers and the host's configuration on real devices, each test in network namespaces of its own.
//!
//! Where namespaces or the TUN node are not to be had the tests say so and do nothing; with
//! `FOURSEVEN_CI=1` that is a failure.

#![expect(clippy::disallowed_methods, reason = "what is watched here happens in real time")]

#[path = "io_tun/cores.rs"]
mod cores;
#[path = "io_tun/devices.rs"]
mod devices;
#[path = "io_tun/dnat.rs"]
mod dnat;
#[path = "io_tun/host.rs"]
mod host;
#[path = "io_tun/links.rs"]
mod links;
#[path = "io_tun/namespace.rs"]
mod namespace;
#[path = "io_tun/path.rs"]
mod path;
#[path = "io_tun/speed.rs"]
mod speed;
