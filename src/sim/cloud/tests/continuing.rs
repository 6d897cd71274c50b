//! The continuing pull (`GET /passings/device2/{deviceid}`), as a plain HTTP client sees it.

use super::*;

/// The answer without its envelope.
fn opened(generation: Generation, value: Value) -> Value {
    match generation {
        Generation::Legacy => value,
        Generation::OpenApi => value["body"].clone(),
        Generation::Gateway => serde_json::from_str(value["body"].as_str().unwrap()).unwrap(),
    }
}

impl Rig {
    /// A pull with this query: the token of the session, the number it begins after, the numbers.
    async fn pull(&self, query: &str) -> (String, u64, Vec<u64>) {
        let (status, value) = self.get(&format!("/passings/device2/{DEVICE}?{query}")).await;
        assert_eq!(status, 200, "{value}");
        let value = opened(self.cloud.inner.lock().config.generation, value);
        let numbers = value["passings"].as_array().unwrap().iter().map(|one| one["num_passing"].as_u64().unwrap());
        let from = value["resumed_from"].as_u64().unwrap();
        (value["session_used"].as_str().unwrap().to_owned(), from, numbers.collect())
    }
}

#[tokio::test]
async fn a_pull_goes_on_after_the_last_number_and_into_the_next_session_by_itself() {
    for generation in [Generation::Legacy, Generation::OpenApi, Generation::Gateway] {
        let rig = rig(SimCloudConfig { generation, ..Default::default() }).await;
        let first = rig.cloud.open_session(DEVICE, "5K");
        rig.post("/passings", &body(&first, 1..=3)).await;
        assert_eq!(rig.pull("").await, (first.clone(), 0, vec![1, 2, 3]));
        assert_eq!(rig.pull(&format!("token_session={first}&last=2")).await, (first.clone(), 2, vec![3]));
        let end = format!("token_session={first}&last=3");
        assert_eq!(rig.pull(&end).await, (first.clone(), 3, vec![]));
        rig.post("/passings", &body(&first, [4])).await;

        // A session without passings is passed over, but only once a later one has some.
        let _empty = rig.cloud.open_session(DEVICE, "empty");
        let third = rig.cloud.open_session(DEVICE, "10K");
        assert_eq!(rig.pull(&end).await, (first.clone(), 3, vec![4]), "the old session still has one");
        let end = format!("token_session={first}&last=4");
        assert_eq!(rig.pull(&end).await, (first.clone(), 4, vec![]));
        rig.post("/passings", &body(&third, 1..=2)).await;
        assert_eq!(rig.pull(&end).await, (third.clone(), 0, vec![1, 2]));
        assert_eq!(rig.pull(&format!("token_session={first}")).await.2, [1, 2, 3, 4]);

        // Without a token it is the active session, or else the newest.
        assert_eq!(rig.pull("").await.0, third);
        rig.cloud.close_session(&third);
        assert_eq!(rig.pull("").await.0, third);
        assert_eq!(rig.cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn a_pull_is_answered_in_the_documented_fields() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let rig = rig(SimCloudConfig { generation, page_size: 2, ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "5K");
        rig.post("/passings", &body(&token, 1..=3)).await;
        let (_, value) = rig.get(&format!("/passings/device2/{DEVICE}?page=2")).await;
        let paged = json!({ "page": 2, "limit": 2, "total": 3, "has_more": false });
        let mut wanted = json!({
            "description": "Success", "deviceid": DEVICE, "session_used": token, "session_label": "5K",
            "resumed_from": 0,
            "passings": [{ "timestamp": "2026-03-06T20:27:03.350Z", "num_passing": 3, "bib": "3", "chip": "MC00003",
                           "participant_id": null, "status": null, "timezone": null, "latitude": "", "longitude": "" }],
        });
        if generation == Generation::OpenApi {
            wanted["pagination"] = paged;
        }
        assert_eq!(opened(generation, value), wanted);
    }
}

#[tokio::test]
async fn a_pull_may_be_limited_to_a_time_and_names_only_its_own_parameters() {
    let (rig, token) = plain().await;
    rig.post("/passings", &body(&token, 1..=9)).await;
    let time = "from=2026-03-06T20:27:03.350Z&to=2026-03-06T20:27:05.350Z";
    assert_eq!(rig.pull(time).await.2, [3, 4, 5]);
    assert_eq!(rig.pull(&format!("{time}&token_session={token}&last=4")).await.2, [5]);
    assert_eq!(rig.cloud.violations(), [""; 0]);
    let wrong = ["first=1", "last=2", "page=0", "from=yesterday", "limit=5"];
    for query in wrong {
        assert_eq!(rig.get(&format!("/passings/device2/{DEVICE}?{query}")).await.0, 400, "{query}");
    }
    assert_eq!(rig.cloud.violations().len(), wrong.len(), "{:?}", rig.cloud.violations());
}

#[tokio::test]
async fn a_pull_of_what_is_not_there_is_not_found() {
    let rig = rig(SimCloudConfig::default()).await;
    let path = format!("/passings/device2/{DEVICE}");
    let (status, value) = rig.get(&path).await;
    assert_eq!((status.as_u16(), &value["description"]), (404, &json!("Session not found")));
    rig.cloud.configure(|config| config.no_session = NoSession::Empty);
    let (status, value) = rig.get(&path).await;
    assert_eq!((status.as_u16(), &value["session_used"], &value["passings"]), (200, &Value::Null, &json!([])));

    let request = json!({ "model": "m", "serial_number": "2" });
    let other = rig.post("/devices", &request).await.1["deviceid"].as_str().unwrap().to_owned();
    let token = rig.cloud.open_session(&other, "start");
    for (path, what) in [
        ("/passings/device2/X".to_owned(), "Device not found"),
        (format!("{path}?token_session=X&last=1"), "Session not found"),
        (format!("{path}?token_session={token}&last=1"), "Session not found"),
    ] {
        let (status, value) = rig.get(&path).await;
        assert_eq!((status.as_u16(), &value["description"]), (404, &json!(what)), "{path}");
    }
}

#[tokio::test]
async fn the_habits_of_questions_apply_to_a_pull() {
    let (rig, token) = plain().await;
    rig.post("/passings", &body(&token, 1..=3)).await;
    rig.cloud.habits(Habits::of(1, ["order=newest"]).unwrap());
    assert_eq!(rig.pull("").await.2, [3, 2, 1]);
    rig.cloud.habits(Habits::of(1, ["lag=60s"]).unwrap());
    assert_eq!(rig.pull("").await, (token, 0, vec![]));
    let path = format!("/passings/device2/{DEVICE}");
    rig.cloud.habits(Habits::of(1, ["lag=60s", "none-404"]).unwrap());
    assert_eq!(rig.get(&path).await.0, 404);
    rig.cloud.habits(Habits::of(1, ["refuse=questions:429"]).unwrap());
    assert_eq!(rig.get(&path).await.0, 429);
}
