//! Which certificate a client is shown: by the name that it asks for, out of a table that is swapped as a whole.
//!
//! Exact names go before wildcards, a wildcard stands for one label (RFC 6125 §6.4.3), and what fits none gets the first
//! certificate. Several for one name, with keys of different kinds, are told apart by what the client can verify.
//! A handshake takes the table once; so it sees the old one or the new one, and never waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::SetupError;
use super::material::Material;

/// The certificates of a site.
#[derive(Debug)]
pub struct Certificates {
    table: ArcSwap<Table>,
    swapped: AtomicU64,
    refused: AtomicU64,
}

impl Certificates {
    /// With these, at least one; the first is for clients whose name fits none.
    ///
    /// # Errors
    /// If there is none.
    pub fn new(materials: Vec<Material>) -> Result<Self, SetupError> {
        let table = ArcSwap::from_pointee(Table::new(materials)?);
        Ok(Self { table, swapped: AtomicU64::new(0), refused: AtomicU64::new(0) })
    }

    /// Puts others in their place, all or none: where one is broken, those that are there stay, and it is said why.
    ///
    /// Handshakes that have begun go on with what they have. Tickets stay good.
    ///
    /// # Errors
    /// The first of them that is one, or that there is none.
    pub fn swap<E: From<SetupError>>(
        &self,
        materials: impl IntoIterator<Item = Result<Material, E>>,
    ) -> Result<(), E> {
        let materials: Result<Vec<_>, E> = materials.into_iter().collect();
        match materials.and_then(|materials| Ok(Table::new(materials)?)) {
            Ok(table) => {
                self.table.store(Arc::new(table));
                self.swapped.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(why) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(why)
            }
        }
    }

    /// Those that are shown now, in their order.
    pub fn materials(&self) -> Vec<Material> {
        self.table.load().materials.clone()
    }

    /// How often they were swapped.
    pub fn swapped(&self) -> u64 {
        self.swapped.load(Ordering::Relaxed)
    }

    /// How often a swap was refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        table.find(hello.server_name(), hello.signature_schemes()).map(|found| Arc::clone(found.certified()))
    }
}

/// Names, and where their certificates are in `materials`, which is never empty.
#[derive(Debug)]
struct Table {
    materials: Vec<Material>,
    exact: HashMap<Box<str>, Vec<usize>>,
    /// By what is behind the `*.`.
    wildcard: HashMap<Box<str>, Vec<usize>>,
}

impl Table {
    fn new(materials: Vec<Material>) -> Result<Self, SetupError> {
        if materials.is_empty() {
            return Err(SetupError::NoCertificates);
        }
        let (mut exact, mut wildcard) = (HashMap::new(), HashMap::new());
        for (index, name) in
            materials.iter().enumerate().flat_map(|(index, one)| one.names().map(move |n| (index, n)))
        {
            let (names, name): (&mut HashMap<Box<str>, Vec<usize>>, _) = match name.strip_prefix("*.") {
                Some(parent) => (&mut wildcard, parent),
                None => (&mut exact, name),
            };
            let places = names.entry(name.into()).or_default();
            if places.last() != Some(&index) {
                places.push(index);
            }
        }
        Ok(Self { materials, exact, wildcard })
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<&Material> {
        let fitting = name.and_then(|name| self.places(name));
        let candidates = || fitting.into_iter().flatten().filter_map(|index| self.materials.get(*index));
        candidates()
            .find(|one| one.certified().key.choose_scheme(schemes).is_some())
            .or_else(|| candidates().next())
            .or_else(|| self.materials.first())
    }

    fn places(&self, name: &str) -> Option<&Vec<usize>> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let parent = || name.split_once('.').filter(|(label, _)| !label.is_empty()).map(|(_, parent)| parent);
        self.exact.get(name.as_str()).or_else(|| self.wildcard.get(parent()?))
    }
}
