//! How a connection of the proxy is secured: by its site's terminator, and told about where that fails.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::agreed::Alpn;
use super::failure::Cause;
use super::hello::CLEARTEXT_ANSWER;
use super::terminator::{Refused, Secured, ServerStream, Terminator};
use crate::l7::front::Agreed;
use crate::l7::proxy;
use crate::l7::stream::FlowStream;

impl proxy::Secure for Terminator {
    type Stream = ServerStream<FlowStream>;

    async fn secure(
        &self,
        stream: FlowStream,
        limit: Duration,
    ) -> Option<proxy::Secured<ServerStream<FlowStream>>> {
        let (client, vip) = (stream.client(), stream.vip());
        match self.accept(stream, limit).await {
            Ok(Secured { stream, agreed }) => {
                let protocol = match agreed.alpn {
                    Some(Alpn::H2) => Agreed::Http2,
                    Some(Alpn::Http11) => Agreed::Http1,
                    None => Agreed::Nothing,
                };
                Some(proxy::Secured { stream, protocol, server_name: agreed.sni.map(String::from) })
            }
            Err(Refused { failure, cleartext }) => {
                match failure.cause {
                    // Probes do that all the time.
                    Cause::ClosedUnused => {
                        tracing::debug!("TLS handshake {client} > {vip} failed: {failure}");
                    }
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
    }
}
