//! A cloud behind TLS, and a box that cannot trust it yet.

use std::net::SocketAddr;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::Kind;

use crate::support::child::{Running, Site, decoder, judge, passing};
use crate::support::tls_proxy::{Authority, Front};

#[tokio::test]
async fn a_box_that_cannot_trust_the_cloud_reads_says_why_and_goes_on_when_it_can() {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let token = cloud.open_session(DEVICE, "Race");
    let authority = Authority::new();
    let year = i32::from(TimeZone::UTC.to_datetime(Timestamp::now()).year());
    let early = authority.signs("localhost", year + 1, year + 2);
    let front = Front::open(SocketAddr::from(([127, 0, 0, 1], 0)), cloud.address(), early).await;
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("roots.pem");
    let data = dir.path().join("data");
    let url = format!("https://localhost:{}/v0", front.port);
    let more = "[upload]\nlinger = \"10ms\"\nretry_max = \"1s\"\nsettle = \"1s\"\n";
    let site = Site::at(dir, data, Some(url), &[mat], more);
    let mut command = site.command(&["run"]);
    command.env("SSL_CERT_FILE", &roots); // not there yet
    let running = Running::spawn(command, site.config().parent().unwrap());
    sim.push(50);
    let told = |code: &'static str, words: &'static str| {
        move |status: &passbridge::testing::status::Snapshot| {
            let said = |text: &str| text.contains(words);
            status.problems.iter().any(|problem| problem.code == code && said(&problem.message))
                && status.uploads.iter().any(|upload| upload.last_error.as_ref().is_some_and(|error| said(error)))
                && status.journal.pending == 50
        }
    };
    site.until("it has no root certificates", told("no_root_certificates", "ca-certificates")).await;
    std::fs::write(&roots, authority.pem()).unwrap();
    site.until("the certificate is not valid yet", told("cloud_not_trusted", "not valid before")).await;
    assert_eq!(cloud.stored(), 0);
    front.show(authority.signs("localhost", year, year + 2));
    site.sent(50).await;
    site.until("all is well", |status| status.problems.is_empty() && status.uploads[0].last_error.is_none()).await;
    running.stop().await;
    judge("TLS", &cloud, &token, sim.reads().iter().map(passing));
}
