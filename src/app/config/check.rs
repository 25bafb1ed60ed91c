//! What checks of all tables have in common: the mistakes found so far, and how things are called.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::files::{Named, Place};
use super::mistake::{Mistake, Mistakes, Wrong};
use super::values;

/// Where the values come from, which decides what messages call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// A file: `queues`, `local`.
    Keys,
    /// The command line: `--queues`, `--local`.
    Flags,
}

impl Names {
    /// What a key is called.
    pub fn of(self, key: &str) -> String {
        match self {
            Self::Keys => format!("`{key}`"),
            Self::Flags => format!("`--{}`", flag(key)),
        }
    }

    /// How to give a key a value; the value as TOML has it, less any quotes.
    pub fn set(self, key: &str, value: &str) -> String {
        match self {
            Self::Keys if value.parse::<u64>().is_ok() => format!("`{key} = {value}`"),
            Self::Keys => format!("`{key} = \"{value}\"`"),
            Self::Flags => format!("`--{} {value}`", flag(key)),
        }
    }

    /// How to give a key a list with one value.
    pub fn list(self, key: &str, value: &str) -> String {
        match self {
            Self::Keys => format!("`{key} = [\"{value}\"]`"),
            Self::Flags => format!("`--{} {value}`", flag(key)),
        }
    }
}

/// The flag that gives what a key gives.
fn flag(key: &str) -> &str {
    match key {
        "listen" => "vip",
        "backends" => "backend",
        "name" => "tun",
        other => other,
    }
}

/// One check of a whole configuration.
#[derive(Debug)]
pub struct Check {
    /// How things are called.
    pub names: Names,
    mistakes: Mistakes,
    folder: PathBuf,
    files: Vec<Named>,
}

impl Check {
    /// Goes on from the mistakes of reading. Relative files are in `folder`.
    pub fn new(names: Names, mistakes: Mistakes, folder: &Path) -> Self {
        Self { names, mistakes, folder: folder.to_owned(), files: Vec::new() }
    }

    /// Notes a mistake.
    pub fn add(&mut self, mistake: Mistake) {
        self.mistakes.add(mistake);
    }

    /// The checked value, or `None` where there is none or a wrong one; what is wrong is noted.
    pub fn value<T, V>(
        &mut self,
        given: Option<&Spanned<T>>,
        check: impl FnOnce(&T) -> Result<V, Wrong>,
    ) -> Option<V> {
        let given = given?;
        check(given.get_ref()).map_err(|wrong| self.add(wrong.at(given.span()))).ok()
    }

    /// The name of a file, with its place.
    pub fn file(&mut self, given: Option<&Spanned<String>>) -> Option<Place> {
        let folder = self.folder.clone();
        let path = self.value(given, |text| values::file_name(text, &folder))?;
        let given = given?;
        Some(Place { path, name: given.get_ref().clone(), at: given.span() })
    }

    /// Notes files to be looked at.
    pub fn names_file(&mut self, named: Named) {
        self.files.push(named);
    }

    /// All that was found, and the files that are named.
    pub fn finish(self) -> (Mistakes, Vec<Named>) {
        (self.mistakes, self.files)
    }
}
