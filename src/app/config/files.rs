//! The files that a configuration names.
//!
//! Reading a configuration touches no other file: the names are collected, each with its place. Whoever wants to
//! know whether they are there asks for that by [`look`], which reads them and says what is wrong at the line that names
//! the file.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

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
    let mistake =
        |place: &&Place| Some(wrong(&place.name, &pem_bytes(&place.path).err()?).at(place.at.clone()));
    places.iter().filter_map(mistake).collect()
}

/// Why a file cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// There is none.
    #[error("there is no such file")]
    Missing,
    /// Whoever runs this may not read it.
    #[error("it may not be read")]
    Denied,
    /// It is a directory.
    #[error("it is a directory")]
    Directory,
    /// It is a pipe, a socket or a device. Opening a pipe would wait for somebody to write into it.
    #[error("it is not a regular file")]
    NotRegular,
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// It is larger than 1 MiB.
    #[error("it is larger than 1 MiB")]
    TooLarge,
    /// Reading failed otherwise.
    #[error("it cannot be read: {0}")]
    Failed(io::Error),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            io::ErrorKind::PermissionDenied => Self::Denied,
            _ => Self::Failed(error),
        }
    }
}

/// What is in a file with certificates or a key.
///
/// # Errors
/// If it is none, or cannot be one.
pub fn pem_bytes(path: &Path) -> Result<Vec<u8>, Unusable> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(Unusable::Directory);
    }
    if !metadata.is_file() {
        return Err(Unusable::NotRegular);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MOST + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 {
        0 => Err(Unusable::Empty),
        length if length > MOST => Err(Unusable::TooLarge),
        _ => Ok(bytes),
    }
}

/// What is wrong with a file, for whoever wrote its name.
fn wrong(name: &str, why: &Unusable) -> Wrong {
    let shown = quoted(name);
    match why {
        Unusable::Missing => Wrong::new(format!("there is no file {shown}"))
            .help("write the name of a PEM file; a relative one is looked for beside the configuration"),
        Unusable::Denied => Wrong::new(format!("{shown} may not be read"))
            .help("whoever runs the balancer must be allowed to read it"),
        Unusable::Directory => Wrong::new(format!("{shown} is a directory")).help("name the file in it"),
        Unusable::NotRegular => {
            Wrong::new(format!("{shown} is not a regular file")).help("write the name of a PEM file")
        }
        Unusable::Empty => {
            Wrong::new(format!("{shown} is empty")).help("put certificates or a key into it, as PEM")
        }
        Unusable::TooLarge => Wrong::new(format!("{shown} is larger than 1 MiB"))
            .help("that is more than any chain or key has: write the name of a PEM file"),
        Unusable::Failed(error) => {
            Wrong::new(format!("{shown} cannot be read: {error}")).help("write the name of a PEM file")
        }
    }
}
