//! Rates as people write them: `10/s`, `100/m`, `5000/h`.

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;
use crate::l7::spec::{Rate, RatePeriod};

/// The most requests in a second, a minute or an hour, and at once.
pub const MOST_REQUESTS: u32 = 1_000_000;

const PERIODS: [(&str, RatePeriod); 3] =
    [("s", RatePeriod::Second), ("m", RatePeriod::Minute), ("h", RatePeriod::Hour)];

const EXAMPLE: &str = "write requests for each second, minute or hour, such as 10/s, 100/m or 5000/h";

/// A rate, all of which may come at once.
pub fn rate(text: &str) -> Result<Rate, Wrong> {
    let shown = quoted(text);
    let wrong = || Wrong::new(format!("{shown} is not a rate")).help(EXAMPLE);
    let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
    let (_, per) = PERIODS.iter().find(|(word, _)| *word == unit.trim()).ok_or_else(wrong)?;
    let digits = number.trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let requests = digits.parse().unwrap_or(u32::MAX);
    if !(1..=MOST_REQUESTS).contains(&requests) {
        return Err(Wrong::new(format!("{shown} is out of range"))
            .help(format!("write a number from 1 to {MOST_REQUESTS} before the `/`")));
    }
    Ok(Rate { requests, per: *per, burst: requests })
}

/// As [`rate`] reads it, without the burst.
pub fn written_rate(rate: Rate) -> String {
    let unit = PERIODS.iter().find(|(_, per)| *per == rate.per).map(|(word, _)| *word).unwrap_or_default();
    format!("{}/{unit}", rate.requests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        for (text, requests, per) in [
            ("10/s", 10, RatePeriod::Second),
            ("1 / m", 1, RatePeriod::Minute),
            ("5000/h", 5000, RatePeriod::Hour),
        ] {
            let want = Rate { requests, per, burst: requests };
            assert_eq!(rate(text), Ok(want), "{text}");
            assert_eq!(rate(&written_rate(want)), Ok(want), "{text}");
        }
        for text in
            ["", "10", "10/", "/s", "10/d", "10/sec", "-1/s", "1.5/s", "0/s", "1000001/s", "99999999999/s"]
        {
            assert!(rate(text).unwrap_err().help.is_some(), "{text}");
        }
    }
}
