//! Finds out which commit is built, for `passbridge --version`.
//!
//! What the packager says (`PASSBRIDGE_COMMIT`) counts. Otherwise a release build asks git, and a
//! debug build does not: cargo compiles the whole crate again when the answer changes, and developers
//! commit often. The same commit always gives the same text, so that two builds give the same bytes.

use std::path::Path;
use std::process::Command;

/// Everything that is compiled into the program. If some of it is not as in the commit, the version
/// says so.
const SOURCES: [&str; 6] = ["src", "docs/architecture.md", "Cargo.toml", "Cargo.lock", "askama.toml", "build.rs"];

fn main() {
    println!("cargo::rerun-if-env-changed=PASSBRIDGE_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let told = std::env::var("PASSBRIDGE_COMMIT").ok().filter(|text| is_plain(text));
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let commit = match told {
        Some(told) => told,
        None if release => of_git().unwrap_or_else(|| "unknown".to_owned()),
        None => "unknown".to_owned(),
    };
    println!("cargo::rustc-env=PASSBRIDGE_COMMIT_SHOWN={commit}");
}

/// Whether the text can be a commit or a tag, and nothing that would end a line.
fn is_plain(text: &str) -> bool {
    !text.is_empty() && text.len() <= 80 && text.chars().all(|c| c.is_ascii_alphanumeric() || ".-+_~/".contains(c))
}

/// The commit of the repository whose top is this directory. Sources that were unpacked somewhere
/// inside of another repository are not of its commit.
fn of_git() -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    let here = std::env::var("CARGO_MANIFEST_DIR").ok()?;
    if Path::new(&top).canonicalize().ok()? != Path::new(&here).canonicalize().ok()? {
        return None;
    }
    // Each commit and each checkout writes one of these. Cargo takes a file that is not there for one
    // that changed, so only those that exist are named.
    for name in ["HEAD", "logs/HEAD", "packed-refs"] {
        watch(&git(&["rev-parse", "--git-path", name])?);
    }
    if let Some(branch) = git(&["symbolic-ref", "-q", "HEAD"]) {
        watch(&git(&["rev-parse", "--git-path", &branch])?);
    }
    for source in SOURCES {
        watch(source);
    }
    let commit = git(&["rev-parse", "--short=12", "HEAD"]).filter(|commit| is_plain(commit))?;
    let changes = ["status", "--porcelain", "--"].into_iter().chain(SOURCES).collect::<Vec<_>>();
    let changed = git(&changes)?;
    Some(if changed.is_empty() { commit } else { commit + "+changed" })
}

fn watch(path: &str) {
    if Path::new(path).exists() {
        println!("cargo::rerun-if-changed={path}");
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
