//! Numbers of bytes with an upper bound of their own.

use std::ops::RangeInclusive;

use super::size::{size, written_size};
use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;

/// A number of bytes within bounds.
pub fn size_in(text: &str, range: RangeInclusive<usize>) -> Result<usize, Wrong> {
    let bytes = size(text, *range.start())?;
    if bytes > *range.end() {
        return Err(Wrong::new(format!("{} is too large", quoted(text)))
            .help(format!("the most is {}", written_size(*range.end()))));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_taken_and_one_more_is_not() {
        assert_eq!(size_in("64KiB", 1..=64 << 10), Ok(64 << 10));
        let wrong = size_in("65537B", 1..=64 << 10).unwrap_err();
        assert_eq!(wrong.help.as_deref(), Some("the most is 64KiB"));
        assert!(size_in("1B", 2..=4).is_err());
    }
}
