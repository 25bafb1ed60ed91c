//! The balancer of the lab in memory: the same configuration, core and account as those of `run`.

use anyhow::Context;

use crate::app::config::{self, Flags, render};
use crate::app::cores::Cores;
use crate::app::output;
use crate::l7::spec::Plan;
use crate::lab::memory::Balancer;
use crate::lab::report::Report;

/// Builds it.
///
/// # Errors
///
/// The flags contradict each other, or the system gives no randomness.
pub fn balancer(flags: &Flags) -> anyhow::Result<Balancer> {
    let (source, checked) = config::from_flags(flags);
    let config = checked.config.with_context(|| render(&source, &checked.mistakes, output::look()))?;
    let Cores { translators, account } = Cores::build(&config, &Plan::default(), 1)?;
    let core = translators.into_iter().next().context("no core was built")?;
    let counters = account.counters().into_iter().next().context("no core counts")?;
    let report = move || {
        let json = account.report().to_json();
        json.and_then(|json| serde_json::from_str::<Report>(&json)).unwrap_or_default()
    };
    Ok(Balancer { core: Box::new(core), counters, report: Box::new(report) })
}
