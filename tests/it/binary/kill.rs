//! kill -9 at random moments (start, reading, uploading), again and again, with a cloud that fails
//! by chance.
//!
//! `PASSBRIDGE_KILLS` is the number of kills for each decoder and cloud; `PASSBRIDGE_SEED` makes
//! other races of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use passbridge::testing::decoders::Missed;
use passbridge::testing::sim::cloud::{DEVICE, Dedup, Generation, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimDecoder};
use passbridge::testing::status::LinkState;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::sleep;

use crate::support::child::{
    PATIENCE, Passing, Site, UPLOAD, decoder, exported, holds, judge, passing, race, setting, shown, trouble, until,
};

/// Kills for each decoder and cloud unless the environment says otherwise.
const KILLS: u64 = 12;
/// The same for the decoders of which others stand for the way of the data.
const FEW: u64 = 3;

#[tokio::test]
async fn what_was_kept_of_a_streaming_decoder_is_in_the_cloud_once_however_often_the_box_was_killed() {
    both_clouds(Kind::IPICO).await;
}

#[tokio::test]
async fn what_was_acknowledged_to_an_exporter_is_in_the_cloud_once_however_often_the_box_was_killed() {
    both_clouds(Kind::MYLAPS).await;
}

#[tokio::test]
async fn every_read_of_a_raceresult_is_in_the_cloud_once_however_often_the_box_was_killed() {
    both_clouds(Kind::RACE_RESULT).await;
}

#[tokio::test]
async fn every_read_of_a_one4all_is_in_the_cloud_once_however_often_the_box_was_killed() {
    both_clouds(Kind::ONE4ALL).await;
}

#[tokio::test]
async fn every_read_of_a_chronotrack_is_in_the_cloud_once_however_often_the_box_was_killed() {
    both_clouds(Kind::CHRONOTRACK).await;
}

#[tokio::test]
async fn every_read_of_a_decoder_that_is_asked_by_number_is_in_the_cloud_once_however_often_the_box_was_killed() {
    all_others(|judged| matches!(judged, Judged::All | Judged::Acknowledged | Judged::SinceTheFirst)).await;
}

#[tokio::test]
async fn every_read_of_a_decoder_that_somebody_has_give_its_memory_again_is_in_the_cloud_once_after_all_kills() {
    all_others(|judged| matches!(judged, Judged::AllGivenAgain)).await;
}

#[tokio::test]
async fn what_was_kept_of_the_other_streaming_decoders_is_in_the_cloud_once_however_often_the_box_was_killed() {
    all_others(|judged| matches!(judged, Judged::Kept)).await;
}

/// A few kills under each decoder of this sort that has no test of its own.
async fn all_others(sort: impl Fn(Judged) -> bool) {
    let own = [Kind::IPICO, Kind::MYLAPS, Kind::RACE_RESULT, Kind::ONE4ALL, Kind::CHRONOTRACK];
    let others = Kind::all().filter(|kind| !own.contains(kind) && sort(judged(*kind)));
    let (here, mut running) = (LocalSet::new(), JoinSet::new());
    for kind in others {
        running.spawn_local_on(in_both_clouds(kind, FEW), &here);
    }
    assert!(!running.is_empty());
    here.run_until(async {
        while let Some(ended) = running.join_next().await {
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        }
    })
    .await;
}

/// What must be in the cloud in the end.
enum Judged {
    /// What was kept: what happened while the box was off is gone; it cannot be asked.
    Kept,
    /// What was acknowledged, which is everything: it goes on until all is.
    Acknowledged,
    /// Everything that happened.
    All,
    /// Everything that happened after the first read that was kept: what was before is not the
    /// box's to ask for.
    SinceTheFirst,
    /// Everything that happened: the box cannot ask, but somebody at the decoder has it give all of
    /// it again.
    AllGivenAgain,
}

fn judged(kind: Kind) -> Judged {
    let spec = kind.spec();
    match spec.missed {
        Missed::Repeated => Judged::Acknowledged,
        Missed::Stored if spec.since_first_read => Judged::SinceTheFirst,
        Missed::Stored => Judged::All,
        Missed::Lost if spec.given_by_hand => Judged::AllGivenAgain,
        Missed::Lost => Judged::Kept,
    }
}

async fn both_clouds(kind: Kind) {
    in_both_clouds(kind, KILLS).await;
}

async fn in_both_clouds(kind: Kind, kills: u64) {
    let seed = setting("PASSBRIDGE_SEED", 1) * 100;
    let old = SimCloudConfig { dedup: Dedup::None, generation: Generation::Legacy, ..SimCloudConfig::default() };
    let new = SimCloudConfig { dedup: Dedup::Number, generation: Generation::OpenApi, ..SimCloudConfig::default() };
    tokio::join!(survives(kind, old, seed + 1, kills), survives(kind, new, seed + 2, kills));
}

async fn survives(kind: Kind, cloud: SimCloudConfig, seed: u64, kills: u64) {
    let what = format!("{} {:?} seed {seed}", kind.name(), cloud.dedup);
    let mut rng = fastrand::Rng::with_seed(seed);
    let cloud = SimCloud::start(cloud).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    trouble(&cloud, seed);
    let (sim, mat) = decoder(kind, seed).await;
    let sim = Arc::new(sim);
    let site = Site::new(Some(&cloud), &[mat], UPLOAD);
    let mut kept = BTreeMap::new();
    let pushing = race(&sim, seed);
    for _ in 0..setting("PASSBRIDGE_KILLS", kills) {
        let running = site.start();
        match rng.u32(0..4) {
            // In the middle of the start: the fault itself is a matter of time here.
            0 => sleep(Duration::from_millis(rng.u64(0..120))).await,
            1 => {
                let goal = *sim.emitted().borrow() + rng.u64(1..60);
                sim.emitted().wait_for(|emitted| *emitted >= goal).await.unwrap();
            }
            2 => {
                let goal = cloud.post_count() + rng.u64(1..=4);
                cloud.wait_until(Duration::from_secs(3), |cloud| cloud.post_count() >= goal).await;
            }
            _ => {
                until("the page shows reads", async || !shown(&site).await.is_empty()).await;
                kept.extend(shown(&site).await.into_iter().map(|read| (read.seq, read.chip)));
            }
        }
        running.kill();
    }
    cloud.clear_faults();
    let running = site.start();
    drop(pushing);
    drain(&site, &cloud, &sim, kind).await;
    running.stop().await;

    let rows = site.export().await;
    let journal: BTreeSet<Passing> = rows.iter().filter_map(exported).collect();
    let chips: BTreeMap<u64, &str> =
        rows.iter().filter_map(|row| Some((row["seq"].as_u64()?, row["chip"].as_str()?))).collect();
    let lost: Vec<_> = kept.iter().filter(|(seq, chip)| chips.get(seq).copied() != Some(chip.as_str())).collect();
    assert!(lost.is_empty(), "{what}: shown as kept and gone: {lost:?}");
    let unsent: Vec<_> = rows
        .iter()
        .filter(|row| {
            exported(row).is_some() && row["upload"]["state"] != "sent" && row["upload"]["state"] != "suppressed"
        })
        .collect();
    assert!(unsent.is_empty(), "{what}: {unsent:?}");
    let happened: BTreeSet<Passing> = sim.reads().iter().map(passing).collect();
    assert!(journal.is_subset(&happened), "{what}: the journal holds what never happened");
    match judged(kind) {
        Judged::Kept => judge(&what, &cloud, &token, journal),
        Judged::Acknowledged => {
            let acked: BTreeSet<Passing> = sim.acked().iter().map(passing).collect();
            assert!(acked == happened, "{what}: it goes on until all is acknowledged");
            judge(&what, &cloud, &token, acked);
        }
        Judged::All | Judged::AllGivenAgain => judge(&what, &cloud, &token, happened),
        Judged::SinceTheFirst => {
            let all = sim.reads();
            let first = all.iter().position(|read| journal.contains(&passing(read))).unwrap();
            judge(&what, &cloud, &token, all[first..].iter().map(passing));
        }
    }
    assert_eq!(sim.forbidden(), Vec::<String>::new(), "{what}");
}

/// Lets everything arrive; what did not is for the judge to tell.
async fn drain(site: &Site, cloud: &SimCloud, sim: &SimDecoder, kind: Kind) {
    match judged(kind) {
        Judged::Kept | Judged::AllGivenAgain => {
            site.until("the link is up", |status| status.decoders[0].state == LinkState::Connected).await;
            // The box sees a connection that the kernel took before the decoder did.
            until("the decoder sees it", async || *sim.links().borrow() > 0).await;
            if matches!(judged(kind), Judged::AllGivenAgain) {
                sim.give_again();
            }
            // One more read, so that it is known when all before it has come through the link.
            sim.push(1);
            let last = passing(sim.reads().last().unwrap()).0;
            until("the last read is kept", async || {
                shown(site).await.iter().max_by_key(|read| read.seq).is_some_and(|read| read.chip == last)
            })
            .await;
        }
        Judged::SinceTheFirst => {
            // A live read shows where the decoder's count stands; before it, nobody knows of what
            // was missed at the end.
            until("something is kept", async || {
                sim.push(1);
                !shown(site).await.is_empty()
            })
            .await;
            let held: BTreeSet<Passing> = site.export().await.iter().filter_map(exported).collect();
            let reads = sim.reads();
            let first = reads.iter().position(|read| held.contains(&passing(read))).unwrap();
            holds(PATIENCE, async || cloud.stored() >= reads.len() - first).await;
        }
        Judged::Acknowledged | Judged::All => {
            let happened = sim.reads().len();
            holds(PATIENCE, async || cloud.stored() >= happened).await;
        }
    }
    if kind.spec().missed == Missed::Repeated {
        until("all is acknowledged", async || *sim.acked_count().borrow() >= *sim.emitted().borrow()).await;
    }
    site.until("nothing waits", |status| status.uptime_s > 2 && status.journal.serving && status.journal.pending == 0)
        .await;
}
