//! TLS on both sides of the proxy, by rustls: ended for clients, spoken to backends.
//!
//! ```text
//!   PEM bytes ──▶ Material ──▶ Certificates ◀─ swap, while handshakes go on
//!                                  │ by SNI
//!   client ── Terminator::accept ──┴─▶ Secured { stream, Agreed }, or Refused { HandshakeFailure }
//!   backend ─ BackendClient::connect ─▶ the same stream from the other side, or BackendFailure
//! ```
//!
//! Files are read by whoever calls; here are their bytes, with the name that messages give them. Time is a
//! [`TimeProvider`](rustls::time_provider::TimeProvider) that is handed in, and how long a handshake may take is measured
//! on tokio's clock. Keys, nonces and ticket keys come from the library's own generator: nothing that is seeded may make those.
//!
//! All workers share one [`Terminator`] for a site (it is a handle; cloning it is cheap). What it holds does not grow with
//! the number of connections, and nothing in it is locked for longer than a ticket takes to be sealed.

mod agreed;
mod authorities;
pub mod authority;
mod backend;
mod certificate;
mod certificates;
mod counters;
mod failure;
mod hello;
mod material;
mod pem;
mod secure;
mod terminator;

use std::sync::{Arc, LazyLock};

use rustls::crypto::CryptoProvider;

pub use agreed::{Agreed, Alpn, Handshake, Version};
pub use authorities::Authorities;
pub use backend::{BackendCause, BackendClient, BackendFailure, BackendSetup, BackendStream};
pub use certificates::Certificates;
pub use counters::{HandshakeCounters, HandshakeCounts};
pub use failure::{Cause, HandshakeFailure, Side};
pub use hello::CLEARTEXT_ANSWER;
pub use material::{Material, Warning};
pub use pem::{MaterialError, Pem};
pub use terminator::{ClientCheck, Refused, Secured, ServerStream, Setup, Terminator};

/// Why there can be no TLS with what was given.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A certificate, key or authority is not what it must be.
    #[error(transparent)]
    Material(#[from] MaterialError),
    /// There must be one for clients whose SNI fits none.
    #[error("no certificate was given")]
    NoCertificates,
    /// The name that backends are asked for is neither a DNS name nor an address.
    #[error("`{name}` is neither a DNS name nor an address")]
    Name {
        /// The name.
        name: String,
    },
    /// rustls refuses the settings.
    #[error("TLS cannot be set up: {0}")]
    Library(String),
}

/// The cryptography of all sides: rustls's choice on aws-lc, made once.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> =
        LazyLock::new(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    Arc::clone(&PROVIDER)
}

/// Text that came from outside, fit for one line of a log.
fn one_line(text: &str) -> Box<str> {
    const MOST: usize = 256;
    text.chars().take(MOST).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>().into()
}

#[cfg(test)]
mod tests;
