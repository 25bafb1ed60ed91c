//! A host of the lab: a process that holds a network namespace and does what it is told.
//!
//! The process is the namespace: when it ends, the kernel takes the namespace, its links and its
//! sockets away, and nothing has to be cleaned up. It ends when its standard input does, and
//! the kernel kills it when its director dies in any way at all:
//!
//! ```text
//!   director ── spawns ──▶ host: unshare, ask to be killed with the parent,
//!                                check that the parent is still there
//!            ◀─ "ready" ──
//!            ── orders ──▶       until the end of input, or until it becomes the balancer
//! ```
//!
//! The wish to be killed with the parent survives `exec`, so it also holds for the balancer; it
//! is bound to the *thread* that spawned the host, so the director spawns from its main thread.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use nix::sched::{CloneFlags, unshare};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::prctl;
use nix::sys::signal::Signal;

use super::browser::Browser;
use super::client;
use super::order::{Answer, Order, TextFile, hear, say};
use super::serve::Serving;
use super::topology::LinkEnd;
use crate::io::IoError;
use crate::io::host::{Netlink, Route};

/// Holds a namespace and carries out orders until standard input ends. `parent` is the
/// director's process id, as that sees itself.
///
/// # Errors
///
/// The namespace cannot be made, or the director is gone or speaks nonsense.
pub fn run(parent: u32) -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    die_with(parent)?;
    let (mut input, mut output) = (io::stdin().lock(), io::stdout().lock());
    let mut host = Host::default();
    say(&mut output, &Answer::Ready)?;
    while let Some(order) = hear(&mut input)? {
        let answer = host.carry_out(order).unwrap_or_else(|error| Answer::Failed { why: error.to_string() });
        say(&mut output, &answer)?;
    }
    Ok(())
}

/// Asks the kernel to kill this process when the thread that spawned it ends. If that has
/// happened already the request came too late, which shows in who the parent is now.
///
/// # Errors
///
/// The parent is gone.
pub fn die_with(parent: u32) -> io::Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if std::os::unix::process::parent_id() == parent {
        Ok(())
    } else {
        Err(io::Error::other("the director is gone"))
    }
}

#[derive(Default)]
struct Host {
    serving: Option<Serving>,
    browser: Option<Browser>,
}

impl Host {
    fn carry_out(&mut self, order: Order) -> io::Result<Answer> {
        match order {
            Order::SetUp { links } => set_up(&links).map_err(io::Error::other)?,
            Order::Serve { what } => self.serving = Some(Serving::start(what)?),
            Order::StopServing => self.serving = None,
            Order::AwaitListener { at, patience } => await_listener(at, patience)?,
            Order::Try { what } => return Ok(Answer::Tried { attempt: client::attempt(what) }),
            Order::Trust { authorities } => self.browser = Some(Browser::trusting(&authorities)?),
            Order::Visit { what } => {
                let nobody = || io::Error::other("this host trusts nobody");
                let visited = self.browser.as_mut().ok_or_else(nobody)?.visit(&what);
                return Ok(Answer::Visited { visited });
            }
            Order::Become { arguments, files } => return Err(become_program(arguments, files)),
        }
        Ok(Answer::Done)
    }
}

fn set_up(links: &[LinkEnd]) -> Result<(), IoError> {
    let netlink = Netlink::open()?;
    netlink.set_up("lo")?;
    for end in links {
        netlink.rename(&end.arrives_as, &end.name)?;
        // A link-local address that is looked for elsewhere first (RFC 4862 §5.4) keeps a router
        // from asking for its neighbours, and so every packet back, for up to two seconds.
        let dad = format!("/proc/sys/net/ipv6/conf/{}/accept_dad", end.name);
        let _ = fs::write(dad, "0");
        netlink.set_up(&end.name)?;
        for &address in &end.addresses {
            netlink.add_address(&end.name, address)?;
        }
        for &neighbour in &end.neighbours {
            netlink.add_route(&Route::on(neighbour.into(), &end.name))?;
        }
        for &gateway in &end.gateways {
            let everywhere = match gateway {
                IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
                IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
            };
            netlink.add_route(&Route::via(everywhere, gateway))?;
        }
    }
    Ok(())
}

/// Returns only if it fails.
fn become_program(mut arguments: Vec<String>, mut files: Vec<TextFile>) -> io::Error {
    let mut open = Vec::new();
    for place in 0..files.len() {
        let (done, rest) = files.split_at_mut(place.saturating_add(1));
        let Some(TextFile { name, text }) = done.last() else { continue };
        let file = match in_memory(name, text) {
            Ok(file) => file,
            Err(error) => return error,
        };
        let (word, path) = (format!("{{{name}}}"), format!("/proc/self/fd/{}", file.as_raw_fd()));
        let later = rest.iter_mut().map(|file| &mut file.text);
        for text in later.chain(&mut arguments) {
            *text = text.replace(&word, &path);
        }
        open.push(file);
    }
    Command::new("/proc/self/exe").arg0("fourseven").args(arguments).exec()
}

/// A file that has no place in any file system, and so is gone with its last reader. It stays open when this program
/// is replaced.
fn in_memory(name: &str, text: &str) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MFdFlags::empty())?);
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn await_listener(at: SocketAddr, patience: Duration) -> io::Result<()> {
    let step = Duration::from_millis(50);
    let mut waited = Duration::ZERO;
    loop {
        match TcpStream::connect_timeout(&at, step) {
            Ok(_) => return Ok(()),
            Err(_) if waited < patience => std::thread::sleep(step),
            Err(error) => return Err(io::Error::other(format!("nothing listens on {at}: {error}"))),
        }
        waited += step;
    }
}
