//! `fourseven`: a packet-level userspace load balancer on a Linux TUN device.
//!
//! A *core* decides; a *driver* acts. A core takes frames and time, and gives back frames,
//! verdicts and counts. It opens nothing, reads no clock and rolls no dice that were not
//! handed to it. `run` drives a core from a TUN device; tests and the in-memory lab drive
//! the very same core from memory.
//!
//! | room | purpose | may name |
//! |---|---|---|
//! | [`packet`] | IP, TCP, UDP and ICMP as bytes: a frame and its offload metadata, read a header, rewrite a field in place, keep the sums right | – |
//! | [`datapath`] | the contract of core and driver: frames in and out, verdicts, reasons, ids, time, counters | packet |
//! | [`flow`] | what has been seen: bindings by five-tuple, TCP state, idle timeouts, local ports | packet, datapath |
//! | [`balance`] | where a new flow goes: virtual services, backends, schedulers, health | packet, datapath |
//! | [`l4`] | the translator: one packet in, the same packet out, rewritten | packet, flow, balance, datapath |
//! | [`l7`] | the proxy: smoltcp ends TCP, rustls TLS, hyper reads HTTP; then routes, and a pool of upstreams | packet, balance, datapath |
//! | [`io`] | the world: TUN queues, clocks, workers, the host's network | packet, datapath |
//! | [`capture`] | packets in files: pcap and pcapng as they are read, decisions beside their packets as they are written | packet, datapath |
//! | [`lab`] | a network to try it in: namespaces, hosts, load | packet, io, datapath |
//! | [`app`] | what the user asks for: command line, configuration, one file a command | all of them |
//!
//! ```text
//!              app                 Arrows point at what a room may name. There is no way back
//!       ┌─────┬─┴─────┐            up: `l4` never names `io`; `flow` and `balance` never name
//!       ▼     ▼       ▼            each other, so the layer-4 core joins them. What crosses
//!    l4 l7  lab    (all)          the contract (`BackendId`, `Reason`, …) is defined in
//!     ╱  ╲    │                    `datapath`, which all but `packet` may name.
//!  flow balance ▼                  `tests/architecture.rs` holds this table against `src/`.
//!     ╲  ╱     io
//!    packet ◀──┘
//! ```

pub mod app;
pub mod balance;
pub mod capture;
pub mod datapath;
pub mod flow;
pub mod io;
pub mod l4;
pub mod l7;
pub mod lab;
pub mod packet;
