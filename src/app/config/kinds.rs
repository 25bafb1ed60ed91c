//! Placeholder for types of other rooms, until those are merged.

#![allow(missing_docs)]

use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use crate::packet::{Endpoint, Protocol};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(NonZeroU16);

impl Weight {
    pub const ONE: Self = Self(NonZeroU16::MIN);
    pub const fn new(value: u16) -> Option<Self> {
        match NonZeroU16::new(value) {
            Some(value) => Some(Self(value)),
            None => None,
        }
    }
    pub const fn value(self) -> u16 {
        self.0.get()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Listen {
    pub protocol: Protocol,
    pub endpoint: Endpoint,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.protocol, self.endpoint)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nat {
    #[default]
    Full,
    Dnat,
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Dnat => "dnat",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SchedulerKind {
    #[default]
    Rr,
    Wrr,
    Lc,
    Wlc,
    Sh,
    Mh,
    P2c,
}

impl SchedulerKind {
    pub const ALL: [Self; 7] = [Self::Rr, Self::Wrr, Self::Lc, Self::Wlc, Self::Sh, Self::Mh, Self::P2c];
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Wrr => "wrr",
            Self::Lc => "lc",
            Self::Wlc => "wlc",
            Self::Sh => "sh",
            Self::Mh => "mh",
            Self::P2c => "p2c",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    pub endpoint: Endpoint,
    pub weight: Weight,
    pub drain: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSpec {
    pub name: String,
    pub listen: Vec<Listen>,
    pub nat: Nat,
    pub scheduler: SchedulerKind,
    pub backends: Vec<BackendSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassiveHealth {
    pub fall: u32,
    pub retry: Duration,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        Self { fall: 3, retry: Duration::from_secs(10) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    #[default]
    Auto,
    Offload,
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp_opening: Duration,
    pub tcp_established: Duration,
    pub tcp_closing: Duration,
    pub tcp_closed: Duration,
    pub udp: Duration,
    pub fragment: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_opening: Duration::from_mins(4),
            tcp_established: Duration::from_mins(124),
            tcp_closing: Duration::from_mins(4),
            tcp_closed: Duration::from_secs(10),
            udp: Duration::from_mins(5),
            fragment: Duration::from_secs(15),
        }
    }
}
