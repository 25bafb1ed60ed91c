//! Several workers in threads of their own, all opening the same few flows, so that races are hit.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rand::RngExt;

use super::*;

/// Who has which key now. A key is entered after its flow has been opened, and taken out before it is
/// closed, so each is in here only while the table must know it too.
#[derive(Default)]
struct Register(Mutex<HashMap<FiveTuple, u8>>);

impl Register {
    fn enter(&self, key: FiveTuple, worker: u8) {
        let before = self.0.lock().unwrap().insert(key, worker);
        assert_eq!(before, None, "worker {worker} has opened {key}, which was live");
    }

    fn leave(&self, key: &FiveTuple) {
        self.0.lock().unwrap().remove(key);
    }
}

#[test]
fn workers_that_race_for_the_same_flows_never_share_a_key() {
    const WORKERS: u8 = 4;
    const CLIENTS: u32 = 6;
    for seed in 0..4 {
        println!("seed {seed}");
        // Five ports for up to twelve flows to one backend: reply keys are fought for as well.
        let settings = Settings { max_flows_per_client: 10, ..Settings::new(10) };
        let mut rig = Rig::new(settings, pool(&["192.0.2.1/32"], 1..=5), WORKERS);
        let register = Register::default();
        let (opened, elsewhere) = (AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for table in &mut rig.tables {
                let (register, opened, elsewhere) = (&register, &opened, &elsewhere);
                scope.spawn(move || {
                    let mut chance = StdRng::seed_from_u64(seed * 100 + u64::from(table.worker.0));
                    let mut mine: Vec<(FlowId, [FiveTuple; 2])> = Vec::new();
                    for step in 0..20_000u64 {
                        let new = NewFlow {
                            client: client(chance.random_range(0..CLIENTS)),
                            vip: if chance.random_bool(0.5) { TCP } else { OTHER },
                            backend: BackendId(chance.random_range(0..3)),
                            nat: if chance.random_bool(0.8) { Nat::Full } else { Nat::Dnat },
                        };
                        let id = table.open(at(step), new, &mut chance, |flow| panic!("{flow:?} gave way"));
                        match id {
                            Ok(id) => {
                                opened.fetch_add(1, Relaxed);
                                for (direction, flags) in OPENED {
                                    let _ = table.observe(at(step), id, direction, Event::Tcp(flags), 1);
                                }
                                let keys = [Direction::Original, Direction::Reply].map(|direction| {
                                    table.rewritten(id, direction.reversed()).unwrap().reversed()
                                });
                                keys.iter().for_each(|key| register.enter(*key, table.worker.0));
                                mine.push((id, keys));
                            }
                            Err(OpenError::Elsewhere(worker)) => {
                                assert_ne!(worker, table.worker);
                                elsewhere.fetch_add(1, Relaxed);
                            }
                            Err(OpenError::TableFull | OpenError::NoLocalPort | OpenError::InUse) => {}
                            Err(error) => panic!("{error}"),
                        }
                        for (id, [original, reply]) in &mine {
                            let here = |direction| Lookup::Here(*id, direction);
                            assert_eq!(table.find(original, WorkerSet::default()), here(Direction::Original));
                            assert_eq!(table.find(reply, WorkerSet::default()), here(Direction::Reply));
                        }
                        while mine.len() > 2 || !mine.is_empty() && chance.random_bool(0.5) {
                            let (id, keys) = mine.swap_remove(chance.random_range(0..mine.len()));
                            keys.iter().for_each(|key| register.leave(key));
                            assert!(table.close(at(step), id).is_some());
                        }
                    }
                });
            }
        });
        println!("{opened:?} opened, {elsewhere:?} were elsewhere");
        assert!(opened.into_inner() > 10_000);
        rig.audit();
        for table in &rig.tables {
            assert!(table.len() <= 2);
        }
    }
}
