//! The box at one glance: a [`Snapshot`] as text for people, for `passbridge status` and the plain page.
//!
//! Must hold: what is wrong comes first and is a word, not only a colour; nothing is said that the snapshot does not
//! know; text from outside (a chip code, an answer of the cloud) cannot steer a terminal.

use std::fmt::Write;

use jiff::Timestamp;

use crate::model::text::printable;
use crate::status::{DecoderStatus, LinkState, Snapshot, UploadStatus};

/// The whole view, lines ended by `\n`.
pub fn text(status: &Snapshot) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(status, &mut out);
    out
}

fn write(status: &Snapshot, out: &mut String) -> std::fmt::Result {
    let ready = if status.ready { "ready, reads are kept" } else { "NOT READY, reads cannot be kept" };
    let (name, version, up) = (printable(&status.name), &status.version, duration(status.uptime_s));
    writeln!(out, "{name}: {ready} (passbridge {version}, up {up})")?;
    for problem in &status.problems {
        let about = if problem.about.is_empty() { String::new() } else { format!(" {}", printable(&problem.about)) };
        writeln!(out, "  PROBLEM{about}: {} (since {})", printable(&problem.message), second(problem.since))?;
    }
    for decoder in &status.decoders {
        write_decoder(decoder, out)?;
    }
    let journal = &status.journal;
    write!(out, "journal: {} kept", journal.durable)?;
    if journal.head != journal.durable {
        write!(out, ", {} being written", journal.head.saturating_sub(journal.durable))?;
    }
    write!(out, ", {} waiting for the cloud", journal.pending)?;
    if let Some(age) = journal.oldest_pending_s.filter(|_| journal.pending > 0) {
        write!(out, " (the oldest for {})", duration(age))?;
    }
    if journal.dead_letters > 0 {
        write!(out, ", {} SET ASIDE", journal.dead_letters)?;
    }
    if journal.duplicates > 0 {
        write!(out, ", {} known already and not sent again", journal.duplicates)?;
    }
    let opening = if journal.serving { "" } else { " (the queue is being opened)" };
    writeln!(out, "; uses {}, {} free{opening}", bytes(journal.bytes), bytes(journal.free_bytes))?;
    if status.uploads.is_empty() {
        writeln!(out, "cloud: none configured, reads are kept only")?;
    }
    for upload in &status.uploads {
        let waiting = if status.uploads.len() == 1 { journal.pending } else { 0 };
        write_upload(upload, waiting, out)?;
    }
    Ok(())
}

fn write_decoder(decoder: &DecoderStatus, out: &mut String) -> std::fmt::Result {
    let state = match decoder.state {
        LinkState::Connected => "connected",
        LinkState::Connecting => "CONNECTING",
        LinkState::Failed => "FAILED, is tried again",
        LinkState::Idle => "SILENT beyond its time",
    };
    let (name, protocol, address) = (&decoder.name, &decoder.protocol, &decoder.address);
    write!(out, "decoder {} ({protocol} at {}): {state}, ", printable(name), printable(address))?;
    write!(out, "{} reads", decoder.reads)?;
    if !decoder.locations.is_empty() {
        let each: Vec<String> =
            decoder.locations.iter().map(|(location, reads)| format!("{} {reads}", printable(location))).collect();
        write!(out, " (of them {})", each.join(", "))?;
    }
    for (count, what) in [
        (decoder.markers, "markers"),
        (decoder.rejected, "REJECTED frames"),
        (decoder.dropped, "DROPPED"),
        (decoder.buffered, "not yet on disk"),
    ] {
        if count > 0 {
            write!(out, ", {count} {what}")?;
        }
    }
    if let Some(offset) = decoder.clock_offset_ms {
        write!(out, ", its clock {:+.3} s against this box", offset as f64 / 1000.0)?;
    }
    match &decoder.last_read {
        Some(last) => {
            let (chip, time) = (printable(&last.chip), printable(&last.time));
            writeln!(out, "; last {chip} at {time} (received {})", second(last.received))
        }
        None => writeln!(out, "; no read yet"),
    }
}

fn write_upload(upload: &UploadStatus, waiting: u64, out: &mut String) -> std::fmt::Result {
    let state = upload.state.in_words();
    write!(out, "cloud {}: {state}, ", printable(&short(&upload.device_id)))?;
    if let Some(session) = &upload.session {
        let alias = session.alias.as_deref().unwrap_or("without a name");
        write!(out, "session {} (…{}), ", printable(alias), printable(&session.token_tail))?;
    }
    write!(out, "{} sent", upload.sent)?;
    if upload.duplicates > 0 {
        write!(out, " ({} of them it had already)", upload.duplicates)?;
    }
    if let Some(pace) = upload.per_minute {
        write!(out, ", {pace} a minute")?;
        if waiting > 0 && pace > 0 {
            write!(out, " (what waits takes about {})", duration(waiting * 60 / pace))?;
        }
    }
    if let Some(last) = upload.last_ok {
        write!(out, ", last {}", second(last))?;
    }
    match &upload.last_error {
        Some(error) => writeln!(out, "; last error: {}", printable(error))?,
        None => writeln!(out)?,
    }
    if let Some(audit) = &upload.audit {
        let alias = printable(audit.alias.as_deref().unwrap_or("without a name"));
        let (tail, at) = (printable(&audit.token_tail), second(audit.at));
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

/// A device id of 64 digits by its ends, as it is told on the phone.
fn short(device: &str) -> String {
    let chars: Vec<char> = device.chars().collect();
    if chars.len() <= 16 {
        return device.to_owned();
    }
    chars[..4].iter().chain(&['…']).chain(&chars[chars.len() - 4..]).collect()
}

fn second(instant: Timestamp) -> String {
    instant.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// Bytes in a unit people read: 12.3 MB.
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
    use super::*;
    use crate::status::ProblemCode;
    use crate::status::UploadState;
    use crate::status::{Board, LastRead};

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
        assert!(lines[0].starts_with("finish: NOT READY"), "{text}");
        assert!(lines[1].starts_with("  PROBLEM: the disk is full"), "{text}");
        assert!(lines[2].contains("FAILED") && lines[2].contains("3 REJECTED") && lines[2].contains("no read yet"));
        assert!(lines[4].starts_with("cloud AAAA…AAAA: NO ACTIVE SESSION"), "{text}");
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
    fn sizes_and_times_are_in_units_people_read() {
        assert_eq!([bytes(0), bytes(999), bytes(12_345_678), bytes(999_960)], ["0 B", "999 B", "12.3 MB", "1.0 MB"]);
        assert_eq!(bytes(2_000_000_000_000), "2.0 TB");
        assert_eq!([duration(59), duration(3600), duration(90_000)], ["59 s", "1 h 0 min", "1 d 1 h"]);
    }
}
