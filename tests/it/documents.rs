//! The documents hold together: every relative link of every Markdown file leads to a file of the
//! repository, and every anchor to a heading. The README stays short, and its short table has the
//! same decoders as the full one.
//!
//! A page is read as GitHub shows it. What is in a code block is no link.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Most lines of the README.
const README_LINES: usize = 200;

/// Files that documents link to and that another branch brings. Take an entry off when its file is
/// there; the test says so.
const EXPECTED: &[&str] = &[];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file below the directory, by its path from there. What a build leaves (`target`,
/// `target-fast`) and what is hidden is no part of the repository.
fn pages(below: &Path) -> BTreeMap<PathBuf, String> {
    let mut pages = BTreeMap::new();
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = entry.path();
            if entry.file_type().unwrap().is_dir() {
                if !name.starts_with('.') && !name.starts_with("target") && name != "corpus" {
                    directories.push(path);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path).unwrap();
                pages.insert(path.strip_prefix(below).unwrap().to_owned(), text);
            }
        }
    }
    pages
}

/// The page without its code blocks. Lines stay lines.
fn prose(page: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            prose.push_str(line);
        }
        prose.push('\n');
    }
    prose
}

/// The text without `code`. A code span may go over a line end, but not over an empty line.
fn without_code(prose: &str) -> String {
    let paragraphs = prose.split("\n\n").map(|paragraph| {
        let parts: Vec<&str> = paragraph.split('`').collect();
        parts.into_iter().step_by(2).collect::<String>()
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// The targets of all links and pictures: `[text](target)`.
fn links(page: &str) -> Vec<String> {
    let text = without_code(&prose(page));
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.trim().to_owned()).collect()
}

/// The anchors of a page's headings, made as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut anchors = BTreeSet::new();
    for line in prose(page).lines() {
        let title = line.trim_start_matches('#');
        let level = line.len() - title.len();
        if !(1..=6).contains(&level) || !title.starts_with(' ') {
            continue;
        }
        let kept = title.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        let anchor: String = kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect();
        let again = (1..).map(|count| format!("{anchor}-{count}")).find(|again| !anchors.contains(again));
        let new = if anchors.contains(&anchor) { again.unwrap() } else { anchor };
        anchors.insert(new);
    }
    anchors
}

/// The path from the root that a link leads to; none if it leads out of the repository.
fn leads_to(page: &Path, link: &str) -> Option<PathBuf> {
    let mut path = page.parent().unwrap().to_owned();
    for part in Path::new(link).components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

/// Everything that is wrong with the links of these pages, a line each.
fn wrong(root: &Path, pages: &BTreeMap<PathBuf, String>, expected: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (page, text) in pages {
        for link in links(text) {
            if ["https://", "http://", "mailto:"].iter().any(|other| link.starts_with(other)) {
                continue;
            }
            let at = format!("{}: ({link})", page.display());
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target = if file.is_empty() { Some(page.clone()) } else { leads_to(page, file) };
            let Some(target) = target else {
                wrong.push(format!("{at} leads out of the repository"));
                continue;
            };
            if expected.iter().any(|file| Path::new(file) == target) {
                continue;
            }
            if !root.join(&target).exists() {
                wrong.push(format!("{at}: there is no {}", target.display()));
            } else if !anchor.is_empty() && !pages.get(&target).is_some_and(|page| anchors(page).contains(anchor)) {
                wrong.push(format!("{at}: {} has no heading with this anchor", target.display()));
            }
        }
    }
    wrong
}

/// The protocols that a page's tables begin their rows with.
fn protocols(page: &str) -> BTreeSet<&str> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name).collect()
}

#[test]
fn every_link_in_the_documents_leads_somewhere() {
    let wrong = wrong(root(), &pages(root()), EXPECTED);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for file in EXPECTED {
        assert!(!root().join(file).exists(), "{file} is there now: take it off EXPECTED in tests/it/documents.rs");
    }
}

#[test]
fn every_document_is_linked_from_another_one() {
    let pages = pages(root());
    let linked = pages.iter().flat_map(|(page, text)| {
        let files = links(text).into_iter().filter_map(|link| leads_to(page, link.split('#').next()?));
        files.filter(|file| file != page).collect::<Vec<_>>()
    });
    let linked: BTreeSet<PathBuf> = linked.collect();
    let alone: Vec<_> =
        pages.keys().filter(|page| *page != Path::new("README.md") && !linked.contains(*page)).collect();
    assert!(alone.is_empty(), "no document links to {alone:?}");
}

#[test]
fn the_readme_is_short_and_its_table_has_the_decoders_of_the_full_one() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let lines = readme.lines().count();
    assert!(lines <= README_LINES, "README.md has {lines} lines, {README_LINES} are allowed");
    let full = fs::read_to_string(root().join("docs/timer/decoders.md")).unwrap();
    assert!(protocols(&readme).contains("lines"), "README.md has no table of decoders");
    assert_eq!(protocols(&readme), protocols(&full));
}

/// `tests/it/configuration.rs` loads the one in the README.
#[test]
fn the_page_on_set_up_shows_the_configuration_of_the_readme() {
    let shown = |page: &str| -> Vec<String> {
        let page = fs::read_to_string(root().join(page)).unwrap();
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (block, _) = rest.split_once("```").unwrap();
        block.lines().map(|line| line.split(" # ").next().unwrap().trim_end().to_owned()).collect()
    };
    assert_eq!(shown("docs/timer/set-up.md"), shown("README.md"));
}

/// The negative control: each kind of mistake is found, and what is right is not.
#[test]
fn a_broken_link_is_found() {
    let there = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(there.path().join(name), text).unwrap();
    fs::create_dir_all(there.path().join("docs/target")).unwrap();
    write("docs/target/built.md", "[not looked at](nowhere.md)");
    write(
        "docs/other.md",
        "# One `thing`\n\n## The box's clock: 10 s\n\n# Twice\n\n# Twice\n\n```sh\n# no heading\n```\n",
    );
    write(
        "README.md",
        "# Top\n\n[a](docs/other.md) [b](docs/other.md#the-boxs-clock-10-s) [`c`](#top) [d](docs/other.md#twice-1)\n\
         [e](https://example.org/x) [over\na line](docs/other.md#one-thing) `[code](nowhere.md)` [soon](later.md)\n\n\
         ```\n[code](nowhere.md)\n```\n",
    );
    let right = pages(there.path());
    assert_eq!(right.len(), 2, "{:?}", right.keys());
    assert_eq!(wrong(there.path(), &right, &["later.md"]), Vec::<String>::new());

    write(
        "README.md",
        "# Top\n\n[a](docs/nowhere.md)\n[b](docs/other.md#no-heading)\n[c](#bottom)\n[d](../outside.md)\n[e](later.md)\n",
    );
    assert_eq!(
        wrong(there.path(), &pages(there.path()), &[]),
        [
            "README.md: (docs/nowhere.md): there is no docs/nowhere.md",
            "README.md: (docs/other.md#no-heading): docs/other.md has no heading with this anchor",
            "README.md: (#bottom): README.md has no heading with this anchor",
            "README.md: (../outside.md) leads out of the repository",
            "README.md: (later.md): there is no later.md",
        ]
    );
}
