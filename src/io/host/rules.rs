//! The rules by which packets come back through the device where clients keep their addresses (DNAT).
//!
//! A backend answers its client directly, and errors about packets on their way to a backend are addressed to
//! its client. Both must come to the balancer first, which knows what the client thinks it talks to. A table of
//! ours leads everything to the device, and these rules say what is looked up in it:
//!
//! ```text
//!   4701  iif fs0                      goto 4709     what the balancer wrote goes its way
//!   4702  from BACKEND                 lookup 4747   answers, and errors that the backend reports
//!   4703  iif lo, ICMP errors          lookup 4747   errors that this host reports, as "too big for that link"
//!   4704  iif LINK TO BACKENDS, ICMP   lookup 4747   errors that routers on the way to a backend report
//!   4709                               nop           here the host's own rules go on
//! ```
//!
//! Without the third and fourth, a path with a smaller MTU behind the balancer is a black hole.
//!
//! - 4701 jumps over our rules instead of looking up the main table. So the host's own policy applies to what
//!   the balancer writes, and where it has no route for that, it is not led back to the device for ever.
//! - 4703 names types of ICMP message by a range of destination ports. For a packet of the host's own the kernel
//!   keeps both in the same two bytes of its flow key (`union flowi_uli`), type before code. So the host's
//!   pings keep their routes and their source addresses.
//! - 4704 cannot: of a packet on its way through, the kernel takes apart ports only. The core passes on what is not ours.
//! - IPv6 neighbour discovery is ICMPv6, and is touched by none of them. What comes in is for an address or a
//!   group of this host and is found in the local table, before any rule of ours; what goes out is bound
//!   to its link without a look at rules (`icmp6_dst_alloc`); and its types are outside 4703's range.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage, RulePortRange};
use rtnetlink::packet_route::{AddressFamily, IpProtocol};

use super::super::IoError;
use super::Netlink;
use super::journal::{Journal, Undo};
use super::link::is;
use super::routes::TABLE;
use crate::packet::Family;

const SKIP: u32 = 4701;
const FROM_BACKEND: u32 = 4702;
const OWN_ERRORS: u32 = 4703;
const ERRORS_ON_THE_WAY: u32 = 4704;
const END: u32 = 4709;

/// A family's ICMP, as rules name it.
struct Icmp {
    family: AddressFamily,
    version: &'static str,
    name: &'static str,
    protocol: IpProtocol,
    /// The types of its errors, from and to.
    errors: &'static [(u8, u8)],
}

const ICMPV4: Icmp = Icmp {
    family: AddressFamily::Inet,
    version: "IPv4",
    name: "ICMP",
    protocol: IpProtocol::Icmp,
    // Destination unreachable; time exceeded and parameter problem (RFC 792).
    errors: &[(3, 3), (11, 12)],
};

const ICMPV6: Icmp = Icmp {
    family: AddressFamily::Inet6,
    version: "IPv6",
    name: "ICMPv6",
    protocol: IpProtocol::Other(58),
    // Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 §3).
    errors: &[(1, 4)],
};

/// Removes what an earlier run of ours has left, which nobody uses any more: its table is empty.
pub(super) fn take_over(netlink: &Netlink, journal: &mut Journal) -> Result<(), IoError> {
    let mut removed = 0;
    for family in [rtnetlink::IpVersion::V4, rtnetlink::IpVersion::V6] {
        let rules = netlink
            .list(netlink.handle().rule().get(family).execute())
            .map_err(|source| IoError::netlink("list the routing rules", source))?;
        for rule in rules.into_iter().filter(is_ours) {
            match netlink.ask(netlink.handle().rule().del(rule).execute()) {
                Err(error) if !is(&error, Errno::ENOENT) => {
                    return Err(IoError::netlink(
                        "remove a routing rule that an earlier run has left",
                        error,
                    ));
                }
                _ => removed += 1,
            }
        }
    }
    if removed > 0 {
        journal
            .did_for_good(format!("{removed} routing rules removed, which an earlier run had left behind"));
    }
    Ok(())
}

fn is_ours(rule: &RuleMessage) -> bool {
    let has = |wanted: &dyn Fn(&RuleAttribute) -> bool| rule.attributes.iter().any(wanted);
    let in_range = has(&|attribute| matches!(attribute, RuleAttribute::Priority(SKIP..=END)));
    let to_table = has(&|attribute| *attribute == RuleAttribute::Table(TABLE));
    let to_end = has(&|attribute| *attribute == RuleAttribute::Goto(END));
    in_range && (to_table || to_end || rule.header.action == RuleAction::Nop)
}

/// Adds the rules of one family, for its backends and the links that lead to them.
pub(super) fn add(
    netlink: &Netlink,
    journal: &mut Journal,
    device: &str,
    family: Family,
    backends: &BTreeSet<IpAddr>,
    links: &BTreeSet<String>,
) -> Result<(), IoError> {
    let Icmp { family, version, name, protocol, errors } = match family {
        Family::V4 => ICMPV4,
        Family::V6 => ICMPV6,
    };
    let rule = |priority, action, attributes: &[RuleAttribute]| {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        rule.header.action = action;
        rule.attributes.push(RuleAttribute::Priority(priority));
        rule.attributes.extend_from_slice(attributes);
        rule
    };
    let lookup = |priority, attributes: &[RuleAttribute]| {
        let mut rule = rule(priority, RuleAction::ToTable, attributes);
        rule.attributes.push(RuleAttribute::Table(TABLE));
        rule
    };
    let from = |link: &str| RuleAttribute::Iifname(link.into());
    let protocol = RuleAttribute::IpProtocol(protocol);
    let mut add = |rule, what: String| add_one(netlink, journal, rule, format!("rule {what}"));

    add(rule(END, RuleAction::Nop, &[]), format!("{END} for {version}: the end of these rules"))?;
    let skip = rule(SKIP, RuleAction::Goto, &[from(device), RuleAttribute::Goto(END)]);
    add(skip, format!("{SKIP} for {version}: what comes from {device} goes past them"))?;
    for backend in backends {
        let mut answers = lookup(FROM_BACKEND, &[RuleAttribute::Source(*backend)]);
        answers.header.src_len = IpNet::from(*backend).prefix_len();
        add(answers, format!("{FROM_BACKEND}: what comes from {backend} goes to {device}"))?;
    }
    for (first, last) in errors {
        // A message's type and code, where ports would be.
        let range =
            RulePortRange { start: u16::from_be_bytes([*first, 0]), end: u16::from_be_bytes([*last, 255]) };
        let own = [from("lo"), protocol.clone(), RuleAttribute::DestinationPortRange(range)];
        let what =
            format!("{OWN_ERRORS}: {name} errors of this host, types {first} to {last}, go to {device}");
        add(lookup(OWN_ERRORS, &own), what)?;
    }
    for link in links {
        let on_the_way = lookup(ERRORS_ON_THE_WAY, &[from(link), protocol.clone()]);
        add(
            on_the_way,
            format!("{ERRORS_ON_THE_WAY}: {name} that comes in on {link} and goes on goes to {device}"),
        )?;
    }
    Ok(())
}

fn add_one(netlink: &Netlink, journal: &mut Journal, rule: RuleMessage, what: String) -> Result<(), IoError> {
    let mut request = netlink.handle().rule().add();
    *request.message_mut() = rule.clone();
    match netlink.ask(request.execute()) {
        Ok(()) => {
            journal.did(what, Undo::Rule(rule));
            Ok(())
        }
        Err(error) if is(&error, Errno::EEXIST) => Ok(()),
        Err(source) => Err(IoError::netlink(format!("add the {what}"), source)),
    }
}
