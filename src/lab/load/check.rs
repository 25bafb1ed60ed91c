//! Whether an answer is the right one: its status, its length, and its bytes where they are known.
//!
//! The body of `/bytes/N` is known to the last byte. Of any other path only the status can be known, and the length
//! that the answer itself declares, which whoever reads the framing holds it to.

use std::fmt;
use std::io;

use super::super::pattern;

/// Why an exchange did not count.
#[derive(Debug)]
pub(super) enum Fault {
    /// There was no answer, or half of one.
    Failed(io::Error),
    /// There was an answer, and it is not what was asked for.
    Wrong(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Wrong(why) => why.fmt(f),
        }
    }
}

/// What a right answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expect {
    /// The length of the pattern that the body must be.
    pattern: Option<u64>,
}

impl Expect {
    pub(super) fn of_path(path: &str) -> Self {
        Self { pattern: path.strip_prefix("/bytes/").and_then(|count| count.parse().ok()) }
    }

    /// Begins to check an answer with this status.
    pub(super) fn answer(self, status: u16) -> Result<Check, Fault> {
        if status == 200 {
            Ok(Check { expect: self, seen: 0 })
        } else {
            Err(Fault::Wrong(format!("status {status}")))
        }
    }
}

/// An answer that is being read.
#[derive(Debug)]
pub(super) struct Check {
    expect: Expect,
    seen: u64,
}

impl Check {
    /// Takes the next bytes of the body.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let after = self.seen.saturating_add(bytes.len() as u64);
        if let Some(length) = self.expect.pattern {
            if after > length {
                return Err(Fault::Wrong(format!("a body of more than {length} bytes")));
            }
            if !pattern::is_at(self.seen, bytes) {
                return Err(Fault::Wrong(format!("wrong bytes behind the first {}", self.seen)));
            }
        }
        self.seen = after;
        Ok(())
    }

    /// The body is over: how long it was.
    pub(super) fn end(self) -> Result<u64, Fault> {
        match self.expect.pattern {
            Some(length) if length != self.seen => {
                Err(Fault::Wrong(format!("a body of {} bytes, not {length}", self.seen)))
            }
            _ => Ok(self.seen),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_pattern_itself_will_do() {
        let right: Vec<u8> = (0..100).map(pattern::byte_at).collect();
        let mut swapped = right.clone();
        swapped.swap(40, 41);
        for (name, status, body, fine) in [
            ("the pattern", 200, right.clone(), true),
            ("another status", 206, right.clone(), false),
            ("one byte less", 200, right[..99].to_vec(), false),
            ("one byte more", 200, [&right[..], b"x"].concat(), false),
            ("two bytes swapped", 200, swapped, false),
        ] {
            for piece in [1, 7, 200] {
                let checked = Expect::of_path("/bytes/100").answer(status).and_then(|mut check| {
                    body.chunks(piece).try_for_each(|bytes| check.take(bytes))?;
                    check.end()
                });
                assert_eq!(checked.is_ok(), fine, "{name}, {piece} at a time");
            }
        }
    }

    #[test]
    fn the_body_of_another_path_may_be_anything() {
        let mut check = Expect::of_path("/x").answer(200).unwrap();
        check.take(b"whatever").unwrap();
        assert_eq!(check.end().unwrap(), 8);
    }
}
