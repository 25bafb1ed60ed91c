//! Programs that are not ours, inside a host: a shell, or a backend that the user brought.
//!
//! Such a program may start others, and would leave them behind when it is killed. So it gets a
//! process namespace, whose first process it is: when that ends, the kernel kills all the rest.
//!
//! ```text
//!   director ──▶ inside: dies with the director; joins the host's network;
//!                        makes the process namespace, waits for …
//!            ──▶ contained: first in it, dies with `inside`; becomes the program
//! ```
//!
//! Where the kernel does not grant the process namespace the program runs without.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::sethostname;
use signal_hook::consts::{SIGINT, SIGQUIT};

use super::host::die_with;

/// Runs a program in the network of the host with process id `pid`, and waits for it. With a
/// `name`, that is what the machine is called there.
///
/// # Errors
///
/// The host is gone, or the program cannot be started.
pub fn run(pid: u32, parent: u32, name: Option<&str>, program: &[OsString]) -> io::Result<ExitStatus> {
    setns(File::open(format!("/proc/{pid}/ns/net"))?, CloneFlags::CLONE_NEWNET)?;
    if let Some(name) = name
        && unshare(CloneFlags::CLONE_NEWUTS).is_ok()
    {
        // The name is what a shell shows in its prompt, and no more.
        let _ = sethostname(name);
    }
    let _ = unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS);
    die_with(parent)?;
    // Ctrl-C at the terminal is for the program. A handler, not SIG_IGN, which it would inherit.
    for signal in [SIGINT, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    Command::new("/proc/self/exe")
        .arg0("fourseven")
        .args(["lab", "contained", "--parent"])
        .arg(std::process::id().to_string())
        .arg("--")
        .args(program)
        .status()
}

/// Becomes the program, as the first process of its namespace. Returns only if that fails.
pub fn become_contained(parent: u32, program: &[OsString]) -> io::Error {
    if let Err(error) = prctl::set_pdeathsig(Signal::SIGKILL) {
        return error.into();
    }
    // The parent is outside and so has no number in here; the old /proc still knows it.
    if parent_outside() != Some(parent) {
        return io::Error::other("the director is gone");
    }
    // For `ps` and the like to see the processes in here. What cannot be is done without.
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    let nothing = None::<&str>;
    if std::process::id() == 1 && mount(nothing, "/", nothing, private, nothing).is_ok() {
        let _ = mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing);
    }
    match program.split_first() {
        Some((program, arguments)) => {
            let error = Command::new(program).args(arguments).exec();
            io::Error::new(error.kind(), format!("{}: {error}", program.display()))
        }
        None => io::ErrorKind::InvalidInput.into(),
    }
}

fn parent_outside() -> Option<u32> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// A program's exit status as a shell gives it.
pub fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| signal.saturating_add(128)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}
