//! Each habit does what its sentence says, as a plain HTTP client sees it. What the cloud holds is
//! what it says it holds.

use super::*;

async fn with(texts: &[&str]) -> (Rig, String) {
    with_config(texts, SimCloudConfig::default()).await
}

async fn with_config(texts: &[&str], config: SimCloudConfig) -> (Rig, String) {
    let habits = Habits::of(1, texts).unwrap();
    let rig = rig(SimCloudConfig { habits, ..config }).await;
    let token = rig.cloud.open_session(DEVICE, "START-5K");
    (rig, token)
}

fn openapi() -> SimCloudConfig {
    SimCloudConfig { generation: Generation::OpenApi, ..Default::default() }
}

impl Rig {
    async fn insert(&self, token: &str, numbers: impl IntoIterator<Item = u64>) -> (StatusCode, Value) {
        self.post("/passings", &body(token, numbers)).await
    }

    /// The numbers that a reading call lists.
    async fn listed(&self, path: &str) -> Vec<u64> {
        let (_, value) = self.get(path).await;
        let value = value.get("body").unwrap_or(&value);
        let list = value["result"].as_array().unwrap();
        list.iter().map(|one| one["num_passing"].as_u64().unwrap()).collect()
    }

    async fn active(&self) -> (StatusCode, Value) {
        self.get(&format!("/sessions/device/{DEVICE}/active")).await
    }
}

const MOMENT: Duration = Duration::from_millis(120);

#[tokio::test]
async fn what_was_taken_is_shown_by_number_and_by_time_each_after_its_own_lag() {
    let (rig, token) = with(&["lag=60s", "lag-by-time=100ms"]).await;
    let (by_number, by_time) = (format!("/passings/session/{token}"), format!("/passings/device/{DEVICE}"));
    rig.insert(&token, 1..=2).await;
    assert_eq!((rig.listed(&by_number).await, rig.cloud.stored()), (vec![], 2));
    tokio::time::sleep(MOMENT).await;
    rig.insert(&token, 3..=4).await;
    assert_eq!((rig.listed(&by_number).await, rig.listed(&by_time).await), (vec![], vec![1, 2]));
    rig.cloud.habits(Habits::of(1, ["lag=100ms"]).unwrap());
    assert_eq!(rig.listed(&by_number).await, [1, 2]);
    tokio::time::sleep(MOMENT).await;
    assert_eq!((rig.listed(&by_number).await, rig.listed(&by_time).await), (vec![1, 2, 3, 4], vec![1, 2, 3, 4]));
}

#[tokio::test]
async fn a_lag_between_two_times_shows_now_more_now_less_but_always_what_was_held_at_some_moment() {
    let (rig, token) = with(&["lag=0s..200ms"]).await;
    let path = format!("/passings/session/{token}");
    let mut seen = Vec::new();
    for number in 1..=60 {
        rig.insert(&token, [number]).await;
        tokio::time::sleep(Duration::from_millis(4)).await; // so that some passings are older than the lag
        let listed = rig.listed(&path).await;
        assert_eq!(listed, (1..=listed.len() as u64).collect::<Vec<_>>());
        seen.push(listed.len());
    }
    assert!(seen.windows(2).any(|two| two[0] > two[1]), "a later question never shows less: {seen:?}");
    assert!(seen.windows(2).any(|two| two[0] < two[1]), "a later question never shows more: {seen:?}");
}

#[tokio::test]
async fn passings_that_came_out_of_order_lag_too() {
    let (rig, token) = with(&["lag=60s"]).await;
    rig.insert(&token, [5, 2]).await;
    rig.cloud.habits(Habits::of(1, ["lag=100ms"]).unwrap());
    tokio::time::sleep(MOMENT).await;
    rig.insert(&token, [3, 7]).await;
    assert_eq!(rig.listed(&format!("/passings/session/{token}")).await, [2, 5]);
    assert_eq!(rig.listed(&format!("/passings/device/{DEVICE}")).await, [5, 2]);
}

#[tokio::test]
async fn sessions_and_the_active_one_are_shown_as_they_were() {
    let (rig, a) = with(&["lag-sessions=100ms", "lag-active=100ms"]).await;
    assert_eq!(rig.active().await.0, 404, "it is not seen yet");
    tokio::time::sleep(MOMENT).await;
    rig.insert(&a, [1]).await;
    let b = rig.cloud.open_session(DEVICE, "B");
    let (_, active) = rig.active().await;
    assert_eq!(active["result"][0]["token_session"], *a);
    let (_, list) = rig.get(&format!("/sessions/device/{DEVICE}")).await;
    let list = list["result"].as_array().unwrap();
    assert_eq!((list.len(), &list[0]["active"], &list[0]["passings"]), (1, &json!(true), &json!(0)));
    assert_eq!(rig.get(&format!("/sessions/{b}")).await.0, 404);
    tokio::time::sleep(MOMENT).await;
    assert_eq!(rig.active().await.1["result"][0]["token_session"], *b);
    let (_, a) = rig.get(&format!("/sessions/{a}")).await;
    assert_eq!((&a["result"][0]["active"], &a["result"][0]["passings"]), (&json!(false), &json!(1)));
}

#[tokio::test]
async fn the_active_session_can_be_said_to_be_the_one_before_or_none() {
    let (rig, a) = with(&["stale-active=before@1+60s"]).await;
    let b = rig.cloud.open_session(DEVICE, "B");
    assert_eq!(rig.active().await.1["result"][0]["token_session"], *b);
    let (_, stale) = rig.active().await;
    assert_eq!((&stale["result"][0]["token_session"], &stale["result"][0]["active"]), (&json!(a), &json!(true)));
    rig.cloud.habits(Habits::of(1, ["stale-active=none@1/2"]).unwrap());
    let mut statuses = Vec::new();
    for _ in 0..20 {
        statuses.push(rig.active().await.0.as_u16());
    }
    assert!(statuses.contains(&404) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(rig.insert(&b, [1]).await.0, 200, "it is active all the same");
}

#[tokio::test]
async fn the_ends_of_a_range_may_not_belong_to_it() {
    for (texts, seen) in [
        (&["first-exclusive"][..], vec![4, 5, 6]),
        (&["last-exclusive"][..], vec![3, 4, 5]),
        (&["first-exclusive", "last-exclusive"][..], vec![4, 5]),
    ] {
        let (rig, token) = with(texts).await;
        rig.insert(&token, 1..=8).await;
        assert_eq!(rig.listed(&format!("/passings/session/{token}?first=3&last=6")).await, seen, "{texts:?}");
        assert_eq!(rig.listed(&format!("/passings/session/{token}")).await.len(), 8, "what is not given is no end");
        assert_eq!(rig.listed(&format!("/passings/session/{token}?first=0&last=0")).await, [0; 0]);
    }
}

#[tokio::test]
async fn questions_that_ask_for_too_much_or_without_an_end_are_refused() {
    let (rig, token) = with(&["last-required", "range-limit=5", "span-limit=2s"]).await;
    rig.insert(&token, 1..=8).await;
    let status = async |path: String| rig.get(&path).await.0.as_u16();
    assert_eq!(status(format!("/passings/session/{token}?first=1")).await, 400);
    assert_eq!(status(format!("/passings/session/{token}?first=1&last=6")).await, 400);
    assert_eq!(status(format!("/passings/session/{token}?first=1&last=5")).await, 200);
    let time =
        |to: u32| format!("/passings/device/{DEVICE}?from=2026-03-06T20:27:02.000Z&to=2026-03-06T20:27:0{to}.000Z");
    assert_eq!((status(time(4)).await, status(time(5)).await), (200, 400));
    assert_eq!(status(format!("/passings/device/{DEVICE}")).await, 400);
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn a_question_that_finds_nothing_may_be_answered_404() {
    let (rig, token) = with(&["none-404"]).await;
    rig.insert(&token, 1..=3).await;
    let (status, value) = rig.get(&format!("/passings/session/{token}?first=4&last=9")).await;
    assert_eq!((status.as_u16(), &value["description"]), (404, &json!("Passings not found")));
    assert_eq!(rig.get(&format!("/passings/session/{token}?first=3&last=9")).await.0, 200);
    assert_eq!(rig.get(&format!("/passings/device/{DEVICE}?to=2020-01-01T00:00:00.000Z")).await.0, 404);
}

#[tokio::test]
async fn pages_may_be_empty_before_the_end_in_both_forms_of_answers() {
    for generation in [Generation::Legacy, Generation::OpenApi] {
        let config = SimCloudConfig { generation, page_size: 3, ..Default::default() };
        let (rig, token) = with_config(&["empty-pages=between"], config).await;
        rig.insert(&token, 1..=5).await;
        let mut pages = Vec::new();
        for page in 1..=3 {
            let (_, value) = rig.get(&format!("/passings/session/{token}?page={page}")).await;
            let value = value.get("body").unwrap_or(&value);
            pages.push((value["result"].as_array().unwrap().len(), value["pagination"]["has_more"].clone()));
        }
        assert_eq!(pages, [(3, json!(true)), (0, json!(true)), (2, json!(false))]);
    }
}

#[tokio::test]
async fn has_more_may_be_missing_and_numbers_may_be_texts() {
    let (rig, token) = with_config(&["no-has-more", "text-numbers=all"], openapi()).await;
    let (_, value) = rig.insert(&token, 1..=2).await;
    let body = &value["body"];
    assert_eq!((&body["inserted_count"], &body["duplicate_count"]), (&json!("2"), &json!("0")));
    let (_, value) = rig.get(&format!("/passings/session/{token}")).await;
    let body = &value["body"];
    assert_eq!(body["pagination"], json!({ "page": "1", "limit": "5000", "total": "2" }));
    assert_eq!(body["result"][0]["num_passing"], "1");
    assert_eq!(rig.active().await.1["body"]["result"][0]["passings"], "2");
}

#[tokio::test]
async fn what_is_listed_may_be_newest_first_or_in_no_order_by_number_and_by_time() {
    for (text, sorted) in [("order=newest", true), ("order=shuffled", false)] {
        let (rig, token) = with(&[text]).await;
        rig.insert(&token, 1..=9).await;
        for path in [format!("/passings/session/{token}"), format!("/passings/device/{DEVICE}")] {
            let listed = rig.listed(&path).await;
            assert_eq!(listed.iter().rev().is_sorted(), sorted, "{path} {listed:?}");
            assert_eq!(listed.iter().sum::<u64>(), 45);
            assert_eq!(rig.listed(&path).await, listed, "the same each time");
        }
    }
}

#[tokio::test]
async fn any_kind_of_request_may_be_refused_always_or_now_and_then_while_others_pass() {
    let paths = |token: &str| {
        [
            format!("/passings/session/{token}"),
            format!("/passings/device/{DEVICE}"),
            format!("/sessions/device/{DEVICE}/active"),
            format!("/sessions/{token}"),
            "/devices".to_owned(),
        ]
    };
    for (text, refused) in [
        ("refuse=passings:403", [403, 200, 200, 200, 200]),
        ("refuse=times:500", [200, 500, 200, 200, 200]),
        ("refuse=active:400", [200, 200, 400, 200, 200]),
        ("refuse=sessions:404", [200, 200, 200, 404, 200]),
        ("refuse=devices:403", [200, 200, 200, 200, 403]),
        ("refuse=questions:429", [429, 429, 429, 429, 200]),
    ] {
        let (rig, token) = with(&[text]).await;
        let mut statuses = Vec::new();
        for path in paths(&token) {
            statuses.push(rig.get(&path).await.0.as_u16());
        }
        assert_eq!(statuses, refused, "{text}");
        assert_eq!(rig.insert(&token, [1]).await.0, 200);
    }
    let (rig, token) = with(&["refuse=inserts:403@1/4"]).await;
    let mut statuses = Vec::new();
    for number in 1..=20 {
        statuses.push(rig.insert(&token, [number]).await);
    }
    let refused = statuses.iter().filter(|(status, _)| *status == 403).count();
    assert!((1..15).contains(&refused), "{refused}");
    assert_eq!(rig.cloud.stored(), 20 - refused);
    assert!(statuses.contains(&(StatusCode::FORBIDDEN, json!({ "message": "Forbidden" }))));
}

#[tokio::test]
async fn an_insert_may_be_answered_in_words_that_nobody_knows_and_be_stored_or_not() {
    for (name, described) in [
        ("throttled", json!("Throttled")),
        ("locked", json!("Table is locked")),
        ("rate", Value::Null),
        ("none-inserted", json!("No passings inserted")),
        ("not-inserted", json!("Passings could not be inserted")),
        ("try-later", json!("Service is busy, try again later")),
        ("empty", Value::Null),
    ] {
        for (fate, stored) in [("stored", 2), ("lost", 0)] {
            let (rig, token) = with(&[&format!("words=inserts:{name}:{fate}")]).await;
            let (status, value) = rig.insert(&token, 1..=2).await;
            assert_eq!(
                (status.as_u16(), &value["description"], rig.cloud.stored()),
                (200, &described, stored),
                "{name}"
            );
            assert!(value.get("inserted_count").is_none(), "{name}");
            let names_it = ["throttled", "locked", "none-inserted", "not-inserted"].contains(&name);
            assert_eq!(value["token_session"] == *token, names_it, "{name} {value}");
        }
    }
    let (rig, token) = with_config(&["words=inserts:body-null:stored"], openapi()).await;
    assert_eq!(rig.insert(&token, [1]).await, (StatusCode::OK, json!({ "body": null })));
    let (rig, token) = with_config(&["words=inserts:gateway-404:lost@1/1"], openapi()).await;
    assert_eq!(rig.insert(&token, [1]).await, (StatusCode::NOT_FOUND, json!({ "message": "Not Found" })));
    let (rig, token) = with_config(&["words=inserts:rate:lost"], openapi()).await;
    assert_eq!(rig.insert(&token, [1]).await.1, json!({ "body": { "error": "Rate exceeded" } }));
}

#[tokio::test]
async fn the_usual_answer_may_be_wrapped_in_text_or_lie_under_another_key() {
    let (rig, token) = with(&["words=active:result-text"]).await;
    let (_, value) = rig.active().await;
    let inside: Value = serde_json::from_str(value["result"].as_str().unwrap()).unwrap();
    assert_eq!(inside[0]["token_session"], *token);
    let (rig, token) = with_config(&["words=active:other-key"], openapi()).await;
    let (_, value) = rig.active().await;
    assert_eq!((&value["body"]["session"][0]["token_session"], value["body"].get("result")), (&json!(token), None));
    let (rig, token) = with(&["words=inserts:result-text:stored"]).await;
    let (_, value) = rig.insert(&token, 1..=2).await;
    let inside: Value = serde_json::from_str(value["result"].as_str().unwrap()).unwrap();
    assert_eq!((&inside["inserted_count"], rig.cloud.stored()), (&json!(2), 2));
    let (rig, token) = with(&["words=inserts:other-key:stored"]).await;
    assert_eq!(rig.insert(&token, 1..=2).await.1["data"]["inserted_count"], 2);
    for name in ["throttled", "body-null", "empty", "gateway-404", "try-later"] {
        let (rig, _) = with(&[&format!("words=active:{name}")]).await;
        let (_, value) = rig.active().await;
        assert!(value.get("result").is_none(), "{name} {value}");
    }
}

#[tokio::test]
async fn counts_may_be_zero_missing_or_half_and_the_passings_there_or_not() {
    for (text, count, stored) in [
        ("counts=zero-lost", json!(0), 0),
        ("counts=zero-stored", json!(0), 4),
        ("counts=missing", Value::Null, 4),
        ("counts=half", json!(2), 2),
    ] {
        let (rig, token) = with(&[text]).await;
        let (status, value) = rig.insert(&token, 1..=4).await;
        assert_eq!((status.as_u16(), &value["description"]), (200, &json!("Passings inserted succesfully")));
        assert_eq!((&value["inserted_count"], rig.cloud.stored()), (&count, stored), "{text}");
    }
}

#[tokio::test]
async fn duplicates_may_be_looked_for_in_all_sessions_of_the_device() {
    for (rule, kept) in [("none", 4), ("number", 0), ("number-time", 0), ("chip-time", 0)] {
        let (rig, a) = with(&[&format!("duplicates={rule}:per-device")]).await;
        rig.insert(&a, 1..=4).await;
        let b = rig.cloud.open_session(DEVICE, "B");
        rig.insert(&b, 1..=4).await;
        assert_eq!((rig.numbers(&a).len(), rig.numbers(&b).len()), (4, kept), "{rule}");
        rig.insert(&b, 101..=104).await;
        assert_eq!(rig.numbers(&b).len(), kept + 4, "{rule}: others are no duplicates");
        assert_eq!(rig.cloud.violations(), [""; 0]);
    }
    let (rig, a) = with(&["duplicates=number"]).await;
    rig.insert(&a, 1..=4).await;
    let b = rig.cloud.open_session(DEVICE, "B");
    rig.insert(&b, 1..=4).await;
    assert_eq!(rig.numbers(&b).len(), 4, "in one session only");
}

#[tokio::test]
async fn a_second_writer_puts_its_own_above_ours_and_ours_is_no_violation() {
    let (rig, token) = with(&["second-writer=above"]).await;
    rig.insert(&token, 1..=3).await;
    let highest = rig.numbers(&token).into_iter().max().unwrap();
    assert!((4..=6).contains(&highest), "{highest}");
    rig.insert(&token, 4..=6).await;
    let held = rig.cloud.passings(&token);
    let others = |one: &&StoredPassing| one.chip.as_ref().unwrap().starts_with(OTHER_CHIP);
    assert!(held.iter().filter(others).count() >= 2);
    assert!(rig.cloud.posts()[1].duplicates > 0, "the other one has number 4");
    assert_eq!(rig.cloud.violations(), [""; 0]);
}

#[tokio::test]
async fn a_second_writer_that_counts_as_we_do_takes_our_numbers_before_us_or_after() {
    for (rule, ours) in [("number", None), ("none", Some(40)), ("chip-time", Some(40))] {
        let (rig, token) = with(&["second-writer=copies@1/2", &format!("duplicates={rule}")]).await;
        for first in (0..40).step_by(4) {
            rig.insert(&token, first + 1..=first + 4).await;
        }
        let held = rig.cloud.passings(&token);
        let (others, mine): (Vec<_>, Vec<_>) =
            held.iter().partition(|one| one.chip.as_ref().unwrap().starts_with(OTHER_CHIP));
        assert!(!others.is_empty());
        match ours {
            Some(ours) => assert_eq!(mine.len(), ours, "{rule}"),
            None => assert_eq!(held.len(), 40, "a number is there once"),
        }
        assert!(others.iter().all(|one| (1..=40).contains(&one.num)));
        assert_eq!(rig.cloud.violations(), [""; 0], "{rule}");
    }
}

#[tokio::test]
async fn one_chip_may_fail_for_ever_while_all_others_pass() {
    let (rig, token) = with(&["fails=MC00003", "fails=MC00007:503"]).await;
    assert_eq!(rig.insert(&token, 1..=4).await.0, 500);
    assert_eq!(rig.insert(&token, [1, 2, 4]).await.0, 200);
    assert_eq!(rig.insert(&token, [7]).await.0, 503);
    assert_eq!(rig.insert(&token, [5, 6]).await.0, 200);
    assert_eq!(rig.numbers(&token), [1, 2, 4, 5, 6]);
}

#[tokio::test]
async fn an_insert_may_be_slow() {
    let (rig, token) = with(&["slow-posts=60ms"]).await;
    let before = Instant::now();
    assert_eq!(rig.insert(&token, [1]).await.0, 200);
    assert!(before.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn an_answer_may_be_lost_and_the_insert_be_stored_or_not_or_half_of_it() {
    for how in ["lost-answers", "silence"] {
        for (fate, stored) in [("stored", 4), ("dropped", 0), ("half", 2)] {
            let (rig, token) = with(&[&format!("{how}={fate}")]).await;
            let error = rig.try_insert(&body(&token, 1..=4)).await.unwrap_err();
            assert_eq!((error.is_timeout(), rig.cloud.stored()), (how == "silence", stored), "{how}={fate}");
        }
    }
}

#[tokio::test]
async fn an_insert_may_be_stored_after_its_connection_is_gone_even_after_later_ones() {
    for how in ["lost-answers", "silence"] {
        let (rig, token) = with(&[&format!("{how}=late:2500ms@1ms")]).await;
        assert!(rig.try_insert(&body(&token, 1..=4)).await.is_err());
        assert_eq!(rig.cloud.stored(), 0, "{how}");
        tokio::time::sleep(Duration::from_millis(2)).await; // the habit has ended
        assert_eq!(rig.insert(&token, 5..=6).await.0, 200);
        assert!(rig.cloud.wait_for(6, Duration::from_secs(5)).await, "{how}");
        assert_eq!(rig.numbers(&token), [5, 6, 1, 2, 3, 4]);
        assert_eq!(rig.cloud.violations(), [""; 0]);
    }
}

#[tokio::test]
async fn what_is_late_is_not_stored_in_a_session_that_closed_meanwhile() {
    let (rig, token) = with(&["lost-answers=late:50ms"]).await;
    assert!(rig.try_insert(&body(&token, 1..=4)).await.is_err());
    rig.cloud.close_session(&token);
    assert!(!rig.cloud.wait_for(1, Duration::from_millis(150)).await);
}

#[tokio::test]
async fn habits_are_combined_and_the_same_for_the_same_seed() {
    let mut runs = Vec::new();
    for seed in [1, 1, 2] {
        let texts = ["lost-answers=half@1/4", "words=inserts:throttled:lost@1/4", "counts=zero-stored@1/4"];
        let rig = rig(SimCloudConfig { habits: Habits::of(seed, texts).unwrap(), ..Default::default() }).await;
        let token = rig.cloud.open_session(DEVICE, "START-5K");
        for number in 0..30 {
            let _ = rig.try_insert(&body(&token, number * 2 + 1..=number * 2 + 2)).await;
        }
        let posts: Vec<_> = rig.cloud.posts().iter().map(|post| (post.inserted, post.status)).collect();
        for met in [(1, None), (0, Some(200)), (2, Some(200))] {
            assert!(posts.contains(&met), "{met:?} of {posts:?}");
        }
        runs.push(posts);
    }
    assert!(runs[0] == runs[1] && runs[1] != runs[2]);
}

#[tokio::test]
async fn scripted_faults_go_before_habits() {
    let (rig, token) = with(&["counts=zero-lost"]).await;
    rig.cloud.fault(On::Insert, CloudFault::after(Answer::Status(500)));
    assert_eq!(rig.insert(&token, [1]).await.0, 500);
    assert_eq!((rig.insert(&token, [2]).await.0.as_u16(), rig.cloud.stored()), (200, 1));
}
