//! What a read becomes on its way (bib, chip code, dead time), and what others read out of the
//! journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use passbridge::testing::commands::decode::Decoder;
use passbridge::testing::config::{ChipZeros, TagCode};
use passbridge::testing::decoders::{Settings, spec};
use passbridge::testing::export::{Format, Query, Reading, export};
use passbridge::testing::sim::cloud::StoredPassing;
use passbridge::testing::sim::decoder::Kind;
use serde_json::Value;

use crate::support::e2e::*;

fn bibs(way: &EndToEnd, token: &str) -> Vec<(String, String)> {
    let text = |stored: StoredPassing| (stored.chip.as_deref().unwrap_or_default().to_owned(), stored.bib.to_string());
    way.cloud.passings(token).into_iter().map(text).collect()
}

fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(chip, bib)| ((*chip).to_owned(), (*bib).to_owned())).collect()
}

/// Puts a file in its place as editors do: whole, under its name.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(&fresh, path).unwrap();
}

/// Takes as long as the box needs to see twice that a file stays as it is: about 8 s.
#[tokio::test]
async fn the_bib_file_is_used_read_again_when_it_changes_and_a_broken_one_changes_nothing() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let path = way.dir.path().join("bibs.csv");
    std::fs::write(&path, "chip,bib\nAAA,7\nBBB,8\n").unwrap();
    way.config.passing.bibs = Some(path.clone());
    let rows: Vec<String> = ["AAA", "BBB", "CCC", "AAA", "BBB", "AAA", "CCC"]
        .iter()
        .zip(1..)
        .map(|(chip, number)| record(number, chip, &format!("10:00:0{number}.500")))
        .collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
    sim.push(3);
    let daemon = way.start().await;
    way.arrive(3, &daemon).await;
    assert_eq!(bibs(&way, &token), pairs(&[("AAA", "7"), ("BBB", "8"), ("CCC", "CCC")]));

    replace(&path, "chip,bib\nAAA,70\nBBB,\n");
    let message = complains(&daemon, "bibs_broken").await;
    assert!(message.contains("line 3"), "{message}");
    sim.push(2);
    way.arrive(5, &daemon).await;
    assert_eq!(bibs(&way, &token)[3..], pairs(&[("AAA", "7"), ("BBB", "8")]), "the last good file stays in use");

    replace(&path, "chip,bib\nAAA,70\nCCC,9\n");
    shows(&daemon, "the bib file is good", |snapshot| !has_problem(snapshot, "bibs_broken")).await;
    sim.push(2);
    way.arrive(7, &daemon).await;
    assert_eq!(bibs(&way, &token)[5..], pairs(&[("AAA", "70"), ("CCC", "9")]));
    way.sound(&token);
    daemon.stop().await.unwrap();
}

#[tokio::test]
async fn a_chip_whose_zeros_a_list_has_lost_gets_its_bib_unless_the_configuration_says_that_zeros_count() {
    for (zeros, bib, is_told) in [(ChipZeros::Ignore, "7", false), (ChipZeros::Count, "0011055", true)] {
        let mut way = EndToEnd::new().await;
        let token = way.session();
        let path = way.dir.path().join("bibs.csv");
        std::fs::write(&path, "chip,bib\n11055,7\n").unwrap();
        (way.config.passing.bibs, way.config.passing.zeros) = (Some(path), zeros);
        let row = record(1, "0011055", "10:00:01.500");
        let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &[&row])).await;
        sim.push(1);
        let daemon = way.start().await;
        way.arrive(1, &daemon).await;
        assert_eq!(bibs(&way, &token), pairs(&[("0011055", bib)]));
        assert_eq!(has_problem(&daemon.snapshot(), "chips_unknown"), is_told);
        way.sound(&token);
        daemon.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_open_rufus_tag_is_uploaded_under_its_code_and_with_the_bib_of_that_code() {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    let path = way.dir.path().join("bibs.csv");
    std::fs::write(&path, "chip,bib\nMC00978,7\n").unwrap();
    way.config.passing.bibs = Some(path);
    way.config.passing.tag = TagCode::Rufus;
    let rows = [
        record(1, "30303030304D433030393738", "10:00:01.000"),
        record(2, "30303030304D433030393739", "10:00:02.000"),
        record(3, "3D2E372D39293A313C313734", "10:00:03.000"),
    ];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
    sim.push(3);
    let daemon = way.start().await;
    way.arrive(3, &daemon).await;
    let closed = "3D2E372D39293A313C313734";
    assert_eq!(bibs(&way, &token), pairs(&[("MC00978", "7"), ("MC00979", "MC00979"), (closed, closed)]));
    way.sound(&token);
    daemon.stop().await.unwrap();
}

/// A small race whose dead time is five seconds: two of the seven reads are no passing of their
/// own. The fourth is there once more: after the restart the decoder was asked for it, to see that
/// it was not cleared.
async fn small_race() -> (EndToEnd, String) {
    let mut way = EndToEnd::new().await;
    let token = way.session();
    way.config.passing.dead_time = Duration::from_secs(5);
    let rows = [
        ("30303030304D433030393738", "10:00:00.000"),
        ("BBB", "10:00:01.000"),
        ("30303030304D433030393738", "10:00:03.999"), // in the dead time
        ("30303030304D433030393738", "10:00:09.250"),
        ("BBB", "10:00:02.000"), // in the dead time, after a restart
        ("CCC", "10:00:10.000"),
        ("BBB", "10:00:20.000"),
    ];
    let rows: Vec<String> = rows.iter().zip(1..).map(|((chip, time), number)| record(number, chip, time)).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let sim = way.plug_as(MAT, recording(Kind::RACE_RESULT, &rows)).await;
    way.config.decoders[0].timezone = TimeZone::get("Europe/Madrid").unwrap();
    sim.push(4);
    let daemon = way.start().await;
    way.arrive(3, &daemon).await;
    daemon.stop().await.unwrap();
    sim.push(2);
    let daemon = way.start().await;
    way.arrive(4, &daemon).await;
    way.cloud.set_online(false).await;
    sim.push(1);
    keeps(&daemon, 4).await;
    daemon.stop().await.unwrap();
    (way, token)
}

fn reading() -> Reading {
    Reading {
        zones: [(MAT.into(), TimeZone::get("Europe/Madrid").unwrap())].into_iter().collect(),
        tag: TagCode::Rufus,
        shown_in: None,
        spreadsheet: false,
    }
}

fn exported(way: &EndToEnd, format: Format, query: Query) -> String {
    let mut out = Vec::new();
    let query = Query { durable: u64::MAX, ..query };
    let summary = export(way.data(), &reading(), format, &query, &mut out).unwrap();
    assert_eq!(summary.damaged, 0);
    String::from_utf8(out).unwrap()
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn what_the_dead_time_suppresses_stays_in_the_journal_marked_and_every_field_of_the_export_is_right() {
    let (way, token) = small_race().await;
    let rows = objects(&exported(&way, Format::Jsonl, Query::default()));
    let states: Vec<&str> = rows.iter().map(|row| row["upload"]["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["sent", "sent", "suppressed", "sent", "suppressed", "suppressed", "sent", "pending"]);
    let numbers: Vec<Option<u64>> = rows.iter().map(|row| row["upload"]["num_passing"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), None, Some(3), None, None, Some(4), None]);
    assert!(rows.windows(2).all(|pair| pair[0]["seq"].as_u64() < pair[1]["seq"].as_u64()));
    for (row, number) in rows.iter().zip([1, 2, 3, 4, 4, 5, 6, 7]) {
        let mut keys: Vec<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        keys.sort_unstable();
        let mut expected = [
            "seq",
            "decoder",
            "kind",
            "chip",
            "time",
            "decoder_time",
            "received",
            "antenna",
            "rssi",
            "hits",
            "position",
            "raw",
            "upload",
        ];
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(row["position"], number);
        let sent = row["upload"]["state"] == "sent";
        assert_eq!(row["upload"]["token_session"].as_str(), sent.then_some(&*token));
        let received: Timestamp = row["received"].as_str().unwrap().parse().unwrap();
        assert!(Timestamp::now().duration_since(received).as_secs() < 60);
    }
    let first = &rows[0];
    assert_eq!((first["decoder"].as_str(), first["kind"].as_str()), (Some(MAT), Some("read")));
    assert_eq!(first["chip"], "30303030304D433030393738");
    assert_eq!(first["decoder_time"], "2026-06-17T10:00:00.000");
    assert_eq!(first["time"], "2026-06-17T08:00:00.000Z", "Madrid is two hours ahead in summer");
    assert_eq!((&first["antenna"], &first["hits"], &first["rssi"]), (&3.into(), &4.into(), &17.into()));
    assert_eq!(first["raw"], record(1, "30303030304D433030393738", "10:00:00.000"));
    assert_eq!(way.cloud.passings(&token)[0].time_ms, 1_781_683_200_000);
    way.sound(&token);
}

#[tokio::test]
async fn the_table_of_an_export_says_what_the_objects_say() {
    let (way, _) = small_race().await;
    let rows = objects(&exported(&way, Format::Jsonl, Query::default()));
    let text = exported(&way, Format::Csv, Query::default());
    let mut table = csv::Reader::from_reader(text.as_bytes());
    let records: Vec<BTreeMap<String, String>> = table.deserialize().map(Result::unwrap).collect();
    assert_eq!(records.len(), rows.len());
    let plain = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    for (record, row) in records.iter().zip(&rows) {
        for key in
            ["seq", "decoder", "kind", "chip", "time", "decoder_time", "antenna", "rssi", "hits", "position", "raw"]
        {
            assert_eq!(record[key], plain(&row[key]), "{key}");
        }
        assert_eq!(record["upload_state"], plain(&row["upload"]["state"]));
        assert_eq!(record["token_session"], plain(&row["upload"]["token_session"]));
        assert_eq!(record["num_passing"], plain(&row["upload"]["num_passing"]));
    }
}

#[tokio::test]
async fn an_export_can_be_limited_to_a_time_and_a_decoder() {
    let (way, _) = small_race().await;
    let count = |query| objects(&exported(&way, Format::Jsonl, query)).len();
    let at = |text: &str| Some(text.parse().unwrap());
    let within = |from, to| Query { from, to, ..Query::default() };
    assert_eq!(count(within(at("2026-06-17T08:00:02Z"), at("2026-06-17T08:00:10Z"))), 4);
    assert_eq!(count(within(at("2026-06-17T08:00:20Z"), None)), 1, "from is included");
    assert_eq!(count(within(None, at("2026-06-17T08:00:20Z"))), 7, "to is not");
    assert_eq!(count(Query { decoder: Some(MAT.into()), ..Query::default() }), 8);
    assert_eq!(count(Query { decoder: Some("other".into()), ..Query::default() }), 0);
}

#[tokio::test]
async fn the_backup_file_has_the_form_of_a_cloudboxs() {
    let (way, _) = small_race().await;
    let text = exported(&way, Format::Cloudbox, Query::default());
    assert!(text.ends_with("\r\n"));
    let rows = objects(&text);
    assert_eq!(rows.len(), 8);
    let known =
        ["epc", "timestamp", "seenCount", "antenna", "rssi", "passingNumber", "tagStr", "latitude", "longitude"];
    for (row, number) in rows.iter().zip(1..) {
        assert!(row.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())), "{row}");
        assert_eq!(row["passingNumber"], number);
    }
    assert_eq!(rows[0]["epc"], "30303030304D433030393738");
    assert_eq!(rows[0]["tagStr"], "MC00978");
    assert_eq!(rows[0]["timestamp"], "2026-06-17;10:00:00.000", "wall time of the decoder");
    assert_eq!((&rows[0]["seenCount"], &rows[0]["antenna"], &rows[0]["rssi"]), (&4.into(), &3.into(), &17.into()));
    assert_eq!(rows[1].get("epc"), None, "BBB is no EPC");
    assert_eq!(rows[1]["tagStr"], "BBB");
}

#[tokio::test]
async fn the_raw_export_decodes_to_the_same_reads_again() {
    let (way, _) = small_race().await;
    let rows = objects(&exported(&way, Format::Jsonl, Query::default()));
    let raw = exported(&way, Format::Raw, Query::default());
    let zone = TimeZone::get("Europe/Madrid").unwrap();
    let decoder = Decoder::new(spec("raceresult").unwrap(), &Settings::new(), zone).unwrap();
    let mut out = Vec::new();
    decoder.run(raw.as_bytes(), &mut out).unwrap();
    let again = objects(&String::from_utf8(out).unwrap());
    let of = |rows: &[Value], key: &str| rows.iter().map(|row| row[key].clone()).collect::<Vec<_>>();
    for key in ["kind", "chip", "time", "antenna", "rssi", "hits", "raw"] {
        assert_eq!(of(&again, key), of(&rows, key), "{key}");
    }
    assert_eq!(of(&again, "local"), of(&rows, "decoder_time"));
}
