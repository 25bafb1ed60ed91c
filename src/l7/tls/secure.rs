//! How a connection of the proxy is secured: by its site's terminator, and told about where that fails.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::failure::Cause;
use super::hello::CLEARTEXT_ANSWER;
use super::terminator::{Refused, Secured, Terminator};
use crate::l7::stream::FlowStream;

impl Terminator {
    /// Shakes hands with a client, within this time; `None` where that failed, which is logged and counted then.
    pub async fn secure(&self, stream: FlowStream, limit: Duration) -> Option<Secured<FlowStream>> {
        let (client, vip) = (stream.client(), stream.vip());
        let Refused { failure, cleartext } = match self.accept(stream, limit).await {
            Ok(secured) => return Some(secured),
            Err(refused) => refused,
        };
        match failure.cause {
            // Probes do that all the time.
            Cause::ClosedUnused => tracing::debug!("TLS handshake {client} > {vip} failed: {failure}"),
            _ => tracing::warn!("TLS handshake {client} > {vip} failed: {failure}"),
        }
        if let Some(mut stream) = cleartext {
            // Whoever spoke in the clear is told so in the clear; a client that is gone hears nothing.
            let told = async {
                stream.write_all(CLEARTEXT_ANSWER).await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(limit, told).await;
        }
        None
    }
}
