//! The box stops: in order, in the middle of a POST, or with a queue that is damaged when it comes
//! back.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use passbridge::testing::sim::cloud::{Answer, Apply, CloudFault, Dedup, Generation, On};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::e2e::*;

/// Something between the box and the cloud that holds answers back.
struct Between {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Between {
    async fn start(cloud: SocketAddr) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let between = Self { address: listener.local_addr().unwrap(), open: watch::Sender::new(true) };
        let open = between.open.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(cloud).await.unwrap();
                let (mut near_in, mut near_out) = near.into_split();
                let (mut far_in, mut far_out) = far.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut near_in, &mut far_out).await });
                let mut open = open.subscribe();
                tokio::spawn(async move {
                    let mut bytes = [0; 4096];
                    while let Ok(length @ 1..) = far_in.read(&mut bytes).await {
                        if open.wait_for(|open| *open).await.is_err()
                            || near_out.write_all(&bytes[..length]).await.is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        between
    }
}

#[tokio::test]
async fn a_stop_during_a_slow_answer_waits_for_it_and_nothing_is_sent_again() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let between = Between::start(way.cloud.address()).await;
    way.config.cloud.as_mut().unwrap().url = format!("http://{}/v0", between.address).parse().unwrap();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    shows(&daemon, "all are sent", |snapshot| snapshot.uploads[0].sent == 60).await;
    between.open.send_replace(false);
    sim.push(10);
    way.arrive(61, &daemon).await; // in the cloud, and the answer is on its way
    let board = daemon.board().clone();
    let stopping = tokio::spawn(daemon.stop());
    links(&sim, 0).await; // it has begun to stop
    assert_eq!(board.snapshot().uploads[0].sent, 60, "the answer is not there yet");
    assert!(!stopping.is_finished());
    between.open.send_replace(true);
    stopping.await.unwrap().unwrap();
    assert_eq!(board.snapshot().uploads[0].sent as usize, way.cloud.stored(), "the answer was taken");
    let posts = way.cloud.posts().len();

    let daemon = way.start().await;
    sim.push(10);
    way.arrive(80, &daemon).await;
    daemon.stop().await.unwrap();
    way.holds(&token, &happened(&sim));
    let all = way.cloud.posts();
    let highest = all[..posts].iter().map(|post| post.last).max().unwrap();
    assert!(all[posts..].iter().all(|post| post.first > highest), "{all:#?}");
}

#[tokio::test]
async fn a_box_that_is_stopped_while_an_outcome_is_unknown_asks_when_it_is_back() {
    together(CLOUDS.map(stopped)).await;
}

async fn stopped((dedup, generation): (Dedup, Generation)) {
    let mut way = EndToEnd::with(dedup, generation).await;
    way.config.upload.retry_max = Duration::from_secs(60); // it stops before it tries again
    let token = way.session();
    way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
    way.cloud.fault(On::Insert, CloudFault::partly(Apply::First(7), Answer::Cut));
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    shows(&daemon, "an outcome is unknown", |snapshot| snapshot.uploads[0].last_error.is_some()).await;
    daemon.stop().await.unwrap();
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    daemon.stop().await.unwrap();
    way.holds(&token, &happened(&sim));
}

#[tokio::test]
async fn a_box_that_dies_in_the_middle_of_a_post_neither_loses_nor_repeats_what_was_in_it() {
    let every = [Apply::Nothing, Apply::First(7), Apply::All];
    together(CLOUDS.into_iter().flat_map(|cloud| every.map(|apply| dies(cloud, apply)))).await;
}

/// A box with 60 reads that died while its second POST, of which the cloud took a part, had no
/// answer.
async fn cut_in_a_post((dedup, generation): (Dedup, Generation), apply: Apply) -> (EndToEnd, String, SimDecoder) {
    let mut way = EndToEnd::with(dedup, generation).await;
    let token = way.session();
    way.cloud.fault(On::Insert, CloudFault::after(Answer::Usual));
    way.cloud.fault(On::Insert, CloudFault::partly(apply, Answer::Never));
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    assert!(way.cloud.wait_until(LIMIT, |cloud| cloud.post_count() == 2).await);
    let after = way.dir.path().join("after");
    crate::support::disk_state::image(way.data(), &after);
    drop(daemon);
    way.config.data_dir = after;
    (way, token, sim)
}

/// It is back: what waits arrives, and ten reads more.
async fn goes_on(way: &EndToEnd, sim: &SimDecoder) {
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    sim.push(10);
    way.arrive(70, &daemon).await;
    daemon.stop().await.unwrap();
}

async fn dies(cloud: (Dedup, Generation), apply: Apply) {
    let (way, token, sim) = cut_in_a_post(cloud, apply).await;
    goes_on(&way, &sim).await;
    way.holds(&token, &happened(&sim));
}

#[tokio::test]
async fn a_session_that_closes_while_the_box_is_off_and_an_outcome_unknown_is_settled_before_the_next_one_is_used() {
    let every = [Apply::Nothing, Apply::First(7), Apply::All];
    together(CLOUDS.into_iter().flat_map(|cloud| every.map(|apply| changes_while_off(cloud, apply)))).await;
}

async fn changes_while_off(cloud: (Dedup, Generation), apply: Apply) {
    let (way, a, sim) = cut_in_a_post(cloud, apply).await;
    let in_a = way.cloud.stored();
    let b = way.session();
    goes_on(&way, &sim).await;
    let expected = happened(&sim);
    way.holds(&a, &expected[..in_a]);
    way.holds(&b, &expected[in_a..]);
}

/// Every file below, deepest first.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// What happens to a queue, by name.
type Damage = (&'static str, fn(&Path));

#[tokio::test]
async fn a_queue_that_was_damaged_while_the_box_was_off_is_rebuilt_and_everything_arrives() {
    let damages: [Damage; 5] = [
        ("gone", |queue| std::fs::remove_dir_all(queue).unwrap()),
        ("truncated", |queue| {
            for file in files(queue) {
                let length = std::fs::metadata(&file).unwrap().len();
                std::fs::File::options().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
            }
        }),
        ("zeroed", |queue| {
            for file in files(queue) {
                let length = std::fs::metadata(&file).unwrap().len() as usize;
                std::fs::write(&file, vec![0; length]).unwrap();
            }
        }),
        ("one page of db flipped", |queue| {
            for file in files(queue).into_iter().filter(|file| file.ends_with("db")) {
                let mut bytes = std::fs::read(&file).unwrap();
                bytes.iter_mut().take(2000).for_each(|byte| *byte ^= 0x5a);
                std::fs::write(&file, bytes).unwrap();
            }
        }),
        ("a directory in place of db", |queue| {
            for file in files(queue).into_iter().filter(|file| file.ends_with("db")) {
                std::fs::remove_file(&file).unwrap();
                std::fs::create_dir(&file).unwrap();
            }
        }),
    ];
    together(damages.map(damaged)).await;
}

async fn damaged((name, damage): Damage) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let sim = way.plug_with(Kind::RACE_RESULT, 60).await;
    let daemon = way.start().await;
    way.arrive(60, &daemon).await;
    way.cloud.set_online(false).await;
    sim.push(500);
    keeps(&daemon, 560).await;
    daemon.stop().await.unwrap(); // 500 wait, in the queue
    let queue = way.data().join("queue");
    assert!(!files(&queue).is_empty(), "there is a queue to damage");
    damage(&queue);

    let daemon = way.start().await;
    links(&sim, 1).await;
    sim.push(5);
    keeps(&daemon, 5).await;
    way.cloud.set_online(true).await;
    way.arrive(565, &daemon).await;
    if ["zeroed", "a directory in place of db"].contains(&name) {
        complains(&daemon, "queue_rebuilt").await;
    }
    assert!(!has_problem(&daemon.snapshot(), "queue_unavailable"), "{name}");
    assert_eq!(crossings(&way.cloud, &token), happened(&sim), "{name}");
    way.sound(&token);
    daemon.stop().await.unwrap();
}
