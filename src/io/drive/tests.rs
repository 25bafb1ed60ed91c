//! What a turn does with each verdict, and that every frame is counted with one end.

use super::*;
use crate::datapath::{Totals, WorkerSet};
use crate::io::memory::{MemoryQueue, pair};
use crate::packet::Offload;

/// A core that does with a packet what its first byte says.
#[derive(Default)]
struct Script {
    id: u8,
    seen: Vec<(u8, Arrival)>,
    held: Vec<Frame>,
    due: Option<Instant>,
}

/// Forward, with the second byte raised.
const FORWARD: u8 = 1;
const ANSWER: u8 = 2;
const DROP: u8 = 3;
/// Keep a copy until the next timeout.
const HOLD: u8 = 4;
/// Give it to the worker that the second byte names, who forwards it.
const HAND_OVER: u8 = 5;
/// Give it to the next worker, and so on to the one that the second byte names. The second lets another frame go with it.
const PASS_ON: u8 = 7;

impl Datapath for Script {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, arrival: Arrival, out: &mut Outbox) -> Verdict {
        let [what, argument, ..] = *frame.packet_mut() else { panic!("empty frames stay with the driver") };
        self.seen.push((what, arrival));
        match what {
            FORWARD => {
                frame.packet_mut()[1] += 1;
                Verdict::Forward(Reason::KnownFlow)
            }
            ANSWER => Verdict::Answer(Reason::EchoRequest),
            DROP => Verdict::Drop(Reason::Martian),
            HOLD => {
                self.held.push(frame.clone());
                self.due = Some(Instant::from_nanos(1000));
                Verdict::Held
            }
            HAND_OVER if argument != self.id => Verdict::HandOver(WorkerId(argument)),
            PASS_ON if self.id < argument => {
                if self.id == 1 {
                    out.push(Frame::copy_of(&[HOLD, 9], Offload::default()), Verdict::HandOver(WorkerId(2)));
                }
                Verdict::HandOver(WorkerId(self.id + 1))
            }
            HAND_OVER | PASS_ON => Verdict::Forward(Reason::KnownFlow),
            _ => unreachable!("{what}"),
        }
    }

    fn handle_timeout(&mut self, _: Instant, out: &mut Outbox) {
        self.due = None;
        for frame in self.held.drain(..) {
            out.push(frame, Verdict::Forward(Reason::Fragment));
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

/// A team of scripts, the far ends of its queues, and its counters.
fn team(size: u8) -> (Vec<Worker<Script>>, Vec<MemoryQueue>, Vec<Arc<Counters>>) {
    let counters: Vec<_> = (0..size).map(|_| Arc::new(Counters::new(0))).collect();
    let (near, far): (Vec<Box<dyn Queue>>, Vec<_>) = (0..size)
        .map(|_| {
            let (near, far) = pair(4096);
            (Box::new(near) as Box<dyn Queue>, far)
        })
        .unzip();
    let cores = (0..size).map(|id| Script { id, ..Script::default() }).collect();
    (Worker::team(cores, near, counters.clone()).unwrap(), far, counters)
}

fn put(queue: &mut MemoryQueue, packet: &[u8]) {
    queue.send(&mut Frame::copy_of(packet, Offload::default())).unwrap();
}

fn take_all(queue: &mut MemoryQueue) -> Vec<Vec<u8>> {
    let mut frame = Frame::new();
    std::iter::from_fn(|| queue.receive(&mut frame).unwrap().then(|| frame.packet().to_vec())).collect()
}

fn totals(counters: &[Arc<Counters>]) -> Totals {
    Totals::of(counters.iter().map(|counters| &**counters))
}

#[test]
fn each_verdict_is_obeyed_and_counted() {
    let (mut workers, mut far, counters) = team(1);
    for packet in [[FORWARD, 6], [ANSWER, 0], [DROP, 0]] {
        put(&mut far[0], &packet);
    }
    put(&mut far[0], &[]);
    assert_eq!(workers[0].turn(Instant::START).unwrap(), Turn { frames: 4, more: More::Nothing });
    assert_eq!(take_all(&mut far[0]), [[FORWARD, 7], [ANSWER, 0]]);
    let totals = totals(&counters);
    assert_eq!((totals.received, totals.received_bytes), (4, 6));
    let ends = [
        (Outcome::Forwarded, Reason::KnownFlow, 1),
        (Outcome::Answered, Reason::EchoRequest, 1),
        (Outcome::Dropped, Reason::Malformed, 1),
        (Outcome::Dropped, Reason::Martian, 1),
    ];
    assert_eq!(totals.ends, ends);
    assert!(totals.agree());
}

#[test]
fn a_turn_reads_one_burst_and_says_that_there_may_be_more() {
    let (mut workers, mut far, _) = team(1);
    for _ in 0..=BURST {
        put(&mut far[0], &[DROP, 0]);
    }
    assert_eq!(workers[0].turn(Instant::START).unwrap(), Turn { frames: BURST, more: More::Perhaps });
    assert_eq!(workers[0].turn(Instant::START).unwrap(), Turn { frames: 1, more: More::Nothing });
}

#[test]
fn what_the_core_lets_go_is_written_when_it_falls_due_and_not_before() {
    let (mut workers, mut far, counters) = team(1);
    put(&mut far[0], &[HOLD, 1]);
    let _ = workers[0].turn(Instant::START).unwrap();
    assert_eq!(workers[0].deadline(), Some(Instant::from_nanos(1000)));
    let _ = workers[0].turn(Instant::from_nanos(999)).unwrap();
    assert!(take_all(&mut far[0]).is_empty());
    let _ = workers[0].turn(Instant::from_nanos(1000)).unwrap();
    assert_eq!(take_all(&mut far[0]), [[HOLD, 1]]);
    assert_eq!(totals(&counters).count(Outcome::Forwarded, Reason::Fragment), 1);
}

#[test]
fn a_frame_is_handed_over_once_and_counted_where_it_ends() {
    let (mut workers, mut far, counters) = team(3);
    put(&mut far[0], &[HAND_OVER, 2]);
    for worker in &mut workers {
        let _ = worker.turn(Instant::START).unwrap();
    }
    assert_eq!(take_all(&mut far[2]), [[HAND_OVER, 2]]);
    let visited = WorkerSet::default().with(WorkerId(0));
    let arrival = Arrival::HandedOver { visited, queue: WorkerId(0) };
    assert_eq!(workers[2].core().seen, [(HAND_OVER, arrival)]);
    let totals = totals(&counters);
    assert_eq!((totals.received, totals.handed_over), (1, 1));
    assert_eq!(counters[0].received.value(), 1);
    assert!(totals.agree());
}

#[test]
fn what_is_handed_on_says_whom_it_visited_and_by_which_queue_it_came() {
    let (mut workers, mut far, _) = team(3);
    put(&mut far[0], &[PASS_ON, 2]);
    for worker in &mut workers {
        let _ = worker.turn(Instant::START).unwrap();
    }
    let by = |visited: &[u8]| {
        let visited = visited.iter().fold(WorkerSet::NONE, |set, id| set.with(WorkerId(*id)));
        Arrival::HandedOver { visited, queue: WorkerId(0) }
    };
    assert_eq!(workers[1].core().seen, [(PASS_ON, by(&[0]))]);
    // Also what the second let out because of it.
    assert_eq!(workers[2].core().seen, [(PASS_ON, by(&[0, 1])), (HOLD, by(&[0, 1]))]);
}

#[test]
fn a_full_mailbox_drops_and_what_was_left_in_it_is_settled_at_the_end() {
    let (mut workers, mut far, counters) = team(2);
    for _ in 0..1030 {
        put(&mut far[0], &[HAND_OVER, 1]);
    }
    while workers[0].turn(Instant::START).unwrap().more == More::Perhaps {}
    assert!(!totals(&counters).agree(), "the mail is not read yet");
    settle_mail(&mut workers, Instant::START);
    let totals = totals(&counters);
    assert_eq!(totals.count(Outcome::Dropped, Reason::HandoverFull), 6);
    assert_eq!(totals.count(Outcome::Forwarded, Reason::KnownFlow), 1024);
    assert_eq!(totals.handed_over, 1024);
    assert!(totals.agree());
}

#[test]
fn a_worker_that_does_not_exist_is_a_full_mailbox() {
    let (mut workers, mut far, counters) = team(1);
    put(&mut far[0], &[HAND_OVER, 9]);
    let _ = workers[0].turn(Instant::START).unwrap();
    assert_eq!(totals(&counters).count(Outcome::Dropped, Reason::HandoverFull), 1);
}

#[test]
fn a_write_that_fails_is_the_packets_end_and_not_the_workers() {
    let counters = [Arc::new(Counters::new(0))];
    let (near, mut far) = pair(1);
    let mut workers = Worker::team(vec![Script::default()], vec![Box::new(near)], counters.to_vec()).unwrap();
    for _ in 0..3 {
        put(&mut far, &[FORWARD, 0]);
        let _ = workers[0].turn(Instant::START).unwrap();
    }
    let totals = totals(&counters);
    assert_eq!(totals.count(Outcome::Forwarded, Reason::KnownFlow), 1);
    assert_eq!(totals.count(Outcome::Dropped, Reason::WriteFailed), 2);
    assert!(totals.agree());
}

#[test]
fn a_device_that_is_gone_ends_the_worker_with_its_name_and_true_counts() {
    let (mut workers, mut far, counters) = team(1);
    put(&mut far[0], &[FORWARD, 0]);
    put(&mut far[0], &[DROP, 0]);
    drop(far);
    let error = workers[0].turn(Instant::START).unwrap_err();
    assert!(matches!(&error, IoError::DeviceGone { name } if name == "memory"), "{error}");
    let totals = totals(&counters);
    assert_eq!(totals.count(Outcome::Dropped, Reason::WriteFailed), 1);
    assert!(totals.agree());
}

#[test]
fn a_team_needs_a_queue_and_counters_for_each_core() {
    let queues: Vec<Box<dyn Queue>> = vec![Box::new(pair(1).0)];
    let error = Worker::<Script>::team(vec![], queues, vec![]).map(drop).unwrap_err();
    assert_eq!(error.to_string(), "1 queues: they need as many cores and counters, and there are 0 and 0");
}

#[test]
fn a_tap_is_told_of_every_packet_once_whichever_worker_and_whenever() {
    use crate::io::tap::{Heard, taps};
    use std::collections::BTreeMap;
    use std::time::Duration;

    let (mut workers, mut far, counters) = team(2);
    let (taps, listener) = taps(None);
    for worker in &mut workers {
        worker.tell(Some(&taps));
    }
    for packet in [[FORWARD, 6], [DROP, 0], [HAND_OVER, 1], [HOLD, 0]] {
        put(&mut far[0], &packet);
    }
    put(&mut far[0], &[]);
    for now in [0, 2000] {
        let now = Instant::from_nanos(now);
        for worker in &mut workers {
            let _ = worker.turn(now).unwrap();
            worker.speak(now).unwrap();
        }
    }
    drop((workers, taps));
    let mut came = BTreeMap::new();
    let mut left = BTreeMap::new();
    while let Heard::Batch(told) = listener.hear(Duration::ZERO) {
        for told in told {
            if let Some(copied) = &told.came {
                let verdict = told.decision.verdict.unwrap();
                assert!(came.insert(told.id, (copied.bytes.to_vec(), verdict)).is_none(), "told twice");
            }
            if let Some(copied) = &told.left {
                assert!(left.insert(told.id, copied.bytes.to_vec()).is_none(), "left twice");
            }
        }
    }
    let known = Verdict::Forward(Reason::KnownFlow);
    let want = [
        (1, (vec![FORWARD, 6], known)),
        (2, (vec![DROP, 0], Verdict::Drop(Reason::Martian))),
        (3, (vec![HAND_OVER, 1], known)),
        (4, (vec![HOLD, 0], Verdict::Held)),
        (5, (vec![], Verdict::Drop(Reason::Malformed))),
    ];
    assert_eq!(came, BTreeMap::from(want));
    let want = [(1, vec![FORWARD, 7]), (3, vec![HAND_OVER, 1]), (4, vec![HOLD, 0])];
    assert_eq!(left, BTreeMap::from(want));
    assert_eq!(totals(&counters).received, 5);
}

#[test]
fn a_packet_that_the_device_does_not_take_is_told_as_lost() {
    use crate::io::tap::{Heard, taps};
    use std::time::Duration;

    let (near, mut far) = pair(1);
    let counters = Arc::new(Counters::new(0));
    let mut team = Worker::team(vec![Script::default()], vec![Box::new(near)], vec![counters]).unwrap();
    let (taps, listener) = taps(None);
    team[0].tell(Some(&taps));
    for _ in 0..2 {
        put(&mut far, &[FORWARD, 0]);
        let _ = team[0].turn(Instant::START).unwrap();
    }
    team[0].speak(Instant::START).unwrap();
    let Heard::Batch(told) = listener.hear(Duration::ZERO) else { panic!("nothing was told") };
    assert!(told[0].left.is_some() && told[1].left.is_none());
    assert_eq!(told[1].decision.verdict, Some(Verdict::Drop(Reason::WriteFailed)));
}

/// A core that asks for a fence of the queue that a frame names, and notes what it is told.
struct Asker {
    id: WorkerId,
    /// The second bytes of the frames that came, and the fences that passed.
    told: Vec<Result<u8, WorkerId>>,
}

/// Ask for a fence of the queue that the second byte names.
const ASK: u8 = 6;

impl Datapath for Asker {
    fn handle_frame(&mut self, _: Instant, frame: &mut Frame, _: Arrival, out: &mut Outbox) -> Verdict {
        let [what, argument, ..] = *frame.packet() else { panic!("empty frames stay with the driver") };
        match what {
            ASK => out.ask_fence(WorkerId(argument)),
            HAND_OVER if self.id != WorkerId(1) => return Verdict::HandOver(WorkerId(1)),
            _ => self.told.push(Ok(argument)),
        }
        Verdict::Drop(Reason::Martian)
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn handle_fence(&mut self, _: Instant, queue: WorkerId, _: &mut Outbox) {
        self.told.push(Err(queue));
    }
}

fn askers() -> (Vec<Worker<Asker>>, Vec<MemoryQueue>) {
    let (near, far): (Vec<Box<dyn Queue>>, Vec<_>) = (0..2)
        .map(|_| {
            let (near, far) = pair(4096);
            (Box::new(near) as Box<dyn Queue>, far)
        })
        .unzip();
    let cores = (0..2).map(|id| Asker { id: WorkerId(id), told: Vec::new() }).collect();
    let counters = (0..2).map(|_| Arc::new(Counters::new(0))).collect();
    (Worker::team(cores, near, counters).unwrap(), far)
}

#[test]
fn a_fence_of_another_worker_s_queue_passes_behind_all_that_lay_there() {
    let (mut workers, mut far) = askers();
    for number in 0..200 {
        put(&mut far[0], &[HAND_OVER, number]);
    }
    put(&mut far[1], &[ASK, 0]);
    let _ = workers[1].turn(Instant::START).unwrap();
    assert!(workers[1].core().told.is_empty());
    // Also where the worker thinks that its queue is empty.
    assert_eq!(workers[0].turn_without_queue(Instant::START).unwrap().more, More::Perhaps);
    for _ in 0..3 {
        let _ = workers[0].turn(Instant::START).unwrap();
    }
    assert_eq!(
        workers[1].turn_without_queue(Instant::START).unwrap(),
        Turn { frames: 201, more: More::Nothing }
    );
    let all = (0..200).map(Ok).chain([Err(WorkerId(0))]);
    assert_eq!(workers[1].core().told, all.collect::<Vec<_>>());
}

#[test]
fn a_fence_of_the_own_queue_passes_when_that_is_empty() {
    let (mut workers, mut far) = askers();
    put(&mut far[1], &[ASK, 1]);
    for number in 0..100 {
        put(&mut far[1], &[0, number]);
    }
    assert_eq!(workers[1].turn(Instant::START).unwrap().more, More::Perhaps);
    assert!(!workers[1].core().told.contains(&Err(WorkerId(1))));
    assert_eq!(workers[1].turn(Instant::START).unwrap().more, More::Nothing);
    assert_eq!(workers[1].core().told.iter().position(Result::is_err), Some(100));
}

#[test]
fn a_fence_of_a_queue_that_is_never_empty_passes_when_as_much_was_read_as_it_can_hold() {
    let (mut workers, mut far) = askers();
    put(&mut far[1], &[ASK, 0]);
    let _ = workers[1].turn(Instant::START).unwrap();
    let mut read = 0;
    while workers[1].core().told.is_empty() {
        for _ in 0..=BURST {
            // A queue that is full is full enough.
            let _ = far[0].send(&mut Frame::copy_of(&[0, 0], Offload::default()));
        }
        read += workers[0].turn(Instant::START).unwrap().frames;
        let _ = workers[1].turn(Instant::START).unwrap();
        assert!(read <= LENGTH as usize + 2 * BURST + 1, "it never passes");
    }
    assert!(read > LENGTH as usize, "{read}");
}

#[test]
fn a_fence_that_is_asked_for_when_the_queues_are_read_no_more_passes_at_once() {
    let (mut workers, mut far) = askers();
    put(&mut far[0], &[0, 0]);
    put(&mut far[1], &[ASK, 0]);
    put(&mut far[1], &[ASK, 1]);
    let _ = workers[1].turn_over(Instant::START, 2).unwrap();
    settle_mail(&mut workers, Instant::START);
    // In whichever order: nothing lies before either of them any more.
    assert_eq!(workers[1].core().told, [Err(WorkerId(0)), Err(WorkerId(1))]);
    assert!(workers[0].core().told.is_empty());
}
