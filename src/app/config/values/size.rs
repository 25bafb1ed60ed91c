//! Numbers of bytes as people write them: `64MiB`, `512KiB`.

use crate::app::config::mistake::Wrong;
use crate::app::config::source::quoted;

/// The units, the largest first, with their bytes.
const UNITS: [(&str, usize); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

const EXAMPLE: &str = "write a whole number and its unit B, KiB, MiB or GiB, such as 64MiB";

/// A number of bytes, of at least `least`.
pub fn size(text: &str, least: usize) -> Result<usize, Wrong> {
    let shown = quoted(text);
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit);
    if digits.is_empty() {
        return Err(Wrong::new(format!("{shown} is not a number of bytes")).help(EXAMPLE));
    }
    if unit.is_empty() {
        return Err(Wrong::new(format!("{shown} has no unit")).help(format!("for bytes write {digits}B")));
    }
    let Some((_, bytes)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        let near = UNITS.iter().find(|(name, _)| {
            name.eq_ignore_ascii_case(unit) || name.replace('i', "").eq_ignore_ascii_case(unit)
        });
        let help = near.map_or(EXAMPLE.to_owned(), |(name, _)| format!("write {digits}{name}"));
        return Err(Wrong::new(format!("{shown} is not a number of bytes")).help(help));
    };
    let size = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(*bytes));
    let size = size.filter(|size| *size <= 1 << 40);
    let size = size.ok_or_else(|| Wrong::new(format!("{shown} is too large")).help("the most is 1024GiB"))?;
    if size < least {
        let help = format!("the least is {}", written_size(least));
        return Err(Wrong::new(format!("{shown} is too small")).help(help));
    }
    Ok(size)
}

/// The number as [`size`] reads it.
pub fn written_size(bytes: usize) -> String {
    let unit = UNITS.iter().find(|(_, unit)| bytes >= *unit && bytes.is_multiple_of(*unit));
    let (name, unit) = unit.unwrap_or(&("B", 1));
    format!("{}{name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1B", 1), ("1024KiB", 1 << 20), ("3GiB", 3 << 30)] {
            assert_eq!(size(text, 1), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_what_to_write() {
        for (text, help) in [
            ("", EXAMPLE),
            ("MiB", EXAMPLE),
            ("64", "for bytes write 64B"),
            ("64MB", "write 64MiB"),
            ("64mib", "write 64MiB"),
            ("64 MiB", EXAMPLE),
            ("1.5MiB", EXAMPLE),
            ("-1B", EXAMPLE),
            ("99999999999999999999GiB", "the most is 1024GiB"),
            ("1025GiB", "the most is 1024GiB"),
            ("0B", "the least is 2B"),
        ] {
            assert_eq!(size(text, 2).unwrap_err().help.as_deref(), Some(help), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in 1usize..1 << 40) {
            prop_assert_eq!(size(&written_size(bytes), 1), Ok(bytes));
        }
    }
}
