//! A worker as small as one can be: one device, one stack, one thread.

#![expect(clippy::disallowed_methods, reason = "a driver owns the clock")]

use std::future::poll_fn;
use std::hash::{DefaultHasher, Hasher};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::task::Poll;
use std::time::{Duration, Instant as Clock};

use fourseven::datapath::{Arrival, Instant, Verdict};
use fourseven::l7::FlowStream;
use fourseven::l7::stack::{
    Congestion, DeviceTraits, Listener, RingSize, Rings, Share, Stack, StackSettings,
};
use fourseven::packet::Frame;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::device::Device;

/// Frames that are taken at once, before the streams have their turn.
const AT_ONCE: usize = 32;

/// Serves until the other end of `stopped` is gone.
pub fn run(device: Device, stopped: &Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(serve(device, stopped)));
}

async fn serve(device: Device, stopped: &Receiver<()>) {
    let epoch = Clock::now();
    let now = || Instant::START + epoch.elapsed();
    let settings = StackSettings::on(DeviceTraits { mtu: 1500, offloads: device.offloads });
    let mut stack = Stack::new(settings, Share::ALL, [1; 32]);
    let rings = Rings { receive: RingSize::M1, transmit: RingSize::M1 };
    for vip in ["10.47.1.2:80", "[fd47:1::2]:80"] {
        let vip: SocketAddr = vip.parse().expect("an address");
        stack.listen(vip.into(), Listener { rings, congestion: Congestion::Cubic });
    }
    #[expect(deprecated, reason = "what is to replace it needs unsafe code; the device owns its descriptor")]
    let device = AsyncFd::new(device).expect("the device can be waited for");
    let mut frame = Frame::new();
    while matches!(stopped.try_recv(), Err(TryRecvError::Empty)) {
        let due = stack.poll_timeout().map_or(Duration::from_millis(50), |due| due.since(now()));
        let mut due = std::pin::pin!(tokio::time::sleep(due.min(Duration::from_millis(50))));
        poll_fn(|context| {
            let readable = match device.poll_read_ready(context) {
                Poll::Ready(guard) => {
                    let mut guard = guard.expect("the device is there");
                    let mut taken = 0;
                    while taken < AT_ONCE {
                        if !device.get_ref().receive(&mut frame).expect("the device reads") {
                            guard.clear_ready();
                            break;
                        }
                        taken += 1;
                        if let Verdict::Answer(_) = stack.handle_frame(now(), &mut frame, Arrival::Queue) {
                            device.get_ref().send(&mut frame).expect("the device writes");
                        }
                    }
                    taken > 0
                }
                Poll::Pending => false,
            };
            let dirty = stack.poll_dirty(context).is_ready();
            let late = due.as_mut().poll(context).is_ready();
            if readable || dirty || late { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        while let Some(accepted) = stack.accept() {
            tokio::task::spawn_local(answer(accepted.stream));
        }
        tokio::task::yield_now().await;
        stack.handle_timeout(now());
        stack.poll_egress(now(), &mut |frame| device.get_ref().send(frame).expect("the device writes"));
    }
    assert_eq!(stack.counts().reset + stack.counts().aborted + stack.counts().timed_out, 0);
}

/// `U` and bytes are answered by their hash, `D` and a number by as many bytes and their hash.
async fn answer(mut stream: FlowStream) {
    let mut hash = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 18];
    if stream.read_u8().await.expect("a request") == b'U' {
        while let length @ 1.. = stream.read(&mut buffer).await.expect("read") {
            hash.write(&buffer[..length]);
        }
    } else {
        let mut left = usize::try_from(stream.read_u64().await.expect("a number")).expect("not that many");
        let mut seed = 1u32;
        let mut bytes = vec![0; (1 << 20) + 1];
        bytes.fill_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        });
        while left > 0 {
            // The odd length shifts the bytes against all segments.
            let part = &bytes[..left.min(bytes.len())];
            hash.write(part);
            stream.write_all(part).await.expect("written");
            left -= part.len();
        }
    }
    stream.write_all(&hash.finish().to_be_bytes()).await.expect("written");
    stream.shutdown().await.expect("shut down");
    // Until the client has closed as well.
    while stream.read(&mut buffer).await.expect("read") > 0 {}
}
