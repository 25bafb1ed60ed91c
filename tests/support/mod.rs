//! What the live tests share: a test that cannot run here says so, where everybody sees it.
//!
//! A skipped test looks like a passed one to `cargo test`, so the word goes straight to stderr,
//! past the capture. Where `FOURSEVEN_CI=1` promises that everything is installed and
//! allowed, a skip is a failure.
#![allow(dead_code, reason = "each test binary uses its own part of this")]

pub mod copy;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that this test is skipped, and why; the caller then returns.
///
/// # Panics
///
/// With `FOURSEVEN_CI=1`.
pub fn skip_or_fail(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    assert!(
        std::env::var_os("FOURSEVEN_CI").is_none_or(|ci| ci != "1"),
        "{name} must run here, but: {reason}"
    );
    SKIPPED.fetch_add(1, Relaxed);
    // `eprintln!` would be captured.
    let _ = writeln!(std::io::stderr(), "skipped: {name}: {reason}");
}

/// How many tests of this binary were skipped so far.
pub fn skipped() -> usize {
    SKIPPED.load(Relaxed)
}

/// Whether we are root, be it of a user namespace only.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether a program of this name is on the `PATH`, or where only root has it.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// The folder that holds `Cargo.toml`.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
