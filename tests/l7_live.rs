//! Layer 7, live: real clients and real backends, a real TUN in the middle, and the program itself as the balancer.
//!
//! Each test makes a network of its own out of namespaces ([`net`]), writes a configuration with the certificates it
//! needs ([`site`]), starts `fourseven run` in the namespace in the middle ([`balancer`]), and talks to it by curl and
//! openssl, or by clients of the test's own ([`talk`]) where those cannot do what is needed.

#![expect(clippy::disallowed_methods, reason = "what is watched here happens in real time")]

mod support;

#[expect(dead_code, reason = "the tests of layer 4 use the rest of it")]
#[path = "l4_live/balancer.rs"]
mod balancer;
#[path = "l7_live/behind.rs"]
mod behind;
#[path = "l7_live/browser.rs"]
mod browser;
#[path = "l7_live/bulk.rs"]
mod bulk;
#[path = "l7_live/capture.rs"]
mod capture;
#[path = "l7_live/curl.rs"]
mod curl;
#[path = "l7_live/ends.rs"]
mod ends;
#[path = "l7_live/failing.rs"]
mod failing;
#[path = "l7_live/grpc.rs"]
mod grpc;
#[path = "l7_live/limits.rs"]
mod limits;
#[path = "l7_live/many.rs"]
mod many;
#[expect(dead_code, reason = "the tests of devices use the rest of it")]
#[path = "io_tun/namespace.rs"]
mod namespace;
#[expect(dead_code, reason = "the tests of layer 4 use the rest of it")]
#[path = "l4_live/net.rs"]
mod net;
#[path = "l7_live/openssl.rs"]
mod openssl;
#[path = "l7_live/routes.rs"]
mod routes;
#[path = "l7_live/shaping.rs"]
mod shaping;
#[path = "l7_live/site.rs"]
mod site;
#[path = "l7_live/swap.rs"]
mod swap;
#[path = "l7_live/talk.rs"]
mod talk;
#[path = "l7_live/websocket.rs"]
mod websocket;
#[path = "l7_live/wrong.rs"]
mod wrong;
