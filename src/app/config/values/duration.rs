//! Durations as people write them: `2h4m`, `30s`, `500ms`.

use std::fmt::Write;
use std::time::Duration;

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;

/// The longest timeout that is taken.
const MOST: Duration = Duration::from_hours(30 * 24);

/// The units, the largest first, with their milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

const EXAMPLE: &str = "write numbers with their units d, h, m, s and ms, such as 2h4m, 30s or 500ms";

/// A duration that is more than nothing and at most 30 days.
pub fn duration(text: &str) -> Result<Duration, Wrong> {
    let shown = quoted(text);
    if text.is_empty() {
        return Err(Wrong::new("a duration is missing here").help(EXAMPLE));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(Wrong::new(format!("{shown} has no unit")).help(format!("for seconds write {text}s")));
    }
    let millis = parse(text).ok_or_else(|| Wrong::new(format!("{shown} is not a duration")).help(EXAMPLE))?;
    let duration = Duration::from_millis(millis);
    if duration.is_zero() {
        return Err(Wrong::new(format!("{shown} is no time at all")).help("write more than 0, such as 30s"));
    }
    if duration > MOST {
        return Err(Wrong::new(format!("{shown} is too long")).help("the longest is 30d"));
    }
    Ok(duration)
}

/// The sum in milliseconds; `None` where it is not written as a duration.
fn parse(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0u64;
    let mut units = UNITS.iter();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|digits| *digits > 0)?;
        let (number, behind) = rest.split_at(digits);
        let letters = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(letters);
        // Going on in the same iterator makes each unit come once, and a smaller one later.
        let (_, millis) = units.find(|(name, _)| *name == unit)?;
        sum = sum.saturating_add(number.parse().unwrap_or(u64::MAX).saturating_mul(*millis));
        rest = behind;
    }
    (!text.is_empty()).then_some(sum)
}

/// The duration as [`duration`] reads it, to the millisecond.
pub fn written(duration: Duration) -> String {
    let mut rest = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (unit, millis) in UNITS {
        if rest >= millis {
            let _ = write!(text, "{}{unit}", rest / millis);
            rest %= millis;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in
            [("2h4m", 7_440_000), ("30s", 30_000), ("500ms", 500), ("1d1ms", 86_400_001), ("90m", 5_400_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", "s", "5", "4m2h", "1m1m", "1.5s", "-1s", "1 s", "0s", "0h0m", "31d", "5min", "5M", "1s2"]
        {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(duration(&format!("{}s", "9".repeat(80))).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(millis in 1u64..30 * 86_400_000) {
            let time = Duration::from_millis(millis);
            prop_assert_eq!(duration(&written(time)), Ok(time));
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[0-9dhms]*") {
            let _ = duration(&text);
        }
    }
}
