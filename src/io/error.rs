//! What can go wrong with the world, said to whoever must mend it.

use std::io;

/// Why a device could not be had, the host not be configured, or a worker had to end.
#[derive(Debug, thiserror::Error)]
pub enum IoError {
    /// The kernel has no TUN driver, or this file system does not show it.
    #[error(
        "there is no /dev/net/tun (load the driver with `modprobe tun`; \
         in a container, start it with `--device /dev/net/tun`)"
    )]
    NoTunNode,
    /// Something else lies where the node should be.
    #[error(
        "/dev/net/tun is there, but is not the TUN device node (remove it, and make it anew: \
         `mknod -m 0666 /dev/net/tun c 10 200`; in a container, start it with `--device /dev/net/tun`, not as a volume)"
    )]
    NotTheTunNode,
    /// The node is there, and we may not open it.
    #[error("not permitted to open /dev/net/tun: {source} (it must be readable and writable for this user)")]
    NodeNotPermitted {
        /// What the system said.
        source: io::Error,
    },
    /// The node is open, and we may not make a device with it.
    #[error(
        "not permitted to make the TUN device {name} with /dev/net/tun: {source} \
         (it needs CAP_NET_ADMIN in this network namespace)"
    )]
    DeviceNotPermitted {
        /// The device.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is a device of this name that we cannot attach to.
    #[error("the name {name} is taken: {why}")]
    NameTaken {
        /// The device.
        name: String,
        /// By what.
        why: &'static str,
    },
    /// No network device can have this name.
    #[error("`{name}` cannot be the name of a network device: {why}")]
    BadName {
        /// The name.
        name: String,
        /// Which rule it breaks.
        why: &'static str,
    },
    /// A number of queues that cannot be had.
    #[error("{queues} queues: {why}")]
    Queues {
        /// How many were asked for.
        queues: usize,
        /// Why that cannot be.
        why: String,
    },
    /// The device could not be opened with this kind of queue.
    #[error("cannot open {name} as {kind}: {why}")]
    Open {
        /// The device.
        name: String,
        /// The kind of queue.
        kind: super::QueueKind,
        /// What the system said, or what was missing.
        why: String,
    },
    /// The device was deleted, or the other end in memory was.
    #[error("the device {name} is gone: somebody deleted it while it was in use")]
    DeviceGone {
        /// The device.
        name: String,
    },
    /// A queue failed in a way that is not the network's doing.
    #[error("the queue of {name} failed: {source}")]
    QueueFailed {
        /// The device.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's thread could not be started or could not wait.
    #[error("worker {worker}: cannot {what}: {source}")]
    Worker {
        /// Which worker.
        worker: usize,
        /// What it wanted to do.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A worker's thread panicked. This is a defect of the program.
    #[error("worker {worker} panicked: {message}")]
    Panicked {
        /// Which worker.
        worker: usize,
        /// What it said.
        message: String,
    },
    /// Signals could not be listened for.
    #[error("cannot listen for signals: {source}")]
    Signals {
        /// What the system said.
        source: io::Error,
    },
    /// The kernel did not do what was asked over netlink.
    #[error("cannot {what}: {source}{}", needs(source))]
    Netlink {
        /// What was asked, to follow on "cannot".
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something on this host is in the way, and only its owner can say what should become of it.
    #[error("cannot {what}: {why}")]
    InTheWay {
        /// What was to be done, to follow on "cannot".
        what: String,
        /// What is in the way, and what to do about it.
        why: String,
    },
    /// A kernel setting could not be read or written.
    #[error("cannot set {setting} to {value}: {source} (set it from outside: `sysctl -w {setting}={value}`)")]
    Sysctl {
        /// Its name as `sysctl` has it.
        setting: String,
        /// The value it should have.
        value: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What a refusal of the kernel asks for, where one can tell.
fn needs(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => " (it needs CAP_NET_ADMIN in this network namespace)",
        _ => "",
    }
}

impl IoError {
    pub(crate) fn netlink(what: impl Into<String>, source: io::Error) -> Self {
        Self::Netlink { what: what.into(), source }
    }
}
