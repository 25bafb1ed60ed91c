//! Signals: how a run is ended, and asked how it goes, from outside.

use std::thread::JoinHandle;

use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use super::IoError;
use super::stop::Stop;

/// Listens for signals until it is dropped.
pub struct SignalWatch {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl SignalWatch {
    /// From now on SIGINT and SIGTERM trigger `stop`, and SIGUSR1 calls `report`, on a thread of its own. A
    /// second SIGINT or SIGTERM ends the process at once, with the status that shells give for it.
    ///
    /// # Errors
    /// Where the handlers cannot be put in place or the thread not be started.
    pub fn start(stop: Stop, mut report: impl FnMut() + Send + 'static) -> Result<Self, IoError> {
        let failed = |source| IoError::Signals { source };
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1]).map_err(failed)?;
        let handle = signals.handle();
        let listen = move || {
            for signal in signals.forever() {
                match signal {
                    SIGUSR1 => report(),
                    _ if stop.is_triggered() => std::process::exit(128 + signal),
                    _ => stop.trigger(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("signals".into()).spawn(listen).map_err(failed)?;
        Ok(Self { handle, thread: Some(thread) })
    }
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
