//! The files that a configuration names.
//!
//! Reading a configuration touches no other file: the names are collected, each with its place. Whoever wants to
//! know whether they are there asks for that by [`look`], which reads them and says what is wrong at the line that names
//! the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::PathBuf;

use super::mistake::{Mistake, Wrong};
use super::source::{Span, quoted};

/// The largest file that is taken. A chain of ten certificates has 20 KB, all the world's CAs together 300 KB.
const MOST: u64 = 1 << 20;

/// A file, with the place that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// What it was called there, for messages: that is the same on every machine.
    pub name: String,
    /// Where its name is.
    pub at: Span,
}

/// What is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A certificate of our own.
    Certificate {
        /// The chain.
        chain: Place,
        /// The key.
        key: Place,
    },
    /// Who may sign others' certificates.
    Authority(Place),
}

/// Looks at one of them: it is there and can be read.
///
/// What is in them is for whoever reads PEM; this is the place to ask that, where both halves of a certificate are
/// at hand with their places.
pub fn look(named: &Named) -> Vec<Mistake> {
    let places = match named {
        Named::Certificate { chain, key } => vec![chain, key],
        Named::Authority(place) => vec![place],
    };
    let wrong = |place: &&Place| read(place).err().map(|wrong| wrong.at(place.at.clone()));
    places.iter().filter_map(wrong).collect()
}

/// Reads a file, if it is one and not too large.
fn read(Place { path, name, .. }: &Place) -> Result<Vec<u8>, Wrong> {
    let shown = quoted(name);
    let cannot = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Wrong::new(format!("there is no file {shown}"))
            .help("write the name of a PEM file; a relative one is looked for beside the configuration"),
        io::ErrorKind::PermissionDenied => Wrong::new(format!("{shown} may not be read"))
            .help("whoever runs the balancer must be allowed to read it"),
        _ => Wrong::new(format!("{shown} cannot be read: {error}")).help("write the name of a PEM file"),
    };
    let metadata = fs::metadata(path).map_err(|error| cannot(&error))?;
    if metadata.is_dir() {
        return Err(Wrong::new(format!("{shown} is a directory")).help("name the file in it"));
    }
    // Opening a pipe would wait for somebody to write into it.
    if !metadata.is_file() {
        return Err(Wrong::new(format!("{shown} is not a regular file")).help("write the name of a PEM file"));
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| cannot(&error))?;
    file.take(MOST + 1).read_to_end(&mut bytes).map_err(|error| cannot(&error))?;
    match bytes.len() as u64 {
        0 => Err(Wrong::new(format!("{shown} is empty")).help("put certificates or a key into it, as PEM")),
        length if length > MOST => Err(Wrong::new(format!("{shown} is larger than 1 MiB"))
            .help("that is more than any chain or key has: write the name of a PEM file")),
        _ => Ok(bytes),
    }
}
