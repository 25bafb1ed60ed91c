//! What can be seen from here: rights, kernel settings, links and limits of this process and its network namespace.

use std::fs::{self, OpenOptions};

use nix::sys::resource::{Resource, getrlimit};

use super::finding::Finding;
use crate::io::host::Netlink;

/// `linux/capability.h`.
const CAP_NET_ADMIN: u32 = 12;

/// Files that ten thousand layer-7 connections may need, each with an upstream.
const MANY_FILES: u64 = 16_384;

/// The least MTU that IPv6 asks for (RFC 8200 §5).
const LEAST_MTU: u32 = 1280;

pub(super) fn look() -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut findings = vec![right(&status), forwarding("IPv4 forwarding", "ipv4/ip_forward")];
    findings.push(match setting("ipv6/conf/all/forwarding") {
        Some(_) => forwarding("IPv6 forwarding", "ipv6/conf/all/forwarding"),
        None => Finding::note(
            "IPv6",
            "this kernel has none, or was told not to use it: only IPv4 can be balanced",
        ),
    });
    findings.push(path_filter(setting("ipv4/conf/all/rp_filter").as_deref()));
    findings.extend(Netlink::open().and_then(|netlink| netlink.mtus()).map(|links| mtu(&links)).ok());
    findings.extend(getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, hard)| files(soft, hard)));
    findings
}

fn setting(name: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/{name}")).ok().map(|value| value.trim().to_owned())
}

/// Whether a process with this `/proc/…/status` may do what `run` does in its network namespace.
fn right(status: &str) -> Finding {
    const WHAT: &str = "CAP_NET_ADMIN";
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    match held {
        Some(held) if held >> CAP_NET_ADMIN & 1 == 1 => {
            Finding::fine(WHAT, "held: `run` may make its device and set up the host")
        }
        _ => Finding::note(WHAT, "not held: `run` needs it in its network namespace, `lab` does not")
            .mend("sudo fourseven run …, or once: sudo setcap cap_net_admin+ep $(command -v fourseven)"),
    }
}

fn forwarding(what: &'static str, name: &str) -> Finding {
    let key = format!("net.{}", name.replace('/', "."));
    if setting(name).as_deref() == Some("1") {
        return Finding::fine(what, format!("on ({key} = 1)"));
    }
    match OpenOptions::new().write(true).open(format!("/proc/sys/net/{name}")) {
        Ok(_) => Finding::fine(what, format!("off ({key} = 0); `run` turns it on, and off again at its end")),
        Err(error) => Finding::note(what, format!("off, and `run` may not turn it on ({error})"))
            .mend(format!("sudo sysctl -w {key}=1")),
    }
}

/// The filter of `all` holds for each device where it is the stricter one.
fn path_filter(all: Option<&str>) -> Finding {
    const WHAT: &str = "reverse path";
    match all {
        Some("1") => Finding::fine(
            WHAT,
            "strict (net.ipv4.conf.all.rp_filter = 1); `run` makes it loose on its own device, and with `nat = \"dnat\"` \
             on all",
        ),
        Some("2") => Finding::fine(WHAT, "loose (net.ipv4.conf.all.rp_filter = 2)"),
        _ => Finding::fine(WHAT, "not filtered for all devices (net.ipv4.conf.all.rp_filter = 0)"),
    }
}

fn mtu(links: &[(String, u32)]) -> Finding {
    const WHAT: &str = "MTU";
    let list = |links: &[&(String, u32)]| {
        links.iter().map(|(name, mtu)| format!("{name} {mtu}")).collect::<Vec<_>>().join(", ")
    };
    let small: Vec<_> = links.iter().filter(|(_, mtu)| *mtu < LEAST_MTU).collect();
    let large: Vec<_> = links.iter().filter(|(_, mtu)| *mtu > 1500).collect();
    if let Some((name, _)) = small.first() {
        return Finding::note(WHAT, format!("{}: too small for IPv6 (RFC 8200 §5)", list(&small)))
            .mend(format!("sudo ip link set {name} mtu {LEAST_MTU}"));
    }
    if !large.is_empty() {
        return Finding::note(
            WHAT,
            format!("{}: with `mtu` under `[tun]` the balancer's device can have as much", list(&large)),
        );
    }
    Finding::fine(
        WHAT,
        if links.is_empty() { "no link is up".to_owned() } else { list(&links.iter().collect::<Vec<_>>()) },
    )
}

fn files(soft: u64, hard: u64) -> Finding {
    const WHAT: &str = "open files";
    if soft >= MANY_FILES {
        return Finding::fine(WHAT, format!("{soft} at once"));
    }
    let found = format!("{soft} at once: at layer 7 each upstream needs one, layer 4 needs none");
    let command = if hard >= MANY_FILES {
        format!("ulimit -n {MANY_FILES}")
    } else {
        format!("sudo prlimit --nofile={MANY_FILES} --pid $$")
    };
    Finding::note(WHAT, found).mend(command)
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn the_right_is_read_from_the_effective_set() {
        for (status, state) in [
            ("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n", State::Fine),
            ("CapPrm:\t0000000000001000\nCapEff:\t0000000000000000\n", State::Note),
            ("CapEff:\tnonsense\n", State::Note),
            ("", State::Note),
        ] {
            assert_eq!(right(status).state, state, "{status:?}");
        }
    }

    #[test]
    fn what_is_amiss_has_a_command_and_what_is_well_has_none() {
        let link = |name: &str, mtu| (name.to_owned(), mtu);
        for (finding, mended) in [
            (mtu(&[link("eth0", 1500)]), false),
            (mtu(&[link("eth0", 9000)]), false),
            (mtu(&[link("eth0", 1500), link("ppp0", 1000)]), true),
            (mtu(&[]), false),
            (files(1024, 1 << 20), true),
            (files(1024, 4096), true),
            (files(1 << 20, 1 << 20), false),
        ] {
            assert_eq!(finding.mend.is_some(), mended, "{finding}");
            assert_ne!(finding.state, State::Wrong, "{finding}");
        }
    }
}
