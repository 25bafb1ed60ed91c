//! HTTP/2: a connection that many requests share.

use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;

use super::check::Fault;
use super::job::Job;
use super::stream::Stream;

/// A connection that is opened again when it ends.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    sender: Mutex<Option<SendRequest<Empty<Bytes>>>>,
}

impl Http2 {
    /// Opens the connection if it is not open.
    pub(super) async fn open(&self, job: &Job) -> Result<SendRequest<Empty<Bytes>>, Fault> {
        let mut sender = self.sender.lock().await;
        if let Some(open) = sender.as_ref().filter(|open| !open.is_closed()) {
            return Ok(open.clone());
        }
        let stream = Stream::open(job).await?;
        if let Stream::Tls(stream) = &stream
            && stream.get_ref().1.alpn_protocol() != Some(b"h2")
        {
            return Err(Fault::Wrong("the server does not speak HTTP/2".into()));
        }
        let (open, connection) = http2::Builder::new(SameThread)
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(16 << 20)
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::task::spawn_local(connection);
        Ok(sender.insert(open).clone())
    }

    /// Sends a request and reads the whole answer; how long its body was.
    pub(super) async fn ask(&self, job: &Job) -> Result<u64, Fault> {
        let mut sender = self.open(job).await?;
        sender.ready().await?;
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = job.uri.clone();
        let response = sender.send_request(request).await?;
        let mut check = job.expect.answer(response.status().as_u16())?;
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Some(bytes) = frame?.data_ref() {
                check.take(bytes)?;
            }
        }
        check.end()
    }
}

/// Runs what a connection needs beside it in the thread of the connection.
#[derive(Clone, Copy, Debug)]
struct SameThread;

impl<F: Future<Output: 'static> + 'static> Executor<F> for SameThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
