//! The journal of what was changed on the host: each entry says what it was, and how it is undone.

use nix::errno::Errno;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;

use super::super::IoError;
use super::Netlink;
use super::link::is;
use super::sysctl::Setting;

/// What was changed, in order.
#[derive(Default)]
pub(super) struct Journal {
    entries: Vec<Entry>,
}

struct Entry {
    /// A sentence without its full stop, as in "route 10.47.0.1/32 to fs0".
    what: String,
    undo: Option<Undo>,
}

/// How a change is taken back.
pub(super) enum Undo {
    /// The link gets its old MTU.
    Mtu(String, u32),
    /// The link goes down.
    Down(String),
    /// The settings get their old values, in this order.
    Settings(Vec<(Setting, String)>),
    /// The address is deleted.
    Address(AddressMessage),
    /// The route is deleted.
    Route(RouteMessage),
    /// The rule is deleted.
    Rule(RuleMessage),
}

impl Journal {
    pub fn did(&mut self, what: impl Into<String>, undo: Undo) {
        self.entries.push(Entry { what: what.into(), undo: Some(undo) });
    }

    /// A change that is for good.
    pub fn did_for_good(&mut self, what: impl Into<String>) {
        self.entries.push(Entry { what: what.into(), undo: None });
    }

    pub fn changes(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.what.as_str())
    }

    /// Takes everything back, the last first. What is gone by itself, as routes are with their link, is
    /// not missed.
    pub fn undo(&mut self, netlink: &Netlink) -> Vec<IoError> {
        let undo = |entry: Entry| entry.undo.and_then(|undo| undo.run(netlink, &entry.what).err());
        self.entries.drain(..).rev().filter_map(undo).collect()
    }
}

impl Undo {
    fn run(self, netlink: &Netlink, what: &str) -> Result<(), IoError> {
        match self {
            Self::Mtu(device, mtu) => match netlink.index_of(&device)? {
                Some(_) => netlink.set_mtu(&device, mtu),
                None => Ok(()),
            },
            Self::Down(device) => match netlink.index_of(&device)? {
                Some(_) => netlink.set_down(&device),
                None => Ok(()),
            },
            Self::Settings(settings) => {
                let differs =
                    |(setting, was): &(Setting, String)| setting.value().is_some_and(|now| now != *was);
                settings
                    .iter()
                    .filter(|setting| differs(setting))
                    .try_for_each(|(setting, was)| setting.set(was))
            }
            Self::Address(address) => {
                let answer = netlink.ask(netlink.handle().address().del(address).execute());
                unless_gone(answer, &[Errno::EADDRNOTAVAIL, Errno::ENODEV], what)
            }
            Self::Route(route) => {
                let answer = netlink.ask(netlink.handle().route().del(route).execute());
                unless_gone(answer, &[Errno::ESRCH, Errno::ENODEV], what)
            }
            Self::Rule(rule) => {
                let answer = netlink.ask(netlink.handle().rule().del(rule).execute());
                unless_gone(answer, &[Errno::ENOENT], what)
            }
        }
    }
}

fn unless_gone(answer: std::io::Result<()>, gone: &[Errno], what: &str) -> Result<(), IoError> {
    match answer {
        Err(source) if !gone.iter().any(|errno| is(&source, *errno)) => {
            Err(IoError::netlink(format!("take back the {what}"), source))
        }
        _ => Ok(()),
    }
}
