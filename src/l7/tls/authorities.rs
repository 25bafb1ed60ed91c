//! Who may sign: for the certificates of clients, and for those of backends.

use std::sync::Arc;

use rustls::RootCertStore;

use super::pem::{MaterialError, Pem};

/// Certificates that others must be signed by. A handle; cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<RootCertStore>);

impl Authorities {
    /// Reads them, at least one.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn from_pem(file: Pem<'_>) -> Result<Self, MaterialError> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in file.certificates()?.into_iter().enumerate() {
            roots.add(certificate).map_err(|why| MaterialError::BadCertificate {
                file: file.name.to_owned(),
                place: index + 1,
                why: why.to_string(),
            })?;
        }
        Ok(Self(Arc::new(roots)))
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        Arc::clone(&self.0)
    }
}
