//! The rules of the house, as a pure function over files: see [`check`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::source::{self, Named, Source};

/// Longest function, in lines.
pub const FUNCTION_MAX: usize = 80;
/// Longest file, in lines.
pub const FILE_MAX: usize = 700;

/// Which rule a fault breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A room imports only from rooms above it.
    Upward,
    /// No circle, neither of rooms nor of the files of a room.
    Circle,
    /// What judges a decoder's protocol (its simulator, the list of what may be said to it, its
    /// recogniser, its trials) does not use the code that parses.
    Judge,
    /// A name of a type that others see means one thing.
    OneName,
    /// Functions are short.
    LongFunction,
    /// Files are short.
    LongFile,
    /// A line of the allow-list without a reason, or that nothing needs any more.
    Allowed,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The rule.
    pub rule: Rule,
    /// What the allow-list calls it.
    pub what: String,
    /// Where, in words.
    pub place: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {} ({})", self.rule, self.what, self.place)
    }
}

/// What is let pass, and why.
#[derive(Clone, Copy, Debug)]
pub struct Allowed {
    /// The rule that is broken.
    pub rule: Rule,
    /// As in [`Fault::what`].
    pub what: &'static str,
    /// Why it is so.
    pub reason: &'static str,
}

struct File {
    path: String,
    /// From the crate's root; empty for `lib.rs`.
    module: Vec<String>,
    lines: usize,
    source: Source,
    /// Compiled for tests alone.
    tests: bool,
}

impl File {
    fn room(&self) -> &str {
        self.module.first().map_or("", String::as_str)
    }
}

/// Checks files (their paths from `src/` on, and their text) against `rooms`, the highest first,
/// and takes out what is allowed. Rooms and their order count for what is not compiled for tests
/// alone.
pub fn check(files: &[(String, String)], rooms: &[&str], allowed: &[Allowed]) -> Vec<Fault> {
    let files = read(files);
    let tree = Tree::new(&files);
    let mut faults = upward(&tree, rooms);
    faults.extend(circles_of_rooms(&tree));
    faults.extend(circles_of_files(&tree));
    faults.extend(judges(&tree));
    faults.extend(names(&files));
    faults.extend(long(&files));
    faults.sort();
    faults.dedup();
    let lets = |allow: &Allowed, fault: &Fault| allow.rule == fault.rule && allow.what == fault.what;
    let wrong: Vec<_> = allowed
        .iter()
        .filter(|allow| allow.reason.trim().is_empty() || !faults.iter().any(|fault| lets(allow, fault)))
        .map(|allow| {
            let place = "a line of the allow-list without a reason, or that nothing needs any more".to_owned();
            Fault { rule: Rule::Allowed, what: format!("{:?} {}", allow.rule, allow.what), place }
        })
        .collect();
    faults.retain(|fault| !allowed.iter().any(|allow| lets(allow, fault)));
    faults.extend(wrong);
    faults
}

fn read(files: &[(String, String)]) -> Vec<File> {
    let modules: Vec<_> = files.iter().map(|(path, _)| module(path)).collect();
    let mut read: Vec<_> = files
        .iter()
        .zip(&modules)
        .filter(|((path, _), _)| path != "main.rs") // a crate of its own: it names the library's door alone
        .map(|((path, text), module)| {
            let is_child = |other: &&Vec<String>| other.len() == module.len() + 1 && other.starts_with(module);
            let children: Vec<_> = modules.iter().filter(is_child).filter_map(|child| child.last().cloned()).collect();
            let source = source::read(module, &children, text);
            File { path: path.clone(), module: module.clone(), lines: text.lines().count(), source, tests: false }
        })
        .collect();
    let tests: Vec<Vec<String>> = read
        .iter()
        .flat_map(|file| file.source.tests.iter().map(|name| [&file.module[..], std::slice::from_ref(name)].concat()))
        .collect();
    for file in &mut read {
        file.tests = tests.iter().any(|test| file.module.starts_with(test));
    }
    read
}

fn module(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if matches!(path, "lib" | "main") { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

struct Tree<'a> {
    files: &'a [File],
    modules: BTreeMap<&'a [String], usize>,
}

/// What a file needs of another one.
struct Arrow {
    from: usize,
    /// The file whose name is in the path.
    by: usize,
    /// The file where it is defined: another one where `by` only shows it.
    to: usize,
    line: usize,
    /// The path ends at a module: what is needed of it is named elsewhere.
    module: bool,
}

impl<'a> Tree<'a> {
    fn new(files: &'a [File]) -> Self {
        let modules = files.iter().enumerate().map(|(n, file)| (&file.module[..], n)).collect();
        Self { files, modules }
    }

    /// The file that a path leads into, and how much of the path is left there.
    fn find<'p>(&self, path: &'p [String]) -> (Option<usize>, &'p [String]) {
        let longest = (0..=path.len()).rev().find_map(|n| Some((*self.modules.get(&path[..n])?, &path[n..])));
        longest.map_or((None, path), |(file, rest)| (Some(file), rest))
    }

    /// Where a path is defined: through everything that shows it again.
    fn defined(&self, path: &[String]) -> Option<usize> {
        let mut path = path.to_vec();
        for _ in 0..20 {
            let (file, rest) = self.find(&path);
            let shown = rest.first().and_then(|name| self.files[file?].source.shows.get(name));
            match shown {
                Some(to) => path = [to, &rest[1..]].concat(),
                None => return file,
            }
        }
        None
    }

    fn arrows(&self) -> Vec<Arrow> {
        let files = self.files.iter().enumerate().filter(|(_, file)| !file.tests && !file.module.is_empty());
        let arrows = files.flat_map(|(from, file)| {
            file.source.named.iter().filter_map(move |Named { path, line, glob }| {
                let (by, rest) = self.find(path);
                let module = rest.is_empty() && !glob;
                Some(Arrow { from, by: by?, to: self.defined(path)?, line: *line, module })
            })
        });
        arrows.collect()
    }

    fn place(&self, arrow: &Arrow) -> String {
        format!("{}:{} names {}", self.files[arrow.from].path, arrow.line, self.files[arrow.to].path)
    }
}

fn upward(tree: &Tree, rooms: &[&str]) -> Vec<Fault> {
    let floor = |file: usize| rooms.iter().position(|room| *room == tree.files[file].room());
    let mut faults = Vec::new();
    for file in tree.files {
        if !file.module.is_empty() && !rooms.contains(&file.room()) {
            let place = "it is in no room".to_owned();
            faults.push(Fault { rule: Rule::Upward, what: file.path.clone(), place });
        }
    }
    for arrow in tree.arrows() {
        for to in [arrow.by, arrow.to] {
            if floor(arrow.from).is_some() && floor(to).is_none_or(|to| Some(to) > floor(arrow.from)) {
                let what = format!("{} -> {}", tree.files[arrow.from].room(), tree.files[to].room());
                faults.push(Fault { rule: Rule::Upward, what, place: tree.place(&arrow) });
            }
        }
    }
    faults
}

/// Files of `decoders/` that protocols share to parse: framing, fields, gaps.
const PARSING: [&str; 6] = ["civil", "gaps", "line", "objects", "options", "text"];

/// In the folder of a decoder, which is what has a file `protocol`, only `protocol` itself may
/// parse; the descriptor, which is the folder's own file, may name
/// `protocol`. The shared part of the simulators (`decoders/simulator`) may name no decoder at all.
fn judges(tree: &Tree) -> Vec<Fault> {
    let folder = |module: &[String]| {
        let folder = module.get(..2).filter(|folder| folder[0] == "decoders")?.to_vec();
        tree.modules.contains_key(&[&folder[..], &["protocol".to_owned()]].concat()[..]).then_some(folder)
    };
    let parses = |module: &[String]| match module {
        [room, file, ..] if room == "decoders" && PARSING.contains(&file.as_str()) => true,
        [_, _, part, ..] => folder(module).is_some() && part == "protocol",
        _ => false,
    };
    let mut faults = Vec::new();
    for arrow in tree.arrows() {
        let (from, to) = (&tree.files[arrow.from], &tree.files[arrow.to]);
        let judge = match &from.module[..] {
            [_, _, part, ..] if folder(&from.module).is_some() => part != "protocol",
            [room, file, ..] => room == "decoders" && file == "simulator",
            _ => false,
        };
        let other = folder(&to.module).filter(|_| from.module.get(1).is_some_and(|file| file == "simulator"));
        if judge && (parses(&to.module) || parses(&tree.files[arrow.by].module) || other.is_some()) {
            faults.push(Fault { rule: Rule::Judge, what: from.path.clone(), place: tree.place(&arrow) });
        }
    }
    faults
}

fn circles_of_rooms(tree: &Tree) -> Vec<Fault> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in tree.arrows() {
        for to in [arrow.by, arrow.to] {
            graph.entry(tree.files[arrow.from].room()).or_default().insert(tree.files[to].room());
        }
    }
    circles(&graph)
}

fn circles_of_files(tree: &Tree) -> Vec<Fault> {
    let mut graph: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for arrow in tree.arrows().iter().filter(|arrow| !arrow.module) {
        let (from, to) = (&tree.files[arrow.from], &tree.files[arrow.to]);
        if from.room() == to.room() {
            graph.entry(&from.path).or_default().insert(&to.path);
        }
    }
    circles(&graph)
}

/// Every pair of neighbours that lies on a circle, in a line per circle.
fn circles(graph: &BTreeMap<&str, BTreeSet<&str>>) -> Vec<Fault> {
    let reach = |from: &str| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from.to_owned()]);
        while let Some(node) = next.pop() {
            for to in graph.get(node.as_str()).into_iter().flatten().filter(|to| **to != node) {
                if seen.insert((*to).to_owned()) {
                    next.push((*to).to_owned());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<String>> = graph.keys().map(|node| (*node, reach(node))).collect();
    let mut found: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (node, reached_of) in &reached {
        let back = |other: &&&str| reached_of.contains(**other) && reached[**other].contains(*node);
        let circle: Vec<&str> = graph.keys().filter(back).copied().collect();
        if circle.len() > 1 {
            found.insert(circle);
        }
    }
    let told = found.into_iter().map(|circle| {
        let inside = circle.iter().flat_map(|from| graph[from].iter().map(move |to| (*from, *to)));
        let arrows =
            inside.filter(|(from, to)| from != to && circle.contains(to)).map(|(from, to)| format!("{from} -> {to}"));
        let place = arrows.collect::<Vec<_>>().join(", ");
        Fault { rule: Rule::Circle, what: circle.join(" "), place }
    });
    told.collect()
}

fn names(files: &[File]) -> Vec<Fault> {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for file in files.iter().filter(|file| !file.tests) {
        for item in &file.source.types {
            places.entry(&item.name).or_default().push(format!("{}:{}", file.path, item.line));
        }
    }
    let twice = places.into_iter().filter(|(_, places)| places.len() > 1);
    twice.map(|(name, places)| Fault { rule: Rule::OneName, what: name.to_owned(), place: places.join(", ") }).collect()
}

fn long(files: &[File]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for file in files {
        if file.lines > FILE_MAX {
            let place = format!("{} lines", file.lines);
            faults.push(Fault { rule: Rule::LongFile, what: file.path.clone(), place });
        }
        for item in file.source.functions.iter().filter(|item| item.lines > FUNCTION_MAX) {
            let what = format!("{} {}", file.path, item.name);
            faults.push(Fault { rule: Rule::LongFunction, what, place: format!("{} lines", item.lines) });
        }
    }
    faults
}
