//! The life signs that systemd gets, as it gets them: a socket of ours in its place. They come from
//! the loop that keeps the reads. If that loop hangs by a fault of the program they end, and if it
//! waits for a slow disk they go on.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use passbridge::testing::sim::decoder::Kind;

use super::faults::Failing;
use crate::support::child::{Site, decoder, until};

/// The watchdog time: long enough for a busy machine, short enough for a test.
const LIMIT: Duration = Duration::from_secs(6);

/// What systemd would notice.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// The service is ready.
    Ready,
    /// A life sign.
    Sign,
    /// No sign within the watchdog time: systemd would end the process.
    Silence,
}

/// Listens as systemd does, from the moment at which the service is ready.
fn systemd(socket: &Path) -> mpsc::Receiver<Heard> {
    let socket = UnixDatagram::bind(socket).unwrap();
    let (told, heard) = mpsc::channel();
    thread::spawn(move || {
        let (mut buffer, mut ready) = ([0; 1024], false);
        loop {
            let told_it = match socket.recv(&mut buffer) {
                Ok(length) => {
                    let text = String::from_utf8_lossy(&buffer[..length]);
                    match () {
                        () if text.contains("READY=1") => told.send(Heard::Ready),
                        () if text.contains("WATCHDOG=1") => told.send(Heard::Sign),
                        () => continue, // a line of status is no sign, and no reason to wait anew
                    }
                }
                Err(_) => told.send(Heard::Silence),
            };
            if told_it.is_err() {
                return; // the test is over
            }
            if !std::mem::replace(&mut ready, true) {
                socket.set_read_timeout(Some(LIMIT)).unwrap();
            }
        }
    });
    heard
}

fn start(site: &Site, more: &[(&str, &str)]) -> (crate::support::child::Running, mpsc::Receiver<Heard>) {
    let socket = site.config().with_file_name("notify");
    let heard = systemd(&socket);
    let limit = LIMIT.as_micros().to_string();
    let mut environment = vec![("NOTIFY_SOCKET", socket.to_str().unwrap()), ("WATCHDOG_USEC", &limit)];
    environment.extend_from_slice(more);
    (site.start_with(&environment), heard)
}

/// Waits for the next thing that systemd notices, while the simulators go on.
async fn next(heard: &mut Option<mpsc::Receiver<Heard>>) -> Heard {
    let receiver = heard.take().unwrap();
    let (said, receiver) = tokio::task::spawn_blocking(move || (receiver.recv().unwrap(), receiver)).await.unwrap();
    *heard = Some(receiver);
    said
}

#[tokio::test]
async fn life_signs_come_while_the_writer_gets_on_and_end_when_it_hangs() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let stop = site.config().with_file_name("stop");
    let (running, heard) = start(&site, &[("PASSBRIDGE_TRIAL_STOP_WRITER", stop.to_str().unwrap())]);
    let mut heard = Some(heard);
    assert_eq!(next(&mut heard).await, Heard::Ready);
    // Nobody crosses the mat, and the signs come: more of them than one watchdog time has.
    for _ in 0..6 {
        assert_eq!(next(&mut heard).await, Heard::Sign);
    }
    until("the decoder is connected", async || *sim.links().borrow() == 1).await;
    sim.push(3);
    site.until("the reads are kept", |status| status.decoders[0].reads == 3).await;
    // The tasks, the page and the timers of the process go on. Only the thread that keeps reads does not.
    fs::write(&stop, "").unwrap();
    let mut signs = 0;
    while next(&mut heard).await == Heard::Sign {
        signs += 1;
        assert!(signs < 10, "the signs do not end");
    }
    assert!(site.status().await.is_some(), "the rest of the process works");
    assert!(site.said().contains("systemd gets no more life signs"), "{}", site.said());
    running.kill();
}

#[tokio::test]
async fn a_slow_disk_is_told_and_does_not_end_the_life_signs() {
    let (sim, mat) = decoder(Kind::IPICO, 1).await;
    let site = Site::new(None, &[mat], "");
    let (running, heard) = start(&site, &[]);
    let mut heard = Some(heard);
    assert_eq!(next(&mut heard).await, Heard::Ready);
    until("the decoder is connected", async || *sim.links().borrow() == 1).await;
    // Each thread's next fdatasync takes longer than two watchdog times and what people are told after.
    let Some(failing) = Failing::attach(&running, "inject=fdatasync:delay_enter=16000000:when=1").await else {
        return;
    };
    sim.push(3);
    let mut told = false;
    loop {
        assert_eq!(next(&mut heard).await, Heard::Sign, "systemd would end the process, and lose the reads");
        let status = site.status().await.unwrap();
        let slow = status.problems.iter().any(|problem| problem.code == "disk_failed");
        if slow {
            assert!(!status.ready && status.decoders[0].reads == 0, "{status:#?}");
        } else if told {
            break;
        }
        told |= slow;
    }
    drop(failing);
    site.until("the reads are kept, and the box is ready", |status| status.ready && status.decoders[0].reads == 3)
        .await;
    running.stop().await;
    assert_eq!(site.export().await.len(), 3);
}
