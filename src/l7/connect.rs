//! How the proxy gets to a backend: kernel TCP in `run`, memory in tests and wherever time is not the world's.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::packet::Endpoint;

/// Opens connections to backends. Used on one worker's thread.
pub trait Connect {
    /// Opens one. Gives up when it is dropped.
    fn connect(&self, backend: Endpoint) -> Pin<Box<dyn Future<Output = io::Result<Link>>>>;
}

/// A connection to a backend.
pub struct Link {
    /// Its bytes.
    pub bytes: Box<dyn Duplex>,
    /// What can be asked about it while others read and write.
    pub probe: Arc<dyn Probe>,
}

/// A two-way stream of bytes. It stays on its worker's thread; `Send` is what hyper asks of one that may be upgraded.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// What the other end has done, asked of the kernel and not of what was read so far.
pub trait Probe: Send + Sync {
    /// How it stands at this moment.
    fn standing(&self) -> Standing;
}

/// How an idle connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Open, and nothing has come.
    Quiet,
    /// Bytes have come that nobody has asked for.
    Unsolicited,
    /// The other end has closed it.
    Closed,
    /// It was reset, or has failed otherwise.
    Failed,
}
