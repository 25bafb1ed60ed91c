//! `[flows]` and `[health]`: bounds of the flow table, and when a backend counts as down.

use std::ops::RangeInclusive;

use toml::Spanned;

use super::check::Check;
use super::mistake::Mistake;
use super::reader::{Reader, Table};
use super::values;
use crate::balance::PassiveHealth;
use crate::flow::{LocalPool, Settings};

/// Bounds of the flow table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    /// How many flows there may be at once.
    pub max: u32,
    /// How many of them one client address may have.
    pub max_per_client: u32,
    /// The ports that full NAT sends from.
    pub local_ports: RangeInclusive<u16>,
}

/// `[flows]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct Draft {
    max: Option<Spanned<i128>>,
    max_per_client: Option<Spanned<i128>>,
    local_ports: Option<Spanned<String>>,
}

impl Draft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self {
            max: table.number(reader, "max"),
            max_per_client: table.number(reader, "max_per_client"),
            local_ports: table.text(reader, "local_ports"),
        };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> Flows {
        let names = check.names;
        let max = check.value(self.max.as_ref(), |max| {
            values::in_range(&names.of("max"), *max, 1..=Settings::MOST_FLOWS)
        });
        let max_is_wrong = self.max.is_some() && max.is_none();
        let max = max.unwrap_or(Settings::default().max_flows);
        let share = Settings::new(max).max_flows_per_client;
        let most = if max_is_wrong { Settings::MOST_FLOWS } else { max };
        let per_client = check.value(self.max_per_client.as_ref(), |number| {
            let name = names.of("max_per_client");
            let number = values::in_range(&name, *number, 1..=Settings::MOST_FLOWS)?;
            values::in_range(&name, number.into(), 1..=most).map_err(|wrong| {
                wrong.help(format!("it cannot be more than {}, which is {max}", names.of("max")))
            })
        });
        if let (Some(number), Some(given)) = (per_client, &self.max_per_client)
            && number == max
            && max > 1
        {
            check.add(Mistake::warning(given.span(), "one client can fill the whole flow table").help(
                format!(
                    "write less, or leave it out: then it is a quarter of {}, {}",
                    names.of("max"),
                    share
                ),
            ));
        }
        Flows {
            max,
            max_per_client: per_client.unwrap_or(share),
            local_ports: check
                .value(self.local_ports.as_ref(), |text| values::port_range(text))
                .unwrap_or(LocalPool::DEFAULT_PORTS),
        }
    }
}

/// `[health]` as somebody wrote it.
#[derive(Debug, Default)]
pub struct HealthDraft {
    fall: Option<Spanned<i128>>,
    retry: Option<Spanned<String>>,
}

impl HealthDraft {
    /// Reads the table.
    pub fn read(reader: &mut Reader, mut table: Table<'_>) -> Self {
        let draft = Self { fall: table.number(reader, "fall"), retry: table.duration(reader, "retry") };
        table.finish(reader);
        draft
    }

    /// Checks it.
    pub fn check(&self, check: &mut Check) -> PassiveHealth {
        let names = check.names;
        let default = PassiveHealth::default();
        PassiveHealth {
            fall: check
                .value(self.fall.as_ref(), |fall| values::in_range(&names.of("fall"), *fall, 0..=1_000_000))
                .unwrap_or(default.fall),
            retry: check.value(self.retry.as_ref(), |text| values::duration(text)).unwrap_or(default.retry),
        }
    }
}
