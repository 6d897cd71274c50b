//! The closed list of the problems that a box can have.
//!
//! Each problem has one row in the table below: its code word, how severe it is, which state of the
//! box it causes, what it means, and a hint what to do. The word is a contract and never changes:
//! it is in the JSON, the metrics and the log, and scripts of other people depend on it. The
//! message with which the problem is raised says what exactly happened, and to what. The hint is
//! the same every time.
//!
//! The rows are in the order of their words. The macro makes the enum and all of its functions from
//! the table, so that a row with a missing column does not compile. `docs/timer/problems.md` shows
//! the same table, and a test compares the two.

use std::fmt;

use super::severity::Severity;
use super::state::BoxState;
use crate::decoders::Condition;
use crate::model::clock::Doubt;

/// Which state of the box a problem causes ([`super::judge`]), and what the sentence says then.
///
/// The text begins with a verb in the singular (`is not connected`) if the sentence puts the name
/// of the decoder before it. It is a whole sentence if the problem is about the box.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The problem changes no state. It is a row under the sentence.
    Row,
    /// Reads cannot be kept.
    CannotKeep(&'static str),
    /// A decoder does not deliver.
    NotReading(&'static str),
    /// Times are wrong, or nobody can know that they are right.
    TimeWrong(&'static str),
    /// Somebody stopped the upload.
    Hold,
    /// No passing arrives in the cloud.
    NotUploading(&'static str),
}

impl Cause {
    /// The state of the box, or `None` if the problem does not change it.
    pub const fn state(self) -> Option<BoxState> {
        match self {
            Self::Row => None,
            Self::CannotKeep(_) => Some(BoxState::CannotKeep),
            Self::NotReading(_) => Some(BoxState::NotReading),
            Self::TimeWrong(_) => Some(BoxState::TimeWrong),
            Self::Hold => Some(BoxState::Hold),
            Self::NotUploading(_) => Some(BoxState::NotUploading),
        }
    }
}

macro_rules! problems {
    ($($(#[doc = $meaning:literal])+ $code:ident: $word:expr, $severity:ident, $cause:ident $(($says:literal))?, $hint:literal;)+) => {
        /// What kind of problem it is.
        ///
        /// The order is that of the words, so that problems that are raised at the same moment are
        /// listed by their words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ProblemCode {
            $($(#[doc = $meaning])+ $code,)+
        }

        impl ProblemCode {
            /// Every code, in the order of the words.
            pub const ALL: &'static [Self] = &[$(Self::$code,)+];

            /// The stable word for it, `snake_case`.
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$code => $word,)+
                }
            }

            /// The code that has this word. `None` if the word is from another version.
            pub fn of_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|code| code.word() == word)
            }

            /// How much it matters.
            pub const fn severity(self) -> Severity {
                match self {
                    $(Self::$code => Severity::$severity,)+
                }
            }

            /// Which state of the box it causes.
            pub const fn cause(self) -> Cause {
                match self {
                    $(Self::$code => Cause::$cause $(($says))?,)+
                }
            }

            /// What it means, in one sentence.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$code => concat!($($meaning),+).trim(),)+
                }
            }

            /// What a timer should do about it.
            pub const fn hint(self) -> &'static str {
                match self {
                    $(Self::$code => $hint,)+
                }
            }
        }
    };
}

problems! {
    /// The journal and the cloud do not hold the same passings of a session.
    AuditDiffers: "audit_differs", Warning, Row,
        "Run the `passbridge audit` command that the message names to see what differs. \
         `passbridge audit --repair` sends what is missing.";
    /// A session is over, and it could not be compared with the cloud yet.
    AuditWaits: "audit_waits", Info, Row,
        "You need not do anything: the box tries again by itself as soon as the cloud answers.";
    /// The bib file cannot be read, or a line of it is wrong.
    BibsBroken: "bibs_broken", Warning, Row,
        "Correct the file as the message says. The box reads it again by itself.";
    /// The bib file is not there.
    BibsMissing: "bibs_missing", Warning, Row,
        "Put the file where the message says. The box reads it as soon as it is there.";
    /// A battery of this box is nearly empty, and nothing charges it.
    BoxBatteryLow: "box_battery_low", Warning, Row,
        "Connect the box to power, or change its battery. What is kept is safe when it switches itself off.";
    /// The clock of this box jumped.
    BoxClockStepped: "box_clock_stepped", Info, TimeWrong("The clock of this box jumped."),
        "Compare the box's clock with your phone. If it is right now, you need not do anything.";
    /// A decoder sends no date, and this box does not know the date either, so that its reads wait.
    BoxClockUnset: Doubt::BoxClockUnset.code(), Warning, TimeWrong("Nobody has set this box's clock."),
        "Give the box a network or a clock, or set its time by hand with `date -s`. The reads are \
         kept and go by themselves as soon as the box knows the time.";
    /// The clock of this box is wrong, so that it cannot check the certificate of the cloud.
    BoxClockWrong: "box_clock_wrong", Critical, TimeWrong("The clock of this box is wrong."),
        "Set the box's clock, or connect it to a network that gives it the time. The upload goes on \
         by itself then.";
    /// This box is very hot.
    BoxHot: "box_hot", Warning, Row,
        "Put the box into the shade, and let air reach it. A hot box becomes slower.";
    /// Passings may or may not be in the cloud, and the cloud refuses every question about it.
    CannotAsk: "cannot_ask", Critical, NotUploading("The cloud answers no questions about what it has."),
        "Give the box a READ_WRITE key. The passings are kept, and the upload goes on by itself.";
    /// Chips are not in the bib file, and their code goes up in place of a bib.
    ChipsUnknown: "chips_unknown", Warning, Row,
        "Add them to the bib file: the box reads it again by itself. Compare how the codes are written \
         there. What went up before has to be corrected in the cloud.";
    /// The cloud fails at one passing each time it is sent alone, and accepts others.
    CloudFailsAt: "cloud_fails_at", Warning, Row,
        "The other passings go on. When the cloud works again, send this one with \
         `passbridge resend --set-aside`.";
    /// What answers under the name of the cloud cannot be trusted to be the cloud.
    CloudNotTrusted: "cloud_not_trusted", Critical, NotUploading("What answers is not the cloud."),
        "Log in to the network if it has a log-in page, or use another network. Compare the box's \
         clock with your phone. Nothing was sent.";
    /// The cloud answered the question about the active session in a form that is not documented.
    CloudNotUnderstood: "cloud_not_understood", Warning, Row,
        "You need not do anything if it is over soon. If it stays, tell the maintainers of the cloud \
         and show them the message.";
    /// The cloud refuses many passings in a row, each one sent alone.
    CloudRefuses: "cloud_refuses", Critical, NotUploading("The cloud refuses the passings."),
        "Check in the cloud that the right session is active. The passings are set aside and can be \
         exported.";
    /// The cloud does not answer, although the network may work.
    CloudSilent: "cloud_silent", Warning, NotUploading("The cloud does not answer."),
        "Look on your phone, in the same network, whether the internet works. If it does, you need not do \
         anything: the box tries again by itself.";
    /// The cloud answers and fails, or it counts fewer passings than were sent.
    CloudTrouble: "cloud_trouble", Warning, NotUploading("The cloud is in trouble."),
        "You need not do anything at the box: it tries again by itself. If it lasts, call the \
         support of the cloud and read the message to them.";
    /// The configuration holds something that is probably not meant.
    Configuration: "configuration", Warning, Row,
        "Read the message, correct the configuration file, and run `passbridge check` before the race.";
    /// The configuration file is not what runs: it was changed since the box started.
    ConfigurationChanged: "configuration_changed", Warning, Row,
        "If the message names a mistake, correct it. Then restart passbridge at a quiet moment: \
         `sudo systemctl restart passbridge`. What runs goes on until then.";
    /// The configuration file cannot be understood any more, or it is gone.
    ConfigurationUnreadable: "configuration_unreadable", Warning, Row,
        "Correct the file as the message says; `passbridge check` tells whether it is right. What runs \
         goes on, but passbridge does not start again with this file.";
    /// A part of the configuration is wrong, and what it is about waits until it is corrected.
    ConfigurationWrong: "configuration_wrong", Critical, Row,
        "Correct the line that the message names; `passbridge check` tells whether it is right. The box \
         reads its decoders all the same, and takes the corrected file by itself or asks \
         for a restart.";
    /// The socket cannot be made through which commands reach the box.
    ControlSocket: "control_socket", Warning, Row,
        "Reads and uploads are not affected. Until it is over, rewind, capture and repair do not \
         work; look at the data directory that the message names.";
    /// Another process has the data directory.
    DataDirTaken: "data_dir_taken", Critical, CannotKeep("Another passbridge uses the data directory."),
        "Stop the other passbridge, or give each one a data directory of its own. This one ends.";
    /// Live reads of a decoder are stamped more than a day from now.
    DecoderClockFar: Doubt::Far.code(), Warning, TimeWrong("is more than a day off"),
        "Compare the date of the decoder and of the box with your phone, and set the one that is \
         wrong. Correct the times of the reads that came before: `passbridge correct`.";
    /// The clock of a decoder differs from that of this box by a second or a little more, or its
    /// live reads all arrive late.
    DecoderClockNear: "decoder_clock_near", Info, Row,
        "Compare both clocks with your phone. Set the one that is wrong if a second matters in \
         this race.";
    /// The clocks of a decoder and of this box differ by seconds, or by whole hours.
    DecoderClockOff: "decoder_clock_off", Critical, TimeWrong("has a wrong time"),
        "Compare both clocks with your phone, and set the one that is wrong. If the difference is \
         whole or half hours, correct `timezone` in the configuration. Reads that came before are \
         corrected with `passbridge correct`.";
    /// The clock of a decoder was never set.
    DecoderClockUnset: Doubt::ClockUnset.code(), Warning, TimeWrong("has a clock that was never set"),
        "Set the clock of the decoder. Correct the times of the reads that came before by the \
         difference: `passbridge correct`.";
    /// A decoder reports that a part of it has failed.
    DecoderError: Condition::DecoderError.word(), Critical, NotReading("reports a fault"),
        "Look at the part of the decoder that the message names. Test with a chip whether it still reads.";
    /// A decoder sends more reads than any race makes.
    DecoderFlood: "decoder_flood", Warning, Row,
        "Look whether chips are lying on the mat or near an antenna. All of it is kept, and the other \
         decoders go on.";
    /// The section of a decoder in the configuration is wrong, so that it is not read.
    DecoderMisconfigured: "decoder_misconfigured", Critical, NotReading("has a mistake in its configuration"),
        "Correct the line that the message names; `passbridge check` tells whether it is right. The other \
         decoders go on, and the box takes the corrected file by itself or asks for a restart.";
    /// A decoder sends bytes that hold no record at all.
    DecoderNoRecords: "decoder_no_records", Critical, NotReading("is sending nonsense"),
        "Nothing of this decoder is kept. Check the protocol and the address in the configuration, \
         and the baud rate of a serial line.";
    /// A decoder is connected and does not read chips.
    DecoderNotReading: Condition::DecoderNotReading.word(), Critical, NotReading("is not reading chips"),
        "Start the decoder at its own buttons, and test with a chip.";
    /// A decoder had no valid start number for an impulse.
    DecoderNumberNotValid: Doubt::NoValidNumber.code(), Warning, Row,
        "Look at the print of the decoder for the record that corrects it. The impulse went up with a \
         `?` before its number: correct that passing in the cloud.";
    /// The port on which the software of a decoder is to connect cannot be had.
    DecoderPortTaken: "decoder_port_taken", Critical, NotReading("waits for a port that another program uses"),
        "Stop the other program that uses this port, or give the decoder another port in the \
         configuration and in its software. The box tries again by itself.";
    /// A decoder sends a record that may be a time of day or a duration, so that it became no read.
    DecoderRecordUnclear: Condition::RecordUnclear.word(), Warning, Row,
        "Compare the decoder's print with the markers in `passbridge export`, and enter by hand what \
         was a crossing.";
    /// A decoder sent records that could not be read, and they were acknowledged to it.
    DecoderRecordUnread: Condition::RecordUnread.word(), Warning, Row,
        "They are in the log as they came: `passbridge export --format raw` shows them. Enter by hand \
         what was a crossing, and send the lines to the maintainers.";
    /// A decoder answered a command with an error.
    DecoderRefuses: Condition::DecoderRefuses.word(), Warning, NotReading("refuses what it was asked"),
        "Look at the locations and settings of the decoder. Test with a chip whether reads arrive.";
    /// A decoder counts from the start again, or began a new file.
    DecoderRestarted: "decoder_restarted", Info, Row,
        "If you cleared the decoder or restarted it, all is well. If nobody did, look at its power \
         supply and compare its own backup later.";
    /// A decoder is connected and silent for longer than it should be.
    DecoderSilent: Condition::DecoderSilent.word(), Critical, NotReading("is silent"),
        "Look at the decoder: is it on, and does it still count when you test with a chip? If it is \
         frozen, restart it.";
    /// A decoder tells only when it saw a chip for the last time.
    DecoderTimeLastSeen: Doubt::OnlyLastSeen.code(), Warning, Row,
        "Set the reports of the decoder so that they have the time when a chip was seen first. Until then \
         the times may be seconds late.";
    /// A decoder without a date sends live reads whose time was more than 12 hours ago.
    DecoderTimeLongAgo: Doubt::LongAgo.code(), Warning, TimeWrong("sends times of many hours ago"),
        "Compare the clock of the decoder with your phone, and set it. Set its date, too, if it has one.";
    /// A decoder sends times without a date.
    DecoderTimeNoDate: Doubt::NoDate.code(), Info, Row,
        "Set the date of the decoder if it has one. Check the day of reads that it stored earlier.";
    /// A decoder sends a time that is not in the calendar.
    DecoderTimeOutOfRange: Doubt::OutOfRange.code(), Warning, TimeWrong("sends times that do not exist"),
        "Set the clock of the decoder. The time of receipt was taken for these reads.";
    /// The times of a decoder lie in the hour that the change to summer time skips.
    DecoderTimeSkipped: Doubt::Gap.code(), Warning, Row,
        "The decoder's clock was not changed to summer time. Compare its clock and the configured \
         `timezone`.";
    /// The times of a decoder occur twice in the night of the change to winter time.
    DecoderTimeTwice: Doubt::Fold.code(), Warning, Row,
        "The times may be an hour wrong. Compare them with other reads of the same chips.";
    /// A decoder cannot be reached.
    DecoderUnreachable: "decoder_unreachable", Critical, NotReading("is not connected"),
        "Check the power of the decoder, its cable and its address. The box connects again by itself.";
    /// The section of a decoder is right by now, and only a restart of passbridge takes it.
    DecoderWaitsForRestart: "decoder_waits_for_restart", Critical, NotReading("waits for a restart of passbridge"),
        "Restart passbridge at a quiet moment: `sudo systemctl restart passbridge`. The other decoders \
         go on until then.";
    /// A decoder has no clock that was set, so that times are reckoned from the time of receipt.
    DecoderWithoutClock: Doubt::NoClock.code(), Info, Row,
        "Keep the clock of the box right: the results depend on it. If the decoder can have a time \
         server (NTP), give it one.";
    /// The device in the configuration is unknown to the cloud.
    DeviceUnknown: "device_unknown", Critical, NotUploading("The cloud does not know the device."),
        "Compare `device_id` in the configuration with the cloud. The reads are kept, and the upload \
         starts as soon as the device is known.";
    /// The disk failed once, and the box went on in a new file.
    DiskError: "disk_error", Warning, Row,
        "Copy the data to another medium soon, and replace the disk or the memory card.";
    /// The disk does not take any more reads.
    DiskFailed: "disk_failed", Critical, CannotKeep("The card is not working."),
        "Reads wait in memory and are lost if the power fails. Look at the disk and its cable, and leave \
         the box switched on.";
    /// The disk is full.
    DiskFull: "disk_full", Critical, CannotKeep("The card is full."),
        "Free some room on the disk, but do not touch the files of passbridge. Reads wait in memory \
         until then, and are lost if the power fails.";
    /// The data directory cannot be used.
    DiskUnusable: "disk_unusable", Critical, CannotKeep("The data directory cannot be used."),
        "Do what the message says: plug in or mount the disk, or let the user of the service write into the \
         directory. Reads wait in memory meanwhile, and are lost if the power fails.";
    /// The decoder has files between the one that was read last and the current one.
    FilesInBetween: Condition::FilesInBetween.word(), Warning, Row,
        "If those files belong to this race, fetch them with `passbridge rewind` or take them from \
         the decoder.";
    /// The log of this box is gone, and a new one was begun.
    JournalLost: "journal_lost", Critical, Row,
        "Find out whether the disk was replaced or emptied. Take the reads that are missing from the \
         memory of the decoder (`passbridge rewind`) or from the backup system.";
    /// The journal is larger than `keep.max_bytes`, and what is not uploaded is kept all the same.
    JournalOverLimit: "journal_over_limit", Warning, Row,
        "Bring the box to the internet so that it can upload, or set `keep.max_bytes` higher if the \
         disk has room.";
    /// The file of the API key is gone, cannot be read, or has new content that is no key.
    KeyFileUnusable: "key_file_unusable", Warning, Row,
        "Write the key into the file again, and let the user of the service read it. The box uses the \
         key before it until then.";
    /// There is no API key that can be used.
    KeyMissing: "key_missing", Critical, NotUploading("There is no API key."),
        "Write the API key into the file that the message names. The reads are kept, and the upload \
         starts by itself.";
    /// The cloud refuses the API key.
    KeyRefused: "key_refused", Critical, NotUploading("The cloud refuses the key."),
        "Check the API key in the cloud and in the configuration; it must be a READ_WRITE key. The \
         reads are kept, and the upload goes on by itself.";
    /// The index of the reads that were ever kept is damaged, or it cannot be written.
    KnownReads: "known_reads", Warning, Row,
        "Look at the disk. No read is lost, but one that is fetched again may be sent twice.";
    /// The LED that should show the state of this box cannot be used.
    LedFailed: "led_failed", Warning, Row,
        "Do what the message says, or take `led` out of the configuration. Reads and uploads are not \
         affected.";
    /// An antenna is not connected to the reader.
    LlrpAntenna: Condition::LlrpAntenna.word(), Critical, NotReading("has an antenna that is not connected"),
        "Look at the cable of the antenna that the message names.";
    /// The reader has no inventory that is enabled, so that it reads nothing.
    LlrpNoInventory: Condition::LlrpNoInventory.word(), Critical, NotReading("is not started"),
        "Start the inventory with the reader's own software, or set the option `start = \"true\"`. \
         Test with a chip.";
    /// The reader reports tags without a time, and they are not taken.
    LlrpNoTime: Condition::LlrpNoTime.word(), Critical, NotReading("sends reads without a time"),
        "Let the reports of the reader have the first seen timestamp, or set the option \
         `start = \"true\"`. Test with a chip.";
    /// The memory of the reader was full, and it lost reads.
    LlrpReadsLost: Condition::LlrpReadsLost.word(), Critical, Row,
        "These reads cannot be had again from the reader: take them from the backup system. Look at \
         the network between reader and box.";
    /// Another program tries to connect to the reader.
    LlrpRival: Condition::LlrpRival.word(), Warning, NotReading("serves another program"),
        "Stop the other program: the reader serves one at a time.";
    /// The reader refuses the inventory of passbridge.
    LlrpStartRefused: Condition::LlrpStartRefused.word(), Critical, NotReading("refuses to start"),
        "Stop the inventory that other software left in the reader. It is tried again every minute.";
    /// Lines of the log are damaged or missing.
    LogDamaged: "log_damaged", Critical, Row,
        "Copy the data and replace the disk soon. Take the reads that the message names from the \
         memory of the decoder or from the backup system.";
    /// Entries of the log that were kept before are gone.
    LogLost: "log_lost", Critical, Row,
        "Do not remove or move files of the log; put them back if you did. Take the reads that are \
         missing from the memory of the decoder or from the backup system.";
    /// What this program tells of itself cannot be written.
    LogOutput: "log_output", Info, Row,
        "Reads are kept and sent all the same. Look where the standard error of the program goes: it may \
         go to a full disk, or to a pipe that nobody reads.";
    /// Files of the log were removed or moved while the box runs.
    LogRemoved: "log_removed", Warning, Row,
        "Leave the files there alone, and do not stop the box before this is over. It writes the \
         files again by itself if there is room.";
    /// The log could not be read through.
    LogUnread: "log_unread", Warning, Row,
        "Copy the data to another medium, and look whether the disk is failing.";
    /// A file of the log cannot be read and was moved aside.
    LogUnreadable: "log_unreadable", Critical, Row,
        "Keep the file that was moved aside. Take the reads that are missing from the memory of the \
         decoder or from the backup system.";
    /// The battery or the supply of a decoder is low.
    LowBattery: Condition::LowBattery.word(), Warning, Row,
        "Connect the decoder to power, or change its battery before it is empty.";
    /// A decoder sends many frames that its protocol does not know.
    ManyRejected: "many_rejected", Warning, NotReading("sends much that its protocol does not know"),
        "Check the protocol and the address in the configuration, and the baud rate of a serial line. \
         Test with a chip.";
    /// A mat gives no reads although the configuration expects some at this time.
    MatQuiet: "mat_quiet", Critical, NotReading("gives no reads although some are expected"),
        "Pass a test chip over the mat. If it is not read: is the mat connected to the decoder, and is the \
         decoder in timing mode? If nobody is on the course now, correct `[[expect]]`.";
    /// No decoder is set up.
    NoDecoder: "no_decoder", Critical, NotReading("No decoder is set up."),
        "Write a [[decoder]] section into the configuration; `passbridge probe` makes one. The box takes \
         the file by itself or asks for a restart.";
    /// This box has no root certificates, so that it cannot know the cloud.
    NoRootCertificates: "no_root_certificates", Critical, NotUploading("This box cannot know the cloud."),
        "Install the package `ca-certificates` on the box. The upload starts without a restart.";
    /// The device has no session that is open.
    NoSession: "no_session", Critical, NotUploading("No session is open."),
        "Open a session: `sudo passbridge session open --alias NAME`, or in the RUFUS Cloud. The reads are \
         kept, and the box sends them by itself then.";
    /// There is no configuration file, so that the box reads nothing.
    NotSetUp: "not_set_up", Critical, NotReading("This box is not set up."),
        "Set it up: `sudo passbridge setup`. Or write the configuration file that the message names: \
         the box takes it by itself.";
    /// A decoder is not in timing mode, so that it stores no passings.
    NotTiming: Condition::NotTiming.word(), Critical, NotReading("is not in timing mode"),
        "Start the timing mode at the decoder, and test with a chip.";
    /// The cloud cannot be reached, because there is no internet.
    Offline: "offline", Warning, NotUploading("No internet."),
        "Look at the modem, the signal and the cable. The reads are kept, and the box sends them \
         by itself.";
    /// The decoder did not give the end of the file before the current one.
    OldFileNotFetched: Condition::OldFileNotFetched.word(), Warning, Row,
        "Compare with the file in the decoder that the message names, and take from it what is missing.";
    /// The decoder did not give all reads of an earlier file.
    OldReadsMissing: Condition::OldReadsMissing.word(), Warning, Row,
        "Compare with the backup of the decoder, and take from it what is missing.";
    /// The box is on hold: reads are kept, and none is sent.
    OnHold: "on_hold", Warning, Hold,
        "Release the hold before the gun: `passbridge release --send` sends what was read meanwhile, \
         `passbridge release --drop` sends none of it.";
    /// The program that should be run when the state of this box changes cannot be run, or it fails.
    OnStateFailed: "on_state_failed", Warning, Row,
        "Correct the program as the message says: it must be a file that the user of the service may run. \
         Reads and uploads are not affected.";
    /// Another box or program sends passings into the same session.
    OtherWriter: "other_writer", Critical, Row,
        "Find the other sender: a second box with the same `device_id`, or a copied memory card. Give \
         each box a device of its own, then run `passbridge audit`.";
    /// Passings were uploaded with a day that proved to be wrong.
    PassingsMisdated: "passings_misdated", Critical, TimeWrong("Passings went to the cloud with a wrong day."),
        "Correct the times of these passings: `passbridge correct`. `passbridge export` shows what the \
         decoder stamped and when it was received.";
    /// The decoder did not give all passings that it was asked for.
    PassingsNotGiven: Condition::PassingsNotGiven.word(), Warning, Row,
        "You need not do anything at once: they are asked for again by themselves. If it stays, take \
         them from the decoder's own file.";
    /// The decoder counts passings and does not send them by itself.
    PassingsNotPushed: Condition::PassingsNotPushed.word(), Warning, Row,
        "Close the other program that is connected to the decoder. If nothing arrives, run \
         `passbridge rewind`.";
    /// The cloud refused passings, and they were set aside.
    PassingsSetAside: "passings_set_aside", Warning, Row,
        "Read the answer of the cloud in the message. The others go on. `passbridge set-aside list` shows all of \
         them, and `set-aside release` or `drop` decides what becomes of each one.";
    /// Passings belong to a device that is not in the configuration any more.
    PassingsWithoutDevice: "passings_without_device", Warning, Row,
        "Correct `device_id` in the configuration, or send them to another device with the \
         `passbridge resend` command that the message names.";
    /// The decoder speaks a version of its protocol that has no passings.
    ProtocolTooOld: Condition::ProtocolTooOld.word(), Critical, NotReading("has no passings in its protocol"),
        "Is `protocol` in the configuration right? `passbridge probe` finds it. If the decoder is an old \
         One4All, update it.";
    /// Old files of the log could not be removed.
    PruneFailed: "prune_failed", Warning, Row,
        "Look at the disk and at the rights of the data directory. It is tried again by itself.";
    /// The upload queue was damaged or gone, and it is rebuilt from the log.
    QueueRebuilt: "queue_rebuilt", Info, Row,
        "You need not do anything: nothing is lost. If it happens often, look at the disk.";
    /// The upload queue waits for the disk.
    QueueUnavailable: "queue_unavailable", Critical, NotUploading("The upload queue waits for the card."),
        "Free some room on the disk, and look at the disk and its cable. Nothing is uploaded until it \
         is over.";
    /// Reads of a decoder were lost because the disk could not take them and the memory was full.
    ReadsDropped: "reads_dropped", Critical, CannotKeep("The card does not take the reads."),
        "Make room on the disk at once. Take the reads that are missing from the memory of the \
         decoder (`passbridge rewind`) or from the backup system.";
    /// Stored reads may belong to another race, and they are not uploaded.
    ReadsHeldBack: "reads_held_back", Warning, Row,
        "Look at them with `passbridge export`. If they belong to this race, upload them with \
         `passbridge resend --held-back`.";
    /// The decoder does not hand over all reads of its current file.
    ReadsMissing: Condition::ReadsMissing.word(), Warning, Row,
        "They are asked for again by themselves. If it stays, compare with the backup of the decoder, \
         and take from it what is missing.";
    /// Reads wait for a decoder or a location that is not in the configuration any more.
    ReadsWithoutDecoder: "reads_without_decoder", Warning, Row,
        "Put the decoder or its location back into the configuration. The reads stay on the box until \
         then, and `passbridge export` shows them.";
    /// The cloud shows the session as active, and takes no passings into it.
    SessionDisputed: "session_disputed", Warning, NotUploading("The session takes no passings."),
        "Look in the cloud whether the session is really open. The passings are kept, and tried again \
         by themselves.";
    /// The cloud does not know the session any more that passings were sent to.
    SessionLost: "session_lost", Warning, NotUploading("The session is gone from the cloud."),
        "Look in the cloud whether somebody deleted the session, and open one. What was not confirmed \
         goes to the next session.";
    /// No session could be created in the cloud.
    SessionNotCreated: "session_not_created", Critical, NotUploading("No session could be created."),
        "Open a session for the device in the cloud by hand. The reads are kept, and the box tries \
         again by itself.";
    /// Passings that are set aside, or reads that are held back, are about to be removed.
    SetAsideExpires: "set_aside_expires", Warning, Row,
        "Export them now, or set `keep.days` higher.";
    /// The box has just started, and it is connecting to its decoders.
    Starting: "starting", Info, NotReading("is being connected"),
        "You need not do anything: wait ten seconds.";
    /// The page cannot be shown at the configured address.
    StatusAddress: "status_address", Warning, Row,
        "Connect the network, stop the program that has the port, or correct `status.listen` in the \
         configuration. Reads and uploads are not affected.";
    /// The file of the page's token cannot be read or holds no token, so that the page shows
    /// nothing.
    TokenUnusable: "token_unusable", Warning, Row,
        "Write the token into the file that the message names, and let the user of the service read it. \
         Reads and uploads are not affected.";
    /// More connections come to a listening port than a decoder makes.
    TooManyConnections: "too_many_connections", Warning, Row,
        "Find out what connects to this port, and stop it: only the software of the decoder should.";
    /// One connection has more locations than the box cares for.
    TooManyLocations: Condition::TooManyLocations.word(), Critical, Row,
        "Reads of the other locations do not arrive. Give this connection fewer locations.";
    /// A location gives two different records under one number.
    TwoSourcesOneLocation: Condition::TwoSourcesOneLocation.word(), Warning, Row,
        "If the location was cleared, all is well. If two readers share it, give each one a location \
         of its own.";
    /// The power supply of this box gives too little voltage.
    UnderVoltage: "under_voltage", Warning, Row,
        "Use the power supply of the maker and a short, thick cable, and take devices off the USB ports. A \
         box with too little voltage may restart or damage its card.";
    /// A switch for tests is set, and reads do not survive a power cut.
    UnsafeNoSync: "unsafe_no_sync", Critical, Row,
        "Remove PASSBRIDGE_UNSAFE_NO_SYNC from the environment and restart passbridge before the race.";
    /// What the configuration says about the upload is wrong, so that the upload waits.
    UploadMisconfigured: "upload_misconfigured", Critical, NotUploading("The configuration of the upload has a mistake."),
        "Correct the line that the message names; `passbridge check` tells whether it is right. Every \
         read is kept, and the box takes the corrected file by itself or asks for a restart.";
    /// Nothing of a batch was settled for a minute.
    UploadStands: "upload_stands", Warning, NotUploading("The upload stands still."),
        "Look at the internet connection: the modem, the signal, a log-in page. The passings are \
         kept, and the box goes on by itself.";
    /// The upload waits because a read has no date and the box did not know its own.
    UploadWaitsForClock: "upload_waits_for_clock", Critical, TimeWrong("Nobody has set this box's clock."),
        "Give the box a network or a clock, or set its time by hand with `date -s`. The passings are \
         kept and go by themselves then.";
    /// What the configuration says about the upload is right by now, and only a restart of passbridge
    /// takes it.
    UploadWaitsForRestart: "upload_waits_for_restart", Critical, NotUploading("The upload waits for a restart of passbridge."),
        "Restart passbridge at a quiet moment: `sudo systemctl restart passbridge`. Every read is kept \
         until then.";
    /// The webhook that should be told about the state of this box does not take the message.
    WebhookFailed: "webhook_failed", Warning, Row,
        "Look whether its server works, and compare `webhook` with the address that you were given. The box \
         tries again by itself. Reads and uploads are not affected.";
    /// The API key may write and not read.
    WriteOnlyKey: "write_only_key", Warning, NotUploading("The key may not read."),
        "Use a READ_WRITE key before the race: without it the upload stops when an answer is lost.";
    /// A serial line carries bytes that no protocol sends.
    WrongBaud: "wrong_baud", Critical, NotReading("sends bytes that are no text and no record"),
        "Correct `baud` in the address of the decoder. `passbridge probe` finds the rate.";
    /// A decoder sends what the configured protocol does not know, and no read.
    WrongProtocol: "wrong_protocol", Critical, NotReading("sends what its protocol does not know"),
        "Correct `protocol` in the configuration as the message says; `passbridge probe` finds it. Then \
         restart passbridge at a quiet moment: `sudo systemctl restart passbridge`.";
    /// A decoder sends the time of a clock on the wall, and no time zone is configured for it.
    ZoneMissing: "zone_missing", Warning, TimeWrong("has no timezone in the configuration"),
        "Write `timezone = \"Europe/Madrid\"`, or the zone that the clock of the decoder shows, \
         into its `[[decoder]]`.";
}

impl ProblemCode {
    /// Whether it tells of a loss that happened. Such a problem is shown until somebody acknowledges
    /// it, or until nothing is missing any more.
    pub const fn is_loss(self) -> bool {
        matches!(
            self,
            Self::FilesInBetween
                | Self::JournalLost
                | Self::LlrpReadsLost
                | Self::LogDamaged
                | Self::LogLost
                | Self::LogUnreadable
                | Self::OldFileNotFetched
                | Self::OldReadsMissing
                | Self::ReadsDropped
                | Self::ReadsMissing
        )
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl From<Doubt> for ProblemCode {
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Gap => Self::DecoderTimeSkipped,
            Doubt::Fold => Self::DecoderTimeTwice,
            Doubt::NoDate => Self::DecoderTimeNoDate,
            Doubt::ClockUnset => Self::DecoderClockUnset,
            Doubt::BoxClockUnset => Self::BoxClockUnset,
            Doubt::LongAgo => Self::DecoderTimeLongAgo,
            Doubt::Far => Self::DecoderClockFar,
            Doubt::OutOfRange => Self::DecoderTimeOutOfRange,
            Doubt::NoClock => Self::DecoderWithoutClock,
            Doubt::OnlyLastSeen => Self::DecoderTimeLastSeen,
            Doubt::NoValidNumber => Self::DecoderNumberNotValid,
        }
    }
}

impl From<Condition> for ProblemCode {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::DecoderError => Self::DecoderError,
            Condition::DecoderNotReading => Self::DecoderNotReading,
            Condition::DecoderRefuses => Self::DecoderRefuses,
            Condition::DecoderSilent => Self::DecoderSilent,
            Condition::FilesInBetween => Self::FilesInBetween,
            Condition::LlrpAntenna => Self::LlrpAntenna,
            Condition::LlrpNoInventory => Self::LlrpNoInventory,
            Condition::LlrpNoTime => Self::LlrpNoTime,
            Condition::LlrpReadsLost => Self::LlrpReadsLost,
            Condition::LlrpRival => Self::LlrpRival,
            Condition::LlrpStartRefused => Self::LlrpStartRefused,
            Condition::LowBattery => Self::LowBattery,
            Condition::NotTiming => Self::NotTiming,
            Condition::OldFileNotFetched => Self::OldFileNotFetched,
            Condition::OldReadsMissing => Self::OldReadsMissing,
            Condition::PassingsNotGiven => Self::PassingsNotGiven,
            Condition::PassingsNotPushed => Self::PassingsNotPushed,
            Condition::ProtocolTooOld => Self::ProtocolTooOld,
            Condition::ReadsMissing => Self::ReadsMissing,
            Condition::RecordUnclear => Self::DecoderRecordUnclear,
            Condition::RecordUnread => Self::DecoderRecordUnread,
            Condition::TooManyLocations => Self::TooManyLocations,
            Condition::TwoSourcesOneLocation => Self::TwoSourcesOneLocation,
        }
    }
}

#[cfg(test)]
mod tests;
