//! How much goes out at once: full records, several of them a write.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::*;

/// A pipe that keeps count of what is written.
#[derive(Debug)]
struct Counted {
    pipe: DuplexStream,
    /// For each write, how many slices and how many bytes.
    writes: Vec<(usize, usize)>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Counted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.pipe).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(bytes)) = written {
            self.writes.push((slices.len(), bytes));
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.pipe).poll_shutdown(cx)
    }
}

/// What is written of a megabyte by `write`, over a pipe that takes all.
fn written(write: impl AsyncFnOnce(&mut ServerStream<Counted>)) -> Vec<(usize, usize)> {
    let authority = authority();
    let terminator = terminator(&authority, &["a.example.com"], ClientCheck::None);
    let pem = authority.pem();
    run(async {
        let (near, far) = tokio::io::duplex(4 << 20);
        let near = Counted { pipe: near, writes: Vec::new() };
        let connector = TlsConnector::from(Client::new(&pem).build());
        let name = ServerName::try_from("a.example.com").unwrap();
        let (secured, client) = join(terminator.accept(near, LIMIT), connector.connect(name, far)).await;
        let (mut stream, mut client) = (secured.unwrap().stream, client.unwrap());
        stream.get_mut().0.writes.clear();
        write(&mut stream).await;
        stream.flush().await.unwrap();
        let writes = std::mem::take(&mut stream.get_mut().0.writes);
        stream.shutdown().await.unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), 1 << 20);
        writes
    })
}

#[test]
fn a_large_body_goes_out_in_full_records_and_four_a_write() {
    let writes = written(async |stream| stream.write_all(&vec![7; 1 << 20]).await.unwrap());
    // 16 KB, and a header, a type and a tag (RFC 8446 §5.2).
    let record = (16 << 10) + 5 + 1 + 16;
    assert_eq!(writes, vec![(4, 4 * record); 16]);
}

#[test]
fn many_small_pieces_go_out_in_full_records_too() {
    let writes = written(async |stream| {
        let piece = [7; 512];
        let mut left = 1 << 20;
        while left > 0 {
            let slices = vec![IoSlice::new(&piece); (left / piece.len()).min(128)];
            left -= stream.write_vectored(&slices).await.unwrap();
        }
    });
    let record = (16 << 10) + 5 + 1 + 16;
    assert_eq!(writes, vec![(4, 4 * record); 16]);
}
