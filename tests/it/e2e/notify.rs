//! Whom the box tells how it is, and a mat that must not be silent.

use std::time::Duration;

use passbridge::testing::config::{ExpectConfig, TimeWindow};
use passbridge::testing::sim::decoder::Kind;
use passbridge::testing::status::{BoxState, LinkState};

use crate::support::e2e::*;

/// Takes ten seconds: a bad state is told only when the start is over.
#[tokio::test]
async fn a_mat_that_is_connected_and_silent_is_told_to_a_program_and_a_led_that_is_not_there_is_a_problem() {
    let mut way = EndToEnd::new().await;
    way.session();
    let _sim = way.plug_with(Kind::RACE_RESULT, 5).await;
    let (draft, program) = (way.dir.path().join("draft"), way.dir.path().join("program"));
    let told = way.dir.path().join("told");
    std::fs::write(&draft, format!("#!/bin/sh\nprintf '%s|' \"$@\" >>'{}'\n", told.display())).unwrap();
    // Another process writes the file that is run: Linux runs no file that is open for writing, and each process that
    // another test starts meanwhile would have it open.
    let installed = std::process::Command::new("install").args(["-m", "755"]).args([&draft, &program]).status();
    assert!(installed.unwrap().success());
    let window =
        TimeWindow::Once { from: jiff::civil::date(2000, 1, 1).into(), to: jiff::civil::date(2200, 1, 1).into() };
    way.config.expect = vec![ExpectConfig { source: MAT.into(), window, quiet: Duration::from_secs(1) }];
    way.config.notify.on_state = Some(program);
    way.config.notify.led = Some("passbridge-has-no-such-led".into());
    let daemon = way.start().await;
    shows(&daemon, "the mat is silent although its link lives", |snapshot| {
        let silent = has_problem(snapshot, "mat_quiet") && snapshot.state == BoxState::NotReading;
        silent && snapshot.decoders[0].state == LinkState::Connected
    })
    .await;
    let message = complains(&daemon, "led_failed").await;
    assert!(message.contains("passbridge-has-no-such-led"), "{message}");
    let begin = std::time::Instant::now();
    let wrote = || std::fs::read_to_string(&told).unwrap_or_default();
    let expected = "not-reading|finish-mat gives no reads although some are expected.";
    while !wrote().contains(expected) {
        assert!(begin.elapsed() < LIMIT, "the program is not run: {}", wrote());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    daemon.stop().await.unwrap();
}
