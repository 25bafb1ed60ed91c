//! Signals: how a run is ended, and asked how it goes, from outside.

use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use super::Clock;
use super::IoError;
use super::stop::Stop;

/// How long more signals to stop are taken for the first one. `timeout` sends its signal twice, and a terminal that
/// goes sends one of its own; an end in good order takes a few milliseconds.
const SAME_WISH: Duration = Duration::from_secs(1);

/// Listens for signals until it is dropped.
pub struct SignalWatch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatch {
    /// From now on SIGINT, SIGTERM and SIGHUP trigger `stop`, and SIGUSR1 calls `report`, on a thread of its own. One
    /// more signal to stop, a second or more after the first, ends the process at once, with the status that shells
    /// give for it.
    ///
    /// A process that was started with SIGHUP ignored, as `nohup` does, goes on ignoring it.
    ///
    /// # Errors
    /// Where the handlers cannot be put in place or the thread not be started.
    pub fn start(stop: Stop, mut report: impl FnMut() + Send + 'static) -> Result<Self, IoError> {
        let failed = |source| IoError::Signals { source };
        let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
        let watched = [SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup);
        let mut signals = Signals::new(watched).map_err(failed)?;
        let handle = signals.handle();
        let clock = Clock::start();
        let mut first = None;
        let listen = move || {
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => report(),
                    _ => match first {
                        None => {
                            first = Some(clock.now());
                            stop.trigger();
                        }
                        Some(at) if clock.now().since(at) < SAME_WISH => {}
                        Some(_) => std::process::exit(128 + signal),
                    },
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(failed)?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

/// Whether this process ignores a signal. The kernel's word for it is a mask in which signal 1 is the lowest bit.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let bit = u32::try_from(signal).ok().and_then(|signal| 1_u64.checked_shl(signal.checked_sub(1)?));
    mask.zip(bit).is_some_and(|(mask, bit)| mask & bit != 0)
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // A panic in `report` has been printed where it happened.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{Signal, raise};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn what_is_ignored_is_known() {
        // Rust's runtime ignores SIGPIPE (13) from the start.
        assert_eq!([SIGTERM, 13].map(is_ignored), [false, true]);
    }

    #[test]
    fn usr1_reports_and_term_stops() {
        let (tell, told) = mpsc::channel();
        let stop = Stop::new();
        let watch = SignalWatch::start(stop.clone(), move || tell.send(()).unwrap()).unwrap();
        raise(Signal::SIGUSR1).unwrap();
        told.recv_timeout(Duration::from_secs(10)).expect("the report is called");
        assert!(!stop.is_triggered());
        raise(Signal::SIGTERM).unwrap();
        for _ in 0..1000 {
            if stop.is_triggered() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(stop.is_triggered());
        drop(watch);
    }
}
