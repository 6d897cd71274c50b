//! What LibreOffice makes of `export --format csv --spreadsheet`. It runs where `soffice` is
//! installed (Debian: libreoffice-calc).
//!
//! The plain CSV of the same reads says what each cell must show. The table goes through
//! LibreOffice into its own file format or Excel's, and back into a CSV that has each cell as it is
//! shown.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use passbridge::testing::decoders::{Frame, Framed};
use passbridge::testing::journal::{Journal, JournalConfig};
use passbridge::testing::model::chip::ChipRead;
use passbridge::testing::status::Board;

use crate::support::skip;

/// Codes that a spreadsheet changes if it is left to guess, and codes that it might run.
const CHIPS: &[&str] = &[
    "11055",
    "0011055",
    "1E5",
    "0012E5",
    "65E2",
    "1.50",
    "1,5",
    "+34600111222",
    "-51",
    "123456789012345678",
    "0x1F",
    "TRUE",
    "1/2",
    "3-4",
    "10:20:30",
    "2026-07-05",
    "50%",
    "€5",
    "=1+1",
    "=cmd|' /C calc'!A0",
    "=HYPERLINK(\"http://127.0.0.1/\",\"chip\")",
    "@SUM(1+1)",
    "\"&A1&\"",
    "'0012",
    "a;b,c",
    "é 中",
    "MC00978",
];

/// A CSV with commas and quotes, in UTF-8, that has each cell as it is shown.
const AS_UTF8: &str = "csv:Text - txt - csv (StarCalc):44,34,76";

/// A box with one read of each chip, which runs no more. Returns its plain and its spreadsheet CSV.
fn exported(dir: &Path) -> (Vec<u8>, Vec<u8>) {
    let data = dir.join("data");
    let config = JournalConfig {
        dir: data.clone(),
        dead_time: Duration::ZERO,
        keep_days: 30,
        keep_bytes: 4_000_000_000,
        segment_bytes: 1 << 20,
        zones: Default::default(),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let journal = Journal::open(config, Board::new("test")).unwrap();
        journal.serving().await;
        let read = |(n, chip): (usize, &&str)| {
            // The last digits would be lost if a spreadsheet took the stamp for a time.
            let mut read = ChipRead::new(*chip, format!("2026-07-05T10:20:{:02}.{:03}", n, 7 * n + 1).parse().unwrap());
            (read.rssi, read.hits) = (Some(-51), Some(17));
            Framed { frame: Frame::Read(read), raw: format!("={chip}").into_bytes().into() }
        };
        let frames = CHIPS.iter().enumerate().map(read).collect();
        let received: Timestamp = "2026-07-05T10:21:00.009Z".parse().unwrap();
        journal.append("mat", received, frames).await.unwrap();
        journal.close().await;
    });
    let config = dir.join("passbridge.toml");
    let decoder = "[[decoder]]\nname = \"mat\"\nprotocol = \"ipico\"\naddress = \"tcp://127.0.0.1:1\"\n";
    std::fs::write(&config, format!("name = \"finish\"\ndata_dir = \"{}\"\n{decoder}", data.display())).unwrap();
    let export = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passbridge"));
        command.args(["export", "--format", "csv", "--config"]).arg(&config).args(more);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    (export(&[]), export(&["--spreadsheet"]))
}

/// How a CSV is read: with commas, quotes, and UTF-8. A file with a byte order mark is UTF-8 for
/// the dialog of LibreOffice, and not for its conversion.
const USUAL: &str = "44,34,76,1";
/// The same, with "Evaluate formulas" off.
const NOT_EVALUATED: &str = "44,34,76,1,,0,false,false,true,false,false,0,false";

/// Makes a file of another format of it. `import`: how a CSV is read.
fn convert(dir: &Path, from: &str, import: Option<&str>, to: &str) {
    let mut office = Command::new("soffice");
    office.arg(format!("-env:UserInstallation=file://{}/profile", dir.display())).arg("--headless");
    office.args(import.map(|filter| format!("--infilter=CSV:{filter}")));
    office.args(["--convert-to", to, "--outdir"]).arg(dir).arg(dir.join(from));
    let output = office.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn rows(bytes: &[u8]) -> Vec<Vec<String>> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let records = csv::ReaderBuilder::new().has_headers(false).from_reader(bytes).into_records();
    records.map(|record| record.unwrap().iter().map(str::to_owned).collect()).collect()
}

/// What the cells show after the table was saved in `format` and opened again.
fn shown(dir: &Path, table: &[u8], import: &str, format: &str) -> Vec<Vec<String>> {
    std::fs::write(dir.join("reads.csv"), table).unwrap();
    convert(dir, "reads.csv", Some(import), format);
    convert(dir, &format!("reads.{format}"), None, AS_UTF8);
    rows(&std::fs::read(dir.join("reads.csv")).unwrap())
}

fn is_here(test: &str) -> bool {
    let found = Command::new("soffice").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_err() {
        skip(test, "LibreOffice (soffice) is not here");
    }
    found.is_ok()
}

#[test]
fn chips_times_and_formulas_come_through_libreoffice_and_back_as_the_text_that_they_are() {
    if !is_here("chips_times_and_formulas_come_through_libreoffice") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (plain, table) = exported(dir.path());
    let expected = rows(&plain);
    assert_eq!(expected.len(), CHIPS.len() + 1);
    for format in ["xlsx", "ods"] {
        let shown = shown(dir.path(), &table, USUAL, format);
        assert_eq!(shown.len(), expected.len(), "{format}");
        for (row, expected) in shown.iter().zip(&expected) {
            assert_eq!(row, expected, "{format}");
        }
    }
    // Without the option a spreadsheet changes what it is given: this is what the option is for.
    let guessed = shown(dir.path(), &plain, USUAL, "xlsx");
    let changed = guessed.iter().zip(&expected).filter(|(row, expected)| row[3] != expected[3]).count();
    assert!(changed >= 5, "only {changed} chips are changed without --spreadsheet");
}

/// The dialog with which LibreOffice opens a CSV has "Evaluate formulas" switched off at first.
#[test]
fn a_libreoffice_that_evaluates_no_formula_shows_each_text_whole_inside_the_formula() {
    if !is_here("a_libreoffice_that_evaluates_no_formula") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (plain, table) = exported(dir.path());
    let shown = shown(dir.path(), &table, NOT_EVALUATED, "xlsx");
    for (row, plain) in shown.iter().zip(rows(&plain)).skip(1) {
        let whole = format!("=\"{}\"", plain[3].replace('"', "\"\""));
        assert_eq!((&row[3], &row[4]), (&whole, &format!("=\"{}\"", plain[4])));
    }
}
