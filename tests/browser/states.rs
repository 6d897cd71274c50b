//! Each state of the box, provoked on the real program and read from the page in a real browser.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::sim::cloud::{DEVICE, SimCloud, SimCloudConfig};
use passbridge::testing::sim::decoder::{Kind, SimConfig, SimDecoder, Wiring};
use rustix::process::Signal;

use crate::chromium::{Browser, Page};
use crate::pixels::distinct;
use crate::support::child::{Mat, Running, SETTLES_SOON, Site, decoder, holds, until};
use crate::support::small_disk::Small;

const PHONE: (u32, u32) = (360, 780);
const LAPTOP: (u32, u32) = (1280, 800);

async fn browser() -> Browser {
    Browser::start().await.expect("these tests need Chromium: apt-get install chromium")
}

async fn cloud() -> SimCloud {
    let cloud = SimCloud::start(SimCloudConfig::default()).await.unwrap();
    cloud.open_session(DEVICE, "10K Sant Joan");
    cloud
}

/// So many reads of a decoder that the box is connected to.
async fn push(sim: &SimDecoder, count: u64) {
    until("the box is connected", async || *sim.links().borrow() == 1).await;
    sim.push(count);
}

fn address(site: &Site, path: &str) -> String {
    format!("http://127.0.0.1:{}{path}", site.page)
}

/// Opens the page and waits until its stream is up.
async fn open(browser: &Browser, site: &Site, (width, height): (u32, u32)) -> Page {
    let page = browser.page(width, height).await;
    page.go(&address(site, "/")).await;
    page.until("the stream is up", "document.body.dataset.live === 'yes'").await;
    page
}

async fn shows(page: &Page, state: &str) {
    page.until(&format!("the state {state}"), &format!("document.getElementById('state').dataset.state === '{state}'"))
        .await;
}

/// Where the pictures of the documents are written, if somebody asks for them.
fn pictures() -> Option<PathBuf> {
    std::env::var_os("PASSBRIDGE_PICTURES").map(PathBuf::from)
}

/// Looks at a state on a phone and on a laptop: it fits, it is accessible, and it asks nobody else.
async fn inspect(page: &Page, site: &Site, state: &str) {
    for (width, height) in [PHONE, LAPTOP] {
        for scheme in ["light", "dark"] {
            page.size(width, height).await;
            page.media("screen", &[("prefers-color-scheme", scheme), ("prefers-reduced-motion", "reduce")]).await;
            let wide = page.eval("document.documentElement.scrollWidth - innerWidth").await;
            assert!(wide.as_i64().unwrap() <= 0, "{state}, {width} px: {wide} px too wide");
            accessible(page, &format!("{state}, {width} px, {scheme}")).await;
            if let Some(dir) = pictures() {
                page.save(&dir.join(format!("{state}-{width}-{scheme}.png"))).await;
            }
        }
    }
    let home = address(site, "/");
    let foreign: Vec<String> = page.requests().into_iter().filter(|url| !url.starts_with(&home)).collect();
    assert!(foreign.is_empty(), "{state}: {foreign:?}");
}

/// Axe finds nothing.
async fn accessible(page: &Page, what: &str) {
    let axe = include_str!("vendor/axe.min.js");
    if page.eval("typeof axe === 'undefined'").await == true {
        page.ask("Runtime.evaluate", serde_json::json!({ "expression": axe })).await;
    }
    let found = page
        .eval(
            "axe.run(document, {resultTypes: ['violations']}).then(r => r.violations.map(v => \
             v.id + ': ' + v.nodes.slice(0, 3).map(n => n.target.join(' ') + ' ' + n.failureSummary).join('; ')))",
        )
        .await;
    assert_eq!(found, serde_json::json!([]), "{what}");
}

async fn running(cloud: Option<&SimCloud>, mats: &[Mat], more: &str) -> (Site, Running) {
    let site = Site::new(cloud, mats, more);
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    (site, running)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn from_ready_to_reading_and_not_reading_and_a_read_is_seen_within_a_second() {
    let (browser, cloud) = (browser().await, cloud().await);
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let (site, running) = running(Some(&cloud), &[mat], SETTLES_SOON).await;
    let page = open(&browser, &site, PHONE).await;
    shows(&page, "ready").await;
    inspect(&page, &site, "ready").await;
    // The page itself measures how long the row takes after the box kept the read.
    page.eval(
        "window.seen = new Promise(done => new MutationObserver(() => document.querySelector('#rows tr') && done(Date.now())) \
         .observe(document.getElementById('rows'), {childList: true, subtree: true})); 0",
    )
    .await;
    push(&sim, 1).await;
    let seen = page.eval("window.seen").await.as_f64().unwrap();
    let received = site.status().await.unwrap().decoders[0].last_read.clone().unwrap().received.as_millisecond() as f64;
    assert!(seen - received < 1000.0, "{} ms after its receipt", seen - received);
    shows(&page, "reading").await;
    push(&sim, 30).await;
    site.sent(31).await;
    page.until("all are in the cloud", "document.getElementById('sum').innerText.includes('31')").await;
    page.until("a row says so", "[...document.querySelectorAll('#rows tr')].some(r => /yes/.test(r.innerText))").await;
    inspect(&page, &site, "reading").await;
    drop(sim);
    shows(&page, "not-reading").await;
    assert!(page.text("#sentence").await.contains("raceresult-mat"), "{}", page.text("#sentence").await);
    inspect(&page, &site, "not-reading").await;
    assert_eq!(page.complaints(), [""; 0]);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn without_a_cloud_that_answers_it_says_not_uploading_and_a_hold_is_loud() {
    let (browser, cloud) = (browser().await, cloud().await);
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let (site, running) = running(Some(&cloud), &[mat], SETTLES_SOON).await;
    let page = open(&browser, &site, PHONE).await;
    push(&sim, 3).await;
    site.sent(3).await;
    assert!(site.output(&["hold"]).await.status.success());
    push(&sim, 2).await;
    shows(&page, "hold").await;
    page.until("two are held", "document.getElementById('sentence').innerText.includes('2 reads')").await;
    inspect(&page, &site, "hold").await;
    assert!(page.text("#choice-out").await.contains("Log in"), "nobody is logged in");
    assert!(site.output(&["release", "--send"]).await.status.success());
    site.sent(5).await;
    drop(cloud);
    push(&sim, 2).await;
    shows(&page, "not-uploading").await;
    assert!(page.text("#sentence").await.contains("safe on this box"));
    inspect(&page, &site, "not-uploading").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn a_box_that_does_not_answer_is_told_with_the_time_of_the_last_news_and_comes_back_by_itself() {
    let browser = browser().await;
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let (site, running) = running(None, &[mat], "").await;
    let page = open(&browser, &site, PHONE).await;
    push(&sim, 1).await;
    shows(&page, "reading").await;
    running.signal(Signal::STOP);
    shows(&page, "no-news").await;
    assert!(page.text("#sentence").await.starts_with("The box has not answered since "));
    inspect(&page, &site, "no-news").await;
    running.signal(Signal::CONT);
    shows(&page, "reading").await;
    running.kill();
    shows(&page, "no-news").await;
    let running = site.start();
    page.until("it is back", "document.body.dataset.live === 'yes'").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn a_clock_that_is_an_hour_off_makes_the_time_wrong() {
    let browser = browser().await;
    let kind = Kind::RACE_RESULT;
    let wiring = Wiring::Listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0)));
    let hour_ago = Timestamp::now().checked_sub(Duration::from_secs(3600)).unwrap();
    let start = TimeZone::UTC.to_datetime(hour_ago);
    let sim = SimDecoder::start(SimConfig { start, ..SimConfig::new(kind, wiring) }).await.unwrap();
    let mat = (kind, format!("tcp://{}", sim.address().unwrap()));
    let (site, running) = running(None, &[mat], "").await;
    let page = open(&browser, &site, PHONE).await;
    push(&sim, 5).await;
    shows(&page, "time-wrong").await;
    let sentence = page.text("#sentence").await;
    assert!(sentence.contains("raceresult-mat is exactly 60 minutes behind"), "{sentence}");
    inspect(&page, &site, "time-wrong").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn a_full_card_is_told_before_everything_else() {
    let Some(disk) = Small::mount() else { return };
    let browser = browser().await;
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::at(tempfile::tempdir().unwrap(), disk.data(), None, &[mat], "");
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    until("the reserve is made", async || disk.data().join("reserve").exists()).await;
    let page = open(&browser, &site, PHONE).await;
    until("the box notices that its disk is full", async || {
        disk.fill();
        sim.push(1);
        site.get("/readyz").await.is_some_and(|(code, _)| code == 503)
    })
    .await;
    shows(&page, "cannot-keep").await;
    assert!(page.text("#sentence").await.contains("full"), "{}", page.text("#sentence").await);
    inspect(&page, &site, "cannot-keep").await;
    disk.make_room();
    shows(&page, "reading").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn plots_are_drawn_and_the_keyboard_reaches_what_can_be_pressed() {
    let (browser, cloud) = (browser().await, cloud().await);
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let (site, running) = running(Some(&cloud), &[mat], SETTLES_SOON).await;
    let page = open(&browser, &site, LAPTOP).await;
    push(&sim, 200).await;
    site.sent(200).await;
    page.until("the plots are there", "document.querySelectorAll('#plots-10m svg').length >= 3").await;
    let drawn = async || {
        let picture = page.picture(Some("#plots-10m svg")).await;
        distinct(&picture, 20) >= 3 // paper, bars and the line of the uploads
    };
    assert!(holds(Duration::from_secs(60), drawn).await, "the first plot is empty");
    for _ in 0..40 {
        page.key("Tab").await;
        if page.eval("document.activeElement.id === 'sun'").await == true {
            page.key("Enter").await;
            break;
        }
    }
    assert_eq!(page.eval("document.documentElement.dataset.theme").await, "sun");
    inspect(&page, &site, "sun").await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn nothing_is_done_without_the_token_and_a_login_opens_what_can_be_done() {
    let (browser, cloud) = (browser().await, cloud().await);
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(Some(&cloud), &[mat], "token_file = \"token\"\n");
    std::fs::write(site.config().with_file_name("token"), "a-long-token-of-a-test\n").unwrap();
    let running = site.start();
    until("it answers", async || site.get("/healthz").await.is_some_and(|(code, _)| code == 200)).await;
    let page = browser.page(PHONE.0, PHONE.1).await;
    page.go(&address(&site, "/hold")).await;
    page.until("it asks for the token", "document.querySelector('input[type=password]')").await;
    let refused =
        page.eval("fetch('/do/hold', {method: 'POST', body: new URLSearchParams({})}).then(r => r.status)").await;
    assert!([401, 403].contains(&refused.as_i64().unwrap()), "{refused}");
    accessible(&page, "login").await;
    page.click("input[type=password]").await;
    page.type_in("wrong").await;
    page.key("Enter").await;
    page.until("it says so", "document.body.innerText.includes('Wrong token')").await;
    page.click("input[type=password]").await;
    page.type_in("a-long-token-of-a-test").await;
    page.key("Enter").await;
    page.until("it is logged in", "!document.querySelector('input[type=password]')").await;
    for path in ["/", "/gun", "/find?q=77", "/hold", "/decoders", "/sessions", "/set-aside", "/card", "/report"] {
        page.go(&address(&site, path)).await;
        if path == "/" {
            page.until("the stream is up", "document.body.dataset.live === 'yes'").await;
        }
        let wide = page.eval("document.documentElement.scrollWidth - innerWidth").await;
        assert!(wide.as_i64().unwrap() <= 0, "{path}: {wide} px too wide");
        accessible(&page, path).await;
    }
    page.go(&address(&site, "/hold")).await;
    page.click("form[action='/do/hold'] button").await;
    let held = async || site.output(&["status", "--state"]).await.stdout.starts_with(b"hold");
    assert!(holds(Duration::from_secs(60), held).await, "the button did nothing");
    page.go(&address(&site, "/")).await;
    shows(&page, "hold").await;
    // While the question is open a read comes, and the box draws the block with the button anew.
    page.click("#choice button[value=none]").await;
    page.until("it asks", "document.getElementById('ask').open").await;
    push(&sim, 1).await;
    page.until("it was drawn anew", "document.getElementById('sentence').innerText.startsWith('1 read')").await;
    page.click("#ask-yes").await;
    page.until("none is sent", "location.pathname === '/hold' && document.body.innerText.includes('are not sent')")
        .await;
    page.click("form[action='/do/hold'] button").await;
    page.until("it is on hold again", "document.body.innerText.includes('The box is on hold since')").await;
    page.go(&address(&site, "/")).await;
    shows(&page, "hold").await;
    push(&sim, 2).await;
    page.until("two are held", "document.getElementById('sentence').innerText.startsWith('2 reads')").await;
    page.click("#choice button[value=all]").await;
    page.until(
        "they are sent",
        "location.pathname === '/hold' && document.body.innerText.includes('2 reads are sent')",
    )
    .await;
    until("the cloud has what is no repeat", async || cloud.stored() > 0).await;
    // A login that ends takes the open page with it.
    page.go(&address(&site, "/")).await;
    page.until("the stream is up", "document.body.dataset.live === 'yes'").await;
    let csrf = page.eval("document.body.dataset.csrf").await;
    page.eval(&format!("void fetch('/logout', {{method: 'POST', body: new URLSearchParams({{csrf: {csrf}}})}})")).await;
    page.until("it leads to the login", "location.pathname === '/login'").await;
    assert!(!site.said().contains("a-long-token-of-a-test"));
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn before_the_gun_each_mat_goes_green_word_by_word() {
    let (browser, cloud) = (browser().await, cloud().await);
    let (sim, first) = decoder(Kind::RACE_RESULT, 1).await;
    let (_other, second) = decoder(Kind::CLOUDBOX, 2).await;
    let (site, running) = running(Some(&cloud), &[first, second], SETTLES_SOON).await;
    let page = browser.page(PHONE.0, PHONE.1).await;
    page.go(&address(&site, "/gun")).await;
    assert_eq!(page.text("#verdict").await, "0 of 2 mats are checked.");
    accessible(&page, "before the gun").await;
    push(&sim, 3).await;
    site.sent(3).await;
    let marks = "[...document.querySelectorAll('.mat')][0].querySelectorAll('li[data-mark=yes]').length";
    page.until("read, kept and in the cloud", &format!("{marks} >= 3")).await;
    // Nobody looks at another page that would make the box look at its mats.
    drop(sim);
    page.until("a mat that is lost is told", "document.querySelector('.mat .lost')").await;
    assert_eq!(page.eval(&format!("{marks} >= 3")).await, true, "its ticks stay");
    cloud.open_session(DEVICE, "Another");
    page.until("another session takes the ticks away", "document.querySelectorAll('li[data-mark=yes]').length === 0")
        .await;
    assert_eq!(page.complaints(), [""; 0]);
    if let Some(dir) = pictures() {
        page.save(&dir.join("before-the-gun-360-light.png")).await;
    }
    running.stop().await;
}

#[test]
#[ignore = "belongs to the tests with Chromium"]
fn axe_is_as_it_was_published() {
    let axe = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/vendor/axe.min.js")).unwrap();
    let sum = ring::digest::digest(&ring::digest::SHA256, &axe);
    let hex: String = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "29348999450cdf2849a8e70b7912fc2da85a849da39c0d0d5394f51d4a9ed95c");
}
