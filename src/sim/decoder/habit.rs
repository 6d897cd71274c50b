//! What decoders do in the field that no document says of them, and what somebody does to them.
//!
//! A habit is done to a running simulator ([`SimDecoder::does`](super::SimDecoder::does)), so that every decoder that stores can be crossed with
//! every one. One that makes no sense at a decoder changes nothing there.

/// Something that a decoder does, or that is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DecoderHabit {
    /// Somebody clears its memory: it counts from 1 again.
    Clear,
    /// Its links are cut; meanwhile it is cleared, and counts on past the number that it had reached.
    ClearAndCountOn,
    /// Somebody sets its clock back by two hours.
    ClockBack,
    /// It tells nobody any more what its clock shows.
    TellsNoTime,
    /// It says its last read once more.
    RepeatLast,
    /// It says the next two reads in swapped order.
    SwapTwo,
    /// Its memory holds last week's race: forty reads happen, as of seven days ago, and nobody listens.
    LastWeek,
    /// Another program switches off what it sends by itself, or has it sent to itself. (RACE RESULT, One4All.)
    PushOff,
    /// Another program begins a new file or session, and has the first ten reads of it sent to itself. (RACE RESULT, One4All; at
    /// the others ten reads happen.)
    OtherSession,
    /// Somebody has it print all of its memory, which it does not tell from what is live. (Timy, CloudBox.)
    PrintMemory,
    /// It is switched off and on, and from then on it has no clock: it says how long it has been on. (LLRP.)
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

    /// Name on the command line, and what it is.
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

    /// By its name on the command line.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|habit| habit.described().0 == name)
    }
}
