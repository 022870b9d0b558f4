//! What the prover answers: a report, or the first thing that is wrong.

use crate::plan::{Group, Space, Step};
use alloc::string::String;
use alloc::vec::Vec;

/// What a proof went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Steps of all ranks and channels.
    pub steps: u64,
    /// Messages of all links.
    pub messages: u64,
    /// Elements that went through links.
    pub elements: u64,
    /// Most slots that were filled, under way or held at once, over the whole job.
    pub most_slots: u64,
    /// Most messages that one rank held at once on one channel.
    pub most_held: u32,
    /// Whether ranks touched each other's memory.
    pub windows: bool,
}

/// One step of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// The rank.
    pub rank: u32,
    /// The channel.
    pub channel: u32,
    /// The number of the step on that channel, from 0.
    pub index: u64,
}

/// Where something is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Where {
    /// In the program as a whole.
    Program,
    /// In what a rank ends with.
    Rank(u32),
    /// At a step.
    Step(At),
}

/// A link as messages name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkName {
    /// From one rank to another.
    Pair {
        /// The writer.
        from: u32,
        /// The reader.
        to: u32,
    },
    /// From one rank to the other members of a group.
    Board {
        /// The writer.
        from: u32,
        /// The audience.
        group: Group,
    },
}

/// One rank in a circle of ranks that wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The step that waits.
    pub at: At,
    /// What it waits on.
    pub link: LinkName,
    /// For a free slot; else for a message.
    pub for_slot: bool,
    /// The rank that would have to act.
    pub on: u32,
}

/// Why a program is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where.
    pub place: Where,
    /// The step at that place.
    pub step: Option<Step>,
    /// What.
    pub wrong: Wrong,
}

impl core::error::Error for Violation {}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wrong {
    /// The call itself has no meaning.
    Call(&'static str),
    /// A buffer is not as long as the call says.
    Length {
        /// Whose.
        rank: u32,
        /// Which.
        space: Space,
        /// Its length in the program.
        has: u64,
        /// Its length by the call.
        needs: u64,
    },
    /// More than this prover takes on.
    TooLarge(String),
    /// The parts of the step do not belong together.
    Malformed(&'static str),
    /// The step names a rank that it can't have this with.
    NoSuchPeer {
        /// The rank it names.
        named: u32,
    },
    /// An access beyond the end of a buffer.
    Bounds {
        /// Whose buffer.
        owner: u32,
        /// Which.
        space: Space,
        /// First element.
        at: u64,
        /// Elements.
        len: u32,
        /// The buffer's length.
        end: u64,
    },
    /// The step waits for the next message while it holds one of the same link.
    AwaitsTwice(LinkName),
    /// The step reads on in a message, and none is held.
    ReadsNothing(LinkName),
    /// The step reads more than the message has.
    ReadsPastEnd {
        /// Of which link.
        link: LinkName,
        /// Elements left in the message.
        left: u32,
        /// Elements the step reads.
        wanted: u32,
    },
    /// The step gives back a message that it has not read to its end.
    ReleasesUnread {
        /// Of which link.
        link: LinkName,
        /// Elements left in the message.
        left: u32,
    },
    /// The step waits for a slot while it fills one of the same link.
    CreditsTwice(LinkName),
    /// The step writes into a slot or publishes one, and none is being filled.
    PutsNowhere(LinkName),
    /// The message would not fit its slot.
    SlotOverflow {
        /// Of which link.
        link: LinkName,
        /// Elements with this step's.
        would: u64,
        /// Elements of a slot.
        slot: u64,
    },
    /// The message tells buffers' places and the step does not take it as such, or the other way round.
    PlacesMismatch(LinkName),
    /// A window is used and its owner's places have not come.
    WindowClosed {
        /// Whose window.
        owner: u32,
    },
    /// The step reads and writes memory that overlaps with a shift.
    Overlap {
        /// Whose memory.
        owner: u32,
    },
    /// A channel ends with a slot half filled.
    LeftUnsent(LinkName),
    /// A channel ends holding a message.
    LeftHeld(LinkName),
    /// A message that nobody takes.
    LeftUnread {
        /// Of which link.
        link: LinkName,
        /// How many.
        messages: u32,
    },
    /// Nobody can go on.
    Deadlock {
        /// Who waits for whom, each for the next.
        chain: Vec<Waiting>,
        /// Whether the last waits for the first. Else the last waits for a rank that has ended.
        circle: bool,
    },
    /// Two accesses to one element that nothing orders, one of them a write.
    Race {
        /// Whose memory.
        owner: u32,
        /// Which buffer.
        space: Space,
        /// Which element.
        element: u64,
        /// The one access; the other is where the violation is.
        with: At,
    },
    /// A message may be sent from where it lies, and what lies there is overwritten before every reader has it.
    LentOverwritten {
        /// Whose memory.
        owner: u32,
        /// Which buffer.
        space: Space,
        /// Which element.
        element: u64,
        /// The step that takes the message, or the write; the other is where the violation is.
        with: At,
    },
    /// Two channels of one rank touch one element, one of them writing; nothing orders channels.
    ChannelsShare {
        /// Which buffer.
        space: Space,
        /// Which element.
        element: u64,
    },
    /// The owner of a window may be done, and its buffers the user's again, while the step uses it.
    OutlivesOwner {
        /// Whose memory.
        owner: u32,
    },
    /// A rank leaves the barrier and may not have heard that another has entered.
    LeavesEarly {
        /// Who leaves.
        rank: u32,
        /// Who may not be there.
        missing: u32,
    },
    /// A read of memory that nothing was written to.
    ReadsUnset {
        /// Which buffer.
        space: Space,
        /// Which element.
        element: u64,
    },
    /// A read of the input where a result has overwritten it in place.
    ReadsOverwritten {
        /// Whose input.
        owner: u32,
        /// Which element.
        element: u64,
    },
    /// A read of the user's data other than as input, so that a pre-multiplied sum would not scale it.
    ReadsUnscaled {
        /// Which buffer.
        space: Space,
        /// Which element.
        element: u64,
    },
    /// A finished value is combined again.
    CombinesFinal {
        /// Which of the step's elements.
        element: u32,
    },
    /// A value is finished that has not exactly one contribution of each rank.
    FinishesEarly {
        /// Which of the step's elements.
        element: u32,
        /// How many contributions it has.
        count: u32,
    },
    /// A value is finished again.
    FinishesTwice {
        /// Which of the step's elements.
        element: u32,
    },
    /// The result was never written.
    NotWritten {
        /// Which element of the output.
        element: u64,
    },
    /// The result was never finished.
    NotFinished {
        /// Which element of the output.
        element: u64,
    },
    /// The result lacks contributions, or has some more than once.
    WrongContributions {
        /// Which element of the output.
        element: u64,
        /// How many contributions it has.
        count: u32,
        /// A rank whose contribution is missing, or is there twice, if there is just one such.
        suspect: Option<(u32, bool)>,
    },
    /// The result is another element.
    WrongElement {
        /// Which element of the output.
        element: u64,
        /// The rank and element that belong there.
        wants: (u32, u64),
        /// The rank and element that are there, if found.
        has: Option<(u32, u64)>,
    },
    /// Two ranks have the same contributions in different orders, so that their bits may differ.
    OrderDiffers {
        /// Which element of the output.
        element: u64,
        /// The rank that it differs from.
        from: u32,
    },
    /// In reproducible mode: not the plain left fold over ascending ranks.
    NotLeftFold {
        /// Which element of the output.
        element: u64,
    },
}

impl Wrong {
    /// The kind in one word, for counting.
    pub fn name(&self) -> &'static str {
        match self {
            Wrong::Call(_) => "call",
            Wrong::Length { .. } => "length",
            Wrong::TooLarge(_) => "too-large",
            Wrong::Malformed(_) => "malformed",
            Wrong::NoSuchPeer { .. } => "no-such-peer",
            Wrong::Bounds { .. } => "bounds",
            Wrong::AwaitsTwice(_) => "awaits-twice",
            Wrong::ReadsNothing(_) => "reads-nothing",
            Wrong::ReadsPastEnd { .. } => "reads-past-end",
            Wrong::ReleasesUnread { .. } => "releases-unread",
            Wrong::CreditsTwice(_) => "credits-twice",
            Wrong::PutsNowhere(_) => "puts-nowhere",
            Wrong::SlotOverflow { .. } => "slot-overflow",
            Wrong::PlacesMismatch(_) => "places-mismatch",
            Wrong::WindowClosed { .. } => "window-closed",
            Wrong::Overlap { .. } => "overlap",
            Wrong::LeftUnsent(_) => "left-unsent",
            Wrong::LeftHeld(_) => "left-held",
            Wrong::LeftUnread { .. } => "left-unread",
            Wrong::Deadlock { .. } => "deadlock",
            Wrong::Race { .. } => "race",
            Wrong::LentOverwritten { .. } => "lent-overwritten",
            Wrong::ChannelsShare { .. } => "channels-share",
            Wrong::OutlivesOwner { .. } => "outlives-owner",
            Wrong::LeavesEarly { .. } => "leaves-early",
            Wrong::ReadsUnset { .. } => "reads-unset",
            Wrong::ReadsOverwritten { .. } => "reads-overwritten",
            Wrong::ReadsUnscaled { .. } => "reads-unscaled",
            Wrong::CombinesFinal { .. } => "combines-final",
            Wrong::FinishesEarly { .. } => "finishes-early",
            Wrong::FinishesTwice { .. } => "finishes-twice",
            Wrong::NotWritten { .. } => "not-written",
            Wrong::NotFinished { .. } => "not-finished",
            Wrong::WrongContributions { .. } => "wrong-contributions",
            Wrong::WrongElement { .. } => "wrong-element",
            Wrong::OrderDiffers { .. } => "order-differs",
            Wrong::NotLeftFold { .. } => "not-left-fold",
        }
    }

    /// Races come first when several steps are wrong: what a racing program computes depends on luck, so the rest says little.
    pub(super) fn is_race(&self) -> bool {
        matches!(self, Wrong::Race { .. } | Wrong::LentOverwritten { .. } | Wrong::ChannelsShare { .. })
    }
}
