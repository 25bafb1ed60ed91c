//! Whether this machine lets us build a network of our own, and if not, what forbids it.
//!
//! [`enter`] moves the whole process into a network namespace of its own, so that nothing that
//! follows can touch the host's network: directly where it may (root), else inside a user
//! namespace in which the caller is mapped to root. It must be called while the process has
//! one thread, since a user namespace is refused to a process with more (`user_namespaces(7)`).
//!
//! A refusal comes as a bare `EPERM` from four different switches. Each is looked at, and the
//! answer names the one that is thrown and the one command that mends it.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Uid, getegid, geteuid};

use crate::io::is_tun_node;

/// By which right the lab has its namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Privileges of its own.
    Root,
    /// A user namespace in which it is root.
    Rootless,
}

/// Why a network of our own cannot be had here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Forbidden {
    /// What forbids it.
    pub what: String,
    /// The command that mends it.
    pub mend: String,
}

impl Forbidden {
    /// Both facts.
    pub fn new(what: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what: what.into(), mend: mend.into() }
    }
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (to mend it: {})", self.what, self.mend)
    }
}

/// Moves this process into a network namespace of its own.
///
/// # Errors
///
/// What forbids it, and how to mend that.
pub fn enter() -> Result<Standing, Forbidden> {
    let (user, group) = (geteuid(), getegid());
    if user.is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
        return Ok(Standing::Root);
    }
    // A container's root may lack CAP_SYS_ADMIN and still be allowed a user namespace.
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)
        .map_err(|errno| Switches::read(user).explain(errno))?;
    map_to_root(user.as_raw(), group.as_raw()).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::EPERM, Errno::from_raw);
        Switches::read(user).explain(errno)
    })?;
    Ok(Standing::Rootless)
}

/// Makes the caller root inside its user namespace. `setgroups` must be denied first, or an
/// unprivileged group map is refused (`user_namespaces(7)`).
fn map_to_root(user: u32, group: u32) -> io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

/// Checks what the balancer will need in its namespace: the TUN node, both families, and
/// settings that can be written. Call it after [`enter`], for what a user namespace takes away.
///
/// # Errors
///
/// What forbids it, and how to mend that.
pub fn check(standing: Standing) -> Result<(), Forbidden> {
    check_tun(Path::new("/dev/net/tun"), standing)?;
    if !Path::new("/proc/sys/net").exists() {
        return Err(Forbidden::new("/proc is not mounted here", "sudo mount -t proc proc /proc"));
    }
    if !Path::new("/proc/sys/net/ipv6").exists() {
        return Err(Forbidden::new(
            "this kernel has no IPv6, or was told not to use it",
            "start it without `ipv6.disable=1` on its command line",
        ));
    }
    let forwarding = "/proc/sys/net/ipv4/ip_forward";
    match OpenOptions::new().write(true).open(forwarding) {
        Ok(_) => Ok(()),
        Err(error) => Err(Forbidden::new(
            format!(
                "{forwarding} cannot be written ({error}), as in a container whose /proc/sys is read-only"
            ),
            "docker run --privileged, or --security-opt systempaths=unconfined with podman or docker",
        )),
    }
}

fn check_tun(node: &Path, standing: Standing) -> Result<(), Forbidden> {
    let name = node.display();
    if node.exists() && !is_tun_node(node) {
        return Err(Forbidden::new(
            format!("{name} is there, but is not the TUN device node"),
            format!(
                "sudo sh -c 'rm -r {name} && mknod -m 0666 {name} c 10 200' (in a container: --device {name}, not as a volume)"
            ),
        ));
    }
    let Err(error) = OpenOptions::new().read(true).write(true).open(node) else { return Ok(()) };
    let make = format!(
        "sudo sh -c 'mkdir -p /dev/net && mknod -m 0666 {name} c 10 200' (in a container: --device {name})"
    );
    Err(match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => Forbidden::new(format!("{name} is missing"), make),
        Some(Errno::ENXIO | Errno::ENODEV) => Forbidden::new(
            format!("{name} is there, but the kernel has no tun driver loaded"),
            "sudo modprobe tun",
        ),
        Some(Errno::EACCES) => {
            let mode = fs::metadata(node).map_or(0, |meta| meta.permissions().mode() & 0o7777);
            if mode & 0o666 == 0o666 {
                return Err(Forbidden::new(
                    format!(
                        "everybody may open {name} by its mode, and yet it cannot be opened: it lies on a file system mounted with `nodev`, or a security module forbids it"
                    ),
                    format!("findmnt -T {name} shows where; sudo mount -o remount,dev THERE"),
                ));
            }
            let who = match standing {
                Standing::Root => "this user",
                Standing::Rootless => "you",
            };
            Forbidden::new(
                format!("{name} has mode {mode:04o}, so {who} may not open it"),
                format!("sudo chmod 0666 {name} (a device still needs rights in its network namespace)"),
            )
        }
        Some(Errno::EPERM) => Forbidden::new(
            format!("a container's device rules forbid {name}"),
            format!("start the container with --device {name}"),
        ),
        _ => Forbidden::new(format!("{name} cannot be opened: {error}"), make),
    })
}

/// What the kernel says about user and network namespaces.
#[derive(Clone, Copy, Debug, Default)]
struct Switches {
    max_user_namespaces: Option<u64>,
    max_net_namespaces: Option<u64>,
    unprivileged_userns_clone: Option<u64>,
    apparmor_restrict: Option<u64>,
    seccomp: Option<u64>,
    /// Whether the caller is root, who has too few capabilities then.
    root: bool,
}

impl Switches {
    /// `user` is who the caller was before it tried: in a user namespace it is nobody until it is mapped.
    fn read(user: Uid) -> Self {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let seccomp = status.lines().find_map(|line| line.strip_prefix("Seccomp:")?.trim().parse().ok());
        Self {
            max_user_namespaces: number("/proc/sys/user/max_user_namespaces"),
            max_net_namespaces: number("/proc/sys/user/max_net_namespaces"),
            unprivileged_userns_clone: number("/proc/sys/kernel/unprivileged_userns_clone"),
            apparmor_restrict: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns"),
            seccomp,
            root: user.is_root(),
        }
    }

    /// The switches that shut namespaces off altogether come first, then the errors that speak for
    /// themselves, then what is only likely.
    fn explain(self, errno: Errno) -> Forbidden {
        let off = |switch: Option<u64>| switch == Some(0);
        if off(self.max_user_namespaces) {
            Forbidden::new(
                "user.max_user_namespaces is 0, so nobody may make a user namespace",
                "sudo sysctl -w user.max_user_namespaces=15000",
            )
        } else if off(self.max_net_namespaces) {
            Forbidden::new(
                "user.max_net_namespaces is 0, so nobody may make a network namespace",
                "sudo sysctl -w user.max_net_namespaces=15000",
            )
        } else if errno == Errno::ENOSPC {
            Forbidden::new(
                "the limit of user.max_user_namespaces or user.max_net_namespaces is reached",
                "sudo sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000",
            )
        } else if errno == Errno::EUSERS {
            Forbidden::new("user namespaces are nested too deeply here", "start it further out")
        } else if errno == Errno::EINVAL {
            Forbidden::new(
                "this kernel has no user or no network namespaces",
                "a kernel with CONFIG_USER_NS and CONFIG_NET_NS",
            )
        } else if off(self.unprivileged_userns_clone) {
            Forbidden::new(
                "kernel.unprivileged_userns_clone is 0, so only root may make a user namespace",
                "sudo sysctl -w kernel.unprivileged_userns_clone=1",
            )
        } else if self.apparmor_restrict.is_some_and(|value| value != 0) {
            Forbidden::new(
                "AppArmor (kernel.apparmor_restrict_unprivileged_userns is 1) takes all rights away in a user namespace",
                "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
            )
        } else if self.seccomp == Some(2) {
            Forbidden::new(
                "a seccomp filter forbids namespaces, as container engines set it",
                "docker run --cap-add NET_ADMIN --cap-add SYS_ADMIN --device /dev/net/tun, or the command with sudo outside",
            )
        } else if self.root {
            Forbidden::new(
                "root lacks the capability SYS_ADMIN here, as in a container, and may not be root of a user namespace either",
                "start the container with --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun",
            )
        } else {
            Forbidden::new(
                format!("the kernel refuses a user namespace: {} (in a chroot it always does)", errno.desc()),
                "run it with sudo",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_forbids_is_named() {
        let none = Switches::default();
        for (name, switches, errno, want) in [
            (
                "limit 0",
                Switches { max_user_namespaces: Some(0), ..none },
                Errno::ENOSPC,
                "max_user_namespaces is 0",
            ),
            ("limit reached", Switches { max_user_namespaces: Some(9), ..none }, Errno::ENOSPC, "is reached"),
            (
                "no network",
                Switches { max_net_namespaces: Some(0), ..none },
                Errno::ENOSPC,
                "max_net_namespaces is 0",
            ),
            (
                "Debian",
                Switches { unprivileged_userns_clone: Some(0), ..none },
                Errno::EPERM,
                "userns_clone is 0",
            ),
            ("Ubuntu", Switches { apparmor_restrict: Some(1), ..none }, Errno::EACCES, "AppArmor"),
            ("container", Switches { seccomp: Some(2), ..none }, Errno::EPERM, "seccomp"),
            ("root in a container", Switches { root: true, ..none }, Errno::EPERM, "SYS_ADMIN"),
            ("deep", none, Errno::EUSERS, "nested"),
            ("no such thing", none, Errno::EINVAL, "has no user"),
            ("who knows", Switches { max_user_namespaces: Some(9), ..none }, Errno::EPERM, "chroot"),
        ] {
            let told = switches.explain(errno);
            assert!(told.what.contains(want), "{name}: {told}");
            assert!(!told.mend.is_empty(), "{name}");
        }
    }

    #[test]
    fn a_missing_node_and_one_that_is_no_device_are_told_apart() {
        let missing = check_tun(Path::new("/dev/net/there-is-no-such-node"), Standing::Root).unwrap_err();
        assert!(missing.what.ends_with("is missing"), "{missing}");
        for other in ["/dev/null", "/tmp", "/proc/version"] {
            let other = check_tun(Path::new(other), Standing::Root).unwrap_err();
            assert!(other.what.ends_with("is not the TUN device node"), "{other}");
        }
    }
}
