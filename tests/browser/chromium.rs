//! Debian's Chromium, driven through the pipe of its DevTools protocol.
//!
//! The pipe (`--remote-debugging-pipe`) is used and not the port: no other process can take the
//! browser over, and no client of WebSockets is needed. A message is JSON that ends with a zero byte.
//! The browser reads from its descriptor 3 and writes to its descriptor 4, so a shell puts its own
//! input and output there.

use std::collections::HashMap;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::child::holds;

/// How long one answer of the browser, or one condition in a page, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with a profile of its own. It ends when it is dropped.
pub struct Browser {
    wire: Arc<Wire>,
    _child: Child,
    _profile: TempDir,
}

struct Wire {
    to: tokio::sync::Mutex<ChildStdin>,
    next: AtomicU64,
    asked: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    /// What the browser told by itself, with the session that it is about.
    events: Mutex<Vec<(String, Value)>>,
}

impl Wire {
    async fn ask(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.try_to(session, method, params).await.unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Asks for what the browser may refuse.
    async fn try_to(&self, session: Option<&str>, method: &str, params: Value) -> Result<Value, Value> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = session {
            message["sessionId"] = session.into();
        }
        let (send, answer) = oneshot::channel();
        self.asked.lock().unwrap().insert(id, send);
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        self.to.lock().await.write_all(&bytes).await.expect("the browser listens");
        let answer = timeout(PATIENCE, answer).await.unwrap_or_else(|_| panic!("{method}: no answer in time"));
        let mut answer = answer.unwrap_or_else(|_| panic!("{method}: the browser ended"));
        match answer.get_mut("error") {
            Some(error) => Err(error.take()),
            None => Ok(answer["result"].take()),
        }
    }

    async fn listen(self: Arc<Self>, from: ChildStdout) {
        let mut from = BufReader::new(from);
        let mut bytes = Vec::new();
        while from.read_until(0, &mut bytes).await.is_ok_and(|read| read > 0) {
            let message: Value = serde_json::from_slice(bytes.strip_suffix(&[0]).unwrap_or(&bytes)).unwrap();
            bytes.clear();
            match message["id"].as_u64() {
                Some(id) => {
                    if let Some(asked) = self.asked.lock().unwrap().remove(&id) {
                        let _ = asked.send(message);
                    }
                }
                None => {
                    let session = message["sessionId"].as_str().unwrap_or_default().to_owned();
                    self.events.lock().unwrap().push((session, message));
                }
            }
        }
        self.asked.lock().unwrap().clear();
    }
}

impl Browser {
    /// `None`: there is no Chromium here.
    pub async fn start() -> Option<Self> {
        let program = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
            std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
        })?;
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null", program])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"])
            .args([
                "--disable-extensions",
                "--disable-background-networking",
                "--disable-component-update",
                "--no-first-run",
            ])
            .args(["--disable-sync", "--force-color-profile=srgb", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .env("HOME", profile.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .ok()?;
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let wire = Arc::new(Wire {
            to: tokio::sync::Mutex::new(to),
            next: AtomicU64::new(1),
            asked: Mutex::default(),
            events: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&wire).listen(from));
        wire.ask(None, "Browser.getVersion", json!({})).await;
        Some(Self { wire, _child: child, _profile: profile })
    }

    /// A page of its own: no cookie and no storage is shared with another one.
    pub async fn page(&self, width: u32, height: u32) -> Page {
        let context = self.wire.ask(None, "Target.createBrowserContext", json!({})).await;
        let params = json!({ "url": "about:blank", "browserContextId": context["browserContextId"] });
        let target = self.wire.ask(None, "Target.createTarget", params).await["targetId"].clone();
        let params = json!({ "targetId": target, "flatten": true });
        let session =
            self.wire.ask(None, "Target.attachToTarget", params).await["sessionId"].as_str().unwrap().to_owned();
        let page = Page { wire: Arc::clone(&self.wire), session };
        for domain in ["Page", "Runtime", "Network", "Log"] {
            page.ask(&format!("{domain}.enable"), json!({})).await;
        }
        page.size(width, height).await;
        page
    }
}

/// One page in the browser.
pub struct Page {
    wire: Arc<Wire>,
    session: String,
}

impl Page {
    /// Asks the DevTools of the page.
    pub async fn ask(&self, method: &str, params: Value) -> Value {
        self.wire.ask(Some(&self.session), method, params).await
    }

    /// Sets the size of the page in CSS pixels. Up to 600 it is a phone.
    pub async fn size(&self, width: u32, height: u32) {
        let mobile = width <= 600;
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile });
        self.ask("Emulation.setDeviceMetricsOverride", params).await;
    }

    /// Sets features of the media, such as `("prefers-color-scheme", "dark")`, and the medium
    /// (`screen`, `print`).
    pub async fn media(&self, medium: &str, features: &[(&str, &str)]) {
        let features: Vec<Value> =
            features.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.ask("Emulation.setEmulatedMedia", json!({ "media": medium, "features": features })).await;
    }

    /// Goes to an address and waits until the document is there.
    pub async fn go(&self, url: &str) {
        let gone = self.ask("Page.navigate", json!({ "url": url })).await;
        assert!(gone.get("errorText").is_none(), "{url}: {}", gone["errorText"]);
        self.until("the document is complete", "document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// The value of an expression; a promise is waited for.
    pub async fn eval(&self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.ask("Runtime.evaluate", params).await;
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"]["value"].clone()
    }

    /// The text of the first element that fits, without the space around it.
    pub async fn text(&self, selector: &str) -> String {
        let found = self.eval(&format!("document.querySelector({})?.innerText.trim()", json!(selector))).await;
        found.as_str().unwrap_or_else(|| panic!("nothing fits {selector}")).to_owned()
    }

    /// Waits until an expression is true. It is no error if it cannot be evaluated meanwhile, because the page may be
    /// going elsewhere.
    pub async fn until(&self, what: &str, expression: &str) {
        let so = async || {
            let params = json!({ "expression": format!("!!({expression})"), "returnByValue": true });
            let answer = self.wire.try_to(Some(&self.session), "Runtime.evaluate", params).await;
            answer.is_ok_and(|answer| answer["result"]["value"] == json!(true))
        };
        if !holds(PATIENCE, so).await {
            let shown = self.eval("document.body ? document.body.innerText : ''").await;
            panic!(
                "not within its time: {what} ({expression}); the page shows:\n{}",
                shown.as_str().unwrap_or_default()
            );
        }
    }

    /// Clicks with the mouse at the middle of the first element that fits, as a person does: what lies over it gets the
    /// click.
    pub async fn click(&self, selector: &str) {
        let place = format!(
            "(() => {{ const e = document.querySelector({}); if (!e) return null; e.scrollIntoView({{block: 'center'}}); \
             const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(selector)
        );
        let place = self.eval(&place).await;
        let (Some(x), Some(y)) = (place[0].as_f64(), place[1].as_f64()) else { panic!("nothing fits {selector}") };
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", params).await;
        }
    }

    /// Types text into the element that has the focus.
    pub async fn type_in(&self, text: &str) {
        self.ask("Input.insertText", json!({ "text": text })).await;
    }

    /// Presses a key, such as `Tab` or `Enter`.
    pub async fn key(&self, key: &str) {
        let code = match key {
            "Tab" => 9,
            "Enter" => 13,
            "Escape" => 27,
            " " => 32,
            other => panic!("the code of {other} is not known here"),
        };
        let text = if key == "Enter" {
            "\r"
        } else if key == " " {
            " "
        } else {
            ""
        };
        for kind in ["keyDown", "keyUp"] {
            let mut params = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                params["text"] = text.into();
            }
            self.ask("Input.dispatchKeyEvent", params).await;
        }
    }

    /// A picture of what is seen, or of one element, as PNG.
    pub async fn picture(&self, selector: Option<&str>) -> Vec<u8> {
        let mut params = json!({ "format": "png" });
        if let Some(selector) = selector {
            let place = format!(
                "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'center'}}); \
                 const r = e.getBoundingClientRect(); \
                 return {{x: r.x + scrollX, y: r.y + scrollY, width: r.width, height: r.height, scale: 1}}; }})()",
                json!(selector)
            );
            params["clip"] = self.eval(&place).await;
            params["captureBeyondViewport"] = true.into();
        }
        let picture = self.ask("Page.captureScreenshot", params).await;
        BASE64_STANDARD.decode(picture["data"].as_str().unwrap()).unwrap()
    }

    /// Writes a picture of what is seen.
    pub async fn save(&self, path: &Path) {
        std::fs::write(path, self.picture(None).await).unwrap();
    }

    /// The addresses of all requests of this page so far.
    pub fn requests(&self) -> Vec<String> {
        self.told("Network.requestWillBeSent", |params| params["request"]["url"].as_str().map(str::to_owned))
    }

    /// Errors of scripts, and what the browser refused or complained of, such as a violation of the policy for content.
    pub fn complaints(&self) -> Vec<String> {
        let mut all = self.told("Runtime.exceptionThrown", |params| Some(params["exceptionDetails"].to_string()));
        all.extend(self.told("Log.entryAdded", |params| {
            (params["entry"]["level"] == "error")
                .then(|| format!("{} {}", params["entry"]["text"], params["entry"]["url"]))
        }));
        all
    }

    fn told(&self, method: &str, mut take: impl FnMut(&Value) -> Option<String>) -> Vec<String> {
        let events = self.wire.events.lock().unwrap();
        let mine = events.iter().filter(|(session, event)| *session == self.session && event["method"] == method);
        mine.filter_map(|(_, event)| take(&event["params"])).collect()
    }
}
