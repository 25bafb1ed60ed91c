//! What the host must do so that packets come to the device and go on from it.
//!
//! ```text
//!   VIP/32, local prefixes ──▶ route to the device
//!   what we write          ──▶ routed on: forwarding, and no strict reverse-path filter
//!   DNAT's replies         ──▶ rules: from a backend, and ICMP, by table 4747 to the device
//! ```
//!
//! Everything is said, and what outlives the device (settings, rules) is taken back in reverse. What
//! was there before is left alone. Routes go with the device.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::route::RouteAttribute;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};

use super::super::IoError;
use super::link::is;
use super::{Netlink, Route};

/// The routing table that leads back to the device.
const TABLE: u32 = 4747;
/// What the device gives out is routed as ever, so that it cannot come back at once …
const PRIORITY_OUT: u32 = 4701;
/// … and what backends and ICMP send goes to the device.
const PRIORITY_IN: u32 = 4702;

/// What a balancer needs of its host.
#[derive(Clone, Debug)]
pub struct HostPlan {
    /// The TUN device.
    pub device: String,
    /// The addresses that clients use.
    pub vips: Vec<IpAddr>,
    /// The prefixes that full NAT sends from.
    pub locals: Vec<IpNet>,
    /// Backends whose packets must come back through the device.
    pub dnat_backends: Vec<IpAddr>,
}

/// A host that was configured, and what must be taken back.
pub struct Host {
    netlink: Netlink,
    changes: Vec<String>,
    undo: Vec<Undo>,
}

enum Undo {
    Setting { path: PathBuf, value: String },
    Rule(Box<RuleMessage>),
}

impl Host {
    /// Does what the plan asks for. Where it fails, what was done is taken back.
    ///
    /// # Errors
    /// The first step that the kernel refuses, and what it needs.
    pub fn configure(plan: &HostPlan) -> Result<Self, IoError> {
        let mut host = Self { netlink: Netlink::open()?, changes: Vec::new(), undo: Vec::new() };
        match host.carry_out(plan) {
            Ok(()) => Ok(host),
            Err(error) => {
                let _problems = host.undo();
                Err(error)
            }
        }
    }

    /// What was changed, one sentence each.
    pub fn changes(&self) -> &[String] {
        &self.changes
    }

    /// Takes back what outlives the device, the last thing first; gives back what could not be.
    pub fn undo(self) -> Vec<IoError> {
        let Self { netlink, undo, .. } = self;
        undo.into_iter().rev().filter_map(|step| step.take_back(&netlink).err()).collect()
    }

    fn carry_out(&mut self, plan: &HostPlan) -> Result<(), IoError> {
        let device = &plan.device;
        // Before the link is up, or the kernel would talk to its own neighbours on it.
        self.setting_if_there(&format!("net/ipv6/conf/{device}/addr_gen_mode"), "1")?;
        self.netlink.set_up(device)?;
        self.changes.push(format!("{device} is up"));
        for net in plan.vips.iter().map(|vip| IpNet::from(*vip)).chain(plan.locals.iter().copied()) {
            self.route(net, device)?;
        }
        let addresses = || plan.vips.iter().copied().chain(plan.locals.iter().map(IpNet::addr));
        if addresses().any(|address| address.is_ipv4()) {
            self.setting("net/ipv4/ip_forward", "1")?;
            self.setting(&format!("net/ipv4/conf/{device}/rp_filter"), "2")?;
        }
        if addresses().any(|address| address.is_ipv6()) {
            self.setting("net/ipv6/conf/all/forwarding", "1")?;
        }
        for v4 in [true, false] {
            let mut backends = plan.dnat_backends.iter().filter(|backend| backend.is_ipv4() == v4).peekable();
            if backends.peek().is_none() {
                continue;
            }
            self.way_back(v4, device)?;
            for backend in backends {
                let mut rule = rule(v4, PRIORITY_IN, TABLE);
                rule.header.src_len = if v4 { 32 } else { 128 };
                rule.attributes.push(RuleAttribute::Source(*backend));
                self.rule(rule, format!("rule: what {backend} sends goes to {device}"))?;
            }
        }
        Ok(())
    }

    /// The parts of DNAT's way back that do not depend on a backend.
    fn way_back(&mut self, v4: bool, device: &str) -> Result<(), IoError> {
        let default: IpNet = if v4 { DEFAULT_V4 } else { DEFAULT_V6 }.parse().map_err(|_| never())?;
        let what = || format!("add the default route of table {TABLE} on {device}");
        let mut message = self.netlink.route_message(&Route::on(default, device), what)?;
        message.attributes.push(RouteAttribute::Table(TABLE));
        let added = self.netlink.ask(self.netlink.handle().route().add(message).execute());
        match added {
            Err(error) if !is(&error, Errno::EEXIST) => return Err(IoError::netlink(what(), error)),
            _ => self.changes.push(format!("table {TABLE} leads to {device}")),
        }
        let mut out = rule(v4, PRIORITY_OUT, 254);
        out.attributes.push(RuleAttribute::Iifname(device.to_owned()));
        self.rule(out, format!("rule: what {device} gives out is routed as ever"))?;
        // Errors about packets that were sent on go to the client's address, from whatever router
        // met them; without this rule they would pass by untranslated.
        let mut icmp = rule(v4, PRIORITY_IN, TABLE);
        let protocol = if v4 { IpProtocol::Icmp } else { IpProtocol::from(58) };
        icmp.attributes.push(RuleAttribute::IpProtocol(protocol));
        self.rule(icmp, format!("rule: {} goes to {device}", if v4 { "ICMP" } else { "ICMPv6" }))
    }

    fn route(&mut self, to: IpNet, device: &str) -> Result<(), IoError> {
        let message = self
            .netlink
            .route_message(&Route::on(to, device), || format!("add the route to {to} on {device}"))?;
        match self.netlink.ask(self.netlink.handle().route().add(message).execute()) {
            Err(error) if is(&error, Errno::EEXIST) => Err(IoError::InTheWay {
                what: format!("add the route to {to} on {device}"),
                why: "there is one already; remove it, or set `configure = false`".into(),
            }),
            Err(error) => Err(IoError::netlink(format!("add the route to {to} on {device}"), error)),
            Ok(()) => {
                self.changes.push(format!("route {to} to {device}"));
                Ok(())
            }
        }
    }

    /// Adds a rule. One that a killed predecessor has left is taken over.
    fn rule(&mut self, message: RuleMessage, sentence: String) -> Result<(), IoError> {
        let mut request = self.netlink.handle().rule().add();
        *request.message_mut() = message.clone();
        match self.netlink.ask(request.execute()) {
            Err(error) if !is(&error, Errno::EEXIST) => Err(IoError::netlink(format!("add the {sentence}"), error)),
            _ => {
                self.undo.push(Undo::Rule(Box::new(message)));
                self.changes.push(sentence);
                Ok(())
            }
        }
    }

    fn setting(&mut self, name: &str, value: &str) -> Result<(), IoError> {
        let path = PathBuf::from("/proc/sys").join(name);
        let before = fs::read_to_string(&path).map(|text| text.trim().to_owned());
        if before.as_deref().is_ok_and(|before| before == value) {
            return Ok(());
        }
        fs::write(&path, value).map_err(|source| sysctl(&path, value, source))?;
        // The device's own settings go with the device.
        self.changes.push(format!("{} = {value}", dotted(&path)));
        if let Ok(value) = before {
            self.undo.push(Undo::Setting { path, value });
        }
        Ok(())
    }

    fn setting_if_there(&mut self, name: &str, value: &str) -> Result<(), IoError> {
        if PathBuf::from("/proc/sys").join(name).exists() { self.setting(name, value) } else { Ok(()) }
    }
}

const DEFAULT_V4: &str = "0.0.0.0/0";
const DEFAULT_V6: &str = "::/0";

fn never() -> IoError {
    IoError::InTheWay { what: "add a default route".into(), why: "it could not be read".into() }
}

impl Undo {
    fn take_back(self, netlink: &Netlink) -> Result<(), IoError> {
        match self {
            // A setting of a device that is gone needs no care.
            Self::Setting { path, .. } if !path.exists() => Ok(()),
            Self::Setting { path, value } => {
                fs::write(&path, &value).map_err(|source| sysctl(&path, &value, source))
            }
            Self::Rule(message) => match netlink.ask(netlink.handle().rule().del(*message).execute()) {
                Err(error) if !is(&error, Errno::ENOENT) => {
                    Err(IoError::netlink("take back a routing rule", error))
                }
                _ => Ok(()),
            },
        }
    }
}

fn rule(v4: bool, priority: u32, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Priority(priority));
    message.attributes.push(RuleAttribute::Table(table));
    message
}

fn dotted(path: &std::path::Path) -> String {
    path.strip_prefix("/proc/sys").unwrap_or(path).display().to_string().replace('/', ".")
}

fn sysctl(path: &std::path::Path, value: &str, source: std::io::Error) -> IoError {
    IoError::Sysctl { setting: dotted(path), value: value.to_owned(), path: path.to_owned(), source }
}
