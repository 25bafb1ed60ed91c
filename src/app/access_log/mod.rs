//! Access logs: a line for each request of layer 7, written by a thread of its own.
//!
//! ```text
//!   workers ── lines ──▶ queue, bounded ──▶ thread ──▶ file, or standard output
//!                  └─ no room: dropped, and counted
//! ```
//!
//! Workers never wait for a disk. Where lines come faster than they are written, or the disk is full, lines are lost, and the
//! report says how many. Each target has one queue and one thread, whatever the number of sites that log there.
//!
//! A file is opened at the start, so that a wrong name is told of before there is a request, and again when its name leads to
//! another file or to none: that is all that `logrotate` needs, without a signal.

mod line;
mod writer;

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context as _;

use crate::app::report::LogCounts;
use crate::l7::access::{AccessLog, Record};
use crate::l7::spec::{LogFormat, LogTarget, Plan};
use writer::Queue;

/// All access logs of a plan.
#[derive(Clone, Default)]
pub struct AccessLogs {
    targets: Vec<Arc<Queue>>,
    /// By site.
    sites: Vec<Option<SiteLog>>,
}

/// The log of one site.
#[derive(Clone)]
pub struct SiteLog {
    site: Arc<str>,
    format: LogFormat,
    queue: Arc<Queue>,
}

impl AccessLogs {
    /// Opens them. Nothing is written before [`AccessLogs::start`].
    ///
    /// # Errors
    /// If a file cannot be opened.
    pub fn open(plan: &Plan) -> anyhow::Result<Self> {
        let mut logs = Self::default();
        let mut known: HashMap<&LogTarget, Arc<Queue>> = HashMap::new();
        for site in &plan.sites {
            let Some(spec) = &site.access_log else {
                logs.sites.push(None);
                continue;
            };
            let queue = match known.get(&spec.target) {
                Some(queue) => Arc::clone(queue),
                None => {
                    let queue = Queue::open(&spec.target)
                        .with_context(|| format!("cannot open the access log of service {}", site.name))?;
                    let queue = Arc::new(queue);
                    logs.targets.push(Arc::clone(&queue));
                    known.insert(&spec.target, Arc::clone(&queue));
                    queue
                }
            };
            logs.sites.push(Some(SiteLog { site: site.name.as_str().into(), format: spec.format, queue }));
        }
        Ok(logs)
    }

    /// Starts to write.
    ///
    /// # Errors
    /// If there is no thread for it.
    pub fn start(&self) -> std::io::Result<()> {
        self.targets.iter().try_for_each(|queue| queue.start())
    }

    /// Writes what there is, and ends.
    pub fn finish(&self) {
        for queue in &self.targets {
            queue.finish();
        }
    }

    /// The log of a site, by its place.
    pub fn of(&self, site: usize) -> Option<SiteLog> {
        self.sites.get(site).cloned().flatten()
    }

    /// What became of lines so far.
    pub fn counts(&self) -> Vec<LogCounts> {
        self.targets.iter().map(|queue| queue.counts()).collect()
    }
}

impl AccessLog for SiteLog {
    fn record(&self, record: &Record<'_>) {
        self.queue.push(line::of(&self.site, self.format, record));
    }
}
