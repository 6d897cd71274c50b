//! Many random histories.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

use super::script::{End, History, Op, Queue, Sent, Setup};
use super::{disk, run};
use crate::cloud::rufus::{CallError, KeyFault};
use crate::cloud::uplink::model::CallFault;
use crate::config::SessionMode;
use crate::journal::control::Held;

/// Number of histories in a default run, and its seed.
const HISTORIES: u32 = 200;
const SEED: u64 = 1;

/// Events that must happen in this many histories.
const TROUBLE: [&str; 25] = [
    "POSTs",
    "batches of reads that waited, written with the next",
    "batches written with their reads",
    "corrections",
    "corrections taken back before they went up",
    "frames acknowledged",
    "groups refused by the disk",
    "holds",
    "holds that were released and sent",
    "kills",
    "kills amid a call of the disk",
    "passings sent again with another time",
    "passings set aside",
    "passings set aside and dropped",
    "passings set aside and released",
    "passings numbered after a hold in which they were kept",
    "power cuts",
    "power cuts amid a call of the disk",
    "reads dropped by choice",
    "rebuilds of the queue",
    "releases",
    "repeats and dead reads",
    "segments pruned",
    "sessions changed by hand after all that waited went up",
    "sessions changed by hand while something waited",
];

fn environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect("a number"))
}

fn setups() -> impl Strategy<Value = Setup> {
    let devices = prop_oneof![Just(vec![0]), Just(vec![0, 0]), Just(vec![0, 1]), Just(vec![0, 1, 0])];
    let dead_time = prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(5))];
    let segment_bytes = prop_oneof![Just(1u64), Just(600), Just(3000), Just(1 << 30)];
    let keep_bytes = prop_oneof![3 => Just(0u64), 1 => Just(1 << 30)];
    let batch_max = prop_oneof![Just(3usize), Just(100)];
    let mode = prop_oneof![3 => Just(SessionMode::Active), 1 => Just(SessionMode::Create)];
    let page = prop_oneof![Just(2usize), Just(5000)];
    // With a POST that is applied 6 s late, a lag of at most 8 s is still within the time that the
    // uplink waits.
    let lag = prop_oneof![2 => Just(Duration::ZERO), 1 => (1u64..=8).prop_map(Duration::from_secs)];
    let linger = prop_oneof![2 => Just(Duration::ZERO), 1 => Just(Duration::from_millis(200))];
    let cloud = (page, lag, linger, proptest::bool::weighted(0.2));
    (devices, dead_time, segment_bytes, keep_bytes, batch_max, mode, any::<(bool, bool, bool)>(), cloud, any::<u64>())
        .prop_map(
            |(devices, dead_time, segment_bytes, keep_bytes, batch_max, mode, (dedup, one, both), cloud, seed)| {
                let (page, lag, linger, writer) = cloud;
                Setup {
                    devices,
                    dead_time,
                    segment_bytes,
                    keep_bytes,
                    batch_max,
                    linger,
                    mode,
                    dedup,
                    counts: (one, one && both),
                    page,
                    lag,
                    writer,
                    seed,
                }
            },
        )
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        8 => (1u8..5, 1u32..20_000).prop_map(|(chip, after_ms)| Sent::Read { chip, after_ms }),
        1 => (1u32..20_000).prop_map(|after_ms| Sent::Read { chip: 0, after_ms }),
        2 => (1u8..12).prop_map(Sent::Again),
        1 => Just(Sent::Marker),
        1 => Just(Sent::Rejected),
    ]
}

fn faults() -> impl Strategy<Value = CallFault> {
    let refused = CallError::KeyRefused { status: 403, fault: KeyFault::WrongAccess, answer: "no".into() };
    prop_oneof![
        1 => Just(CallFault::NotSent),
        2 => Just(CallFault::LostBefore),
        4 => Just(CallFault::LostAfter),
        2 => Just(CallFault::LostLate),
        1 => Just(CallFault::Stale),
        2 => Just(CallFault::LostAndClosed),
        1 => Just(CallFault::Portal),
        2 => Just(CallFault::Server),
        1 => Just(CallFault::SlowDown(Duration::from_secs(7))),
        1 => Just(CallFault::Answer(refused)),
        2 => (0usize..4).prop_map(CallFault::Short),
    ]
}

fn scripts() -> impl Strategy<Value = disk::Script> {
    let none = disk::Script::default();
    prop_oneof![
        2 => Just(none),
        2 => (0u64..2000).prop_map(move |room| disk::Script { room: Some(room), ..none }),
        2 => (1u32..4).prop_map(move |bad_syncs| disk::Script { bad_syncs, ..none }),
        1 => (1u32..3).prop_map(move |bad_writes| disk::Script { bad_writes, ..none }),
        5 => (0u32..14, any::<bool>()).prop_map(move |(at, killed)| disk::Script { cut_in: Some(at), killed, ..none }),
    ]
}

fn ends() -> impl Strategy<Value = Op> {
    let how = prop_oneof![Just(End::Stopped), Just(End::Killed), Just(End::Cut)];
    let queue = prop_oneof![4 => Just(Queue::AsItIs), 1 => Just(Queue::Older), 1 => Just(Queue::Gone), 1 => Just(Queue::Truncated)];
    let cut_in_start = prop_oneof![3 => Just(None), 1 => (0u32..8).prop_map(Some)];
    (how, queue, any::<u64>(), any::<bool>(), cut_in_start)
        .prop_map(|(how, queue, seed, resend, cut_in_start)| Op::End { how, queue, seed, resend, cut_in_start })
}

fn ops() -> impl Strategy<Value = Op> {
    let device = 0usize..2;
    let clock = prop_oneof![
        Just((None, 3600)),
        Just((None, -3600)),
        Just((Some(0), 0)),
        Just((Some(1_777_795_200), 0)),
        Just((None, 90_000))
    ];
    prop_oneof![
        16 => (0usize..3, vec(sent(), 1..6)).prop_map(|(decoder, sent)| Op::Keep { decoder, sent }),
        6 => (0usize..3, vec(sent(), 2..9), 1u32..20, proptest::bool::weighted(0.2))
            .prop_map(|(decoder, sent, steps, follow)| Op::Stream { decoder, sent, steps, follow }),
        8 => Just(Op::Write),
        6 => any::<(bool, bool)>().prop_map(|(prune, copy)| Op::Follow { prune, copy }),
        16 => (device.clone(), 1u32..40).prop_map(|(device, steps)| Op::Upload { device, steps }),
        6 => (device.clone(), any::<u8>(), faults()).prop_map(|(device, on, fault)| Op::Fault { device, on, fault }),
        1 => (device.clone(), 0u16..400).prop_map(|(device, odds)| Op::Weather { device, odds }),
        1 => (device.clone(), 1usize..8).prop_map(|(device, most)| Op::Most { device, most }),
        4 => (device, proptest::bool::weighted(0.8)).prop_map(|(device, open)| Op::Session { device, open }),
        2 => (0usize..2, proptest::bool::weighted(0.7)).prop_map(|(device, open)| Op::Order { device, open }),
        1 => (0usize..2).prop_map(|device| Op::Leave { device }),
        2 => clock.prop_map(|(to, step)| Op::Clock { to, step }),
        2 => (0usize..3, 0u64..1000, 0u64..60, -2i64..3)
            .prop_map(|(decoder, at, length, days)| Op::Correct { decoder, at, length, days }),
        3 => (0usize..2, 1usize..20, any::<bool>()).prop_map(|(device, most, back)| Op::Again { device, most, back }),
        2 => Just(Op::Decide(None)),
        3 => any::<bool>().prop_map(|send| Op::Decide(Some(if send { Held::Send } else { Held::Drop }))),
        3 => (0usize..2, any::<bool>()).prop_map(|(device, release)| Op::Aside { device, release }),
        4 => scripts().prop_map(Op::Disk),
        2 => ends(),
    ]
}

fn histories() -> impl Strategy<Value = History> {
    // In every second history there is a session from the start.
    (setups(), any::<bool>(), vec(ops(), 5..70)).prop_map(|(setup, open, mut ops)| {
        if open {
            ops.insert(0, Op::Session { device: 0, open });
        }
        History { setup, ops }
    })
}

fn play_many(count: u64, seed: u64, play: impl Fn(&History) -> Result<(), String>) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: u32::try_from(count).unwrap(),
        failure_persistence: None,
        max_shrink_iters: 3000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let (played, failed) = (Cell::new(0u64), Cell::new(None));
    let ran = runner.run(&histories(), |history| {
        played.set(played.get() + 1);
        play(&history).map_err(|why| {
            if failed.get().is_none() {
                failed.set(Some(played.get()));
                println!("history {} of seed {seed} fails, and is being made shorter: {why}", played.get());
            }
            TestCaseError::fail(why)
        })
    });
    if let Err(error) = ran {
        let (why, history) = match error {
            TestError::Fail(why, History { setup, ops }) => {
                let ops: Vec<String> = ops.iter().map(|op| format!("  {op:?}")).collect();
                (why.to_string(), format!("{setup:?}\n{}", ops.join("\n")))
            }
            TestError::Abort(why) => (why.to_string(), String::new()),
        };
        panic!(
            "{why}\n\nhistory {}; the shortest that shows it:\n{history}\n\n\
             again: PASSBRIDGE_SEED={seed} PASSBRIDGE_HISTORIES={count} cargo test --lib uplink::history",
            failed.get().unwrap_or(played.get())
        );
    }
}

#[test]
fn whatever_happens_to_a_box_each_read_is_in_the_cloud_once() {
    let (count, seed) = (environment("PASSBRIDGE_HISTORIES", HISTORIES.into()), environment("PASSBRIDGE_SEED", SEED));
    let tally = RefCell::new(BTreeMap::new());
    play_many(count, seed, |history| {
        for (what, times) in run(history, true)?.tally {
            *tally.borrow_mut().entry(what).or_insert(0) += times;
        }
        Ok(())
    });
    let tally = tally.into_inner();
    println!("{count} histories, seed {seed}: {tally:#?}");
    if count >= u64::from(HISTORIES) {
        // A model without trouble proves nothing.
        for what in TROUBLE {
            assert!(tally.get(what).is_some_and(|times| *times > 0), "no history has {what}: {tally:#?}");
        }
    }
}

#[test]
fn a_post_before_the_group_of_its_batch_is_durable_breaks_the_first_invariant() {
    let setup = Setup {
        devices: vec![0],
        dead_time: Duration::ZERO,
        segment_bytes: 1 << 30,
        keep_bytes: 1 << 30,
        batch_max: 100,
        linger: Duration::ZERO,
        mode: SessionMode::Active,
        dedup: true,
        counts: (true, true),
        page: 5000,
        lag: Duration::ZERO,
        writer: false,
        seed: 1,
    };
    let upload = Op::Upload { device: 0, steps: 40 };
    let failing = disk::Script { bad_syncs: 1000, ..disk::Script::default() };
    let sent = vec![Sent::Read { chip: 1, after_ms: 1 }];
    // The uplink rests, the disk takes no group, and a read arrives.
    let begin = [Op::Session { device: 0, open: true }, upload.clone(), upload.clone(), upload.clone()];
    let read = [Op::Disk(failing), Op::Keep { decoder: 0, sent }, upload.clone(), upload.clone(), upload];
    let ops = begin.into_iter().chain(read).collect();
    let history = History { setup, ops };
    let played = run(&history, true).expect("the read waits for the disk");
    assert_eq!(played.tally.get("batches written with their reads"), Some(&1), "{:#?}", played.traces);
    crate::journal::driven::tell_early(true);
    let why = run(&history, true).err();
    crate::journal::driven::tell_early(false);
    let why = why.expect("the control fails");
    assert!(why.starts_with("invariant 1: ") && why.contains("is sent to"), "{why}");
}

#[test]
fn steps_of_the_wall_clock_change_nothing_that_an_uplink_does() {
    let (count, seed) = (environment("PASSBRIDGE_HISTORIES", 400) / 10, environment("PASSBRIDGE_SEED", SEED));
    play_many(count, seed, |history| {
        // The end of a day begins a new segment, which needs one more call of the disk. So these
        // histories have no cuts that count the calls.
        let mut history = history.clone();
        history.ops.retain(|op| !matches!(op, Op::Disk(_) | Op::End { .. }));
        // It also ends a segment that can go then, and what is gone cannot be sent again.
        history.setup.keep_bytes = 1 << 30;
        // The dead time also looks at the times of receipt, and this model does not record the
        // clock step by which they would be corrected.
        history.setup.dead_time = Duration::ZERO;
        let (with, without) = (run(&history, true)?, run(&history, false)?);
        if with.traces != without.traces {
            return Err("invariant 7: it goes another way when the clock steps".into());
        }
        Ok(())
    });
}
