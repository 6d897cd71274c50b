//! A cloud whose certificate is not valid, in each possible way, and a clock that is corrected.

use std::net::SocketAddr;

use super::*;
use crate::sim::cloud::{DEVICE, KEY, SimCloud, SimCloudConfig};

#[allow(dead_code, reason = "each of its users uses a part of it")]
#[path = "../../../../tests/support/tls_proxy.rs"]
mod front;
use front::{Authority, Front, Paper, self_signed};

/// The error of a box whose clock shows `now`, for a server that presents `paper`.
async fn told(authority: &Authority, paper: Paper, now: &str) -> Option<Distrust> {
    let (client, _, _front) = behind(authority, paper, now).await;
    match client.active_session(DEVICE).await {
        Ok(None) => None,
        Err(CallError::NotSent(NotSent::Distrust(why))) => Some(why),
        other => panic!("{other:?}"),
    }
}

async fn behind(authority: &Authority, paper: Paper, now: &str) -> (Client, Wall, (Front, SimCloud)) {
    install_tls();
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    let front = Front::open(SocketAddr::from(([127, 0, 0, 1], 0)), cloud.address(), paper).await;
    let clock = Wall::scripted(now.parse().unwrap());
    let config = ClientConfig {
        url: format!("https://127.0.0.1:{}/v0", front.port).parse().unwrap(),
        key: KEY.into(),
        header: KeyHeader::XApiKey,
        timeout: Duration::from_secs(20),
        clock: clock.clone(),
    };
    (Client::trusting(config, vec![authority.der()]).unwrap(), clock, (front, cloud))
}

const TODAY: &str = "2026-06-17T06:00:00Z";
const HOST: &str = "127.0.0.1";

#[tokio::test]
async fn a_certificate_is_judged_by_the_clock_of_the_box_and_each_fault_has_a_name() {
    let authority = Authority::new();
    assert_eq!(told(&authority, authority.signs(HOST, 2026, 2027), TODAY).await, None);
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let expired = told(&authority, authority.signs(HOST, 2025, 2026), TODAY).await;
    assert_eq!(expired, Some(Distrust::Expired { until: time("2026-01-01T00:00:00Z"), shows: time(TODAY) }));
    let early = told(&authority, authority.signs(HOST, 2027, 2028), TODAY).await;
    assert_eq!(early, Some(Distrust::NotYet { from: time("2027-01-01T00:00:00Z"), shows: time(TODAY) }));
    let other = told(&authority, authority.signs("portal.hotel", 2026, 2027), TODAY).await.unwrap();
    assert!(matches!(&other, Distrust::OtherName { presented } if presented == "portal.hotel"), "{other:?}");
    for stranger in [Authority::new().signs(HOST, 2026, 2027), self_signed(HOST, 2026, 2027)] {
        assert_eq!(told(&authority, stranger, TODAY).await, Some(Distrust::UnknownIssuer));
    }
}

#[tokio::test]
async fn a_box_in_1970_blames_its_own_clock_and_goes_on_by_itself_when_it_is_right() {
    let authority = Authority::new();
    let (client, clock, _front) = behind(&authority, authority.signs(HOST, 2026, 2027), "1970-01-01T00:00:09Z").await;
    let error = client.active_session(DEVICE).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("the clock of this box is wrong, it shows 1970-01-01 00:00 UTC"), "{text}");
    assert!(error.is_offline() && error.certainly_not_applied() && !error.is_unreached());
    clock.set(TODAY.parse().unwrap());
    assert_eq!(client.active_session(DEVICE).await, Ok(None));
    // TLS cannot represent a time before 1970.
    clock.set("1969-12-31T00:00:00Z".parse().unwrap());
    assert_eq!(client.active_session(DEVICE).await, Ok(None), "an open connection stays trusted");
}

#[tokio::test]
async fn an_unset_clock_before_1970_is_named_too() {
    let authority = Authority::new();
    let told = told(&authority, authority.signs(HOST, 2026, 2027), "1969-12-31T00:00:00Z").await;
    assert_eq!(told, Some(Distrust::BoxClock { shows: Timestamp::UNIX_EPOCH }));
}
