//! Passings that an audit found missing are sent again.

use super::*;

/// An audit found these numbers of the first session missing. They are sent again as soon as the
/// machine is free.
fn send_again(world: &mut World, nums: &[u64]) {
    let token = world.cloud.sessions[0].token.clone();
    let of = |event: &UploadEvent| match event {
        UploadEvent::Batch(batch) if batch.session == token && !batch.is_resend() => batch.items.clone(),
        _ => Vec::new(),
    };
    let mut items: Vec<_> = world.store.log.iter().flat_map(of).filter(|item| nums.contains(&item.num)).collect();
    items.sort_by_key(|item| item.num);
    world.cloud.sessions[0].rows.retain(|row| !nums.contains(&row.num.unwrap()));
    while world.machine.may_resend(&token) != ResendPermit::Now {
        world.step();
    }
    world.machine.put(world.now, Input::Resend { token, items });
}

/// Number of random repairs. The environment can set it.
fn repairs() -> u32 {
    std::env::var("PASSBRIDGE_REPAIRS").ok().and_then(|count| count.parse().ok()).unwrap_or(200)
}

fn in_order(world: &mut World) {
    for session in &mut world.cloud.sessions {
        session.rows.sort_by_key(|row| row.num);
    }
}

#[test]
fn what_an_audit_missed_is_asked_for_immediately_before_it_goes_again_also_where_duplicates_are_detected() {
    for dedup in [false, true] {
        let mut world = World::with_session();
        world.cloud.dedup = dedup;
        world.read(30);
        world.cloud.counts = (true, true);
        if dedup {
            world.cloud.script.push_back((On::Insert, CallFault::LostLate)); // so the cloud counts duplicates
        }
        world.drain();
        send_again(&mut world, &[4, 5, 20]);
        assert!(is_batch(&world.step()), "durable first");
        assert_eq!(world.store.state.sent, 27);
        assert!(matches!(world.step(), Action::AskHeld { .. }), "then asked");
        let Action::Post { items, .. } = world.until(is_post) else { unreachable!() };
        assert_eq!(items.iter().map(|item| item.num).collect::<Vec<_>>(), [4, 5, 20]);
        world.drain();
        in_order(&mut world);
        world.audit();
        assert_eq!(world.store.state.sent, 30);
    }
}

#[test]
fn what_goes_again_is_never_numbered_anew_when_the_session_closes_or_the_number_is_taken() {
    let mut world = World::with_session();
    world.read(30);
    world.drain();
    send_again(&mut world, &[4, 5, 20]);
    world.until(is_batch);
    world.cloud.sessions[0].rows.push(foreign(5));
    world.cloud.script.push_back((On::Insert, CallFault::LostBefore));
    world.until(is_post);
    world.cloud.close();
    world.pass(60 * SECOND);
    world.cloud.open();
    world.read(2);
    world.drain();
    let mut aside: Vec<u64> = world.store.dead_letters.iter().map(|(_, item, _)| item.num).collect();
    aside.sort_unstable();
    assert_eq!(aside, [4, 5, 20]);
    assert_eq!(world.rows(1), [(1, "C31"), (2, "C32")], "nothing of the first session");
    let posted = |event: &&UploadEvent| matches!(event, UploadEvent::Released { .. });
    assert_eq!(world.store.log.iter().filter(posted).count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: repairs(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_repair_through_faults_and_crashes_leaves_each_passing_once_under_its_number(
        seed: u64, dedup: bool, nums in proptest::collection::btree_set(1u64..=40, 1..20), crashes in 0usize..4,
    ) {
        let mut world = World::with_session();
        world.cloud.dedup = dedup;
        world.read(40);
        world.drain();
        let before = world.cloud.sessions[0].rows.clone();
        let nums: Vec<u64> = nums.into_iter().collect();
        send_again(&mut world, &nums);
        world.until(is_batch);
        world.cloud.chance = Some((fastrand::Rng::with_seed(seed), 0.3));
        let mut rng = fastrand::Rng::with_seed(seed ^ 1);
        for _ in 0..crashes {
            for _ in 0..rng.usize(1..12) {
                world.step();
            }
            world.crash(rng.usize(0..3));
        }
        world.read(5);
        world.cloud.chance = None;
        let closed = !world.cloud.sessions[0].active;
        if closed {
            world.cloud.open();
        }
        world.drain();
        in_order(&mut world);
        let rows = &world.cloud.sessions[0].rows;
        prop_assert!(rows.iter().all(|row| row.num.unwrap() > 40 || before.contains(row)));
        prop_assert!(closed || rows[..40] == before[..]);
        world.audit();
    }
}
