//! The uplink of a history: the driver's own parts, one action at a time.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::ledger::Ledger;
use super::{Device, pause};
use crate::cloud::passing::{Bibs, Mapper};
use crate::cloud::uplink::machine::{Action, Input, Machine};
use crate::cloud::uplink::{UplinkConfig, form, formed, offer, record};
use crate::config::TagCode;
use crate::journal::{Journal, Offer};
use crate::model::chip::Seq;
use crate::model::clock::Zones;

/// Does what `Driver::run` does, with the cloud and the clock of the model: it uses the machine's
/// actions, the driver's offers and the driver's batches. After each action the world continues.
pub(super) async fn drive(
    device: Rc<RefCell<Device>>,
    ledger: Rc<RefCell<Ledger>>,
    dir: PathBuf,
    journal: Journal,
    config: UplinkConfig,
    seed: u64,
) {
    journal.serving().await;
    let state = journal.device(&config.device);
    ledger.borrow_mut().uplink_started(&config.device, &state);
    let mut machine = Machine::new(&config.device, config.session, config.upload, state, seed);
    let mut changed = journal.changed();
    let mapper = Mapper::new(TagCode::Raw, watch::channel(Arc::new(Bibs::default())).1, Zones::default());
    let fields = Arc::new(move |read: &_| mapper.fields(read));
    loop {
        pause().await;
        let now = device.borrow().now;
        device.borrow_mut().cloud.at(now);
        by_hand(&device, &ledger, (&journal, &config), &mut machine);
        let action = machine.next(now);
        let input = match action {
            Action::Record(event) => {
                device.borrow_mut().note(&format!("record {event:?}"));
                ledger.borrow_mut().recording(&dir, &event, &device.borrow().cloud);
                if record(&journal, event).await.is_err() {
                    return;
                }
                continue;
            }
            Action::Wait { until, reads, offer: terms } => {
                let before = journal.durable();
                let offer = terms.map(|terms| offer(config.clone(), terms, Arc::clone(&fields)));
                let Some(input) = wait(&device, &journal, offer, reads.then_some(&mut changed)).await else {
                    let mut device = device.borrow_mut();
                    (device.moved, device.now) = (true, until);
                    continue;
                };
                if let Input::Numbered(batch) = &input {
                    ledger.borrow_mut().told(&dir, batch, before, &device.borrow().cloud);
                }
                input
            }
            Action::Count { limit } => {
                changed.borrow_and_update();
                let pending = journal.pending(&config.device, &config.decoders, limit);
                device.borrow_mut().moved = true;
                Input::Waiting((!pending.is_empty()).then(|| pending.passings()))
            }
            Action::Form { token, next, limit, bound, without, again } => {
                changed.borrow_and_update();
                let most = limit + without.len() - again.len();
                ledger.borrow_mut().forming(&dir, &config.device);
                let mut pending = journal.pending(&config.device, &config.decoders, most);
                pending.returned.retain(|item| !without.contains(&item.seq));
                pending.end_at(bound);
                let through = pending.through;
                let pending = journal.with_right_times(&config.device, pending);
                let again = if journal.is_on_hold() { Vec::new() } else { again };
                let again = journal.right_times(journal.still_failing(&config.device, again));
                device.borrow_mut().moved = true;
                formed(form(&config, &token, next, pending, again, &*fields).0, bound, through)
            }
            Action::Post { token, items } => {
                ledger.borrow_mut().posting(&dir, &config.device, &token, &items);
                let mut device = device.borrow_mut();
                let answer = device.cloud.insert(&token, &items);
                let numbers: Vec<u64> = items.iter().map(|item| item.num).collect();
                device.note(&format!("post {token} {numbers:?} {}", answer.is_ok()));
                Input::Posted(answer)
            }
            question => device.borrow_mut().answer(question),
        };
        let now = device.borrow().now + Duration::from_millis(10);
        device.borrow_mut().now = now;
        machine.put(now, input);
    }
}

/// Sessions that somebody opens or closes: tells what became of the last order, and gives the next.
fn by_hand(
    device: &RefCell<Device>,
    ledger: &RefCell<Ledger>,
    (journal, config): (&Journal, &UplinkConfig),
    machine: &mut Machine,
) {
    let now = device.borrow().now;
    if let Some(done) = machine.take_done() {
        let mut pending = journal.pending(&config.device, &config.decoders, usize::MAX);
        pending.end_at(Some(done.through));
        device.borrow_mut().note(&format!("done {done:?}"));
        ledger.borrow_mut().ordered(&done, &pending);
    }
    if std::mem::take(&mut device.borrow_mut().leaves) && machine.withdraw_order() {
        device.borrow_mut().note("withdrawn");
        ledger.borrow_mut().count("orders about the session that were withdrawn", 1);
    }
    let order = if machine.has_order() { None } else { device.borrow_mut().orders.pop_front() };
    if let Some(wanted) = order {
        let wanted = wanted.unwrap_or_else(|| device.borrow().cloud.the_active());
        device.borrow_mut().note(&format!("order {wanted:?}"));
        machine.put(now, Input::Order { wanted, through: journal.durable() });
    }
}

/// What ends a wait before its time: a batch that the journal wrote with its reads, or with
/// `changed` a change of the journal.
async fn wait(
    device: &RefCell<Device>,
    journal: &Journal,
    offer: Option<Offer>,
    changed: Option<&mut watch::Receiver<Seq>>,
) -> Option<Input> {
    if let Some(offer) = offer {
        let offered = journal.offer(offer);
        pause().await; // a read may be kept now
        if let Some(batch) = offered.withdraw().await {
            device.borrow_mut().note(&format!("numbered {batch:?}"));
            return Some(Input::Numbered(batch));
        }
    }
    let changed = changed.filter(|changed| changed.has_changed().unwrap_or(false))?;
    changed.borrow_and_update();
    device.borrow_mut().note("noticed");
    Some(Input::Noticed)
}
