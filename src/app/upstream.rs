//! The proxy's way to backends in `run`: the kernel's own TCP.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use crate::io::{Peek, UpstreamProbe, UpstreamSocket};
use crate::l7::connect::{Connect, Link, Probe, Standing};
use crate::packet::Endpoint;

/// Opens kernel sockets, in the runtime of the worker that asks.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelConnect;

impl Connect for KernelConnect {
    fn connect(&self, backend: Endpoint) -> Pin<Box<dyn Future<Output = io::Result<Link>>>> {
        Box::pin(async move {
            let socket = UpstreamSocket::connect(backend.into()).await?;
            let probe = Arc::new(socket.probe());
            Ok(Link { bytes: Box::new(socket), probe })
        })
    }
}

impl Probe for UpstreamProbe {
    fn standing(&self) -> Standing {
        match self.peek() {
            Peek::Nothing => Standing::Quiet,
            Peek::Byte => Standing::Unsolicited,
            Peek::End => Standing::Closed,
            Peek::Error => Standing::Failed,
        }
    }
}
