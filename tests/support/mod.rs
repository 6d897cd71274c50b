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
pub mod tls_proxy;

/// For a test that keeps the processors busy by itself: while it holds this, no other such test runs. The tests of one program
/// run side by side, and two floods at once are more than a small machine can judge.
pub async fn busy() -> tokio::sync::MutexGuard<'static, ()> {
    static BUSY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    BUSY.lock().await
}
