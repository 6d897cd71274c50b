//! The descriptor of a decoder: all that the rest of the program, the tests and the documents know
//! about it.

use std::time::Duration;

use super::protocol::{Options, Protocol, SettingError, Settings};
use super::question::{FollowUp, Question};
use super::recogniser::Recogniser;
use super::simulator::talk::Simulator;
use super::trials::Trials;

/// What happens to reads that the box does not take when they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are lost, because the decoder only streams. While the journal cannot store reads, the
    /// link buffers them, and drops them when the buffer is full.
    Lost,
    /// The decoder repeats them until they are acknowledged. The link may stop reading.
    Repeated,
    /// The decoder stores them, and the box can ask for them. The link may stop reading. It passes
    /// the stored ranges to the protocol.
    Stored,
}

/// Who makes the connection, if it is a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dials {
    /// The decoder listens, and this box connects to it.
    TheBox,
    /// This box listens, and the decoder or its software connects to it.
    TheDecoder,
}

/// Another form of the wire, which a protocol reads under some options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The options that select it.
    pub set: Options,
    /// What ends a frame in this form.
    pub frame_end: &'static [u8],
}

/// A value of an option that still has its old meaning, but is no longer clear enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// The option and its value.
    pub option: (&'static str, &'static str),
    /// What to write instead, for people.
    pub instead: &'static str,
}

/// Checks the bytes that are about to be sent to a decoder, under its options. `Some` is the reason
/// why they must not be sent.
pub(crate) type Commands = fn(&Settings, &[u8]) -> Option<String>;

/// The descriptor of a decoder, which is its line in the registry.
///
/// Every decoder must fill in every column (there is no `Default`), so that a forgotten column does
/// not compile.
pub struct Spec {
    /// Name in the configuration.
    pub name: &'static str,
    /// What a timer calls it. The first word is the short form.
    pub title: &'static str,
    /// Who makes the connection.
    pub dials: Dials,
    /// The usual TCP port of the decoder, or our port where the decoder's software connects to us.
    pub port: u16,
    /// The usual rates of its serial line, the most usual first. If the list is empty, the decoder
    /// is not found on serial lines.
    pub baud: &'static [u32],
    /// The longest silence of a healthy idle link. `None`: the protocol has no life sign to wait
    /// for.
    pub idle_limit: Option<Duration>,
    /// What ends a frame on the wire. It is empty where only the length delimits a frame. In such a
    /// protocol a wrong length ends the connection.
    pub frame_end: &'static [u8],
    /// What happens to reads that this box did not take when they were sent (the redelivery).
    pub missed: Missed,
    /// The protocol asks only for stored reads that the decoder made after the first read that the
    /// box kept. The decoder never starts its count again, so older reads may belong to another
    /// race.
    pub since_first_read: bool,
    /// The box cannot ask for missed reads, but a person at the decoder can make it send its whole
    /// memory again.
    pub given_by_hand: bool,
    /// Its reads name the timing point where they were made.
    pub locations: bool,
    /// It sends instants, not the wall time of a zone, so the configuration needs no time zone.
    pub tells_utc: bool,
    /// It sends its time when we connect, or when we ask for it.
    pub tells_clock: bool,
    /// Its commands are bare characters. It would therefore obey single letters of a question that
    /// is meant for another decoder.
    pub bare_characters: bool,
    /// Other forms of the wire, and the options under which they are read.
    pub dialects: &'static [Dialect],
    /// Values of options that still work, but should be replaced.
    pub outdated: &'static [Outdated],
    /// Makes a protocol value for one connection.
    pub make: fn(&Settings) -> Result<Box<dyn Protocol>, SettingError>,
    /// What the probe looks for. `None`: the probe cannot recognise this protocol, because it reads
    /// whatever its options say.
    pub recogniser: Option<Recogniser>,
    /// Questions that the probe may send to a silent box that may be this decoder.
    pub questions: &'static [Question],
    /// What the probe may answer when the decoder's software has connected and waits for a
    /// greeting.
    pub greeting: Option<&'static Question>,
    /// What the probe may ask once the decoder is known, in this order.
    pub follow_ups: &'static [FollowUp],
    /// What the probe shows to people when it has found this decoder.
    pub hint: Option<&'static str>,
    /// The list of all bytes that may ever be sent to it under its options. `None`: the box sends
    /// nothing at all, and only listens. See [`Spec::forbidden`].
    pub commands: Option<Commands>,
    /// The simulated decoder.
    pub(crate) simulator: &'static dyn Simulator,
    /// What tests and fuzz targets try on its protocol.
    pub trials: &'static Trials,
}

impl Spec {
    /// Returns the first part of `said` that may not be sent to the decoder under these options. An
    /// unfinished command is such a part too. `said` is all that was sent on one connection, or a
    /// single reply.
    pub fn forbidden(&self, settings: &Settings, said: &[u8]) -> Option<String> {
        match self.commands {
            Some(forbidden) => forbidden(settings, said),
            None => (!said.is_empty()).then(|| said.escape_ascii().to_string()),
        }
    }

    /// The warnings about options that should be replaced: one line for each.
    pub fn warnings(&self, settings: &Settings) -> impl Iterator<Item = String> {
        let is_set = |outdated: &&Outdated| settings.get(outdated.option.0).is_some_and(|set| set == outdated.option.1);
        self.outdated.iter().filter(is_set).map(|Outdated { option: (key, value), instead }| {
            format!("{}: the option `{key}` = `{value}` is not clear: {instead}", self.name)
        })
    }

    /// The bytes that end a frame under these options.
    pub fn frame_end_under(&self, settings: &Settings) -> &'static [u8] {
        let is_set = |(key, value): &(&str, &str)| settings.get(*key).is_some_and(|set| set == value);
        let dialect = self.dialects.iter().find(|dialect| dialect.set.iter().all(is_set));
        dialect.map_or(self.frame_end, |dialect| dialect.frame_end)
    }
}

/// The options in the form of the configuration.
pub fn settings(options: Options) -> Settings {
    options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A descriptor for tests that test only the link.
#[cfg(test)]
pub(crate) const fn only_linked(
    name: &'static str,
    idle_limit: Option<Duration>,
    missed: Missed,
    make: fn(&Settings) -> Result<Box<dyn Protocol>, SettingError>,
) -> Spec {
    Spec {
        name,
        title: name,
        dials: Dials::TheBox,
        port: 0,
        baud: &[],
        idle_limit,
        frame_end: b"\n",
        missed,
        since_first_read: false,
        given_by_hand: false,
        locations: false,
        tells_utc: false,
        tells_clock: false,
        bare_characters: false,
        dialects: &[],
        outdated: &[],
        make,
        recogniser: None,
        questions: &[],
        greeting: None,
        follow_ups: &[],
        hint: None,
        commands: None,
        simulator: &tests::Nobody,
        trials: &tests::TRIALS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoders::simulator::nature::Nature;
    use crate::decoders::simulator::talk::Conversation;
    use crate::decoders::trials::{nothing_of_its_own, nothing_to_repair};

    pub(super) struct Nobody;

    impl Nature for Nobody {
        fn chip(&self, number: u32) -> String {
            number.to_string()
        }
    }

    impl Simulator for Nobody {
        fn talk(&self) -> Box<dyn Conversation> {
            unreachable!("it is not simulated")
        }
    }

    pub(super) static TRIALS: Trials = Trials {
        options: &[],
        greeting: b"",
        harmful: &[],
        in_order: true,
        is_costly: false,
        repair: nothing_to_repair,
        hostile: nothing_of_its_own,
    };
}
