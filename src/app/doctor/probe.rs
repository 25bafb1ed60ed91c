//! What can only be found out by trying: a namespace, and a device with its offloads in it.
//!
//! To try it changes the process that does, so it is another one: this program again, which prints what it met with as
//! JSON and ends. Its namespace and its device end with it.

use std::process::{Command, ExitCode};

use serde::{Deserialize, Serialize};

use super::finding::Finding;
use crate::app::output;
use crate::io::{IoChoice, QueueKind, TunRequest, open};
use crate::lab::sandbox::{self, Forbidden, Standing};

/// What came of it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Probe {
    /// There is a device, in a namespace.
    Device {
        /// Whether it took a user namespace.
        rootless: bool,
        /// Whether large segments pass whole.
        offload: bool,
        /// The reason for that, in a sentence.
        why: String,
        /// Whether a device with several queues can be had.
        queues: bool,
    },
    /// There is no namespace.
    NoNamespace(Refusal),
    /// There is a namespace, and the lab cannot work in it.
    NoDevice(Refusal),
}

/// What forbids it, and what mends that.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Refusal {
    what: String,
    mend: String,
}

impl From<Forbidden> for Refusal {
    fn from(Forbidden { what, mend }: Forbidden) -> Self {
        Self { what, mend }
    }
}

/// Tries, in this process, and prints what came of it.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    output::print(serde_json::to_string(&try_all())?)?;
    Ok(ExitCode::SUCCESS)
}

fn try_all() -> Probe {
    let standing = match sandbox::enter() {
        Ok(standing) => standing,
        Err(forbidden) => return Probe::NoNamespace(forbidden.into()),
    };
    if let Err(forbidden) = sandbox::check(standing) {
        return Probe::NoDevice(forbidden.into());
    }
    let device = |queues| open(&TunRequest { name: "fs0".into(), io: IoChoice::Auto, queues });
    let queues = device(2).is_ok();
    match device(1) {
        Ok(opened) => Probe::Device {
            rootless: standing == Standing::Rootless,
            offload: opened.kind == QueueKind::Offload,
            why: opened.why,
            queues,
        },
        Err(error) => Probe::NoDevice(Refusal { what: error.to_string(), mend: "sudo modprobe tun".into() }),
    }
}

/// Has another process try.
pub(super) fn ask() -> Probe {
    let tried = Command::new("/proc/self/exe").args(["doctor", "--probe"]).output();
    let answer = tried.map_err(|error| error.to_string()).and_then(|output| {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        serde_json::from_slice(&output.stdout)
            .map_err(|error| if said.is_empty() { error.to_string() } else { said })
    });
    answer.unwrap_or_else(|why| {
        let what = format!("it could not be tried ({why})");
        Probe::NoNamespace(Refusal { what, mend: "mount /proc, and start fourseven by its own path".into() })
    })
}

impl Probe {
    pub fn findings(self) -> Vec<Finding> {
        const NAMESPACES: &str = "namespaces";
        const DEVICE: &str = "TUN device";
        let namespace = |found| Finding::fine(NAMESPACES, found);
        match self {
            Self::NoNamespace(Refusal { what, mend }) => vec![
                Finding::note(NAMESPACES, format!("none to be had, so `lab` plays in memory: {what}"))
                    .mend(mend),
                Finding::note(DEVICE, "not tried, for want of a namespace to try it in"),
            ],
            Self::NoDevice(Refusal { what, mend }) => {
                vec![namespace("to be had"), Finding::wrong(DEVICE, what).mend(mend)]
            }
            Self::Device { rootless, offload, why, queues } => {
                let by = if rootless { "a user namespace, without root" } else { "root's own right" };
                let kind = if offload { Finding::fine } else { Finding::note };
                let several = if queues {
                    Finding::fine("queues", "a device can have several, one worker each")
                } else {
                    Finding::note("queues", "a device can have one only, so one worker does it all")
                };
                vec![namespace(&format!("to be had, by {by}")), kind(DEVICE, why), several]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[test]
    fn what_another_process_found_is_read_as_it_was_written() {
        let refusal = || Refusal { what: "a".into(), mend: "b".into() };
        let device = Probe::Device { rootless: true, offload: false, why: "c".into(), queues: true };
        for probe in [Probe::NoNamespace(refusal()), Probe::NoDevice(refusal()), device] {
            let text = serde_json::to_string(&probe).unwrap();
            assert_eq!(serde_json::from_str::<Probe>(&text).unwrap(), probe, "{text}");
        }
    }

    #[test]
    fn without_a_device_nothing_works_and_without_a_namespace_the_lab_plays_in_memory() {
        let worst = |probe: Probe| probe.findings().into_iter().any(|finding| finding.state == State::Wrong);
        let refusal = || Refusal { what: "a".into(), mend: "b".into() };
        assert!(worst(Probe::NoDevice(refusal())));
        assert!(!worst(Probe::NoNamespace(refusal())));
    }
}
