//! What a timer types: times of day, names that are nearly right, a table for a spreadsheet, a file
//! of another protocol.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Output, Stdio};

use jiff::Timestamp;
use passbridge::testing::sim::decoder::Kind;
use serde_json::Value;

use crate::support::child::{Site, binary, decoder, until};

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// A box that kept so many reads of a decoder that stores them, and runs no more.
async fn with_reads(kind: Kind, count: u64) -> Site {
    let (sim, mat) = decoder(kind, 1).await;
    let site = Site::new(None, &[mat], "");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(count);
    site.until("the reads are kept", |status| status.decoders[0].reads == count).await;
    running.stop().await;
    site
}

#[tokio::test]
async fn an_export_of_a_decoder_that_nobody_knows_lists_those_there_are() {
    let site = with_reads(Kind::IPICO, 3).await;
    for name in ["nope", "ipico-mta", "ipico-mat/Start"] {
        let output = site.output(&["export", "--format", "csv", "--decoder", name]).await;
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(name) && said.contains("must be one of ipico-mat"), "{said}");
    }
    assert!(
        text(&site.output(&["export", "--format", "csv", "--decoder", "ipico-mta"]).await).contains("did you mean")
    );
    // One that was taken out of the configuration has its reads here still.
    let config = fs::read_to_string(site.config()).unwrap();
    fs::write(site.config(), config.replace("ipico-mat", "finish")).unwrap();
    let output = site.output(&["export", "--format", "jsonl", "--decoder", "ipico-mat"]).await;
    assert_eq!((output.status.code(), text(&output).lines().count()), (Some(0), 3), "{}", text(&output));
}

#[tokio::test]
async fn an_export_takes_times_of_the_boxs_zone_and_shows_them_in_the_zone_that_is_asked_for() {
    let site = with_reads(Kind::IPICO, 3).await;
    let export = async |arguments: &[&str]| {
        let output = site.output(&[&["export", "--format", "jsonl"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let rows: Vec<Value> = text(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        rows
    };
    let all = export(&[]).await;
    let time = |row: &Value| row["time"].as_str().unwrap().to_owned();
    assert!(time(&all[0]).ends_with('Z'), "UTC, as ever");
    let shown = export(&["--timezone", "Asia/Kathmandu"]).await;
    for (row, utc) in shown.iter().zip(&all) {
        assert!(time(row).ends_with("+05:45") && row["received"].as_str().unwrap().ends_with("+05:45"), "{row}");
        assert_eq!(time(row).parse::<Timestamp>().unwrap(), time(utc).parse::<Timestamp>().unwrap());
    }
    // The clock of Kathmandu at the second read: only with its zone it is that moment.
    let local = time(&shown[1])[..23].to_owned();
    assert_eq!(export(&["--timezone", "Asia/Kathmandu", "--from", &local]).await.len(), 2);
    assert_eq!(export(&["--timezone", "Asia/Kathmandu", "--to", &local]).await.len(), 1);
    assert_eq!(export(&["--timezone", "UTC", "--to", &local]).await.len(), 3, "in UTC that is hours later");
    // No test knows on which side of midnight it runs, so the time of day is taken relative to now
    // in UTC.
    let day = &time(&all[0])[..10];
    assert_eq!(export(&["--timezone", "UTC", "--from", day]).await.len(), 3);
    let reversed = site.output(&["export", "--format", "csv", "--from", "2026-01-02", "--to", "2026-01-01"]).await;
    assert_eq!(reversed.status.code(), Some(64), "an empty table would look as if nothing was read");
    let wrong = site.output(&["export", "--format", "csv", "--from", "25:00"]).await;
    assert!(wrong.status.code() == Some(64) && text(&wrong).contains("such as 10:00"), "{}", text(&wrong));
}

#[tokio::test]
async fn a_table_for_a_spreadsheet_keeps_chips_and_times() {
    let site = with_reads(Kind::IPICO, 4).await;
    let plain = site.output(&["export", "--format", "csv"]).await;
    let output = site.output(&["export", "--format", "csv", "--spreadsheet"]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let table = output.stdout.strip_prefix("\u{feff}".as_bytes()).expect("it says that it is UTF-8");
    let rows = |bytes: &[u8]| -> Vec<Vec<String>> {
        let records = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes).into_records();
        records.map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
    };
    let (plain, table) = (rows(&plain.stdout), rows(table));
    assert_eq!((table.len(), &table[0]), (5, &plain[0]), "the same header");
    for (row, plain) in table[1..].iter().zip(&plain[1..]) {
        for (column, (field, plain)) in row.iter().zip(plain).enumerate() {
            let as_text = format!("=\"{plain}\"");
            assert!(field == plain || *field == as_text, "column {column}: {field}");
        }
        assert_eq!((row[3].clone(), row[4].clone()), (format!("=\"{}\"", plain[3]), format!("=\"{}\"", plain[4])));
    }
    assert_eq!(site.output(&["export", "--format", "jsonl", "--spreadsheet"]).await.status.code(), Some(64));
}

#[tokio::test]
async fn a_rewind_by_time_asks_for_the_numbers_of_the_reads_that_are_here() {
    let (sim, mat) = decoder(Kind::RACE_RESULT, 1).await;
    let site = Site::new(None, &[mat], "");
    let running = site.start();
    site.until("it is connected", |_| *sim.links().borrow() == 1).await;
    sim.push(5);
    site.until("the reads are kept", |status| status.decoders[0].reads == 5).await;
    let asked = ["rewind", "--decoder", "raceresult-mat", "--from", "2020-01-01", "--to", "2100-01-01"];
    let mut said = String::new();
    // A connection that has just begun says so.
    until("the decoder is asked", async || {
        let output = site.output(&asked).await;
        said = text(&output);
        output.status.success()
    })
    .await;
    assert!(said.contains("asked raceresult-mat for reads 1 to 5. New ones are uploaded"), "{said}");
    let none =
        site.output(&["rewind", "--decoder", "raceresult-mat", "--from", "2020-01-01", "--to", "2020-01-02"]).await;
    assert!(none.status.code() == Some(64) && text(&none).contains("ask by number"), "{}", text(&none));
    let wrong = site.output(&["rewind", "--decoder", "raceresult-mat", "--from", "noon"]).await;
    assert!(wrong.status.code() == Some(64) && text(&wrong).contains("such as 10:00"), "{}", text(&wrong));
    running.stop().await;
}

fn decoded(arguments: &[&str], bytes: &[u8]) -> Output {
    let mut command = binary(&[&["decode"], arguments].concat());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn lines_of_another_protocol_are_told_apart_by_decode() {
    let samples = include_str!("../../../src/decoders/ipico/samples.jsonl");
    let reads: Vec<u8> = samples
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|sample| sample["expect"]["kind"] == "passing")
        .flat_map(|sample| sample["raw"].as_str().unwrap_or_default().as_bytes().to_vec())
        .collect();
    let seen = decoded(&["--protocol", "mylaps"], &reads);
    let said = String::from_utf8_lossy(&seen.stderr).into_owned();
    assert!(said.contains("0 reads in ") && said.contains("does not look like mylaps"), "{said}");
    assert!(said.contains("passbridge decode --protocol ipico"), "{said}");
    let seen = decoded(&[], &reads);
    assert!(seen.status.success() && String::from_utf8_lossy(&seen.stdout).contains("\"read\""), "{}", text(&seen));
    let nothing = decoded(&["--protocol", "mylaps"], b"hello world, this is no decoder at all\r\n");
    let said = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert!(said.contains("or like any protocol that passbridge knows"), "{said}");
    assert_eq!(decoded(&[], b"hello world\r\n").status.code(), Some(64));
}

#[test]
fn words_for_other_commands_lead_to_the_right_one() {
    for (word, meant) in [("start", "passbridge run"), ("restart", "systemctl restart"), ("stop", "systemctl stop")] {
        let output = binary(&[word]).output().unwrap();
        let said = text(&output);
        assert_eq!((output.status.code(), said.lines().count()), (Some(64), 1), "{said}");
        assert!(said.contains(meant) && !said.contains("status"), "{said}");
    }
}

#[tokio::test]
async fn check_tells_what_the_user_of_the_service_may_read() {
    let (_sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "[passing]\nbibs = \"bibs.csv\"\n");
    let bibs = site.config().with_file_name("bibs.csv");
    fs::write(&bibs, "chip,bib\nA,1\n").unwrap();
    // The directory is for its owner only, whoever that is.
    let directory = site.config().parent().unwrap().to_owned();
    fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).unwrap();
    let output = site.output(&["check", "--user", "a-user-that-nobody-has"]).await;
    let said = text(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    let dir = site.config().parent().unwrap().display().to_string();
    assert!(said.contains(&format!("user a-user-that-nobody-has may not enter {dir}")), "{said}");
    assert_eq!(site.output(&["check", "--user", "root"]).await.status.code(), Some(0));
}
