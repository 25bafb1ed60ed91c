//! Layer 4, live: real kernels on both sides, a real TUN in the middle, and the program itself as the balancer.
//!
//! Each test makes a network of its own out of namespaces ([`net`]), starts `fourseven run` in the one in the middle
//! ([`balancer`]), sends what it is about ([`traffic`]) and looks at what came of it: at the ends, and in
//! the balancer's report.

#![expect(clippy::disallowed_methods, reason = "what is watched here happens in real time")]

mod support;

#[path = "l4_live/balancer.rs"]
mod balancer;
#[path = "l4_live/before.rs"]
mod before;
#[path = "l4_live/ends.rs"]
mod ends;
#[path = "l4_live/fragments.rs"]
mod fragments;
#[path = "l4_live/gone.rs"]
mod gone;
#[path = "l4_live/icmp.rs"]
mod icmp;
#[path = "l4_live/many.rs"]
mod many;
#[path = "l4_live/matrix.rs"]
mod matrix;
#[expect(dead_code, reason = "the tests of devices use the rest of it")]
#[path = "io_tun/namespace.rs"]
mod namespace;
#[path = "l4_live/net.rs"]
mod net;
#[path = "l4_live/traffic.rs"]
mod traffic;
