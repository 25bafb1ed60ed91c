//! How many files this process may have open, and how many connections that and its ports allow: ten thousand are
//! more than is usual.

use std::fs;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are open beside the connections: event loops, standard streams, certificates.
const OTHER_FILES: u64 = 64;

/// Raises the soft limit to the hard one. Where that fails, the connections that are too many will say so.
pub fn raise_files() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Why there cannot be so many connections to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// Each takes a port of this host.
    #[error(
        "{asked} connections are too many: one address has {most} ports to open them from \
         (net.ipv4.ip_local_port_range)"
    )]
    Ports {
        /// So many were asked for.
        asked: u64,
        /// So many there can be.
        most: u64,
    },
    /// Each is an open file.
    #[error("{asked} connections are too many: this process may have {most} open (see `ulimit -n`)")]
    Files {
        /// So many were asked for.
        asked: u64,
        /// So many there can be.
        most: u64,
    },
}

/// Whether there can be so many connections at once to one target, as far as this host is concerned.
///
/// # Errors
/// There cannot.
pub fn room_for(connections: usize) -> Result<(), TooMany> {
    let asked = u64::try_from(connections).unwrap_or(u64::MAX);
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    if let Some(most) = ports.as_deref().and_then(ports_in).filter(|most| asked > *most) {
        return Err(TooMany::Ports { asked, most });
    }
    let files = getrlimit(Resource::RLIMIT_NOFILE).ok();
    let most = files.map(|(soft, _)| soft.saturating_sub(OTHER_FILES));
    most.filter(|most| asked > *most).map_or(Ok(()), |most| Err(TooMany::Files { asked, most }))
}

/// How many ports a range has, as the kernel writes it.
fn ports_in(range: &str) -> Option<u64> {
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    last.checked_sub(first)?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_is_counted_with_both_ends_and_nonsense_is_none() {
        for (range, want) in [
            ("32768\t60999\n", Some(28_232)),
            ("1024 1024", Some(1)),
            ("60999 32768", None),
            ("1", None),
            ("", None),
        ] {
            assert_eq!(ports_in(range), want, "{range:?}");
        }
    }

    #[test]
    fn some_connections_there_can_be_and_a_hundred_thousand_not() {
        assert_eq!(room_for(1), Ok(()));
        assert!(room_for(100_000).is_err(), "there are 65,536 ports");
    }
}
