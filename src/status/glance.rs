//! The box at one glance: a [`Snapshot`] as text for people, for `passbridge status` and the plain
//! page.
//!
//! Must hold: what is wrong is shown first and as a word, not only as a colour. The text says
//! nothing that the snapshot does not contain. Text from outside (a chip code, an answer of the
//! cloud) cannot control a terminal. A time carries its zone; a decoder's stamp is called that of
//! its own clock.

use std::fmt::Write;

use crate::model::shown::ShownIn;
use crate::model::text::printable;
use crate::status::words::{against_box, age, count, short, took};
use crate::status::{
    DecoderStatus, LatencyFigures, LatencyStatus, LinkState, MachineStatus, ProblemCode, Snapshot, TimeSources,
    UploadState, UploadStatus,
};

/// The whole text, with its times as `times` shows them. Each line ends with `\n`.
pub(crate) fn text(status: &Snapshot, times: &ShownIn) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(status, times, &mut out);
    out
}

fn write(status: &Snapshot, times: &ShownIn, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}: {}. {}", printable(&status.name), status.state.shown(), printable(&status.sentence))?;
    for (at, todo) in status.todo.iter().enumerate() {
        writeln!(out, "  {}. {}", at + 1, printable(todo))?;
    }
    if let Some(by_itself) = &status.by_itself {
        writeln!(out, "  {}", printable(by_itself))?;
    }
    for problem in &status.problems {
        let about = if problem.about.is_empty() { String::new() } else { format!(" {}", printable(&problem.about)) };
        writeln!(out, "  PROBLEM{about}: {} (since {})", printable(&problem.message), times.second(problem.since))?;
    }
    for decoder in &status.decoders {
        write_decoder(status, decoder, times, out)?;
    }
    let journal = &status.journal;
    writeln!(out, "{}", counts(status))?;
    write_latency(&status.latency, !status.uploads.is_empty(), out)?;
    if status.uploads.is_empty() {
        let wrong = ProblemCode::UploadMisconfigured.word();
        let line = match status.problems.iter().any(|problem| problem.code == wrong) {
            true => "cloud: NOT SENT, its configuration has a mistake; every read is safe on this box",
            false => "cloud: none is configured, so the reads stay on this box",
        };
        writeln!(out, "{line}")?;
    }
    for upload in &status.uploads {
        write_upload(status, upload, times, out)?;
    }
    let opening = if journal.serving { "" } else { ", the upload queue is being opened" };
    let (version, up) = (&status.version, age(status.uptime_s));
    // Before the log is open, nobody has looked at the disk.
    let disk = match journal.identity.is_empty() {
        true => "; the data directory is not in use yet".to_owned(),
        false => format!("; uses {} of the disk, {} are free", bytes(journal.bytes), bytes(journal.free_bytes)),
    };
    if let Some(machine) = &status.machine {
        write_machine(machine, out)?;
        if let Some(sources) = &machine.time {
            write_time(sources, out)?;
        }
    }
    writeln!(out, "passbridge {version}, running for {up}{disk}{opening}")
}

/// Shows how many reads were ever kept, and what happened to them, as a sum that adds up. Lines of
/// the log are never counted.
pub(crate) fn counts(status: &Snapshot) -> String {
    let journal = &status.journal;
    let Some(reads) = journal.reads else {
        return "on this box: the reads are counted as soon as the upload queue is open".to_owned();
    };
    let kept = format!("on this box: {}", number(reads.kept, "read"));
    if status.uploads.is_empty() {
        return kept + " since the journal was begun";
    }
    let parts = [
        (reads.in_cloud, "in the cloud"),
        (reads.waiting, "waiting"),
        (reads.held, "ON HOLD"),
        (reads.set_aside, "SET ASIDE"),
        (reads.held_back, "held back"),
        (reads.duplicates, if reads.duplicates == 1 { "repeat, not sent" } else { "repeats, not sent" }),
        (reads.dead_time, "within the dead time, not sent"),
        (reads.dropped_by_choice, "dropped by choice, not sent"),
        (reads.expired, "held back and removed by age"),
    ];
    let told: Vec<String> = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| match journal.oldest_pending_s.filter(|_| what == "waiting") {
            Some(oldest) => format!("{} {what} (the oldest for {})", count(number), age(oldest)),
            None => format!("{} {what}", count(number)),
        })
        .collect();
    match told.as_slice() {
        [] => kept + " since the journal was begun",
        _ if reads.in_cloud == reads.kept => kept + ", all sent (since the journal was begun)",
        told => format!("{kept} = {} (since the journal was begun)", told.join(" + ")),
    }
}

/// Shows what "live" is: how long the reads of the last minute took. Nothing if there were none.
fn write_latency(latency: &LatencyStatus, sends: bool, out: &mut String) -> std::fmt::Result {
    let rest = |told: &LatencyFigures| format!("95 % within {}, worst {}", took(told.p95), took(told.worst));
    match (&latency.kept, &latency.cloud) {
        (None, None) => Ok(()),
        (Some(kept), Some(cloud)) => {
            let (kept, median) = (took(kept.median), took(cloud.median));
            writeln!(out, "live: a read is kept after {kept} and in the cloud after {median} ({})", rest(cloud))
        }
        (Some(kept), None) => {
            let none = if sends { "; in the last minute none arrived in the cloud" } else { "" };
            writeln!(out, "live: a read is kept after {} ({}){none}", took(kept.median), rest(kept))
        }
        (None, Some(cloud)) => {
            writeln!(out, "live: a read is in the cloud after {} ({})", took(cloud.median), rest(cloud))
        }
    }
}

fn write_machine(machine: &MachineStatus, out: &mut String) -> std::fmt::Result {
    write!(out, "machine: {}", printable(machine.model.as_deref().unwrap_or(&machine.architecture)))?;
    if let Some(degrees) = machine.temperature_c {
        write!(out, ", {degrees} °C")?;
    }
    for battery in &machine.batteries {
        let state = battery.state.map_or("", |state| state.in_words());
        match battery.percent {
            Some(percent) => write!(out, ", battery {} {percent} % {state}", printable(&battery.name))?,
            None => write!(out, ", battery {} {state}", printable(&battery.name))?,
        }
    }
    match machine.mains_online {
        Some(true) => write!(out, ", power is connected")?,
        // A machine without a battery has power from somewhere that the kernel does not know.
        Some(false) if !machine.batteries.is_empty() => write!(out, ", NO POWER IS CONNECTED")?,
        Some(false) | None => {}
    }
    if machine.under_voltage == Some(true) {
        write!(out, ", TOO LITTLE VOLTAGE")?;
    }
    writeln!(out, ", kernel {}, switched on for {}", printable(&machine.kernel), age(machine.uptime_s))
}

/// Where the box can get the time without a network.
fn write_time(sources: &TimeSources, out: &mut String) -> std::fmt::Result {
    let pps = sources.pps.iter().map(|pps| {
        let pulses = match pps.pulses {
            Some(true) => " with pulses",
            Some(false) => " WITHOUT PULSES",
            None => "",
        };
        format!("{}{pulses}", printable(&pps.name))
    });
    let all: Vec<String> = pps.chain(sources.gpsd.then(|| "gpsd".to_owned())).collect();
    let network = if sources.from_network { "; the network has set the clock" } else { "" };
    writeln!(out, "time: this box has {}{network}", all.join(", "))
}

fn number(count_of: u64, what: &str) -> String {
    let s = if count_of == 1 { "" } else { "s" };
    format!("{} {what}{s}", count(count_of))
}

fn write_decoder(status: &Snapshot, decoder: &DecoderStatus, times: &ShownIn, out: &mut String) -> std::fmt::Result {
    let (name, protocol, address) = (&decoder.name, &decoder.protocol, &decoder.address);
    let link = link_in_words(status, decoder, times);
    write!(out, "decoder {}", printable(name))?;
    // Of a decoder whose section is wrong, neither is known.
    if !protocol.is_empty() {
        write!(out, " ({protocol} at {})", printable(address))?;
    }
    write!(out, ": {link}, ")?;
    write!(out, "{}", number(decoder.reads, "read"))?;
    if !decoder.locations.is_empty() {
        let each: Vec<String> =
            decoder.locations.iter().map(|(location, reads)| format!("{} {reads}", printable(location))).collect();
        write!(out, " (of them {})", each.join(", "))?;
    }
    for (number, what) in
        [(decoder.markers, "markers"), (decoder.rejected, "REJECTED frames"), (decoder.dropped, "LOST")]
    {
        if number > 0 {
            write!(out, ", {} {what}", count(number))?;
        }
    }
    write!(out, " since the start")?;
    if decoder.buffered > 0 {
        write!(out, "; {} not kept yet", count(decoder.buffered))?;
    }
    if let Some(offset) = decoder.clock_offset_ms {
        write!(out, ", its clock is {}", against_box(offset))?;
    }
    match &decoder.last_read {
        Some(last) => {
            let (chip, time) = (printable(&last.chip), printable(&last.time));
            writeln!(out, "; last {chip} at {time} by its clock (received {})", times.second(last.received))
        }
        None => writeln!(out, "; no read yet"),
    }
}

/// The state of a decoder's link in words. It is in capitals where a person has to do something.
pub(crate) fn link_in_words(status: &Snapshot, decoder: &DecoderStatus, times: &ShownIn) -> String {
    let has = |code: ProblemCode| {
        status.problems.iter().any(|problem| problem.code == code.word() && problem.about == decoder.name)
    };
    let listens = decoder.address.starts_with("tcp-listen://");
    let port = || decoder.address.rsplit_once(':').map_or("", |(_, port)| port);
    match decoder.state {
        LinkState::Connecting | LinkState::Failed if has(ProblemCode::DecoderMisconfigured) => {
            "NOT READ, its section in the configuration has a mistake".to_owned()
        }
        LinkState::Failed if listens => format!("CANNOT LISTEN on port {}, is tried again", port()),
        LinkState::Connected if has(ProblemCode::NotTiming) => "connected, NOT IN TIMING MODE".to_owned(),
        LinkState::Connected if has(ProblemCode::WrongProtocol) || has(ProblemCode::DecoderNoRecords) => {
            format!("connected, SENDS WHAT {} DOES NOT KNOW", decoder.protocol.to_uppercase())
        }
        LinkState::Connected if has(ProblemCode::WrongBaud) => {
            "connected, SENDS GARBAGE (is the rate right?)".to_owned()
        }
        LinkState::Connected => "connected".to_owned(),
        LinkState::Connecting if listens => {
            format!("WAITING for its software to connect to port {}", port())
        }
        LinkState::Connecting => "CONNECTING".to_owned(),
        LinkState::Failed => format!("NO ANSWER from {}, is tried again", printable(&decoder.address)),
        LinkState::Idle => {
            let silent = status
                .problems
                .iter()
                .find(|problem| problem.code == ProblemCode::DecoderSilent.word() && problem.about == decoder.name);
            let since = silent.map(|problem| format!(" (since {})", times.second(problem.since)));
            format!("connected, but HAS SAID NOTHING for too long{}", since.unwrap_or_default())
        }
    }
}

/// What an upload does between two batches.
const ABOUT_TO_SEND: &str = "about to send what waits";

/// What the upload of a device does, in words.
pub(crate) fn upload_in_words(status: &Snapshot, upload: &UploadStatus) -> String {
    let silent = status
        .problems
        .iter()
        .any(|problem| problem.code == ProblemCode::CloudSilent.word() && problem.about == upload.device_id);
    upload_does(upload, waiting_for(status), silent)
}

/// How many reads wait for a device. Which device waiting reads belong to is known only if there is
/// one device.
fn waiting_for(status: &Snapshot) -> Option<u64> {
    (status.uploads.len() == 1 || status.journal.pending == 0).then_some(status.journal.pending)
}

/// What the upload of a device does, in words. `waiting` is how many reads wait for it, if that is
/// known. `silent` means that the cloud does not answer, although the network may work.
fn upload_does(upload: &UploadStatus, waiting: Option<u64>, silent: bool) -> String {
    if silent && upload.state == UploadState::Offline {
        return "NO ANSWER".to_owned();
    }
    match (&upload.waits_for, upload.state, waiting) {
        (Some(what), UploadState::Idle | UploadState::Sending, _) => printable(what),
        (None, UploadState::Idle, Some(1..)) => ABOUT_TO_SEND.to_owned(),
        // With several devices, the uplink knows whether something of the sum is its own.
        (None, UploadState::Idle, None) if upload.nothing_waits == Some(false) => ABOUT_TO_SEND.to_owned(),
        (None, UploadState::Idle, None) if upload.nothing_waits.is_none() => "not sending yet".to_owned(),
        (_, state, _) => state.in_words().to_owned(),
    }
}

fn write_upload(status: &Snapshot, upload: &UploadStatus, times: &ShownIn, out: &mut String) -> std::fmt::Result {
    let state = upload_in_words(status, upload);
    let waiting = waiting_for(status).unwrap_or(0);
    write!(out, "cloud {}: {state}, ", printable(&short(&upload.device_id)))?;
    if let Some(session) = &upload.session {
        let alias = session.alias.as_deref().unwrap_or("without a name");
        write!(out, "session {} (…{}), ", printable(alias), printable(&session.token_tail))?;
        if let Some(numbered) = session.numbered {
            write!(out, "{} numbered since it was opened, ", count(numbered))?;
        }
    }
    write!(out, "{} sent since the journal was begun", count(upload.sent))?;
    if upload.duplicates > 0 {
        write!(out, " ({} of them it had already)", count(upload.duplicates))?;
    }
    if let Some(pace) = upload.per_minute {
        write!(out, ", {pace} a minute")?;
        if waiting > 0 && pace > 0 {
            write!(out, " (what waits takes about {})", age(waiting * 60 / pace))?;
        }
    }
    if let Some(last) = upload.last_ok {
        write!(out, ", last {}", times.second(last))?;
    }
    match &upload.last_error {
        Some(error) => writeln!(out, "; last error: {}", printable(error))?,
        None => writeln!(out)?,
    }
    if let Some(audit) = &upload.audit {
        let alias = printable(audit.alias.as_deref().unwrap_or("without a name"));
        let (tail, at) = (printable(&audit.token_tail), times.second(audit.at));
        write!(out, "  audit of session {alias} (…{tail}) at {at}: ")?;
        match (audit.equal, audit.not_yet_sent) {
            (true, 0) => writeln!(out, "equal, {} passings", audit.checked)?,
            (true, way) => writeln!(out, "equal so far, {way} on their way")?,
            (false, _) => writeln!(
                out,
                "NOT EQUAL: of {} passings {} missing, {} different; {} foreign, {} duplicated",
                audit.checked, audit.missing, audit.different, audit.foreign, audit.duplicated
            )?,
        }
    }
    Ok(())
}

/// A number of bytes in a unit that people read, such as 12.3 MB.
pub(crate) fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB"].into_iter();
    let mut unit = "TB";
    for next in units.by_ref() {
        if value < 999.95 {
            unit = next;
            break;
        }
        value /= 1000.0;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::model::clock::Wall;
    use crate::status::{BatteryStatus, Board, ChargeState, LastRead, PpsStatus};

    fn text(status: &Snapshot) -> String {
        super::text(status, &ShownIn::zone(TimeZone::UTC))
    }

    #[test]
    fn what_is_wrong_is_said_first_and_in_words() {
        let board = Board::new("finish");
        board.raise(ProblemCode::DiskFull, "", "the disk is full: free some space");
        board.decoder("mat", |decoder| {
            decoder.protocol = "ipico".to_owned();
            decoder.address = "tcp://10.0.0.5:10000".to_owned();
            decoder.state = LinkState::Failed;
            decoder.rejected = 3;
        });
        board.upload(&"A".repeat(64), |upload| upload.state = UploadState::NoSession);
        let text = text(&board.snapshot());
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("finish: CANNOT KEEP. The card is full. New reads would only be"), "{text}");
        let after = lines.iter().position(|line| line.starts_with("  PROBLEM: the disk is full")).unwrap();
        let decoder = lines[after + 1];
        assert!(decoder.contains("NO ANSWER from tcp://10.0.0.5:10000") && decoder.contains("3 REJECTED"), "{text}");
        assert!(decoder.contains("no read yet"), "{text}");
        assert!(lines[after + 3].starts_with("cloud AAAA…AAAA: NO ACTIVE SESSION"), "{text}");
    }

    #[test]
    fn an_upload_that_does_not_send_says_what_it_waits_for() {
        let upload = |state, waits_for: Option<&str>| UploadStatus {
            state,
            waits_for: waits_for.map(str::to_owned),
            ..UploadStatus::default()
        };
        for (state, waits_for, waiting, said) in [
            (UploadState::Idle, None, Some(0), "nothing to send"),
            (UploadState::Idle, None, Some(3), "about to send what waits"),
            (UploadState::Idle, None, None, "not sending yet"),
            (UploadState::Idle, Some("waits for the API key"), Some(3), "waits for the API key"),
            (UploadState::Sending, Some("asks the cloud what it holds"), None, "asks the cloud what it holds"),
            (UploadState::Sending, None, Some(3), "sending"),
            (UploadState::Offline, None, Some(3), "OFFLINE"),
        ] {
            assert_eq!(upload_does(&upload(state, waits_for), waiting, false), said);
        }
        assert_eq!(upload_does(&upload(UploadState::Offline, None), Some(3), true), "NO ANSWER");
        // With several devices only the sum of what waits is known here.
        for (nothing_waits, said) in [(true, "nothing to send"), (false, "about to send what waits")] {
            let upload = UploadStatus { nothing_waits: Some(nothing_waits), ..upload(UploadState::Idle, None) };
            assert_eq!(upload_does(&upload, None, false), said);
        }
    }

    #[test]
    fn a_decoder_that_nobody_asked_is_not_said_to_give_no_answer() {
        let board = Board::new("finish");
        board.decoder("main", |decoder| decoder.state = LinkState::Failed);
        board.raise(ProblemCode::DecoderMisconfigured, "main", "decoder[0].address = \"x\" is no address");
        board.decoder("start", |decoder| {
            decoder.protocol = "raceresult".to_owned();
            decoder.address = "tcp-listen://0.0.0.0:3097".to_owned();
            decoder.state = LinkState::Failed;
        });
        let said = || text(&board.snapshot()).lines().filter(|line| line.starts_with("decoder ")).collect::<String>();
        let main = "decoder main: NOT READ, its section in the configuration has a mistake, 0 reads";
        assert!(said().contains(main), "{}", said());
        let start =
            "decoder start (raceresult at tcp-listen://0.0.0.0:3097): CANNOT LISTEN on port 3097, is tried again";
        assert!(said().contains(start) && !said().contains("NO ANSWER"), "{}", said());
        board.decoder("start", |decoder| decoder.state = LinkState::Connecting);
        assert!(said().contains("WAITING for its software to connect to port 3097"), "{}", said());
    }

    #[test]
    fn a_cloud_whose_configuration_is_wrong_is_not_called_absent() {
        let board = Board::new("finish");
        assert!(text(&board.snapshot()).contains("cloud: none is configured, so the reads stay on this box"));
        board.raise(ProblemCode::UploadMisconfigured, "1", "cloud.url is no address");
        let text = text(&board.snapshot());
        assert!(text.contains("cloud: NOT SENT, its configuration has a mistake"), "{text}");
        assert!(!text.contains("none is configured"), "{text}");
    }

    #[test]
    fn a_chip_code_from_outside_cannot_steer_the_terminal() {
        let board = Board::new("finish");
        board.decoder("mat", |decoder| {
            let time = "10:00:00.000\r\n".to_owned();
            decoder.last_read = Some(LastRead { chip: "\u{1b}[2J".to_owned(), time, received: Timestamp::UNIX_EPOCH });
        });
        let text = text(&board.snapshot());
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text:?}");
    }

    #[test]
    fn every_time_that_is_shown_carries_its_zone() {
        let wall = Wall::scripted("2026-07-05T08:42:07Z".parse().unwrap());
        let board = Board::with_clock("finish", wall.clone());
        let decoder = |state| {
            let read = LastRead { chip: "65E2".to_owned(), time: "10:42:06.350".to_owned(), received: wall.now() };
            board.decoder("mat", |decoder| (decoder.state, decoder.last_read) = (state, Some(read)));
        };
        decoder(LinkState::Idle);
        board.raise(ProblemCode::DecoderSilent, "mat", "it says nothing");
        board.upload("D", |upload| {
            upload.last_ok = Some(wall.now());
            let audit = r#"{"token_tail":"A115B1","at":"2026-07-05T08:00:00Z","equal":true,"checked":1,"missing":0,
                "foreign":0,"different":0,"duplicated":0,"not_yet_sent":0,"set_aside":0}"#;
            upload.audit = serde_json::from_str(audit).unwrap();
        });
        let madrid = ShownIn::zone(TimeZone::get("Europe/Madrid").unwrap());
        let text = super::text(&board.snapshot(), &madrid);
        assert_eq!(text.matches("2026-07-05 10:42:07 CEST").count(), 4, "{text}");
        assert_eq!(text.matches("2026-07-05 10:00:00 CEST").count(), 1, "{text}");
        assert_eq!(text.matches("2026-").count(), 5, "no other time is shown: {text}");
        assert!(text.contains("last 65E2 at 10:42:06.350 by its clock"), "{text}");
    }

    #[test]
    fn one_line_says_what_live_is_and_there_is_none_without_a_read() {
        let figures = |median, p95, worst| {
            let [median, p95, worst] = [median, p95, worst].map(std::time::Duration::from_micros);
            Some(LatencyFigures { median, p95, worst, reads: 7 })
        };
        let line = |kept, cloud, sends| {
            let mut out = String::new();
            write_latency(&LatencyStatus { kept, cloud }, sends, &mut out).unwrap();
            out
        };
        let kept = || figures(1_300, 2_100, 9_000);
        let cloud = figures(139_001, 180_000, 1_210_000);
        assert_eq!(
            line(kept(), cloud.clone(), true),
            "live: a read is kept after 2 ms and in the cloud after 140 ms (95 % within 180 ms, worst 1.3 s)\n"
        );
        assert_eq!(line(kept(), None, false), "live: a read is kept after 2 ms (95 % within 3 ms, worst 9 ms)\n");
        assert_eq!(
            line(kept(), None, true),
            "live: a read is kept after 2 ms (95 % within 3 ms, worst 9 ms); in the last minute none arrived in the cloud\n"
        );
        let hour = figures(3_840_000_000, 3_850_000_000, 3_900_000_000);
        assert_eq!(
            line(None, hour, true),
            "live: a read is in the cloud after 1 h 04 min (95 % within 1 h 04 min, worst 1 h 05 min)\n"
        );
        assert_eq!(line(None, None, true), "");
    }

    #[test]
    fn the_machine_is_shown_as_far_as_it_is_known() {
        let board = Board::new("finish");
        assert!(!text(&board.snapshot()).contains("machine:"));
        let (kernel, architecture) = ("6.12.25".to_owned(), "aarch64".to_owned());
        board.machine(MachineStatus { uptime_s: 7300, kernel, architecture, ..MachineStatus::default() });
        let line = || text(&board.snapshot()).lines().find(|line| line.starts_with("machine")).unwrap().to_owned();
        assert_eq!(line(), "machine: aarch64, kernel 6.12.25, switched on for 2 h 01 min");
        let ups = BatteryStatus { name: "ups".to_owned(), percent: Some(64), state: Some(ChargeState::Discharging) };
        board.machine(MachineStatus {
            model: Some("Raspberry Pi 4 Model B Rev 1.4".to_owned()),
            temperature_c: Some(52),
            mains_online: Some(false),
            batteries: vec![ups],
            ..board.snapshot().machine.unwrap()
        });
        let known =
            "machine: Raspberry Pi 4 Model B Rev 1.4, 52 °C, battery ups 64 % discharging, NO POWER IS CONNECTED, ";
        assert!(line().starts_with(known), "{}", line());
        let time = || text(&board.snapshot()).lines().find(|line| line.starts_with("time:")).map(str::to_owned);
        assert_eq!(time(), None);
        let pps = |name: &str, pulses| PpsStatus { name: name.to_owned(), pulses };
        let pps = vec![pps("pps0", Some(true)), pps("pps1", Some(false))];
        let sources = TimeSources { pps, gpsd: true, from_network: false };
        board.machine(MachineStatus { time: Some(sources), ..board.snapshot().machine.unwrap() });
        assert_eq!(time().unwrap(), "time: this box has pps0 with pulses, pps1 WITHOUT PULSES, gpsd");
    }

    #[test]
    fn sizes_and_times_are_in_units_people_read() {
        assert_eq!([bytes(0), bytes(999), bytes(12_345_678), bytes(999_960)], ["0 B", "999 B", "12.3 MB", "1.0 MB"]);
        assert_eq!(bytes(2_000_000_000_000), "2.0 TB");
        let took = |micros| took(std::time::Duration::from_micros(micros));
        assert_eq!([0, 1, 999_000, 999_001, 9_900_000].map(took), ["1 ms", "1 ms", "999 ms", "1.0 s", "9.9 s"]);
        assert_eq!([9_900_001, 59_000_001, 3_840_000_000].map(took), ["10 s", "1 min", "1 h 04 min"]);
        assert_eq!([age(59), age(3840), age(90_000)], ["59 s", "1 h 04 min", "1 d 1 h"]);
    }
}
