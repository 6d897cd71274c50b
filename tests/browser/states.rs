//! Each state of the box, provoked on the real program and read from the page.

use crate::chromium::Browser;
use crate::support::child::{Site, UPLOAD, decoder};
use passbridge::testing::sim::decoder::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium"]
async fn smoke() {
    let Some(browser) = Browser::start().await else { panic!("there is no Chromium") };
    let (_sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], UPLOAD);
    let running = site.start();
    site.until("it runs", |status| status.ready).await;
    let page = browser.page(360, 780).await;
    page.go(&format!("http://127.0.0.1:{}/", site.page)).await;
    let text = page.text("body").await;
    assert!(text.contains("passbridge"), "{text}");
    page.save(std::path::Path::new("/tmp/smoke.png")).await;
    assert_eq!(page.requests().len(), 1, "{:?}", page.requests());
    assert!(crate::pixels::distinct(&page.picture(None).await, 1) > 1);
    running.stop().await;
}
