//! Searches of random logs, compared with the exports of the same logs and with a plain reading.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use proptest::prelude::*;
use tokio::sync::watch;

use super::*;
use crate::cloud::passing::{Bibs, chip_code};
use crate::config::ChipZeros;
use crate::export::found::{FoundRead, SearchAnswer, SearchQuery, Sought};
use crate::export::search::Finder;
use crate::model::text::tail;

/// The bib file of a race: a bib with two chips, chips without one, and a chip whose code looks like a
/// bib.
fn bibs(round: u64) -> Arc<Bibs> {
    let mut text = "chip,bib\n".to_owned();
    for chip in (0..200).filter(|chip| chip % 3 != 2) {
        text += &format!("c{chip},{}\n", (chip + round) / 2);
    }
    Arc::new(Bibs::read(text.as_bytes()).unwrap())
}

impl Written {
    fn finder(&self, bibs: &Arc<Bibs>) -> Finder {
        Finder::new(self.dir.path(), reading(), ChipZeros::Count, watch::channel(Arc::clone(bibs)).1)
    }

    fn found(&self, finder: &Finder, query: &SearchQuery, durable: u64) -> SearchAnswer {
        finder.search(query, durable).unwrap()
    }
}

fn text<'a>(row: &'a Value, name: &str) -> Option<&'a str> {
    row[name].as_str()
}

/// Whether an export's row says the same of a read.
fn same(read: &FoundRead, row: &Value) {
    let standing = read.standing.as_ref().unwrap();
    let state = serde_json::to_value(standing.state).unwrap();
    let upload = &row["upload"];
    assert_eq!((Some(read.seq), &state), (row["seq"].as_u64(), &upload["state"]), "{row}");
    assert_eq!((Some(&*read.chip), Some(&*read.decoder)), (text(row, "chip"), text(row, "decoder")), "{row}");
    assert_eq!(read.time.map(|time| format!("{time:.3}")).as_deref(), text(row, "time"), "{row}");
    assert_eq!(Some(&*read.decoder_time), text(row, "decoder_time"), "{row}");
    assert_eq!(read.corrected_ms, row["corrected_ms"].as_i64(), "{row}");
    assert_eq!(standing.num_passing, upload["num_passing"].as_u64(), "{row}");
    assert_eq!(standing.token_tail.as_deref().map(str::to_owned), text(upload, "token_session").map(tail), "{row}");
    assert_eq!(standing.sent_time.map(|time| format!("{time:.3}")).as_deref(), text(upload, "sent_time"), "{row}");
    let replaces = standing.replaces.as_ref().map(|it| it.num_passing);
    assert_eq!(replaces, upload["replaces"]["num_passing"].as_u64(), "{row}");
    assert_eq!(standing.why.is_some(), state == "suppressed", "{row}");
    assert_eq!(standing.refusal.as_ref().map(|it| &*it.answer), (state == "quarantined").then_some("no"), "{row}");
    assert_eq!(standing.bib.as_deref(), standing.num_passing.map(|_| "7"), "the bib of every batch of the test: {row}");
}

/// Compares a search with the rows that a plain look at all rows finds.
fn compare(answer: &SearchAnswer, query: &SearchQuery, rows: &[Value], is_meant: impl Fn(&str) -> bool) {
    let within = |row: &&Value| {
        let time = instant(row);
        query.from.is_none_or(|from| time >= from) && query.to.is_none_or(|to| time < to)
    };
    let of_decoder = |row: &&Value| query.decoder.as_deref().is_none_or(|name| text(row, "decoder") == Some(name));
    let reads = rows.iter().rev().filter(|row| row["kind"] == "read" && is_meant(text(row, "chip").unwrap()));
    let expected: Vec<&Value> = reads.filter(within).filter(of_decoder).collect();
    let shown = expected.len().min(query.limit);
    assert_eq!((answer.reads.len(), answer.more), (shown, expected.len() > shown), "{query:?}");
    answer.reads.iter().zip(&expected).for_each(|(read, row)| same(read, row));
}

/// A random question, and which chips it means.
fn ask(written: &mut Written, rows: &[Value], round: u64) -> (SearchQuery, impl Fn(&str) -> bool + use<>) {
    let random = &mut written.random;
    let (number, kind) = (random.u64(..220), random.u8(..5));
    let case = |text: String, lower: bool| if lower { text.to_lowercase() } else { text };
    let chip = case(format!("C{number}"), random.bool());
    let what = match kind {
        0 => Sought::Any,
        1 => Sought::Chip(chip.as_str().into()),
        2 => Sought::Bib((number / 2).to_string().into()),
        3 => Sought::ChipOrBib(chip.as_str().into()),
        _ => Sought::ChipOrBib((number / 2).to_string().into()),
    };
    let mut query = SearchQuery { what, limit: random.usize(1..40), ..SearchQuery::default() };
    if random.bool() {
        let some = instant(&rows[random.usize(..rows.len())]).as_millisecond() - random.i64(0..200_000);
        let ms = |ms: i64| Some(Timestamp::from_millisecond(ms).unwrap());
        (query.from, query.to) = (ms(some), ms(some + random.i64(0..2_000_000)));
    }
    query.decoder = random.bool().then(|| SOURCES[random.usize(..3)].into());
    let is_meant = move |sent: &str| {
        let has_bib = || {
            let of_chip: u64 = sent[1..].parse().unwrap();
            of_chip < 200 && of_chip % 3 != 2 && (of_chip + round) / 2 == number / 2
        };
        match kind {
            0 => true,
            1 | 3 => sent.eq_ignore_ascii_case(&chip),
            _ => has_bib(),
        }
    };
    (query, is_meant)
}

/// One byte of a kept index is another one.
fn damage_an_index(written: &mut Written) {
    let kept = std::fs::read_dir(written.dir.path().join("windows")).into_iter().flatten().flatten();
    let mut kept: Vec<_> = kept.map(|file| file.path()).collect();
    kept.sort();
    if kept.is_empty() {
        return;
    }
    let path = &kept[written.random.usize(..kept.len())];
    match written.random.u8(..3) {
        0 => std::fs::remove_file(path).unwrap(),
        _ => {
            let mut bytes = std::fs::read(path).unwrap();
            let at = written.random.usize(..bytes.len());
            bytes[at] ^= 1 << written.random.u8(..8);
            std::fs::write(path, bytes).unwrap();
        }
    }
}

/// The oldest segment is pruned.
fn prune(written: &Written) {
    let files = segments(&log_dir(written.dir.path())).unwrap();
    if files.len() > 3 {
        std::fs::remove_file(&files[0].path).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_any_log_a_search_tells_exactly_the_reads_that_a_look_at_all_of_it_finds(seed: u64, keeps: bool) {
        let mut written = Written::new(seed);
        for round in 0..4 {
            written.some(150);
            match written.random.u8(..6) {
                0 => prune(&written),
                1 => drop(refresh(written.dir.path(), &reading(), 0, &|| false).unwrap()),
                2 => damage_an_index(&mut written),
                _ => written.log.rotate(Some("{}")).unwrap(),
            }
            let bibs = bibs(round);
            let finder = written.finder(&bibs);
            let finder = if keeps { finder.keeping() } else { finder };
            let durable = if written.random.bool() { u64::MAX } else { written.log.next - written.log.next / 8 };
            let rows = written.exported(Query { durable, ..Query::default() });
            for _ in 0..12 {
                let (query, is_meant) = ask(&mut written, &rows, round);
                compare(&written.found(&finder, &query, durable), &query, &rows, is_meant);
            }
        }
    }
}

/// A log of a few reads of these chips, each in a segment of its own.
fn of_chips(chips: &[&str]) -> Written {
    let mut written = Written::new(1);
    for chip in chips {
        let stamp: Stamp = "2026-05-28T22:26:40.350".parse().unwrap();
        written.write("mat", Body::Read(ChipRead::new(*chip, stamp)));
        written.log.rotate(Some("{}")).unwrap();
    }
    written
}

#[test]
fn a_chip_is_found_as_it_was_sent_and_as_it_is_uploaded_and_a_bib_through_every_chip_that_has_it() {
    let epc = "30303030304D433030393738";
    let written = of_chips(&[epc, "MC00978", "7", "0011055", "11056", "30303030304d433030393739"]);
    let bibs = Arc::new(Bibs::read(b"chip,bib\nMC00978,7\n11055,7\n7,12A\n").unwrap());
    let ask = |tag: TagCode, zeros: ChipZeros, what: Sought| {
        let reading = Reading { tag, ..reading() };
        let finder = Finder::new(written.dir.path(), reading, zeros, watch::channel(Arc::clone(&bibs)).1);
        let answer = finder.search(&SearchQuery { what, ..SearchQuery::default() }, u64::MAX).unwrap();
        (answer.reads.iter().map(|read| read.seq).collect::<Vec<_>>(), answer.is_chip, answer.chips_of_bib.len())
    };
    let both = |what: &str| Sought::ChipOrBib(what.into());
    let (raw, rufus) = (TagCode::Raw, TagCode::Rufus);
    let (count, ignore) = (ChipZeros::Count, ChipZeros::Ignore);
    assert_eq!(chip_code(epc, rufus), "MC00978");
    assert_eq!(ask(rufus, count, both("mc00978")), (vec![2, 1], true, 0));
    assert_eq!(ask(raw, count, both("mc00978")), (vec![2], true, 0), "the EPC is uploaded as it is");
    assert_eq!(ask(raw, count, both(&epc.to_lowercase())), (vec![1], true, 0));
    assert_eq!(ask(rufus, count, both("7")), (vec![3, 2, 1], true, 2), "a chip, and two chips with that bib");
    assert_eq!(ask(rufus, count, Sought::Bib("7".into())), (vec![2, 1], false, 2));
    assert_eq!(ask(rufus, ignore, Sought::Bib("7".into())), (vec![4, 2, 1], false, 2), "the file lost its zeros");
    assert_eq!(ask(rufus, count, Sought::Chip("7".into())), (vec![3], true, 0));
    assert_eq!(ask(rufus, count, both("12a")), (vec![3], false, 1), "upper and lower case of a bib are equal");
    assert_eq!(ask(rufus, count, both("11055")), (vec![], true, 0), "zeros of a chip count");
    assert_eq!(ask(rufus, count, Sought::Any).0, [6, 5, 4, 3, 2, 1]);
}

#[test]
fn the_end_of_a_log_that_a_power_cut_tore_costs_a_search_only_that_line() {
    let written = of_chips(&["A", "B", "A"]);
    let finder = written.finder(&Arc::default());
    let query = SearchQuery { what: Sought::Chip("a".into()), ..SearchQuery::default() };
    let seqs = |answer: SearchAnswer| answer.reads.iter().map(|read| read.seq).collect::<Vec<_>>();
    assert_eq!(seqs(written.found(&finder, &query, u64::MAX)), [3, 1]);
    let last = segments(&log_dir(written.dir.path())).unwrap().pop().unwrap();
    let half = b"4\t0\tread\tmat\t2026-05-28T20:26:41.000Z\tA\t2026-05";
    let file = std::fs::OpenOptions::new().write(true).open(&last.path).unwrap();
    file.write_all_at(half, last.lines().unwrap()).unwrap();
    assert_eq!(seqs(written.found(&finder, &query, u64::MAX)), [3, 1]);
    assert_eq!(seqs(written.found(&finder, &query, 2)), [1], "only what is durable is found");
}

#[test]
fn a_read_without_a_date_has_no_time_while_the_box_did_not_know_its_own() {
    let mut written = Written::new(1);
    written.now = 9_000;
    written.write("gate", Body::Read(ChipRead::new("A", "20:27:47.350".parse::<Stamp>().unwrap())));
    let answer = written.found(&written.finder(&Arc::default()), &SearchQuery::default(), u64::MAX);
    assert_eq!((answer.reads[0].time, &*answer.reads[0].decoder_time), (None, "20:27:47.350"));
}

#[test]
fn a_search_reads_only_the_segments_in_which_the_chip_is() {
    let mut written = of_chips(&["A"]);
    for chip in ["B", "C"] {
        written.write("mat", Body::Read(ChipRead::new(chip, "2026-05-28T22:26:40.350".parse::<Stamp>().unwrap())));
    }
    written.log.rotate(Some("{}")).unwrap();
    refresh(written.dir.path(), &reading(), 0, &|| false).unwrap();
    // The read of B becomes one of A, which its index does not know.
    let second = segments(&log_dir(written.dir.path())).unwrap().swap_remove(1);
    let text = String::from_utf8(std::fs::read(&second.path).unwrap()).unwrap();
    let line = text.lines().find(|line| line.contains("\tB\t")).unwrap();
    let changed = line.rsplit_once('\t').unwrap().0.replace("\tB\t", "\tA\t");
    let changed = format!("{changed}\t{:08x}", crc32fast::hash(changed.as_bytes()));
    std::fs::write(&second.path, text.replace(line, &changed)).unwrap();
    let query = SearchQuery { what: Sought::Chip("A".into()), ..SearchQuery::default() };
    let finder = written.finder(&Arc::default());
    let seqs = || written.found(&finder, &query, u64::MAX).reads.iter().map(|read| read.seq).collect::<Vec<_>>();
    assert_eq!(seqs(), [1], "the second segment was not read");
    std::fs::remove_dir_all(written.dir.path().join("windows")).unwrap();
    assert_eq!(seqs(), [2, 1], "without an index, every segment is read");
}
