//! The table against a slow, obvious model, on random operations.
//!
//! The model keeps each flow as a row of a list and looks through all rows for everything. What depends on
//! chance, which is the local endpoint alone, it takes from the table and checks.

use proptest::prelude::*;

use super::*;
use crate::flow::{State, Traffic, Why};

const WORKERS: u8 = 2;
const MOST: u32 = 9;
const MOST_OF_ONE: u32 = 5;
/// So many ports on one address.
const PORTS: u16 = 2;
/// The table ends flows at ticks of so many nanoseconds.
const TICK: u64 = 250_000_000;

#[derive(Clone, Debug)]
enum Step {
    Open { worker: u8, client: u32, port: u16, vip: u16, backend: u32, full: bool },
    Packet { which: usize, reply: bool, flags: u8, bytes: usize },
    Unreachable { which: usize },
    Close { which: usize },
    Wait { millis: u64 },
    Expire { worker: u8, budget: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop::sample::select(vec![0x02u8, 0x12, 0x10, 0x11, 0x04, 0x14, 0x18]);
    prop_oneof![
        4 => (0..WORKERS, 0..4u32, 1..3u16, 0..3u16, 0..3u32, any::<bool>()).prop_map(
            |(worker, client, port, vip, backend, full)| Step::Open { worker, client, port, vip, backend, full }),
        12 => (any::<usize>(), any::<bool>(), flags, 40..1500usize)
            .prop_map(|(which, reply, flags, bytes)| Step::Packet { which, reply, flags, bytes }),
        1 => any::<usize>().prop_map(|which| Step::Unreachable { which }),
        1 => any::<usize>().prop_map(|which| Step::Close { which }),
        2 => prop_oneof![0..3000u64, 0..300_000u64, 0..8_000_000u64].prop_map(|millis| Step::Wait { millis }),
        2 => (0..WORKERS, prop_oneof![Just(usize::MAX), 0..4usize])
            .prop_map(|(worker, budget)| Step::Expire { worker, budget }),
    ]
}

/// A flow, as the model sees it.
#[derive(Clone, Debug)]
struct Row {
    id: FlowId,
    worker: u8,
    new: NewFlow,
    local: Option<Endpoint>,
    state: State,
    opened: Instant,
    /// When its timeout was last restarted.
    since: Instant,
    traffic: [Traffic; 2],
}

impl Row {
    fn timeout(&self) -> Duration {
        Duration::from_secs(match self.state {
            State::Udp => 300,
            State::Established => 7440,
            _ => 240,
        })
    }

    /// The first tick at which it is over.
    fn due(&self) -> u64 {
        (self.since + self.timeout()).as_nanos().div_ceil(TICK)
    }

    fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Reset | State::Refused)
    }

    fn is_half_open(&self) -> bool {
        matches!(self.state, State::Opening | State::Answered | State::Resuming)
    }

    /// What other flows to the same place must not share.
    fn destination(&self) -> (bool, &'static str) {
        (self.new.vip == UDP, BACKENDS[self.new.backend.index()])
    }

    fn enter(&mut self, now: Instant, state: State) {
        let was_closed = self.is_closed();
        self.state = state;
        if !(was_closed && self.is_closed()) {
            self.since = now;
        }
    }
}

/// All flows; those that closed or were half-open in the order in which they became so, since that order is
/// the order in which they give way.
#[derive(Default)]
struct Model {
    rows: Vec<Row>,
    now: Instant,
}

impl Model {
    fn position(&self, worker: u8, wanted: impl Fn(&Row) -> bool) -> Option<usize> {
        self.rows.iter().position(|row| row.worker == worker && wanted(row))
    }

    /// Moves a row to the end, as the latest of its kind.
    fn latest(&mut self, index: usize) -> &mut Row {
        let row = self.rows.remove(index);
        self.rows.push(row);
        self.rows.last_mut().unwrap()
    }

    /// What opening must do: the rows that it ends, and its result but for chance.
    fn open(&self, worker: u8, new: NewFlow) -> (Vec<(usize, Why)>, Result<(), OpenError>) {
        let mut ended = Vec::new();
        let same = self.rows.iter().position(|row| row.new.client == new.client && row.new.vip == new.vip);
        if let Some(index) = same {
            let row = &self.rows[index];
            if row.worker != worker {
                return (ended, Err(OpenError::Elsewhere(WorkerId(row.worker))));
            } else if !row.state.is_over() {
                return (ended, Err(OpenError::InUse));
            }
            ended.push((index, Why::Replaced));
        }
        let left = |ended: &[(usize, Why)]| -> Vec<(usize, &Row)> {
            let gone = |index: &usize| ended.iter().any(|(other, _)| other == index);
            self.rows.iter().enumerate().filter(|(index, _)| !gone(index)).collect()
        };
        let rows = left(&ended);
        let own: Vec<_> =
            rows.iter().filter(|(_, row)| row.new.client.address == new.client.address).collect();
        if own.len() >= MOST_OF_ONE as usize {
            match own.iter().find(|(_, row)| row.worker == worker && row.is_closed()) {
                Some((index, _)) => ended.push((*index, Why::Reclaimed)),
                None => return (ended, Err(OpenError::ClientLimit)),
            }
        }
        let rows = left(&ended);
        let wanted = (new.vip == UDP, BACKENDS[new.backend.index()]);
        let mut rivals = rows.iter().filter(|(_, row)| row.destination() == wanted);
        if new.nat == Nat::Dnat {
            if rivals.any(|(_, row)| row.local.is_none() && row.new.client == new.client) {
                return (ended, Err(OpenError::InUse));
            }
        } else {
            let used: Vec<_> = rivals.filter(|(_, row)| row.local.is_some()).collect();
            if used.len() >= usize::from(PORTS) {
                // The one that closed first gives way with its port.
                let gives = used.iter().find(|(_, row)| row.worker == worker && row.is_closed());
                match gives {
                    Some((index, _)) => ended.push((*index, Why::Reclaimed)),
                    None => return (ended, Err(OpenError::NoLocalPort)),
                }
            }
        }
        let rows = left(&ended);
        if rows.len() >= MOST as usize {
            let mine = || rows.iter().filter(|(_, row)| row.worker == worker);
            let old = |row: &Row| self.now.as_nanos() / TICK - row.opened.as_nanos() / TICK >= 20;
            let closed = mine().find(|(_, row)| row.is_closed());
            let half_open = mine().find(|(_, row)| row.is_half_open()).filter(|(_, row)| old(row));
            match closed.or(half_open) {
                Some((index, _)) => ended.push((*index, Why::Reclaimed)),
                None => return (ended, Err(OpenError::TableFull)),
            }
        }
        (ended, Ok(()))
    }

    fn check_ended(&self, row: &Row, ended: &Ended, why: Why) {
        assert_eq!((ended.why, ended.in_use), (why, !row.is_closed()));
        assert_eq!((ended.binding.client, ended.binding.vip), (row.new.client, row.new.vip));
        assert_eq!((ended.binding.backend, ended.binding.local), (row.new.backend, row.local));
        assert_eq!([ended.original, ended.reply], row.traffic);
        let lasted = self.now.since(row.opened);
        assert!(ended.lasted.abs_diff(lasted) <= Duration::from_nanos(TICK), "{ended:?} {lasted:?}");
    }
}

fn run(steps: &[Step]) {
    let limits = Settings { max_flows_per_client: MOST_OF_ONE, ..Settings::new(MOST) };
    let mut rig = Rig::new(limits, pool(&["192.0.2.1/32"], 1..=PORTS), WORKERS);
    let mut model = Model::default();
    for step in steps {
        match *step {
            Step::Open { worker, client: number, port, vip, backend, full: both } => {
                let nat = if both { Nat::Full } else { Nat::Dnat };
                let client = Endpoint { port, ..client(number) };
                let new = NewFlow { nat, ..full(client, VipId(vip), backend) };
                open(&mut rig, &mut model, worker, new);
            }
            Step::Packet { which, reply, flags, bytes } if !model.rows.is_empty() => {
                let index = which % model.rows.len();
                packet(&mut rig, &mut model, index, reply, TcpFlags(flags), bytes);
            }
            Step::Unreachable { which } if !model.rows.is_empty() => {
                let index = which % model.rows.len();
                let Row { id, worker, state, .. } = model.rows[index];
                let change = rig.tables[usize::from(worker)].unreachable(model.now, id);
                if state == State::Opening {
                    assert_eq!(change, Change::Refused);
                    let now = model.now;
                    model.latest(index).enter(now, State::Refused);
                } else {
                    assert_eq!(change, Change::Nothing);
                }
            }
            Step::Close { which } if !model.rows.is_empty() => {
                let row = model.rows.remove(which % model.rows.len());
                let ended = rig.tables[usize::from(row.worker)].close(model.now, row.id).unwrap();
                model.check_ended(&row, &ended, Why::Removed);
            }
            Step::Packet { .. } | Step::Unreachable { .. } | Step::Close { .. } => {}
            Step::Wait { millis } => model.now = model.now + Duration::from_millis(millis),
            Step::Expire { worker, budget } => expire(&mut rig, &mut model, worker, budget),
        }
        assert!(rig.ended.is_empty());
        rig.audit();
        compare(&rig, &model);
    }
}

fn open(rig: &mut Rig, model: &mut Model, worker: u8, new: NewFlow) {
    let (gone, want) = model.open(worker, new);
    let result = rig.open(model.now, usize::from(worker), new);
    assert_eq!(result.map(drop), want, "{new:?}");
    let ended = std::mem::take(&mut rig.ended);
    assert_eq!(ended.len(), gone.len(), "{ended:?} {gone:?}");
    for ((index, why), ended) in gone.iter().zip(&ended) {
        model.check_ended(&model.rows[*index], ended, *why);
    }
    let mut kept = (0..).zip(std::mem::take(&mut model.rows)).collect::<Vec<(usize, Row)>>();
    kept.retain(|(index, _)| gone.iter().all(|(other, _)| other != index));
    model.rows = kept.into_iter().map(|(_, row)| row).collect();
    let Ok(id) = result else { return };
    let local = rig.tables[usize::from(worker)].binding(id).unwrap().local;
    assert_eq!(local.is_some(), new.nat == Nat::Full);
    let state = if new.vip == UDP { State::Udp } else { State::Opening };
    let (opened, traffic) = (model.now, [Traffic::default(); 2]);
    model.rows.push(Row { id, worker, new, local, state, opened, since: opened, traffic });
}

fn packet(rig: &mut Rig, model: &mut Model, index: usize, reply: bool, flags: TcpFlags, bytes: usize) {
    let now = model.now;
    let direction = if reply { Direction::Reply } else { Direction::Original };
    let Row { id, worker, state, .. } = model.rows[index];
    let event = if state == State::Udp { Event::Udp } else { Event::Tcp(flags) };
    let change = rig.tables[usize::from(worker)].observe(now, id, direction, event, bytes);
    if state.is_over() && !reply && flags == TcpFlags::SYN {
        assert_eq!(change, Change::Reopen);
        return;
    }
    let next = state.next(direction, flags);
    let first = model.rows[index].traffic[direction as usize].packets == 0;
    let (before, mut after) = (model.rows[index].clone(), model.rows[index].clone());
    after.enter(now, next);
    let want = match (before.is_closed(), after.is_closed()) {
        (true, false) => Change::Revived,
        (false, true) if state == State::Opening && reply => Change::Refused,
        (false, true) => Change::Closed,
        (false, false) if state == State::Udp && reply && first => Change::Accepted,
        (false, false) if before.is_half_open() && !after.is_half_open() => Change::Established,
        (false, false) if state != next && next == State::Answered => Change::Accepted,
        (true, true) | (false, false) => Change::Nothing,
    };
    assert_eq!(change, want, "{state:?} {direction:?} {flags:?}");
    let count = &mut after.traffic[direction as usize];
    *count = Traffic { packets: count.packets + 1, bytes: count.bytes + bytes as u64 };
    // A half-open flow whose deadline stays within one tick keeps its place; all others that move, move last.
    let kind = |row: &Row| (row.is_closed(), row.is_half_open());
    let moves = kind(&before) != kind(&after) || after.is_half_open() && before.due() != after.due();
    model.rows[index] = after;
    if moves {
        model.latest(index);
    }
}

fn expire(rig: &mut Rig, model: &mut Model, worker: u8, budget: usize) {
    let mut ended = Vec::new();
    let table = &mut rig.tables[usize::from(worker)];
    table.expire(model.now, budget, |flow| ended.push(flow));
    assert!(ended.len() <= budget);
    let tick = model.now.as_nanos() / TICK;
    for flow in &ended {
        let same = |row: &Row| row.new.client == flow.binding.client && row.new.vip == flow.binding.vip;
        let index = model.position(worker, same).expect("what has ended was there");
        let row = model.rows.remove(index);
        assert!(row.due() <= tick, "never early: {row:?}");
        model.check_ended(&row, flow, Why::TimedOut);
    }
    if budget == usize::MAX {
        assert_eq!(model.position(worker, |row| row.due() <= tick), None, "never late");
    }
    let due = model.rows.iter().filter(|row| row.worker == worker).map(Row::due).min();
    match (due, rig.tables[usize::from(worker)].next_deadline()) {
        (None, next) => assert_eq!(next, None),
        (Some(due), next) => assert!(next.unwrap().as_nanos() <= due * TICK, "it asks to be called in time"),
    }
}

fn compare(rig: &Rig, model: &Model) {
    assert_eq!(rig.shared.live() as usize, model.rows.len());
    let mut sources = HashSet::new();
    for row in &model.rows {
        for (worker, table) in (0..).zip(&rig.tables) {
            let (protocol, backend) =
                (if row.new.vip == UDP { Protocol::Udp } else { Protocol::Tcp }, row.new.backend);
            let vip = endpoint(["203.0.113.1:80", "203.0.113.1:80", "203.0.113.1:81"][row.new.vip.index()]);
            let source = row.local.unwrap_or(row.new.client);
            let original = FiveTuple { protocol, source: row.new.client, destination: vip };
            let reply =
                FiveTuple { protocol, source: endpoint(BACKENDS[backend.index()]), destination: source };
            for (key, direction) in [(original, Direction::Original), (reply, Direction::Reply)] {
                let want = if worker == row.worker {
                    Lookup::Here(row.id, direction)
                } else {
                    Lookup::Elsewhere(WorkerId(row.worker))
                };
                assert_eq!(table.find(&key, WorkerSet::default()), want);
            }
        }
        assert_eq!(rig.tables[usize::from(row.worker)].state(row.id), Some(row.state));
        assert!(sources.insert((row.destination(), row.local.unwrap_or(row.new.client))), "shared: {row:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_table_does_what_the_model_does(steps in prop::collection::vec(step(), 1..150)) {
        run(&steps);
    }
}
