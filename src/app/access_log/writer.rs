//! One target of access logs: its queue, and the thread that empties it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::app::output;
use crate::app::report::LogCounts;
use crate::datapath::Instant;
use crate::io::Clock;
use crate::l7::spec::LogTarget;

/// How many lines may wait to be written, and how many bytes of them.
const LINES: usize = 16 << 10;
const BYTES: usize = 16 << 20;

/// How often it is looked whether the file is still where it was.
const LOOK: Duration = Duration::from_secs(1);

/// Lines on their way to one target.
pub(super) struct Queue {
    target: LogTarget,
    sender: SyncSender<Message>,
    /// What the thread is made of, until it is started.
    parts: Mutex<Option<(Receiver<Message>, Output)>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Bytes that wait.
    waiting: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
}

enum Message {
    Line(String),
    End,
}

impl Queue {
    pub(super) fn open(target: &LogTarget) -> io::Result<Self> {
        Self::with(target, LINES)
    }

    fn with(target: &LogTarget, lines: usize) -> io::Result<Self> {
        let output = match target {
            LogTarget::Stdout => Output::Stdout,
            LogTarget::File(path) => Output::File(LogFile::open(path)?),
        };
        let (sender, receiver) = sync_channel(lines);
        Ok(Self {
            target: target.clone(),
            sender,
            parts: Mutex::new(Some((receiver, output))),
            thread: Mutex::default(),
            counts: Arc::default(),
        })
    }

    /// Takes a line, if there is room.
    pub(super) fn push(&self, line: String) {
        let length = line.len();
        let waiting = self.counts.waiting.fetch_add(length, Relaxed);
        let room = waiting.saturating_add(length) <= BYTES;
        if !room || self.sender.try_send(Message::Line(line)).is_err() {
            self.counts.waiting.fetch_sub(length, Relaxed);
            self.counts.dropped.fetch_add(1, Relaxed);
        }
    }

    pub(super) fn start(&self) -> io::Result<()> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some((receiver, output)) = parts else { return Ok(()) };
        let counts = Arc::clone(&self.counts);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&receiver, output, &counts))?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Waits until all that is there is written. What comes later is dropped.
    pub(super) fn finish(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        // The thread takes messages until it gets this one.
        let _ = self.sender.send(Message::End);
        let _ = thread.join();
    }

    pub(super) fn counts(&self) -> LogCounts {
        LogCounts {
            target: match &self.target {
                LogTarget::Stdout => "-".to_owned(),
                LogTarget::File(path) => path.to_string_lossy().into_owned(),
            },
            written: self.counts.written.load(Relaxed),
            dropped: self.counts.dropped.load(Relaxed),
        }
    }
}

/// Writes until the end: as long as there are lines into a buffer, and that out whenever there is none.
fn write(receiver: &Receiver<Message>, mut output: Output, counts: &Counts) {
    let mut batch = Batch::default();
    while let Ok(message) = receiver.recv() {
        let mut next = Some(message);
        loop {
            match next.take() {
                Some(Message::Line(line)) => batch.add(&line),
                Some(Message::End) => {
                    batch.write(&mut output, counts);
                    return;
                }
                None => {}
            }
            match receiver.try_recv() {
                Ok(message) if batch.bytes.len() < Batch::MOST => next = Some(message),
                Ok(message) => {
                    batch.write(&mut output, counts);
                    next = Some(message);
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        batch.write(&mut output, counts);
    }
}

/// Lines that are written at once.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// The last write failed: nobody needs to be told again.
    failed: bool,
}

impl Batch {
    /// As many bytes make it full.
    const MOST: usize = 64 << 10;

    fn add(&mut self, line: &str) {
        self.bytes.extend_from_slice(line.as_bytes());
        self.lines += 1;
    }

    fn write(&mut self, output: &mut Output, counts: &Counts) {
        counts.waiting.fetch_sub(self.bytes.len(), Relaxed);
        match output.write(&self.bytes) {
            Ok(()) => {
                counts.written.fetch_add(self.lines, Relaxed);
                self.failed = false;
            }
            Err(error) => {
                counts.dropped.fetch_add(self.lines, Relaxed);
                if !std::mem::replace(&mut self.failed, true) {
                    output::say(format_args!("warning: the access log cannot be written: {error}"));
                }
            }
        }
        self.bytes.clear();
        self.lines = 0;
    }
}

enum Output {
    Stdout,
    File(LogFile),
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => {
                let mut stdout = BufWriter::new(io::stdout().lock());
                stdout.write_all(bytes)?;
                stdout.flush()
            }
            Self::File(file) => {
                file.follow();
                file.file.write_all(bytes)
            }
        }
    }
}

/// A file that is written at its end.
struct LogFile {
    path: PathBuf,
    file: File,
    /// Which file it is.
    id: (u64, u64),
    /// When it is looked again whether it is where it was.
    due: Instant,
    clock: Clock,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let about = file.metadata()?;
        let (id, clock) = ((about.dev(), about.ino()), Clock::start());
        Ok(Self { path: path.to_owned(), file, id, due: clock.now() + LOOK, clock })
    }

    /// Goes on in another file, where the name leads to one or to none. Where that cannot be opened, the old one is as good.
    fn follow(&mut self) {
        let now = self.clock.now();
        if now < self.due {
            return;
        }
        self.due = now + LOOK;
        let there = std::fs::metadata(&self.path).map(|about| (about.dev(), about.ino()));
        if there.ok() != Some(self.id)
            && let Ok(file) = Self::open(&self.path)
        {
            *self = file;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("fourseven-log-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn lines_are_written_in_order_and_those_without_room_are_counted() {
        let folder = folder("full");
        let path = folder.join("access.log");
        let queue = Queue::with(&LogTarget::File(path.clone()), 3).unwrap();
        for number in 0..5 {
            queue.push(format!("line {number}\n"));
        }
        queue.start().unwrap();
        queue.finish();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0\nline 1\nline 2\n");
        let counts = queue.counts();
        assert_eq!((counts.written, counts.dropped), (3, 2));
        assert_eq!(queue.counts.waiting.load(Relaxed), 0);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn waiting_lines_have_a_bound_in_bytes() {
        let folder = folder("bytes");
        let queue = Queue::with(&LogTarget::File(folder.join("access.log")), 1000).unwrap();
        let line = "x".repeat(BYTES / 10);
        for _ in 0..20 {
            queue.push(line.clone());
        }
        assert_eq!(queue.counts().dropped, 10);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_was_moved_is_made_again() {
        let folder = folder("moved");
        let path = folder.join("access.log");
        let mut file = LogFile::open(&path).unwrap();
        let output = |file: &mut LogFile, text: &str, wait: bool| {
            if wait {
                file.due = Instant::START;
            }
            file.follow();
            file.file.write_all(text.as_bytes()).unwrap();
        };
        output(&mut file, "one\n", true);
        std::fs::rename(&path, folder.join("access.log.1")).unwrap();
        output(&mut file, "two\n", false);
        output(&mut file, "three\n", true);
        output(&mut file, "four\n", true);
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!((read("access.log.1"), read("access.log")), ("one\ntwo\n".into(), "three\nfour\n".into()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_disk_that_is_full_is_a_count_and_no_end() {
        let Ok(queue) = Queue::with(&LogTarget::File("/dev/full".into()), 10) else { return };
        queue.start().unwrap();
        queue.push("line\n".to_owned());
        queue.finish();
        let counts = queue.counts();
        assert_eq!((counts.written, counts.dropped), (0, 1));
    }
}
