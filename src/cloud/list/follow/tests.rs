use std::sync::Mutex;

use super::*;
use crate::cloud::rufus::{FullPage, KeyFault};

/// How the continuing pull of a cloud is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pull {
    /// As the documents say.
    Right,
    /// It stays in the session that it is asked for.
    Stays,
    /// It returns the session from its beginning each time.
    Repeats,
    /// It goes back to the first session at the second call.
    GoesBack,
    /// 404 of a gateway.
    Missing,
    /// 403 of a gateway.
    Refused,
}

#[derive(Default)]
struct State {
    /// Sessions, the active one last: token and numbers.
    sessions: Vec<(&'static str, Vec<u64>)>,
    active: bool,
    pulls: usize,
    fails: bool,
}

struct Cloud {
    state: Mutex<State>,
    pull: Pull,
}

impl Cloud {
    fn new(pull: Pull, token: &'static str, count: u64) -> Self {
        let sessions = vec![(token, (1..=count).collect())];
        Self { state: Mutex::new(State { sessions, active: true, ..State::default() }), pull }
    }

    fn add(&self, nums: impl IntoIterator<Item = u64>) {
        self.state.lock().unwrap().sessions.last_mut().unwrap().1.extend(nums);
    }

    fn open(&self, token: &'static str) {
        let mut state = self.state.lock().unwrap();
        state.sessions.push((token, Vec::new()));
        state.active = true;
    }
}

fn rows(token: &str, nums: impl IntoIterator<Item = u64>) -> Vec<FullPassing> {
    let row = |num| FullPassing {
        num_passing: Some(num),
        time_ms: Some(num as i64 * 1000),
        token_session: Some(token.into()),
        ..Default::default()
    };
    nums.into_iter().map(row).collect()
}

impl FullPages for Cloud {
    async fn page(&self, scope: &Scope, page: u32) -> Result<FullPage, CallError> {
        let state = self.state.lock().unwrap();
        let Scope::Numbers { token, first, last } = scope else { panic!("{scope:?}") };
        if state.fails {
            return Err(CallError::Portal);
        }
        let (_, nums) = state.sessions.iter().find(|(known, _)| **known == **token).unwrap();
        let wanted = |num: &u64| *num >= *first && last.is_none_or(|last| *num <= last);
        let nums: Vec<u64> = nums.iter().copied().filter(wanted).skip((page as usize - 1) * 5000).take(5000).collect();
        Ok(FullPage { passings: rows(token, nums), more: None })
    }
}

impl Source for Cloud {
    async fn active(&self, _: &str) -> Result<Option<Session>, CallError> {
        let state = self.state.lock().unwrap();
        if state.fails {
            return Err(CallError::Portal);
        }
        let last = state.sessions.last().filter(|_| state.active);
        Ok(last.map(|(token, nums)| Session { token: (*token).into(), alias: None, passings: Some(nums.len() as u64) }))
    }

    async fn pulled(&self, _: &str, from: &PullFrom) -> Result<Pulled, CallError> {
        let mut state = self.state.lock().unwrap();
        state.pulls += 1;
        match self.pull {
            _ if state.fails => return Err(CallError::Portal),
            Pull::Missing => return Err(CallError::SessionGone { status: 404, answer: "Not Found".into() }),
            Pull::Refused => {
                let (fault, answer) = (KeyFault::Rejected, "Missing Authentication Token".into());
                return Err(CallError::KeyRefused { status: 403, fault, answer });
            }
            _ => {}
        }
        let (token, last) = from.after.clone().unwrap();
        let mut at = state.sessions.iter().position(|(known, _)| **known == *token).unwrap();
        let mut last = if self.pull == Pull::Repeats { 0 } else { last };
        let is_done = |at: usize, last: u64| !state.sessions[at].1.iter().any(|num| *num > last);
        if self.pull != Pull::Stays && is_done(at, last) && at + 1 < state.sessions.len() {
            (at, last) = (at + 1, 0);
        }
        if self.pull == Pull::GoesBack && state.pulls > 1 && at > 0 {
            (at, last) = (0, 0);
        }
        let (token, nums) = &state.sessions[at];
        let nums: Vec<u64> = nums.iter().copied().filter(|num| *num > last).take(150).collect();
        Ok(Pulled { session: Some((*token).into()), passings: rows(token, nums), ..Pulled::default() })
    }
}

/// What was told, in short.
fn told(news: Vec<Followed>) -> Vec<String> {
    let short = |news| match news {
        Followed::Session { token, .. } => format!("session {token}"),
        Followed::NoSession => "none".to_owned(),
        Followed::ByNumber(_) => "by number".to_owned(),
        Followed::Passings(rows) => {
            let token = rows[0].token_session.clone().unwrap();
            let nums: Vec<u64> = rows.iter().map(|row| row.num_passing.unwrap()).collect();
            format!("{token} {}-{}/{}", nums[0], nums[nums.len() - 1], nums.len())
        }
    };
    news.into_iter().map(short).collect()
}

async fn begin(cloud: &Cloud, from: Option<i64>) -> (Follower<'_, Cloud>, Vec<String>) {
    let (follower, news) = Follower::begin(cloud, "D", from, Duration::ZERO).await.unwrap();
    (follower, told(news))
}

#[tokio::test]
async fn it_begins_now_and_shows_each_new_passing_once_in_every_session() {
    for pull in [Pull::Right, Pull::Stays, Pull::Repeats, Pull::Missing, Pull::Refused] {
        let cloud = Cloud::new(pull, "A", 12_345);
        let (mut follower, news) = begin(&cloud, None).await;
        assert_eq!(news, ["session A"]);
        let mut seen = told(follower.poll().await.unwrap());
        cloud.add(12_346..=12_347);
        seen.extend(told(follower.poll().await.unwrap()));
        cloud.add(12_348..=12_700);
        seen.extend(told(follower.poll().await.unwrap()));
        cloud.add([12_701]);
        cloud.open("B");
        cloud.add(1..=3);
        for _ in 0..3 {
            seen.extend(told(follower.poll().await.unwrap()));
        }
        let notes = seen.iter().filter(|line| *line == "by number").count();
        assert_eq!(notes, usize::from(!matches!(pull, Pull::Right | Pull::Stays)), "{pull:?} {seen:?}");
        seen.retain(|line| line != "by number");
        let last = seen.pop().unwrap();
        let before = seen.pop().unwrap();
        assert_eq!((before.as_str(), last.as_str()), ("session B", "B 1-3/3"), "{pull:?}");
        let count: usize = seen.iter().map(|line| line.rsplit('/').next().unwrap().parse::<usize>().unwrap()).sum();
        assert_eq!(count, 2 + 353 + 1, "{pull:?} {seen:?}");
        assert!(seen[0].starts_with("A 12346-"), "{seen:?}");
    }
}

#[tokio::test]
async fn a_pull_that_goes_back_to_a_session_that_is_over_is_not_followed() {
    let cloud = Cloud::new(Pull::GoesBack, "A", 5);
    let (mut follower, _) = begin(&cloud, None).await;
    cloud.open("B");
    cloud.add(1..=2);
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.extend(told(follower.poll().await.unwrap()));
    }
    assert_eq!(seen, ["session B", "B 1-2/2", "by number"]);
}

#[tokio::test]
async fn without_a_session_it_waits_for_one_and_from_a_time_on_it_shows_what_is_there() {
    let cloud = Cloud::new(Pull::Right, "A", 10);
    cloud.state.lock().unwrap().active = false;
    let (mut follower, news) = begin(&cloud, None).await;
    assert_eq!(news, ["none"]);
    assert_eq!(told(follower.poll().await.unwrap()), [""; 0], "it is told once");
    cloud.open("B");
    cloud.add(1..=2);
    assert_eq!(told(follower.poll().await.unwrap()), ["session B"]);
    assert_eq!(told(follower.poll().await.unwrap()), ["B 1-2/2"]);
    let (mut follower, _) = begin(&cloud, Some(2000)).await;
    assert_eq!(told(follower.poll().await.unwrap()), ["B 2-2/1"], "from the second second of 1970 on");
}

#[tokio::test]
async fn what_failed_is_asked_for_again_and_nothing_is_lost() {
    let cloud = Cloud::new(Pull::Right, "A", 10);
    let (mut follower, _) = begin(&cloud, None).await;
    cloud.add(11..=400);
    cloud.state.lock().unwrap().fails = true;
    assert_eq!(follower.poll().await, Err(ListError::Cloud(CallError::Portal)));
    cloud.state.lock().unwrap().fails = false;
    assert_eq!(told(follower.poll().await.unwrap()), ["A 11-160/150", "A 161-310/150", "A 311-400/90"]);
}

#[tokio::test]
async fn the_highest_number_is_found_whatever_count_the_cloud_tells() {
    for (nums, count) in [(vec![], 0), (vec![], 7), (vec![1, 2, 3], 3), (vec![5, 9000], 2), (vec![3], 100_000)] {
        let expected = nums.last().map_or(0, |num| num + 1);
        let cloud = Cloud::new(Pull::Right, "A", 0);
        cloud.add(nums);
        assert_eq!(after_all(&cloud, "A", count).await, Ok(expected), "{count}");
    }
}
