//! How the program sets up its allocator. What the box then needs is measured by `benches/memory`.

use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{Running, Site, decoder};
use crate::support::skip;

/// The variables of a process that are about the allocator, sorted.
fn of_the_allocator(running: &Running) -> Option<Vec<String>> {
    let variables = std::fs::read(format!("/proc/{}/environ", running.id())).ok()?;
    let text = String::from_utf8_lossy(&variables).into_owned();
    let mut found: Vec<String> =
        text.split('\0').filter(|variable| variable.starts_with("MALLOC_")).map(str::to_owned).collect();
    found.sort();
    Some(found)
}

#[tokio::test]
async fn a_box_that_is_started_by_hand_sets_its_allocator_up_as_the_service_does() {
    let (_sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    let Some(by_hand) = of_the_allocator(&running) else {
        return skip("the set-up of the allocator", "the environment of a process is for root here");
    };
    running.stop().await;
    let unit = include_str!("../../../systemd/passbridge.service");
    let variables = unit.lines().find_map(|line| line.strip_prefix("Environment=")).unwrap();
    assert_eq!(by_hand, variables.split(' ').collect::<Vec<_>>());

    let running = site.start_with(&[("MALLOC_ARENA_MAX", "4")]);
    site.until("it runs", |status| status.ready).await;
    let chosen = of_the_allocator(&running).unwrap();
    assert_eq!(chosen, ["MALLOC_ARENA_MAX=4", "MALLOC_TRIM_THRESHOLD_=131072"], "what somebody chose stays");
    running.stop().await;
}
