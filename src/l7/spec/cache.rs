//! What is kept of answers.

use std::time::Duration;

use ipnet::IpNet;

/// What is kept of answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheSpec {
    /// The bound of all that is held: heads, bodies, also those on their way, and names.
    pub max_bytes: usize,
    /// The largest body that is kept.
    pub max_body: usize,
    /// For how long a stale answer is given where no backend can be reached (RFC 9111 §4.2.4).
    pub stale_if_unreachable: Duration,
    /// Who may purge.
    pub purge: Vec<IpNet>,
}

impl CacheSpec {
    /// The least that can be held.
    pub const LEAST_BYTES: usize = 64 << 10;

    /// With this bound, and otherwise the defaults.
    pub fn with(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            max_body: max_bytes / 8,
            stale_if_unreachable: Duration::from_hours(1),
            purge: Vec::new(),
        }
    }
}
