//! The bib file: which chip carries which bib.
//!
//! What must hold: the file is accepted or rejected as a whole. A file with a bad line, or a file
//! that is still being copied, never replaces the file in use, and the reason is shown with the
//! line. Reading ([`Bibs::read`]) is pure. Only [`BibFile`] accesses the disk.
//!
//! Rejected: taking the good lines of a bad file (half a start list looks right until the results
//! are published); file system notifications (they miss network shares and the rename with which
//! editors save, and a look every two seconds costs nothing).

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::ChipZeros;
use crate::status::{Board, ProblemCode};

/// Most chips in a bib file.
pub(super) const MAX_CHIPS: usize = 200_000;
/// Longest bib file, in bytes.
pub(super) const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Longest chip or bib in a file, in bytes.
pub(super) const MAX_FIELD: usize = 100;
/// Time between two looks at the bib file.
const LOOK: Duration = Duration::from_secs(2);
/// Time for which the file must not change when somebody asks to read it again.
const AT_REST: Duration = Duration::from_millis(200);

/// Chips and their bibs. Upper and lower case of a chip are equal.
///
/// Zeros at the beginning are lost or added on the way of a list: a spreadsheet makes 11055 of
/// `0011055`, and another program fills a number up. So a code that is not in the file is looked
/// for without them, and has a bib if that can be only one chip. Never taken: one of two chips that
/// differ only in such zeros.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Bibs {
    /// Bibs by chip, with the chip in upper case.
    by_chip: HashMap<Box<str>, Box<str>>,
    /// The same for the chips with zeros at the beginning, without those zeros. `None`: several
    /// chips with different bibs.
    without_zeros: HashMap<Box<str>, Option<Box<str>>>,
}

/// What a bib file has for a code if zeros at the beginning do not count.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Likely<'a> {
    /// No chip.
    Nothing,
    /// Chips that all have this bib.
    Bib(&'a str),
    /// Chips with different bibs.
    Several,
}

/// Why a bib file cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(crate) struct BibError {
    /// Line in the file, from 1.
    pub line: u64,
    /// What is wrong with the line.
    pub what: String,
}

impl Bibs {
    /// No bib is known. A box without a bib file uses this receiver for [`super::Mapper::new`].
    pub(crate) fn none() -> watch::Receiver<Arc<Self>> {
        watch::channel(Arc::default()).1
    }

    /// Reads `chip,bib` CSV. The columns are found by their names in the header, in any order and
    /// case. Other columns are ignored. The separator is `;` or a tab if the header has one and no
    /// comma. Cells are trimmed.
    ///
    /// # Errors
    /// Returns the first wrong line: a column is missing, a chip or bib is empty, longer than
    /// [`MAX_FIELD`] or not printable UTF-8, a chip has two bibs, a quote is not closed, or there
    /// are more than [`MAX_CHIPS`] chips.
    pub(crate) fn read(text: &[u8]) -> Result<Self, BibError> {
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let header = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let separator = [b',', b';', b'\t'].into_iter().find(|byte| header.contains(byte)).unwrap_or(b',');
        let mut rows = csv::ReaderBuilder::new()
            .delimiter(separator)
            .flexible(true)
            .has_headers(false)
            .trim(csv::Trim::All)
            .from_reader(text);
        let mut row = csv::ByteRecord::new();
        let mut columns = None;
        let mut bibs = Self::default();
        let mut lines: HashMap<Box<str>, u64> = HashMap::new();
        loop {
            let line = rows.position().line();
            let error = |what: &str| BibError { line, what: what.to_owned() };
            if !rows.read_byte_record(&mut row).map_err(|broken| error(&broken.to_string()))? {
                break;
            }
            let line = row.position().map_or(line, |at| at.line() + blank_lines(text, at.byte()));
            let error = |what: String| BibError { line, what };
            let Some((chip_at, bib_at)) = columns else {
                columns = Some(find_columns(&row).map_err(error)?);
                continue;
            };
            if row.iter().any(|cell| cell.contains(&b'\n')) {
                return Err(error("a quote opens here and is not closed on this line".to_owned()));
            }
            if row.iter().all(<[u8]>::is_empty) {
                continue; // spreadsheets write such rows at the end
            }
            let chip = cell(&row, chip_at, "chip").map_err(error)?.to_ascii_uppercase().into_boxed_str();
            let bib = cell(&row, bib_at, "bib").map_err(error)?;
            match bibs.by_chip.get(&chip) {
                Some(known) if **known != *bib => {
                    let before = lines.get(&chip).copied().unwrap_or_default();
                    return Err(error(format!("chip {chip} has bib {bib} here and bib {known} in line {before}")));
                }
                Some(_) => {}
                None if bibs.by_chip.len() == MAX_CHIPS => {
                    return Err(error(format!("more than {MAX_CHIPS} chips")));
                }
                None => {
                    lines.insert(chip.clone(), line);
                    bibs.insert(chip, bib);
                }
            }
        }
        if columns.is_none() {
            return Err(BibError { line: 1, what: "the file is empty; it needs a header `chip,bib`".to_owned() });
        }
        Ok(bibs)
    }

    fn insert(&mut self, chip: Box<str>, bib: &str) {
        let short = without_zeros(&chip);
        if short.len() < chip.len() {
            let known = self.without_zeros.entry(short.into()).or_insert_with(|| Some(bib.into()));
            if known.as_deref() != Some(bib) {
                *known = None;
            }
        }
        self.by_chip.insert(chip, bib.into());
    }

    /// Returns the bib of a chip code: that of exactly this code, or else the likely one.
    pub(crate) fn find(&self, chip: &str, zeros: ChipZeros) -> Option<&str> {
        match (self.get(chip), zeros) {
            (None, ChipZeros::Ignore) => match self.likely(chip) {
                Likely::Bib(bib) => Some(bib),
                Likely::Nothing | Likely::Several => None,
            },
            (exact, _) => exact,
        }
    }

    /// Looks for a chip code, however many zeros it begins with.
    pub(super) fn likely(&self, chip: &str) -> Likely<'_> {
        let upper = chip.to_ascii_uppercase();
        let short = without_zeros(&upper);
        let filled = self.without_zeros.get(short).map(Option::as_deref);
        match (self.by_chip.get(short), filled) {
            (None, None) => Likely::Nothing,
            (Some(bib), None) => Likely::Bib(bib),
            (None, Some(Some(bib))) => Likely::Bib(bib),
            (Some(bib), Some(Some(other))) if **bib == *other => Likely::Bib(bib),
            _ => Likely::Several,
        }
    }

    /// Returns the bib of exactly this chip code, if the file has one.
    pub(crate) fn get(&self, chip: &str) -> Option<&str> {
        let found = self.by_chip.get(chip).or_else(|| {
            let lower = chip.bytes().any(|byte| byte.is_ascii_lowercase());
            lower.then(|| self.by_chip.get(chip.to_ascii_uppercase().as_str())).flatten()
        });
        found.map(|bib| &**bib)
    }

    /// The chips with a bib, in upper case and in the order of their codes. Upper and lower case of the
    /// bib are equal.
    pub(crate) fn chips_of(&self, bib: &str) -> Vec<Box<str>> {
        let of_it = self.by_chip.iter().filter(|(_, known)| known.eq_ignore_ascii_case(bib));
        let mut chips: Vec<Box<str>> = of_it.map(|(chip, _)| chip.clone()).collect();
        chips.sort_unstable();
        chips
    }

    /// Reads the file once, for a command.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(crate) fn read_file(path: &Path) -> Result<Self, String> {
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(|error| error.to_string())?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(format!("longer than {} MiB", MAX_BYTES >> 20));
        }
        Self::read(&bytes).map_err(|error| error.to_string())
    }

    /// Number of chips in the file.
    pub(crate) fn len(&self) -> usize {
        self.by_chip.len()
    }

    /// The file has no chip.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_chip.is_empty()
    }
}

/// Counts the blank lines from a place on, because csv skips them but reports the row as starting
/// before them.
fn blank_lines(text: &[u8], from: u64) -> u64 {
    let rest = usize::try_from(from).ok().and_then(|from| text.get(from..)).unwrap_or_default();
    let blank = rest.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    blank.filter(|byte| **byte == b'\n').count() as u64
}

/// A chip code without the zeros at its beginning. Of a code of zeros one stays.
fn without_zeros(chip: &str) -> &str {
    let short = chip.trim_start_matches('0');
    if short.is_empty() { &chip[chip.len().saturating_sub(1)..] } else { short }
}

fn find_columns(header: &csv::ByteRecord) -> Result<(usize, usize), String> {
    let column = |name: &str| {
        header
            .iter()
            .position(|cell| cell.eq_ignore_ascii_case(name.as_bytes()))
            .ok_or_else(|| format!("the header has no column `{name}`; it must be `chip,bib` (UTF-8)"))
    };
    Ok((column("chip")?, column("bib")?))
}

fn cell<'a>(row: &'a csv::ByteRecord, at: usize, name: &str) -> Result<&'a str, String> {
    let text = std::str::from_utf8(row.get(at).unwrap_or_default())
        .map_err(|_| format!("the {name} is not UTF-8 text"))?
        .trim();
    if text.is_empty() {
        return Err(format!("the {name} is empty"));
    }
    if text.len() > MAX_FIELD {
        return Err(format!("the {name} is longer than {MAX_FIELD} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("the {name} holds a control character"));
    }
    Ok(text)
}

/// The properties that identify one version of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Version {
    modified: (i64, i64),
    len: u64,
    inode: u64,
}

impl Version {
    fn of(meta: &Metadata) -> Self {
        Self { modified: (meta.mtime(), meta.mtime_nsec()), len: meta.len(), inode: meta.ino() }
    }
}

/// Result of a look at the file.
enum Look {
    /// The file is the same as before, or it is still changing. Look again later.
    Nothing,
    /// A new version, and its bibs or what is wrong with it.
    New(Version, Result<Bibs, String>),
    /// There is no such file.
    Missing,
    /// The file exists but cannot be read.
    Unreadable(String),
}

/// The bib file of the configuration. It is read at the start, checked every two seconds, and read
/// again when it changed.
///
/// It shows the problems `bibs_missing` and `bibs_broken`, with the path as their subject.
/// Meanwhile the current bibs stay in use.
pub(crate) struct BibFile {
    path: PathBuf,
    board: Board,
    shared: watch::Sender<Arc<Bibs>>,
    /// The version that was last accepted or rejected.
    judged: Option<Version>,
    /// The version seen at the last look. A version is read only when two looks show the same one,
    /// so that half a file, still being copied, does not become a start list.
    seen: Option<Version>,
    every: Duration,
}

impl BibFile {
    /// Reads the file for the first time. It returns when the bibs are in use (or the problem is
    /// shown), so that no passing is formed without them.
    pub(crate) async fn open(path: &Path, board: &Board) -> (Self, watch::Receiver<Arc<Bibs>>) {
        let (shared, bibs) = watch::channel(Arc::default());
        let mut file =
            Self { path: path.to_owned(), board: board.clone(), shared, judged: None, seen: None, every: LOOK };
        file.look_again().await; // notes the version only
        file.look_again().await;
        (file, bibs)
    }

    /// Follows the file until `stop`. When `asked` changes, the file is read again at once, even if
    /// it did not change.
    pub(crate) async fn follow(mut self, mut asked: watch::Receiver<u64>, stop: CancellationToken) {
        loop {
            let wish = async {
                if asked.changed().await.is_err() {
                    std::future::pending().await // nobody can ask any more
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(self.every) => {}
                () = wish => {
                    self.judged = None;
                    self.look_again().await; // if the file changed, this look only notes the version
                    tokio::time::sleep(AT_REST.min(self.every)).await;
                }
            }
            self.look_again().await;
        }
    }

    async fn look_again(&mut self) {
        let (path, judged, seen) = (self.path.clone(), self.judged, self.seen);
        let look = tokio::task::spawn_blocking(move || look(&path, judged, seen)).await;
        match look {
            Ok((look, seen)) => self.take(look, seen),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => {} // the runtime is stopping
        }
    }

    /// Looks at the file now, on this thread.
    #[cfg(test)]
    fn poll(&mut self) {
        let (look, seen) = look(&self.path, self.judged, self.seen);
        self.take(look, seen);
    }

    fn take(&mut self, look: Look, seen: Option<Version>) {
        const MISSING: ProblemCode = ProblemCode::BibsMissing;
        const BROKEN: ProblemCode = ProblemCode::BibsBroken;
        self.seen = seen;
        let about = self.path.display().to_string();
        let in_use = match self.shared.borrow().len() {
            0 => "Until then chip codes are uploaded as bibs".to_owned(),
            chips => format!("Until then the last good file stays in use ({chips} chips)"),
        };
        let again = "it is read again by itself";
        match look {
            Look::Nothing => {}
            Look::New(version, judgement) => {
                self.judged = Some(version);
                self.board.clear(MISSING, &about);
                match judgement {
                    Ok(bibs) => {
                        tracing::info!(file = about, chips = bibs.len(), "bib file read");
                        self.shared.send_replace(Arc::new(bibs));
                        self.board.clear(BROKEN, &about);
                    }
                    Err(what) => {
                        let message = format!("bib file {about}, {what}. Correct it; {again}. {in_use}");
                        self.board.raise(BROKEN, &about, message);
                    }
                }
            }
            Look::Missing => {
                self.judged = None;
                self.board.clear(BROKEN, &about);
                self.board.raise(
                    MISSING,
                    &about,
                    format!("bib file {about} is not there. Put it there; {again}. {in_use}"),
                );
            }
            Look::Unreadable(what) => {
                self.judged = None;
                self.board.clear(MISSING, &about);
                let message = format!("bib file {about} cannot be read: {what}. Check its rights; {again}. {in_use}");
                self.board.raise(BROKEN, &about, message);
            }
        }
    }
}

/// Looks at the file once. `judged` is the version last accepted or rejected, `seen` the version of
/// the last look. Also returns the version seen now.
fn look(path: &Path, judged: Option<Version>, seen: Option<Version>) -> (Look, Option<Version>) {
    let meta = match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => meta,
        Ok(_) => return (Look::Unreadable("it is no regular file".to_owned()), None),
        Err(error) if error.kind() == ErrorKind::NotFound => return (Look::Missing, None),
        Err(error) => return (Look::Unreadable(error.to_string()), None),
    };
    let version = Version::of(&meta);
    if judged == Some(version) || seen != Some(version) {
        return (Look::Nothing, Some(version));
    }
    if version.len > MAX_BYTES {
        return (Look::New(version, Err(format!("longer than {} MiB", MAX_BYTES >> 20))), Some(version));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        std::fs::metadata(path)
    });
    match read {
        Err(error) => (Look::Unreadable(error.to_string()), None),
        // The file changed while it was read.
        Ok(meta) if Version::of(&meta) != version => (Look::Nothing, Some(Version::of(&meta))),
        Ok(_) => (Look::New(version, Bibs::read(&bytes).map_err(|error| error.to_string())), Some(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_at_the_beginning_of_a_chip_do_not_count_where_it_can_be_only_one_chip() {
        let file = "chip,bib\n11055,1\n0022,2\n033,3\n33,4\n0044,5\n00044,6\n055,7\n55,7\n00e5,8\n000,9\n";
        let bibs = Bibs::read(file.as_bytes()).unwrap();
        for (chip, bib) in [
            ("11055", Some("1")),
            ("0011055", Some("1")), // the list lost its zeros
            ("22", Some("2")),      // the list has more zeros
            ("00022", Some("2")),
            ("033", Some("3")), // exactly this one
            ("33", Some("4")),
            ("0033", None), // one of two
            ("44", None),
            ("0044", Some("5")),
            ("0055", Some("7")), // both have the same bib
            ("0E5", Some("8")),
            ("e5", Some("8")),
            ("0", Some("9")),
            ("0000", Some("9")),
            ("", None),
            ("110550", None), // zeros at the end always count
            ("1105", None),
        ] {
            assert_eq!(bibs.find(chip, ChipZeros::Ignore), bib, "{chip}");
            assert_eq!(bibs.find(chip, ChipZeros::Count), bibs.get(chip), "{chip}");
        }
        assert_eq!((bibs.get("0011055"), bibs.get("22")), (None, None));
    }

    #[test]
    fn a_bib_file_is_read_whatever_spreadsheet_wrote_it() {
        for csv in [
            "chip,bib\nMC00978,7\nab12,8\n",
            "\u{feff}Bib ; CHIP\r\n7;MC00978\r\n 8 ; ab12 \r\n;\r\n",
            "name\tchip\tbib\nJos\tMC00978\t7\nAnna\tAB12\t8",
            "bib,chip,name\n7,MC00978,\"Kim, Ana\"\n8,ab12\n7,mc00978,again\n\n",
        ] {
            let bibs = Bibs::read(csv.as_bytes()).unwrap();
            assert_eq!((bibs.len(), bibs.get("MC00978"), bibs.get("AB12")), (2, Some("7"), Some("8")), "{csv}");
            assert_eq!((bibs.get("mc00978"), bibs.get("MC00979")), (Some("7"), None));
        }
        let latin = b"chip,bib,name\nA,1,Jos\xe9\n";
        assert_eq!(Bibs::read(latin).unwrap().get("A"), Some("1"));
        assert!(Bibs::read(b"chip,bib\n").unwrap().is_empty());
    }

    #[test]
    fn a_bib_file_with_one_wrong_line_is_refused_with_that_line() {
        for (csv, said) in [
            ("", "line 1: the file is empty; it needs a header `chip,bib`"),
            ("MC00978,7\n", "line 1: the header has no column `chip`; it must be `chip,bib` (UTF-8)"),
            ("chip,number\nA,7\n", "line 1: the header has no column `bib`; it must be `chip,bib` (UTF-8)"),
            ("chip,bib\nA,1\n\nB,\n", "line 4: the bib is empty"),
            ("chip,bib\nA,1\n ,2\n", "line 3: the chip is empty"),
            ("chip,bib\nA,1\nB\n", "line 3: the bib is empty"),
            ("chip,bib\nA,1\nB,2\na,3\n", "line 4: chip A has bib 3 here and bib 1 in line 2"),
            ("chip,bib,name\nA,1,\"Kim\nB,2,Ana\n", "line 2: a quote opens here and is not closed on this line"),
            ("chip,bib\nA,1\u{7}2\n", "line 2: the bib holds a control character"),
        ] {
            assert_eq!(Bibs::read(csv.as_bytes()).unwrap_err().to_string(), said);
        }
        assert_eq!(Bibs::read(b"chip,bib\nA,\xe9\n").unwrap_err().to_string(), "line 2: the bib is not UTF-8 text");
        let long = format!("chip,bib\nA,{}\n", "1".repeat(MAX_FIELD + 1));
        assert_eq!(Bibs::read(long.as_bytes()).unwrap_err().to_string(), "line 2: the bib is longer than 100 bytes");
        let mut many = "chip,bib\n".to_owned();
        many.extend((0..=MAX_CHIPS).map(|n| format!("{n},{n}\n")));
        assert_eq!(Bibs::read(many.as_bytes()).unwrap_err().to_string(), "line 200002: more than 200000 chips");
    }

    struct Rig {
        dir: tempfile::TempDir,
        board: Board,
    }

    impl Rig {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), board: Board::new("finish") }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("bibs.csv")
        }

        /// Replaces the file as an editor does: a new file is renamed to the old name.
        fn write(&self, csv: &str) {
            let new = self.dir.path().join("new");
            std::fs::write(&new, csv).unwrap();
            std::fs::rename(new, self.path()).unwrap();
        }

        fn problems(&self) -> Vec<(String, String)> {
            self.board.snapshot().problems.into_iter().map(|problem| (problem.code, problem.message)).collect()
        }
    }

    #[tokio::test]
    async fn a_bib_file_that_changes_is_read_again_once_it_is_at_rest() {
        let rig = Rig::new();
        rig.write("chip,bib\nA,1\n");
        let (mut file, bibs) = BibFile::open(&rig.path(), &rig.board).await;
        assert_eq!(bibs.borrow().get("A"), Some("1"));
        rig.write("chip,bib\nA,2\n");
        file.poll();
        assert_eq!(bibs.borrow().get("A"), Some("1"), "seen for the first time: it may still be growing");
        rig.write("chip,bib\nA,2\nB,3\n");
        file.poll();
        assert_eq!(bibs.borrow().get("A"), Some("1"), "it was growing");
        file.poll();
        assert_eq!((bibs.borrow().get("A"), bibs.borrow().get("B")), (Some("2"), Some("3")));
        assert_eq!(rig.problems(), []);
    }

    #[tokio::test]
    async fn a_broken_bib_file_keeps_the_old_bibs_and_is_shown_with_its_line_until_it_is_good() {
        let rig = Rig::new();
        rig.write("chip,bib\nA,1\n");
        let (mut file, bibs) = BibFile::open(&rig.path(), &rig.board).await;
        rig.write("chip,bib\nA,2\nB,\n");
        file.poll();
        file.poll();
        assert_eq!(bibs.borrow().get("A"), Some("1"));
        let problems = rig.problems();
        assert_eq!(problems[0].0, "bibs_broken");
        let wanted = format!(
            "bib file {}, line 3: the bib is empty. Correct it; it is read again by itself. \
             Until then the last good file stays in use (1 chips)",
            rig.path().display()
        );
        assert_eq!(problems[0].1, wanted);
        rig.write("chip,bib\nA,2\nB,3\n");
        file.poll();
        file.poll();
        assert_eq!(bibs.borrow().get("B"), Some("3"));
        assert_eq!(rig.problems(), []);
    }

    #[tokio::test]
    async fn a_bib_file_that_is_not_there_is_shown_until_it_is_and_one_that_goes_keeps_its_bibs() {
        let rig = Rig::new();
        let (mut file, bibs) = BibFile::open(&rig.path(), &rig.board).await;
        assert_eq!(rig.problems()[0].0, "bibs_missing");
        assert!(rig.problems()[0].1.ends_with("Until then chip codes are uploaded as bibs"));
        rig.write("chip,bib\nA,1\n");
        file.poll();
        file.poll();
        assert_eq!((bibs.borrow().get("A"), rig.problems().len()), (Some("1"), 0));
        std::fs::remove_file(rig.path()).unwrap();
        file.poll();
        assert_eq!((bibs.borrow().get("A"), &*rig.problems()[0].0), (Some("1"), "bibs_missing"));
        std::fs::create_dir(rig.path()).unwrap();
        file.poll();
        assert_eq!(rig.problems().iter().map(|problem| &*problem.0).collect::<Vec<_>>(), ["bibs_broken"]);
    }

    #[tokio::test]
    async fn the_bib_file_is_followed_until_the_box_stops() {
        let rig = Rig::new();
        let (mut file, mut bibs) = BibFile::open(&rig.path(), &rig.board).await;
        file.every = Duration::from_millis(5);
        let stop = CancellationToken::new();
        let following = tokio::spawn(file.follow(watch::channel(0).1, stop.clone()));
        rig.write("chip,bib\nA,1\n");
        tokio::time::timeout(Duration::from_secs(10), bibs.changed()).await.unwrap().unwrap();
        assert_eq!(bibs.borrow().get("A"), Some("1"));
        stop.cancel();
        following.await.unwrap();
    }

    #[tokio::test]
    async fn a_bib_file_is_read_at_once_when_somebody_asks_for_it() {
        let rig = Rig::new();
        rig.write("chip,bib\nA,1\n");
        let (mut file, mut bibs) = BibFile::open(&rig.path(), &rig.board).await;
        file.every = Duration::from_secs(3600);
        let (ask, asked) = watch::channel(0);
        let stop = CancellationToken::new();
        let following = tokio::spawn(file.follow(asked, stop.clone()));
        // The file is written in place, with the same length, within the same tick of a coarse file
        // system clock.
        for bib in ["2", "3"] {
            std::fs::write(rig.path(), format!("chip,bib\nA,{bib}\n")).unwrap();
            ask.send_modify(|times| *times += 1);
            tokio::time::timeout(Duration::from_secs(10), bibs.wait_for(|bibs| bibs.get("A") == Some(bib)))
                .await
                .unwrap()
                .unwrap();
        }
        stop.cancel();
        following.await.unwrap();
    }
}
