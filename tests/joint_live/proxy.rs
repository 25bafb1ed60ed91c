//! A proxy as small as one can be: a stack, and a task a connection.

use std::hash::{DefaultHasher, Hasher};
use std::io;
use std::task::{Context, Poll};

use fourseven::app::upstream::KernelConnect;
use fourseven::datapath::{Arrival, Datapath, Instant, Outbox, Verdict, WorkerId};
use fourseven::l7::FlowStream;
use fourseven::l7::connect::{Connect, Standing};
use fourseven::l7::stack::{
    Congestion, DeviceTraits, Listener, RingSize, Rings, Share, Stack, StackSettings,
};
use fourseven::packet::{Endpoint, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::task::spawn_local;

/// Layer 7 of one worker.
pub struct Proxy {
    stack: Stack,
    backends: Vec<Endpoint>,
}

impl Proxy {
    pub fn new(
        device: DeviceTraits,
        worker: WorkerId,
        workers: usize,
        listens: &[Endpoint],
        backends: &[Endpoint],
    ) -> Self {
        let share = Share { worker, workers: u8::try_from(workers).unwrap() };
        let mut stack = Stack::new(StackSettings::on(device), share, [7; 32]);
        let rings = Rings { receive: RingSize::K256, transmit: RingSize::K256 };
        for &listen in listens {
            stack.listen(listen, Listener { rings, congestion: Congestion::Cubic });
        }
        Self { stack, backends: backends.to_vec() }
    }
}

impl Datapath for Proxy {
    fn handle_frame(&mut self, now: Instant, frame: &mut Frame, arrival: Arrival, _: &mut Outbox) -> Verdict {
        let verdict = self.stack.handle_frame(now, frame, arrival);
        while let Some(accepted) = self.stack.accept() {
            let mut backends = self.backends.iter().copied();
            let backend = backends.find(|it| it.address.family() == accepted.vip.address.family()).unwrap();
            // A client that goes away in the middle is no matter here.
            spawn_local(async move { answer(accepted.stream, backend).await.unwrap_or_default() });
        }
        verdict
    }

    fn handle_timeout(&mut self, now: Instant, _: &mut Outbox) {
        self.stack.handle_timeout(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.stack.poll_timeout()
    }

    fn poll_egress(&mut self, now: Instant, mut sink: &mut dyn FnMut(&mut Frame)) {
        self.stack.poll_egress(now, &mut sink);
    }

    fn poll_dirty(&self, context: &Context<'_>) -> Poll<()> {
        self.stack.poll_dirty(context)
    }
}

/// `U` and bytes are answered by their hash, `D` and a number by as many bytes and their hash, `P` and
/// bytes by what a backend says to them.
async fn answer(mut stream: FlowStream, backend: Endpoint) -> io::Result<()> {
    let mut hash = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    match stream.read_u8().await? {
        b'P' => {
            let mut link = KernelConnect.connect(backend).await?;
            assert_eq!(link.probe.standing(), Standing::Quiet);
            copy_bidirectional(&mut stream, &mut link.bytes).await?;
            return Ok(());
        }
        b'U' => {
            while let length @ 1.. = stream.read(&mut buffer).await? {
                hash.write(&buffer[..length]);
            }
        }
        _ => {
            let mut left = stream.read_u64().await?;
            let mut seed = 1u32;
            // The odd length shifts the bytes against all segments.
            let mut bytes = vec![0; (1 << 14) + 1];
            bytes.fill_with(|| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed.to_be_bytes()[0]
            });
            while left > 0 {
                let part = &bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                hash.write(part);
                stream.write_all(part).await?;
                left -= part.len() as u64;
            }
        }
    }
    stream.write_all(&hash.finish().to_be_bytes()).await?;
    stream.shutdown().await?;
    while stream.read(&mut buffer).await? > 0 {}
    Ok(())
}
