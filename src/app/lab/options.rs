//! How the story goes: its flags, and the balancer that they ask for.

use std::path::PathBuf;

use crate::app::config::Flags;
use crate::lab::topology::{self, Topology};
use crate::packet::Family;

/// How the story goes.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub struct Options {
    /// How many backends, 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=16))]
    pub backends: u8,
    /// full: both ends of a packet are rewritten; dnat: the backend sees the client's own address.
    #[arg(long, default_value = "full", value_parser = ["full", "dnat"])]
    pub nat: String,
    /// How a backend is picked for a new flow.
    #[arg(long, default_value = "rr", value_parser = ["rr", "wrr", "lc", "wlc", "sh", "mh", "p2c"])]
    pub scheduler: String,
    /// How packets come from the TUN device.
    #[arg(long, default_value = "auto", value_parser = ["auto", "offload", "plain"])]
    pub io: String,
    /// How many TUN queues, with a worker each.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub queues: u8,
    /// Run this shell command as each backend, in place of the built-in servers: HTTP on `FOURSEVEN_PORT`.
    #[arg(long, value_name = "COMMAND")]
    pub backend_cmd: Option<String>,
    /// Leave the backends alone, and keep the network until Ctrl-C.
    #[arg(long)]
    pub hold: bool,
    /// No story: a prompt inside the client, the balancer or a backend.
    #[arg(long, value_name = "HOST", conflicts_with_all = ["hold", "json", "memory"])]
    pub shell: Option<String>,
    /// Print one JSON object at the end and nothing else.
    #[arg(long)]
    pub json: bool,
    /// Write what the balancer does to this pcapng file: each packet as it came and as it left, with what was decided.
    #[arg(short, long, value_name = "FILE", conflicts_with = "memory")]
    pub write: Option<PathBuf>,
    /// Write the secrets of TLS sessions into it too, so that Wireshark shows what was said in them.
    #[arg(long, requires = "write")]
    pub secrets: bool,
    /// Play in memory, with userspace TCP at both ends, even where namespaces are allowed.
    #[arg(long, conflicts_with_all = ["hold", "backend_cmd"])]
    pub memory: bool,
}

impl Options {
    /// Whether only namespaces can give what is asked for.
    pub const fn needs_namespaces(&self) -> bool {
        self.hold || self.shell.is_some() || self.backend_cmd.is_some() || self.write.is_some()
    }

    /// Layer 4 of the balancer, as the flags of `run` describe it.
    pub fn flags(&self, topology: Topology) -> Flags {
        Flags {
            mode: Some("l4".into()),
            vip: topology.vips().iter().map(|(protocol, at)| format!("{protocol}/{at}")).collect(),
            backend: topology.backend_endpoints().iter().map(ToString::to_string).collect(),
            nat: Some(self.nat.clone()),
            scheduler: Some(self.scheduler.clone()),
            local: [Family::V4, Family::V6].map(|family| topology.local(family).to_string()).into(),
            io: Some(self.io.clone()),
            queues: Some(self.queues.to_string()),
            tun: Some(topology::TUN.into()),
            ..Flags::default()
        }
    }
}
