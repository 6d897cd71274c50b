//! What the test programs share. Each includes all of it once and uses a part.
#![allow(dead_code, reason = "each test program uses its part, and benches and unit tests use single files of it")]

pub mod allowed;
pub mod child;
pub mod disk_state;
pub mod e2e;
/// The checks of the fuzz targets, which are a workspace of their own (fuzz/README.md).
#[path = "../../fuzz/src/lib.rs"]
pub mod fuzz;
pub mod samples;
pub mod shaper;
pub mod small_disk;
pub mod terminal;
pub mod tls_proxy;

/// For a test that keeps the processors busy by itself: while it holds this, no other such test
/// runs. The tests of one program run side by side, and two floods at once are more than a small
/// machine can judge.
pub async fn busy() -> tokio::sync::MutexGuard<'static, ()> {
    static BUSY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    BUSY.lock().await
}

/// A test, or a part of it, that cannot run here. It says so, and where `PASSBRIDGE_SKIPPED` names
/// a file it adds a line there, so that a run of the tests can end with what it left out.
pub fn skip(test: &str, why: impl std::fmt::Display) {
    use std::io::Write as _;

    eprintln!("skipped: {test}: {why}");
    if let Some(file) = std::env::var_os("PASSBRIDGE_SKIPPED") {
        let line = format!("{test}: {why}\n");
        let mut file = std::fs::File::options().create(true).append(true).open(file).unwrap();
        file.write_all(line.as_bytes()).unwrap();
    }
}

/// A recording that cannot be published, from the directory that
/// `PASSBRIDGE_SHARED` names (beside the repository by default). `None`: it is not here, so this
/// part of the test is skipped.
pub fn recording(test: &str, file: &str) -> Option<Vec<u8>> {
    let shared = std::env::var_os("PASSBRIDGE_SHARED")
        .map_or_else(|| std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"), std::path::PathBuf::from);
    let bytes = std::fs::read(shared.join("real").join(file)).ok();
    if bytes.is_none() {
        skip(test, format_args!("the recording {file} is not here (PASSBRIDGE_SHARED names its directory)"));
    }
    bytes
}
