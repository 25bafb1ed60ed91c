//! One connection to the kernel's routing tables, used step by step.
//!
//! rtnetlink speaks tokio; what we ask are a few dozen questions one after the other, at the start
//! and at the end. So a current-thread runtime lives beside the connection, and every question blocks.

use std::future::Future;
use std::io;

use rtnetlink::Handle;

use super::super::IoError;

/// A connection over netlink to the network namespace in which it was opened.
///
/// Its methods block, and must not be called from within an asynchronous runtime.
pub struct Netlink {
    runtime: tokio::runtime::Runtime,
    handle: Handle,
}

impl Netlink {
    /// Opens a connection to the network namespace of the calling thread, and stays with that one.
    ///
    /// # Errors
    /// Where the kernel gives no netlink socket.
    pub fn open() -> Result<Self, IoError> {
        let failed = |source| IoError::netlink("open a netlink socket", source);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(failed)?;
        let handle = {
            let _inside = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection().map_err(failed)?;
            runtime.spawn(connection);
            handle
        };
        Ok(Self { runtime, handle })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for an answer whose content matters not.
    pub(super) fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> io::Result<T> {
        self.runtime.block_on(question).map_err(to_io)
    }

    /// Waits for all parts of an answer.
    pub(super) fn list<T>(
        &self,
        question: impl futures_util::Stream<Item = Result<T, rtnetlink::Error>>,
    ) -> io::Result<Vec<T>> {
        use futures_util::TryStreamExt;
        self.runtime.block_on(question.try_collect()).map_err(to_io)
    }
}

fn to_io(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}
