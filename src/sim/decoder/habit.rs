//! What decoders do in the field although no document says so, and what people do to them.
//!
//! A test applies a habit to a running simulator ([`SimDecoder::does`](super::SimDecoder::does)),
//! so that every decoder that stores reads can be combined with every habit. A habit that makes no
//! sense for a decoder changes nothing there.

/// Something that a decoder does, or that is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecoderHabit {
    /// A person clears its memory, and it counts from 1 again.
    Clear,
    /// Its links are cut. Meanwhile it is cleared, and counts on past the number that it had
    /// reached.
    ClearAndCountOn,
    /// A person sets its clock back by two hours.
    ClockBack,
    /// It no longer reports its clock.
    TellsNoTime,
    /// It sends its last read again.
    RepeatLast,
    /// It sends the next two reads in swapped order.
    SwapTwo,
    /// Its memory has last week's race: forty reads happen with stamps of seven days ago, and
    /// nobody listens.
    LastWeek,
    /// Another program switches off the push, or takes it over. (RACE RESULT, One4All.)
    PushOff,
    /// Another program begins a new file or session, and the decoder pushes the first ten reads of
    /// it to that program. (RACE RESULT, One4All. At the others ten reads happen.)
    OtherSession,
    /// A person makes it print its whole memory, and nothing separates these reads from live ones.
    /// (Timy, CloudBox.)
    PrintMemory,
    /// It is switched off and on, and has no clock from then on: it reports how long it has been
    /// on. (LLRP.)
    Reboot,
}

impl DecoderHabit {
    /// Every habit.
    pub const ALL: &[Self] = &[
        Self::Clear,
        Self::ClearAndCountOn,
        Self::ClockBack,
        Self::TellsNoTime,
        Self::RepeatLast,
        Self::SwapTwo,
        Self::LastWeek,
        Self::PushOff,
        Self::OtherSession,
        Self::PrintMemory,
        Self::Reboot,
    ];

    /// The name on the command line, and a description.
    pub fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Clear => ("clear", "its memory is cleared: it counts from 1 again"),
            Self::ClearAndCountOn => {
                ("clear-and-count-on", "cleared while the links are cut, and counts on past the number it had reached")
            }
            Self::ClockBack => ("clock-back", "its clock is set back by two hours"),
            Self::TellsNoTime => ("tells-no-time", "it does not answer when it is asked for its clock"),
            Self::RepeatLast => ("repeat-last", "it says its last read once more"),
            Self::SwapTwo => ("swap-two", "it says the next two reads in swapped order"),
            Self::LastWeek => ("last-week", "forty reads of last week's race are in its memory from here on"),
            Self::PushOff => ("push-off", "another program switches off that it sends its reads by itself"),
            Self::OtherSession => ("other-session", "another program begins a session, and gets its first ten reads"),
            Self::PrintMemory => ("print-memory", "it prints all of its memory, as if it were live"),
            Self::Reboot => ("reboot", "off and on: from then on it says how long it has been on"),
        }
    }

    /// The habit with this name on the command line.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|habit| habit.described().0 == name)
    }
}
