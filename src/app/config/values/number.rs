//! Numbers with bounds.

use std::ops::RangeInclusive;

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;
use crate::balance::Weight;

/// A number within bounds. `name` is how the key or flag is called.
pub fn in_range<T>(name: &str, number: i128, range: RangeInclusive<T>) -> Result<T, Wrong>
where
    T: TryFrom<i128> + PartialOrd + std::fmt::Display,
{
    let wrong = || {
        Wrong::new(format!("{name} cannot be {number}")).help(format!(
            "write a number from {} to {}",
            range.start(),
            range.end()
        ))
    };
    T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(wrong)
}

/// A backend's share of new flows.
pub fn weight(number: i128) -> Result<Weight, Wrong> {
    if number == 0 {
        return Err(Wrong::new("a weight cannot be 0").help(
            "to stop new flows, set `drain = true`; to give the others more, give them a larger weight",
        ));
    }
    let wrong = || {
        Wrong::new(format!("a weight cannot be {number}")).help(
            "write a number from 1 to 65535; only ratios count, so that 1 and 2 share as 1000 and 2000 do",
        )
    };
    u16::try_from(number).ok().and_then(Weight::new).ok_or_else(wrong)
}

/// `1024-65535`: the ports of local addresses.
pub fn port_range(text: &str) -> Result<RangeInclusive<u16>, Wrong> {
    let shown = quoted(text);
    let example = "write the first and the last port, such as 1024-65535";
    let (first, last) = text
        .split_once('-')
        .and_then(|(first, last)| Some((first.trim().parse::<u16>().ok()?, last.trim().parse::<u16>().ok()?)))
        .ok_or_else(|| Wrong::new(format!("{shown} is not a range of ports")).help(example))?;
    if first == 0 {
        return Err(Wrong::new(format!("{shown} has port 0 in it"))
            .help(format!("write 1-{last}, or better {}", "1024-65535")));
    }
    if first > last {
        return Err(
            Wrong::new(format!("{shown} ends before it starts")).help(format!("write {last}-{first}"))
        );
    }
    Ok(first..=last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_taken_and_one_more_is_not() {
        for (number, fits) in
            [(0, false), (1, true), (64, true), (65, false), (i128::MAX, false), (-1, false)]
        {
            assert_eq!(in_range::<u8>("`queues`", number, 1..=64).is_ok(), fits, "{number}");
            assert!(in_range::<u64>("x", i128::from(u64::MAX), 0..=u64::MAX).is_ok());
        }
    }

    #[test]
    fn weight_0_is_told_about_drain() {
        assert!(weight(0).unwrap_err().help.unwrap().contains("drain = true"));
        assert!(weight(65_535).is_ok() && weight(65_536).is_err() && weight(-1).is_err());
    }

    #[test]
    fn port_ranges_are_checked() {
        assert_eq!(port_range("1024-65535"), Ok(1024..=65535));
        assert_eq!(port_range("7-7"), Ok(7..=7));
        for text in ["", "1024", "0-5", "9-8", "1-65536", "a-b", "1-2-3", "-"] {
            assert!(port_range(text).is_err(), "{text}");
        }
    }
}
