//! The house: which room may know which, and how long things may get (docs/architecture.md has the
//! picture). The rules are in `rules`, what they read is found by `source`; both work on any files,
//! so each rule is shown to fail on a bad tree below.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking, as its body does")]

mod rules;
mod source;

use std::fs;
use std::path::Path;

use rules::Rule::{Allowed as AllowList, Circle, Judge, LongFile, LongFunction, OneName, Upward};
use rules::{Allowed, FILE_MAX, FUNCTION_MAX, Fault, Rule, check};

/// The rooms, the highest first. Each imports only from those above it. docs/architecture.md says
/// why in this order.
const ROOMS: &[&str] = &[
    "model", "decoders", "status", "config", "journal", "link", "cloud", "export", "history", "serve", "daemon", "sim",
    "commands", "cli",
];

/// What breaks a rule, and why it may.
const ALLOWED: &[Allowed] = &[
    allow(
        LongFile,
        "decoders/chronotrack/protocol.rs",
        "one protocol with three dialects, whose steps share one state",
    ),
    allow(LongFile, "decoders/gaps.rs", "a third of it are its tests, which need what is private to it"),
    allow(LongFile, "decoders/one4all/protocol/talk.rs", "one dialogue, whose steps share one state"),
    allow(LongFile, "decoders/raceresult/protocol/rewind.rs", "one dialogue, whose steps share one state"),
    allow(
        LongFile,
        "journal/state.rs",
        "one fold over all entries of the log; what it is made of is in files of its own",
    ),
    allow(LongFile, "model/chip.rs", "reads, stamps and ranges of positions; a third of it are tests"),
    allow(LongFile, "model/clock.rs", "the rules of the clock in one table; the larger half of it are their tests"),
];

const fn allow(rule: Rule, what: &'static str, reason: &'static str) -> Allowed {
    Allowed { rule, what, reason }
}

#[test]
fn the_house_is_in_order() {
    let mut files = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), "", &mut files);
    assert!(files.len() > 100, "src/ was not found");
    let faults = check(&files, ROOMS, ALLOWED);
    let told: Vec<_> = faults.iter().map(Fault::to_string).collect();
    assert!(faults.is_empty(), "\n{}", told.join("\n"));
}

fn read(dir: &Path, prefix: &str, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            read(&entry.path(), &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.push((name, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

/// The faults of a small tree whose rooms are `top`, `middle` and `low`, as rule and name.
fn faults_of(files: &[(&str, &str)]) -> Vec<(Rule, String)> {
    let files: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
    let faults = check(&files, &["top", "middle", "low"], &[]);
    let mut found: Vec<_> = faults.into_iter().map(|fault| (fault.rule, fault.what)).collect();
    found.dedup(); // of the places where it breaks the rule
    found
}

fn fault(rule: Rule, what: &str) -> Vec<(Rule, String)> {
    vec![(rule, what.to_owned())]
}

const GOOD: (&str, &str) = ("top.rs", "pub struct Read;\npub fn one() -> Read { Read }\n");

#[test]
fn a_tree_in_order_has_no_fault() {
    let middle = (
        "middle.rs",
        "mod part;\npub use part::Part;\nuse crate::top::{self, Read};\nfn two() -> Read { top::one() }\n",
    );
    let part = ("middle/part.rs", "pub struct Part;\nuse crate::top::Read as Other;\n");
    let low = ("low.rs", "use crate::{middle::Part, top::{one, Read}};\n");
    let library = ("lib.rs", "mod low;\nmod middle;\nmod top;\npub use low::anything;\n");
    let program = ("main.rs", "fn main() { house::low::main() }\n");
    assert_eq!(faults_of(&[GOOD, middle, part, low, library, program]), []);
}

#[test]
fn an_import_from_a_room_that_is_not_above_is_found_however_it_is_written() {
    let low = ("low.rs", "pub struct Deep;\npub fn deep() {}\n");
    for text in [
        "use crate::low::Deep;",
        "use crate::{\n    top::Read,\n    low::{\n        deep,\n        Deep as Other,\n    },\n};",
        "use crate::low;",
        "use crate::low::*;",
        "pub use crate::low::Deep as Mine;",
        "fn f() { crate::low::deep() }",
        "fn f() -> Option<crate::low::Deep> { None }",
        "fn f() { use super::low::deep; deep() }",
        "mod inner { fn f() { super::super::low::deep() } }",
        "fn f() { select! { () = crate::low::deep() => {} } }",
        "#[derive(Debug)]\n#[cfg(not(test))]\nuse crate::low::Deep;",
        "#[cfg(any(test, debug_assertions))]\nuse crate::low::Deep;",
        "#[cfg(test)]\nmod tests { use crate::low::Deep; }\nfn f() { crate::low::deep() }",
        "#[cfg(test)]\nuse crate::low::Deep;\nuse crate::low::deep;",
        "/* \" */ use crate::low::Deep; // \"",
        "const QUOTE: char = '\"'; use crate::low::Deep; const OTHER: &str = r#\"\"\"#;",
        "fn f<'a>(x: &'a str) -> &'a str { crate::low::deep(); x }",
        "fn f() { <crate::low::Deep>::default(); }",
    ] {
        assert_eq!(faults_of(&[GOOD, ("middle.rs", text), low]), fault(Upward, "middle -> low"), "{text}");
    }
    let in_a_part = [GOOD, ("middle/part.rs", "use crate::low::Deep;"), ("middle.rs", "mod part;"), low];
    assert_eq!(faults_of(&in_a_part), fault(Upward, "middle -> low"));
    let shown_again = [
        ("top.rs", "use crate::middle::Deep;"),
        ("middle.rs", "pub use crate::low::Deep;"),
        ("low.rs", "pub struct Deep;"),
    ];
    let expected: Vec<_> =
        ["middle -> low", "top -> low", "top -> middle"].map(|what| (Upward, what.to_owned())).into();
    assert_eq!(faults_of(&shown_again), expected);
    assert_eq!(faults_of(&[("attic.rs", "")]), fault(Upward, "attic.rs"), "a room that is in no order");
}

#[test]
fn what_is_compiled_for_tests_alone_and_what_is_only_text_imports_nothing() {
    let low = ("low.rs", "pub struct Deep;\n");
    for text in [
        "#[cfg(test)]\nmod tests { use crate::low::Deep; }",
        "#[cfg(test)]\nuse crate::low::Deep;",
        "#[cfg(test)]\n#[derive(Debug)]\npub(super) struct Made(crate::low::Deep);",
        "#[cfg(all(test, unix))]\nfn f<A, B>() { crate::low::deep() }",
        "struct S {\n    #[cfg(test)]\n    made: crate::low::Deep,\n    other: u8,\n}",
        "// use crate::low::Deep;",
        "/// [`crate::low::Deep`]\nfn f() {}",
        "/* use crate::low::Deep; /* nested */ use crate::low::Deep; */",
        "const TEXT: &str = \"use crate::low::Deep;\";",
        "const TEXT: &str = r##\"\"# use crate::low::Deep;\"##;",
        "const TEXT: &[u8] = b\"\\\" crate::low::Deep\";",
        "pub(in crate::low::Deep) fn f() {}",
        "use other::crate_::low::Deep;",
    ] {
        assert_eq!(faults_of(&[GOOD, ("middle.rs", text), low]), [], "{text}");
    }
    let files =
        [("middle.rs", "#[cfg(test)]\nmod tests;"), ("middle/tests.rs", "mod more;\nuse crate::low::Deep;"), low];
    assert_eq!(faults_of(&[files[0], files[1], ("middle/tests/more.rs", "use crate::low::Deep;"), low]), []);
}

#[test]
fn a_circle_of_rooms_is_found() {
    let files = [("top.rs", "use crate::low::Deep;"), ("low.rs", "pub struct Deep(crate::top::Read);")];
    assert_eq!(faults_of(&files), [(Upward, "top -> low".to_owned()), (Circle, "low top".to_owned())]);
    let three = [
        ("top.rs", "use crate::middle::Part;"),
        ("middle.rs", "use crate::low::Deep;"),
        ("low.rs", "use crate::top::Read;"),
    ];
    assert!(faults_of(&three).contains(&(Circle, "low middle top".to_owned())));
}

#[test]
fn a_circle_of_files_of_one_room_is_found() {
    let part = ("top/part.rs", "use super::Read;\npub struct Part(Read);");
    for parent in ["mod part;\nuse part::Part;\npub struct Read;", "mod part;\nfn f() { part::f() }\npub struct Read;"]
    {
        let found = faults_of(&[("top.rs", parent), part]);
        assert_eq!(found, fault(Circle, "top.rs top/part.rs"), "{parent}");
    }
    let brothers = [
        ("top.rs", "mod a;\nmod b;\nmod c;"),
        ("top/a.rs", "use super::b::B;"),
        ("top/b.rs", "use crate::top::c;\nfn f() { c::f() }"),
        ("top/c.rs", "fn f() { super::a::f() }"),
    ];
    assert_eq!(faults_of(&brothers), fault(Circle, "top/a.rs top/b.rs top/c.rs"));
    // What the parent only shows again is not the parent's.
    let shown = [
        ("top.rs", "mod a;\nmod b;\npub use a::A;\npub use b::B;"),
        ("top/a.rs", "pub struct A;"),
        ("top/b.rs", "use super::A;\npub struct B(A);"),
    ];
    assert_eq!(faults_of(&shown), []);
    let hidden = [shown[0], ("top/a.rs", "use super::B;\npub struct A(B);"), shown[2]];
    assert_eq!(faults_of(&hidden), fault(Circle, "top/a.rs top/b.rs"));
}

#[test]
fn a_judge_of_a_decoder_that_uses_the_code_that_parses_is_found() {
    let faults_of = |part: &str, text: &str| {
        let files = [
            ("decoders.rs", "mod line;\nmod beep;\nmod simulator;\npub use line::Line;"),
            ("decoders/line.rs", "pub struct Line;"),
            ("decoders/simulator.rs", ""),
            ("decoders/beep/mod.rs", "mod protocol;\nmod allowed;\nmod simulator;\nfn f() { protocol::make() }"),
            ("decoders/beep/protocol.rs", "mod row;\nuse crate::decoders::line::Line;\npub fn make() {}"),
            ("decoders/beep/protocol/row.rs", "pub fn row() {}"),
            (part, text),
        ];
        let files: Vec<_> = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let faults = check(&files, &["decoders"], &[]);
        faults.into_iter().map(|fault| (fault.rule, fault.what)).collect::<Vec<_>>()
    };
    for text in [
        "use super::protocol::make;",
        "fn f() { super::protocol::make() }",
        "use super::protocol::row::row;",
        "use crate::decoders::line::Line;",
        "use crate::decoders::Line;",
    ] {
        for part in ["decoders/beep/allowed.rs", "decoders/beep/simulator.rs", "decoders/simulator/talk.rs"] {
            let text = text.replace("super::protocol", "crate::decoders::beep::protocol");
            assert_eq!(faults_of(part, &text), fault(Judge, part), "{text}");
        }
    }
    assert_eq!(
        faults_of("decoders/beep/allowed.rs", "use crate::decoders::simulator;\n#[cfg(test)]\nuse super::protocol;"),
        []
    );
}

#[test]
fn one_name_for_two_types_is_found() {
    let twice = [("top.rs", "pub(crate) enum Read {}"), ("middle.rs", "mod inner { pub type Read = u8; }")];
    assert_eq!(faults_of(&twice), fault(OneName, "Read"));
    let unseen =
        [("top.rs", "pub trait Read {}\nstruct Line;"), ("middle.rs", "struct Read;\n#[cfg(test)]\npub struct Line;")];
    assert_eq!(faults_of(&unseen), []);
}

#[test]
fn a_long_function_and_a_long_file_are_found() {
    let function = |lines: usize| format!("fn long(x: [u8; 2])\nwhere u8: Copy {{\n{}}}\n", "f();\n".repeat(lines - 3));
    assert_eq!(faults_of(&[("top.rs", &function(FUNCTION_MAX))]), []);
    assert_eq!(faults_of(&[("top.rs", &function(FUNCTION_MAX + 1))]), fault(LongFunction, "top.rs long"));
    let in_a_test = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(FUNCTION_MAX + 1));
    assert_eq!(faults_of(&[("top.rs", &in_a_test)]), fault(LongFunction, "top.rs long"));
    assert_eq!(faults_of(&[("top.rs", &"//\n".repeat(FILE_MAX))]), []);
    assert_eq!(faults_of(&[("top.rs", &"//\n".repeat(FILE_MAX + 1))]), fault(LongFile, "top.rs"));
}

#[test]
fn the_allow_list_needs_a_reason_for_each_line_and_keeps_no_line_that_nothing_needs() {
    let files =
        [("top.rs".to_owned(), "pub struct Read;".to_owned()), ("low.rs".to_owned(), "pub struct Read;".to_owned())];
    let with = |allowed: &[Allowed]| {
        check(&files, &["top", "low"], allowed).into_iter().map(|fault| (fault.rule, fault.what)).collect::<Vec<_>>()
    };
    assert_eq!(with(&[]), fault(OneName, "Read"));
    assert_eq!(with(&[allow(OneName, "Read", "two things with one name until they are told apart")]), []);
    assert_eq!(with(&[allow(OneName, "Read", " ")]), fault(AllowList, "OneName Read"));
    let gone = [allow(OneName, "Read", "a reason"), allow(LongFile, "top.rs", "a reason")];
    assert_eq!(with(&gone), fault(AllowList, "LongFile top.rs"));
}
