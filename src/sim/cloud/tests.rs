//! The fake against a plain HTTP client: each promise and each fault has its documented effect.

mod companies;
mod continuing;
mod documented;
mod habits;

use std::time::Duration;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::config::{Forbidden, OneForm};
use super::*;

struct Rig {
    cloud: SimCloud,
    http: Client,
}

async fn rig(config: SimCloudConfig) -> Rig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = Client::builder().redirect(reqwest::redirect::Policy::none()).no_proxy().build().unwrap();
    Rig { cloud: SimCloud::start(config).await.unwrap(), http }
}

async fn plain() -> (Rig, String) {
    let rig = rig(SimCloudConfig::default()).await;
    let token = rig.cloud.open_session(DEVICE, "START-5K");
    (rig, token)
}

fn passing(num: u64) -> Value {
    json!({ "timestamp": format!("2026-03-06T20:27:{:02}.350Z", num % 60), "num_passing": num,
            "bib": format!("{num}"), "chip": format!("MC{num:05}") })
}

fn body(token: &str, numbers: impl IntoIterator<Item = u64>) -> Value {
    json!({ "token_session": token, "passings_list": numbers.into_iter().map(passing).collect::<Vec<_>>() })
}

impl Rig {
    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, format!("{}{path}", self.cloud.url())).header("x-api-key", KEY)
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        answer(self.request(Method::GET, path)).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        answer(self.request(Method::POST, path).json(body)).await
    }

    async fn try_insert(&self, body: &Value) -> Result<reqwest::Response, reqwest::Error> {
        let limit = Duration::from_millis(300);
        self.request(Method::POST, "/passings").timeout(limit).json(body).send().await
    }

    fn numbers(&self, token: &str) -> Vec<u64> {
        self.cloud.passings(token).iter().map(|stored| stored.num).collect()
    }
}

async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    let status = response.status();
    (status, response.json().await.unwrap_or(Value::Null))
}

#[tokio::test]
async fn passings_are_stored_counted_and_read_back_in_both_generations() {
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let rig = rig(SimCloudConfig { generation, ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "START-5K");
        let open = |value: Value| match generation {
            Generation::Legacy => value,
            Generation::OpenApi => value["body"].clone(),
            Generation::Gateway => serde_json::from_str(value["body"].as_str().unwrap()).unwrap(),
        };
        let (status, value) = rig.post("/passings", &body(&token, 1..=3)).await;
        assert!(status.is_success());
        assert_eq!(open(value)["inserted_count"], 3);
        let (_, value) = rig.post("/passings", &body(&token, 2..=5)).await;
        let value = open(value);
        assert_eq!((&value["inserted_count"], &value["token_session"]), (&json!(2), &json!(token)));
        assert_eq!(value.get("duplicate_count"), (generation != Generation::Legacy).then_some(&json!(2)));

        let (_, value) = rig.get(&format!("/passings/session/{token}?first=2&last=4")).await;
        let list = open(value)["result"].as_array().unwrap().clone();
        let numbers: Vec<_> = list.iter().map(|passing| passing["num_passing"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [2, 3, 4]);
        assert_eq!(list[0]["timestamp"], "2026-03-06T20:27:02.350Z");
        assert_eq!((&list[0]["bib"], &list[0]["chip"]), (&json!("2"), &json!("MC00002")));
        let (_, value) = rig.get(&format!("/sessions/device/{DEVICE}/active")).await;
        let session = &open(value)["result"][0];
        assert_eq!((&session["token_session"], &session["passings"]), (&json!(token), &json!(5)));
        assert_eq!(session["active"], true);
        assert_eq!(rig.cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_timeout_or_a_cut_shows_the_client_no_answer_whether_the_insert_took_effect_or_not() {
    let (rig, _) = plain().await;
    for (fault, stored) in [
        (CloudFault::before(Answer::Cut), 0),
        (CloudFault::before(Answer::Never), 0),
        (CloudFault::after(Answer::Never), 3),
        (CloudFault::after(Answer::Cut), 3),
    ] {
        let token = rig.cloud.open_session(DEVICE, "another");
        rig.cloud.fault(On::Insert, fault.clone());
        let error = rig.try_insert(&body(&token, 1..=3)).await.unwrap_err();
        assert_eq!(error.is_timeout(), fault.answer == Answer::Never, "{fault:?}: {error:?}");
        assert_eq!(rig.numbers(&token).len(), stored, "{fault:?}");
        // The same insert is sent again at once, on a new connection. It is not a second insert in
        // flight.
        assert!(rig.try_insert(&body(&token, 1..=3)).await.unwrap().status().is_success());
        assert_eq!(rig.numbers(&token), [1, 2, 3]);
    }
    assert_eq!(rig.cloud.violations(), [""; 0]);
    let statuses: Vec<_> = rig.cloud.posts().iter().map(|post| post.status).collect();
    assert_eq!(statuses, [None, Some(200), None, Some(200), None, Some(200), None, Some(200)]);
}

#[tokio::test]
async fn a_request_that_is_not_exactly_as_documented_is_refused_and_noted() {
    let (rig, token) = plain().await;
    let with = |field: &str, value: Value| {
        let mut request = body(&token, [1]);
        request["passings_list"][0][field] = value;
        request
    };
    let wrong = [
        with("rssi", json!(-58)),
        with("bib", json!("")),
        with("bib", json!(7)),
        with("num_passing", json!(-1)),
        with("latitude", json!("12.000")),
        with("timestamp", json!("2026-03-06T20:27:47Z")),
        with("timestamp", json!("2026-03-06T20:27:47.350+01:00")),
        with("timestamp", json!("2026-13-06T20:27:47.350Z")),
        json!({ "token_session": token, "passings_list": [] }),
        json!({ "token_session": token }),
        json!({ "passings_list": [passing(1)] }),
        json!({ "token_session": token, "passings_list": [passing(1)], "deviceid": DEVICE }),
    ];
    for (n, request) in wrong.iter().enumerate() {
        let (status, _) = rig.post("/passings", request).await;
        assert_eq!(status, 400, "{request}");
        assert_eq!(rig.cloud.violations().len(), n + 1, "{request}");
    }
    assert_eq!(rig.cloud.stored(), 0);
    let optional = with("latitude", json!(12.5));
    assert_eq!(rig.post("/passings", &optional).await.0, 200);
}

#[tokio::test]
async fn a_key_may_do_only_what_its_access_type_says() {
    let keys = [("r", Access::Read), ("w", Access::Write), ("rw", Access::ReadWrite)];
    let keys = keys.map(|(key, access)| (key.to_owned(), access)).to_vec();
    let rig = rig(SimCloudConfig { keys, ..Default::default() }).await;
    let token = rig.cloud.open_session(DEVICE, "START-5K");
    let active = format!("{}/sessions/device/{DEVICE}/active", rig.cloud.url());
    let passings = format!("{}/passings", rig.cloud.url());
    for header in ["x-api-key", "api_key"] {
        for (key, reads, writes) in [("r", 200, 403), ("w", 403, 200), ("rw", 200, 200), ("x", 403, 403)] {
            let (status, value) = answer(rig.http.get(&active).header(header, key)).await;
            assert_eq!(status, reads, "{header}: {key}");
            assert_eq!(value["message"] == "Forbidden", reads == 403);
            let insert = rig.http.post(&passings).header(header, key).json(&body(&token, [1]));
            assert_eq!(answer(insert).await.0, writes, "{header}: {key}");
        }
    }
    assert_eq!(answer(rig.http.get(&active)).await.0, 403);
    rig.cloud.configure(|config| config.forbidden = Forbidden::Description);
    assert!(answer(rig.http.get(&active)).await.1["description"].is_string());
    rig.cloud.configure(|config| config.forbidden = Forbidden::Unauthorized);
    assert_eq!(answer(rig.http.get(&active)).await.0, 401);
}

#[tokio::test]
async fn no_active_session_is_told_in_each_spelling_that_the_documents_leave_open() {
    let (rig, token) = plain().await;
    rig.cloud.close_session(&token);
    let path = format!("/sessions/device/{DEVICE}/active");
    for (spelling, status, result) in [
        (NoSession::NotFound, 404, None),
        (NoSession::Empty, 200, Some(json!([]))),
        (NoSession::Null, 200, Some(Value::Null)),
        (NoSession::Absent, 200, None),
        (NoSession::Text, 200, None),
    ] {
        rig.cloud.configure(|config| config.no_session = spelling);
        let (got, value) = rig.get(&path).await;
        assert_eq!((got.as_u16(), value.get("result").cloned()), (status, result), "{spelling:?}");
        assert_eq!(value["description"] == "Sessions not found", spelling == NoSession::Text);
    }
    rig.cloud.configure(|config| config.no_session = NoSession::Inactive);
    let (_, value) = rig.get(&path).await;
    assert_eq!((&value["result"][0]["token_session"], &value["result"][0]["active"]), (&json!(token), &json!(false)));
}

#[tokio::test]
async fn a_closed_session_takes_nothing_more_but_can_still_be_read() {
    let (rig, token) = plain().await;
    rig.post("/passings", &body(&token, 1..=2)).await;
    let (status, _) = answer(rig.request(Method::PATCH, &format!("/sessions/close/{token}"))).await;
    assert_eq!(status, 200);
    for (spelling, status) in [(Closed::NotFound, 404), (Closed::BadRequest, 400), (Closed::OkText, 200)] {
        rig.cloud.configure(|config| config.closed = spelling);
        let (got, value) = rig.post("/passings", &body(&token, [3])).await;
        assert_eq!(got, status);
        assert_eq!(value, json!({ "description": "Session not found or closed", "token_session": token }));
    }
    let (_, value) = rig.get(&format!("/passings/session/{token}?first=1&last=9&page=1")).await;
    assert_eq!(value["result"].as_array().unwrap().len(), 2);
    let (_, value) = rig.get(&format!("/sessions/{token}")).await;
    assert_eq!(value["result"][0]["active"], false);
}

#[tokio::test]
async fn a_new_session_closes_the_active_one_of_its_device() {
    let (rig, first) = plain().await;
    let (status, value) = rig.post("/sessions", &json!({ "deviceid": DEVICE, "alias": "10K" })).await;
    assert_eq!(status, 201);
    let second = value["token_session"].as_str().unwrap();
    let sessions = rig.cloud.sessions(DEVICE);
    let active: Vec<_> = sessions.iter().map(|view| (&*view.token, view.active)).collect();
    assert_eq!(active, [(&*first, false), (second, true)]);
    rig.cloud.configure(|config| config.one = OneForm::Object);
    let (_, value) = rig.get(&format!("/sessions/device/{DEVICE}/active")).await;
    assert_eq!(value["result"]["alias"], "10K");
    let (_, value) = rig.get(&format!("/sessions/device/{DEVICE}")).await;
    assert_eq!(value["result"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn an_unknown_device_is_not_found_until_it_is_bound() {
    let (rig, _) = plain().await;
    for path in ["/devices/X", "/sessions/device/X", "/sessions/device/X/active", "/passings/device/X"] {
        let (status, value) = rig.get(path).await;
        assert_eq!((status.as_u16(), &value["description"]), (404, &json!("Device not found")), "{path}");
    }
    assert_eq!(rig.post("/sessions", &json!({ "deviceid": "X" })).await.0, 404);
    let request = json!({ "type": "CUSTOM_CHRONO", "model": "passbridge", "serial_number": "1" });
    let (status, bound) = rig.post("/devices", &request).await;
    let (again, same) = rig.post("/devices", &request).await;
    assert_eq!((status.as_u16(), again.as_u16(), &bound["deviceid"]), (201, 409, &same["deviceid"]));
    let id = bound["deviceid"].as_str().unwrap();
    assert_eq!(rig.get(&format!("/devices/{id}")).await.1["result"]["model"], "passbridge");
    assert_eq!(rig.get("/devices?page=2&limit=1").await.1["result"][0]["deviceid"], id);
    rig.cloud.configure(|config| config.devices.push(("X".to_owned(), "start".to_owned())));
    assert_eq!(rig.get("/devices/X").await.0, 200);
}

#[tokio::test]
async fn each_duplicate_rule_keeps_out_what_it_calls_a_duplicate() {
    let at = |num: u64, second: u32, chip: &str| {
        let timestamp = format!("2026-03-06T20:27:{second:02}.000Z");
        json!({ "timestamp": timestamp, "num_passing": num, "bib": "7", "chip": chip })
    };
    let twice = [at(1, 1, "A"), at(1, 1, "A"), at(1, 2, "A"), at(2, 1, "A"), at(3, 1, "B")];
    for (dedup, kept) in [(Dedup::None, 5), (Dedup::Number, 3), (Dedup::NumberTime, 4), (Dedup::ChipTime, 3)] {
        let rig = rig(SimCloudConfig { dedup, ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "START-5K");
        rig.post("/passings", &json!({ "token_session": token, "passings_list": twice })).await;
        let post = &rig.cloud.posts()[0];
        assert_eq!((post.inserted, post.duplicates), (kept, 5 - kept), "{dedup:?}");
        assert_eq!(rig.cloud.passings(&token).len(), kept);
        let noted = rig.cloud.violations();
        assert!(noted.contains(&"number 1 was sent with two contents".to_owned()), "{dedup:?}: {noted:?}");
        assert_eq!(noted.contains(&"number 1 is stored twice".to_owned()), dedup == Dedup::None, "{noted:?}");
    }
}

#[tokio::test]
async fn numbers_that_do_not_rise_are_noted_and_kept_in_the_order_of_arrival() {
    let (rig, token) = plain().await;
    rig.post("/passings", &body(&token, [5, 6, 3, 8, 4])).await;
    assert_eq!(rig.numbers(&token), [5, 6, 3, 8, 4]);
    assert_eq!(rig.cloud.violations(), ["number 3 arrived after 6", "number 4 arrived after 8"]);
    let (_, value) = rig.get(&format!("/passings/session/{token}?first=4&last=6")).await;
    let numbers: Vec<_> = value["result"].as_array().unwrap().iter().map(|one| one["num_passing"].clone()).collect();
    assert_eq!(numbers, [4, 5, 6]);
}

#[tokio::test]
async fn two_inserts_of_a_device_in_flight_at_once_are_noted() {
    let (rig, token) = plain().await;
    rig.cloud.configure(|config| config.latency = Duration::from_millis(50));
    let (first, second) = (body(&token, [1]), body(&token, [2]));
    let (first, second) = tokio::join!(rig.post("/passings", &first), rig.post("/passings", &second));
    assert_eq!((first.0.as_u16(), second.0.as_u16()), (200, 200));
    assert_eq!(rig.cloud.violations()[0], "two inserts of one device were in flight at once");
}

#[tokio::test]
async fn deleting_a_device_and_calls_that_do_not_exist_are_refused_and_noted() {
    let (rig, _) = plain().await;
    let (status, _) = answer(rig.request(Method::DELETE, &format!("/devices/{DEVICE}"))).await;
    assert_eq!(status, 403);
    assert_eq!(rig.get("/telemetry").await.0, 404);
    assert_eq!(rig.cloud.violations().len(), 2);
}

#[tokio::test]
async fn too_many_passings_are_answered_413_and_beyond_the_clients_own_cap_noted() {
    let (rig, token) = plain().await;
    rig.cloud.configure(|config| config.max_items = 50);
    assert_eq!(rig.post("/passings", &body(&token, 1..=51)).await.0, 413);
    assert_eq!(rig.cloud.violations(), [""; 0]);
    assert_eq!(rig.post("/passings", &body(&token, 1..=50)).await.0, 200);
    assert_eq!(rig.post("/passings", &body(&token, 51..=551)).await.0, 413);
    assert_eq!(rig.cloud.violations(), ["501 passings in one insert"]);
}

#[tokio::test]
async fn an_error_is_answered_in_the_form_of_the_generation_applied_or_not() {
    let (rig, token) = plain().await;
    for (fault, stored) in [
        (CloudFault::before(Answer::Status(500)), 0),
        (CloudFault::partly(Apply::Half, Answer::Status(500)), 2),
        (CloudFault::partly(Apply::First(3), Answer::Status(502)), 3),
        (CloudFault::after(Answer::Status(500)), 4),
    ] {
        rig.cloud.fault(On::Insert, fault.clone());
        let (status, value) = rig.post("/passings", &body(&token, 1..=4)).await;
        assert!(status.is_server_error());
        assert!(value["description"].is_string());
        assert_eq!(rig.cloud.stored(), stored, "{fault:?}");
    }
    rig.cloud.configure(|config| config.generation = Generation::OpenApi);
    rig.cloud.fault(On::Any, CloudFault::before(Answer::Status(500)));
    let (status, value) = rig.get("/devices").await;
    assert_eq!((status.as_u16(), value), (500, json!({ "body": null })));
}

#[tokio::test]
async fn what_a_portal_or_a_proxy_says_reaches_the_client_as_it_is() {
    let (rig, token) = plain().await;
    let send = async |answer: Answer| {
        rig.cloud.fault(On::Insert, CloudFault::before(answer));
        let response = rig.try_insert(&body(&token, [1])).await.unwrap();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
        let (status, kind, place, after) =
            (response.status().as_u16(), header("content-type"), header("location"), header("retry-after"));
        (status, kind.unwrap(), place, after, response.text().await.unwrap())
    };
    let (status, kind, _, _, text) = send(Answer::html()).await;
    assert_eq!((status, kind.starts_with("text/html"), text.contains("<html>")), (200, true, true));
    let (status, _, place, _, _) = send(Answer::Redirect("http://portal.invalid/".to_owned())).await;
    assert_eq!((status, place.as_deref()), (302, Some("http://portal.invalid/")));
    let (status, _, _, after, _) = send(Answer::RetryAfter(429, "7".to_owned())).await;
    assert_eq!((status, after.as_deref()), (429, Some("7")));
    let (status, _, _, _, text) = send(Answer::empty(200)).await;
    assert_eq!((status, &*text), (200, ""));
    let (_, kind, _, _, text) = send(Answer::not_json()).await;
    assert!(kind == "application/json" && serde_json::from_str::<Value>(&text).is_err());
    let (status, _, _, _, text) = send(Answer::message(403, "Forbidden")).await;
    assert_eq!((status, &*text), (403, r#"{"message":"Forbidden"}"#));
    assert_eq!(rig.cloud.stored(), 0);
}

#[tokio::test]
async fn counts_can_be_missing_wrong_or_rightly_short() {
    let (rig, token) = plain().await;
    for (fault, count, stored) in [
        (CloudFault::short(2), json!(2), 2),
        (CloudFault::after(Answer::Counts(1)), json!(1), 4),
        (CloudFault::after(Answer::NoCounts), Value::Null, 4),
    ] {
        rig.cloud.fault(On::Insert, fault);
        let (status, value) = rig.post("/passings", &body(&token, 1..=4)).await;
        assert_eq!((status.as_u16(), &value["inserted_count"], rig.cloud.stored()), (200, &count, stored));
    }
}

#[tokio::test]
async fn an_answer_can_break_in_the_middle() {
    let (rig, token) = plain().await;
    rig.cloud.fault(On::Insert, CloudFault::after(Answer::CutInside));
    let whole = async { rig.try_insert(&body(&token, [1])).await?.text().await };
    assert!(whole.await.is_err());
    assert_eq!(rig.cloud.stored(), 1);
}

#[tokio::test]
async fn a_session_can_close_while_the_outcome_of_an_insert_is_unknown() {
    let (rig, token) = plain().await;
    rig.cloud.fault(On::Insert, CloudFault::partly(Apply::First(2), Answer::Cut).closing());
    assert!(rig.try_insert(&body(&token, 1..=4)).await.is_err());
    assert_eq!(rig.post("/passings", &body(&token, 1..=4)).await.0, 404);
    assert_eq!(rig.numbers(&token), [1, 2]);
}

#[tokio::test]
async fn a_poisoned_chip_has_the_whole_insert_refused_until_it_is_left_out() {
    let (rig, token) = plain().await;
    rig.cloud.poison("MC00003", 400);
    assert_eq!(rig.post("/passings", &body(&token, 1..=4)).await.0, 400);
    assert_eq!(rig.cloud.stored(), 0);
    assert_eq!(rig.post("/passings", &body(&token, [1, 2, 4])).await.0, 200);
    rig.cloud.clear_faults();
    assert_eq!(rig.post("/passings", &body(&token, 5..=6)).await.0, 200);
}

#[tokio::test]
async fn a_slow_answer_comes_late_and_a_client_that_gives_up_before_leaves_nothing_behind() {
    let (rig, token) = plain().await;
    rig.cloud.fault(On::Insert, CloudFault::slow(Duration::from_millis(40)));
    let before = Instant::now();
    assert_eq!(rig.post("/passings", &body(&token, [1])).await.0, 200);
    assert!(before.elapsed() >= Duration::from_millis(40));
    rig.cloud.fault(On::Insert, CloudFault::slow(Duration::from_secs(3600)));
    assert!(rig.try_insert(&body(&token, [2])).await.unwrap_err().is_timeout());
    assert_eq!(rig.post("/passings", &body(&token, [2])).await.0, 200);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn faults_wait_for_their_class_of_requests_and_for_so_many_of_them() {
    let (rig, token) = plain().await;
    rig.cloud.fault_times(2, On::Insert, CloudFault::before(Answer::Status(503)));
    rig.cloud.fault_always(On::Active, CloudFault::before(Answer::Status(504)));
    let active = format!("/sessions/device/{DEVICE}/active");
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(rig.post("/passings", &body(&token, [1])).await.0.as_u16());
        statuses.push(rig.get(&active).await.0.as_u16());
        statuses.push(rig.get(&format!("/sessions/{token}")).await.0.as_u16());
    }
    assert_eq!(statuses, [503, 504, 200, 503, 504, 200, 200, 504, 200]);
    rig.cloud.clear_faults();
    assert_eq!(rig.get(&active).await.0, 200);
}

#[tokio::test]
async fn faults_by_chance_are_the_same_for_the_same_seed() {
    let (rig, _) = plain().await;
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        rig.cloud.clear_faults();
        let faults = vec![CloudFault::before(Answer::Status(500)), CloudFault::before(Answer::Status(503))];
        rig.cloud.fault_by_chance(Chance { on: On::Device, seed, odds: 0.5, faults });
        let mut statuses = Vec::new();
        for _ in 0..40 {
            statuses.push(rig.get("/devices").await.0.as_u16());
        }
        assert!([200, 500, 503].iter().all(|status| statuses.contains(status)));
        runs.push(statuses);
    }
    assert!(runs[0] == runs[1] && runs[1] != runs[2]);
}

#[tokio::test]
async fn a_cloud_that_is_away_refuses_connections_and_comes_back_at_the_same_address_with_what_it_held() {
    let (rig, token) = plain().await;
    assert_eq!(rig.post("/passings", &body(&token, [1])).await.0, 200);
    for _ in 0..3 {
        rig.cloud.set_online(false).await;
        assert!(rig.try_insert(&body(&token, [2])).await.unwrap_err().is_connect());
        rig.cloud.set_online(true).await;
        assert_eq!(rig.post("/passings", &body(&token, [2])).await.0, 200);
    }
    rig.cloud.fault(On::Insert, CloudFault::before(Answer::Never));
    let request = body(&token, [3]);
    let hanging = rig.request(Method::POST, "/passings").json(&request).send();
    let away = async {
        assert!(rig.cloud.wait_until(Duration::from_secs(5), |cloud| cloud.posts().len() == 5).await);
        rig.cloud.set_online(false).await;
    };
    assert!(tokio::join!(hanging, away).0.is_err());
    assert_eq!(rig.numbers(&token), [1, 2]);
}

#[tokio::test]
async fn reading_calls_give_pages() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let rig = rig(SimCloudConfig { generation, page_size: 4, ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "START-5K");
        rig.post("/passings", &body(&token, 1..=10)).await;
        for path in [format!("/passings/session/{token}"), format!("/passings/device/{DEVICE}")] {
            let mut seen = Vec::new();
            for page in 1..=4 {
                let (_, value) = rig.get(&format!("{path}?page={page}")).await;
                let value = if generation == Generation::Legacy { value } else { value["body"].clone() };
                let has_more = (generation != Generation::Legacy).then(|| json!(page < 3));
                assert_eq!(value["pagination"].get("has_more"), has_more.as_ref());
                seen.extend(value["result"].as_array().unwrap().iter().map(|one| one["num_passing"].as_u64().unwrap()));
            }
            assert_eq!(seen, (1..=10).collect::<Vec<_>>());
            assert_eq!(rig.get(&format!("{path}?page=0")).await.0, 400);
        }
        let (_, value) = rig
            .get(&format!("/passings/device/{DEVICE}?from=2026-03-06T20:27:02.350Z&to=2026-03-06T20:27:03.350Z"))
            .await;
        let value = if generation == Generation::Legacy { value } else { value["body"].clone() };
        assert_eq!(value["result"].as_array().unwrap().len(), 2);
    }
}

#[tokio::test]
async fn passings_of_somebody_else_are_held_like_any_other() {
    let (rig, token) = plain().await;
    let foreign = StoredPassing { num: 41, time_ms: 1_772_828_867_350, chip: None, bib: "900".into() };
    rig.cloud.put_foreign(&token, std::slice::from_ref(&foreign));
    let (_, value) = rig.get(&format!("/passings/session/{token}")).await;
    assert_eq!((&value["result"][0]["num_passing"], &value["result"][0]["chip"]), (&json!(41), &Value::Null));
    rig.post("/passings", &body(&token, 42..=43)).await;
    assert_eq!(rig.cloud.passings(&token)[0], foreign);
    assert!(rig.cloud.wait_for(3, Duration::from_secs(1)).await);
    assert!(!rig.cloud.wait_for(4, Duration::from_millis(1)).await);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn the_command_says_where_it_listens_and_what_happens() {
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel();
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let start = StartWith { alias: "START-5K".to_owned(), sessions: 1, passings: 0, active: true };
    let serving = serve_forever(address, SimCloudConfig::default(), &start, None, move |line| {
        let _ = say.send(line);
    });
    let listening = async {
        let mut lines = Vec::new();
        for _ in 0..3 {
            lines.extend(said.recv().await);
        }
        lines
    };
    let lines = tokio::select! {
        ended = serving => panic!("it ended: {ended:?}"),
        lines = listening => lines,
    };
    assert!(lines[0].starts_with("simulated cloud at http://127.0.0.1:"), "{lines:?}");
    assert_eq!(lines[1], format!("device {DEVICE} (finish)"));
    assert!(lines[2].starts_with("session START-5K opened: "), "{lines:?}");
}
