//! HTTP/2: a connection that many requests share.
//!
//! Straight on `h2`, for the reason that [`http1`](super::http1) gives.

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use hyper::Request;
use tokio::sync::Mutex;

use super::check::Fault;
use super::job::Job;
use super::stream::Stream;

/// A connection that is opened again when it ends.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    sender: Mutex<Option<SendRequest<Bytes>>>,
}

impl From<h2::Error> for Fault {
    fn from(error: h2::Error) -> Self {
        Self::Failed(std::io::Error::other(error))
    }
}

impl Http2 {
    /// Opens the connection if it is not open, and waits until it takes another request.
    pub(super) async fn open(&self, job: &Job) -> Result<SendRequest<Bytes>, Fault> {
        let mut sender = self.sender.lock().await;
        if let Some(open) = sender.as_ref() {
            let open = open.clone();
            drop(sender);
            if let Ok(ready) = open.ready().await {
                return Ok(ready);
            }
            // Whoever comes first opens another; the others find that one, or wait for it here.
            sender = self.sender.lock().await;
            if let Some(open) = sender.take()
                && let Ok(ready) = open.ready().await
            {
                return Ok(sender.insert(ready).clone());
            }
        }
        let stream = Stream::open(job).await?;
        if let Stream::Tls(stream) = &stream
            && stream.get_ref().1.alpn_protocol() != Some(b"h2")
        {
            return Err(Fault::Wrong("the server does not speak HTTP/2".into()));
        }
        let (open, connection) = Builder::new()
            .initial_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .enable_push(false)
            .handshake(stream)
            .await?;
        tokio::task::spawn_local(connection);
        Ok(sender.insert(open.ready().await?).clone())
    }

    /// Sends a request and reads the whole answer; how long its body was.
    pub(super) async fn ask(&self, job: &Job) -> Result<u64, Fault> {
        let mut sender = self.open(job).await?;
        let mut request = Request::new(());
        *request.uri_mut() = job.uri.clone();
        let (response, _) = sender.send_request(request, true)?;
        let response = response.await?;
        let mut check = job.expect.answer(response.status().as_u16())?;
        let mut body = response.into_body();
        while let Some(bytes) = body.data().await {
            let bytes = bytes?;
            body.flow_control().release_capacity(bytes.len())?;
            check.take(&bytes)?;
        }
        check.end()
    }
}
