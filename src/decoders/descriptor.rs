//! The descriptor of a decoder: all that the rest of the program, its tests and its documents know of it.

use std::time::Duration;

use super::protocol::{Options, Protocol, SettingError, Settings};
use super::question::{FollowUp, Question};
use super::recogniser::Recogniser;
use super::simulator::talk::Simulator;
use super::trials::Trials;

/// What becomes of reads that the box does not take when they are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// They are gone: the decoder only streams. While the journal cannot take reads the link buffers and then drops.
    Lost,
    /// The decoder repeats them until they are acknowledged. The link may stop reading.
    Repeated,
    /// The decoder stores them and can be asked. The link may stop reading, and tells the protocol what is held.
    Stored,
}

/// Who makes the connection, where it is a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dials {
    /// The decoder listens, and this box connects to it.
    TheBox,
    /// This box listens, and the decoder or its software connects to it.
    TheDecoder,
}

/// Another form of the wire that a protocol reads under some options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// The options.
    pub set: Options,
    /// What ends a frame then.
    pub frame_end: &'static [u8],
}

/// A value of an option that is read as it always was, and is not clear enough any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outdated {
    /// The option and its value.
    pub option: (&'static str, &'static str),
    /// What to write instead, for people.
    pub instead: &'static str,
}

/// Judges what is about to be said to a decoder, under its options. `Some`: why it must not be said.
pub type Commands = fn(&Settings, &[u8]) -> Option<String>;

/// The descriptor of a decoder, which is its line in the registry.
///
/// Every column has to be filled in for every decoder (there is no `Default`), so that a column that was forgotten does not
/// compile.
pub struct Spec {
    /// Name in the configuration.
    pub name: &'static str,
    /// What a timer calls it. The first word is the short form.
    pub title: &'static str,
    /// Who connects to whom.
    pub dials: Dials,
    /// Usual TCP port of the decoder (or ours, where its software connects to us).
    pub port: u16,
    /// Usual rates of its serial line, the most usual first; none: it is not found on serial lines.
    pub baud: &'static [u32],
    /// Longest silence of a healthy idle link, `None` if the protocol has no life sign to wait for.
    pub idle_limit: Option<Duration>,
    /// What ends a frame on the wire; empty where a frame is delimited by its length alone. There a wrong length ends the
    /// connection.
    pub frame_end: &'static [u8],
    /// What becomes of reads that this box did not take when they were sent (the redelivery).
    pub missed: Missed,
    /// Of what is stored, only what came after the first read that was kept is asked for: the decoder counts on for ever, so
    /// what is older may be of another race.
    pub since_first_read: bool,
    /// The box cannot ask for what was missed, but somebody at the decoder can have it give its whole memory again.
    pub given_by_hand: bool,
    /// Its reads name the timing point that they were made at.
    pub locations: bool,
    /// It tells instants, not the wall time of a zone: the configuration needs no time zone.
    pub tells_utc: bool,
    /// It says what time it is when we connect, or answers the question for it.
    pub tells_clock: bool,
    /// Its commands are bare characters, so that it would obey the letters of a question that is meant for another decoder.
    pub bare_characters: bool,
    /// Other forms of the wire, and the options under which they are read.
    pub dialects: &'static [Dialect],
    /// Values of options that still work and should be written anew.
    pub outdated: &'static [Outdated],
    /// Makes a value for one connection.
    pub make: fn(&Settings) -> Result<Box<dyn Protocol>, SettingError>,
    /// What the probe looks for. `None`: the probe cannot know it, because it reads whatever its options say.
    pub recogniser: Option<Recogniser>,
    /// Questions that the probe may put to a silent box which may be this decoder.
    pub questions: &'static [Question],
    /// What the probe may answer when the decoder's software has connected and waits to be greeted.
    pub greeting: Option<&'static Question>,
    /// What the probe may ask once the decoder is known, in this order.
    pub follow_ups: &'static [FollowUp],
    /// What the probe tells people of this decoder when it has found one.
    pub hint: Option<&'static str>,
    /// The list of what may ever be said to it under its options. `None`: nothing at all, it is only listened to. See
    /// [`Spec::forbidden`].
    pub commands: Option<Commands>,
    /// The simulated decoder.
    pub(crate) simulator: &'static dyn Simulator,
    /// What tests and fuzz targets try on it.
    pub trials: &'static Trials,
}

impl Spec {
    /// The first thing among `said` that may not be said to it under these options, also a command that is not ended. `said` is
    /// all that was said on one connection, or one reply for itself.
    pub fn forbidden(&self, settings: &Settings, said: &[u8]) -> Option<String> {
        match self.commands {
            Some(forbidden) => forbidden(settings, said),
            None => (!said.is_empty()).then(|| said.escape_ascii().to_string()),
        }
    }

    /// What to say of options that should be written anew: one line each.
    pub fn warnings(&self, settings: &Settings) -> impl Iterator<Item = String> {
        let is_set = |outdated: &&Outdated| settings.get(outdated.option.0).is_some_and(|set| set == outdated.option.1);
        self.outdated.iter().filter(is_set).map(|Outdated { option: (key, value), instead }| {
            format!("{}: the option `{key}` = `{value}` is not clear: {instead}", self.name)
        })
    }

    /// Bytes that end a frame under these options.
    pub fn frame_end_under(&self, settings: &Settings) -> &'static [u8] {
        let is_set = |(key, value): &(&str, &str)| settings.get(*key).is_some_and(|set| set == value);
        let dialect = self.dialects.iter().find(|dialect| dialect.set.iter().all(is_set));
        dialect.map_or(self.frame_end, |dialect| dialect.frame_end)
    }
}

/// The options as the configuration has them.
pub fn settings(options: Options) -> Settings {
    options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// A decoder of which only the link is tested.
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
