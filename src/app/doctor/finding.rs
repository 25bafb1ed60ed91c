//! One thing that was looked at.

use std::fmt;

use serde::Serialize;

/// What was looked at, what was found, and what mends it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at, in a word or two.
    pub what: &'static str,
    pub state: State,
    /// What was found.
    pub found: String,
    /// The command that mends it, where something is amiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum State {
    /// As it should be.
    Fine,
    /// It works, and could be better, or will be changed by who needs it.
    Note,
    /// Something cannot work.
    Wrong,
}

impl State {
    const fn word(self) -> &'static str {
        match self {
            Self::Fine => "ok",
            Self::Note => "note",
            Self::Wrong => "NO",
        }
    }
}

impl Finding {
    pub fn fine(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Fine, found: found.into(), mend: None }
    }

    pub fn note(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Note, found: found.into(), mend: None }
    }

    pub fn wrong(what: &'static str, found: impl Into<String>) -> Self {
        Self { what, state: State::Wrong, found: found.into(), mend: None }
    }

    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend = Some(command.into());
        self
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<4}  {:<16}  {}", self.state.word(), self.what, self.found)?;
        match &self.mend {
            Some(command) => writeln!(f, "{:24}to mend it: {command}", ""),
            None => Ok(()),
        }
    }
}
