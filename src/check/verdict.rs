//! What the prover answers: a report, or the first thing that is wrong.

use crate::plan::{Group, Space, Step};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

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
    /// Whether ranks touched each other's memory, so that races were looked for.
    pub windows: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} messages, {} elements moved, at most {} slots in use at once",
            self.steps, self.messages, self.elements, self.most_slots
        )?;
        if self.windows { f.write_str(", no race between windows") } else { Ok(()) }
    }
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

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}, channel {}, step {}", self.rank, self.channel, self.index)
    }
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

impl fmt::Display for Where {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Where::Program => f.write_str("the program"),
            Where::Rank(rank) => write!(f, "rank {rank}, at the end"),
            Where::Step(at) => write!(f, "{at}"),
        }
    }
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

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkName::Pair { from, to } => write!(f, "the link from rank {from} to rank {to}"),
            LinkName::Board { from, group } => write!(f, "the board of rank {from} ({group:?})"),
        }
    }
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

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.for_slot { "a free slot of" } else { "a message of" };
        write!(f, "{} waits for {what} {}, that is for rank {}", self.at, self.link, self.on)
    }
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

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.wrong)?;
        if let Some(step) = &self.step {
            write!(f, " (the step: {})", Shown(step))?;
        }
        Ok(())
    }
}

impl core::error::Error for Violation {}

/// A step in one line.
struct Shown<'a>(&'a Step);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let step = self.0;
        write!(f, "{} elements", step.len)?;
        if step.src() != Space::Nothing {
            write!(f, ", {:?} at {}", step.src(), step.src_at)?;
        }
        write!(f, ", take {:?} from {}", step.take, step.from)?;
        if step.dst() != Space::Nothing {
            write!(f, ", into {:?} at {}", step.dst(), step.dst_at)?;
        }
        write!(f, ", put {:?} to {}, {:?}, {:?}", step.put, step.to, step.group(), step.flags)
    }
}

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
        matches!(self, Wrong::Race { .. } | Wrong::ChannelsShare { .. })
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Call(what) => write!(f, "the call has no meaning: {what}"),
            Wrong::Length { rank, space, has, needs } => {
                write!(f, "the {space:?} of rank {rank} has {has} elements, the call needs {needs}")
            }
            Wrong::TooLarge(what) => f.write_str(what),
            Wrong::Malformed(what) => write!(f, "a step that has no meaning: {what}"),
            Wrong::NoSuchPeer { named } => write!(f, "names rank {named}, which it can't do this with"),
            Wrong::Bounds { owner, space, at, len, end } => {
                write!(
                    f,
                    "elements {at}..{} of the {space:?} of rank {owner}, which ends at {end}",
                    at.saturating_add(u64::from(*len))
                )
            }
            Wrong::Deadlock { chain, circle } => show_deadlock(f, chain, *circle),
            Wrong::NotWritten { .. }
            | Wrong::NotFinished { .. }
            | Wrong::WrongContributions { .. }
            | Wrong::WrongElement { .. }
            | Wrong::OrderDiffers { .. }
            | Wrong::NotLeftFold { .. } => self.show_result(f),
            Wrong::Race { .. }
            | Wrong::ChannelsShare { .. }
            | Wrong::OutlivesOwner { .. }
            | Wrong::LeavesEarly { .. }
            | Wrong::WindowClosed { .. }
            | Wrong::Overlap { .. } => self.show_order_of_accesses(f),
            Wrong::ReadsUnset { .. }
            | Wrong::ReadsOverwritten { .. }
            | Wrong::ReadsUnscaled { .. }
            | Wrong::CombinesFinal { .. }
            | Wrong::FinishesEarly { .. }
            | Wrong::FinishesTwice { .. } => self.show_value(f),
            _ => self.show_link(f),
        }
    }
}

impl Wrong {
    fn show_link(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::AwaitsTwice(link) => write!(f, "awaits the next message of {link} and still holds the last one"),
            Wrong::ReadsNothing(link) => write!(f, "reads on in a message of {link} and holds none"),
            Wrong::ReadsPastEnd { link, left, wanted } => {
                write!(f, "reads {wanted} elements of a message of {link} that has {left} left")
            }
            Wrong::ReleasesUnread { link, left } => {
                write!(f, "gives back a message of {link} with {left} elements unread")
            }
            Wrong::CreditsTwice(link) => write!(f, "takes a new slot of {link} and has not published the last one"),
            Wrong::PutsNowhere(link) => write!(f, "writes to {link} and is filling no slot of it"),
            Wrong::SlotOverflow { link, would, slot } => {
                write!(f, "makes a message of {would} elements on {link}, whose slots have {slot}")
            }
            Wrong::PlacesMismatch(link) => {
                write!(f, "only one side of {link} takes this message as the places of buffers")
            }
            Wrong::LeftUnsent(link) => write!(f, "ends with a slot of {link} filled and not published"),
            Wrong::LeftHeld(link) => write!(f, "ends holding a message of {link}"),
            Wrong::LeftUnread { link, messages } => write!(f, "{messages} messages of {link} are never taken"),
            other => f.write_str(other.name()),
        }
    }

    fn show_order_of_accesses(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Race { owner, space, element, with } => {
                write!(
                    f,
                    "a race with {with}: nothing orders their accesses to element {element} of the {space:?} of rank {owner}"
                )
            }
            Wrong::ChannelsShare { space, element } => {
                write!(
                    f,
                    "touches element {element} of the {space:?} as another channel does, and nothing orders channels"
                )
            }
            Wrong::OutlivesOwner { owner } => {
                write!(f, "uses the memory of rank {owner}, which may have returned to its caller by then")
            }
            Wrong::LeavesEarly { rank, missing } => {
                write!(f, "rank {rank} leaves the barrier and may not have heard that rank {missing} has entered")
            }
            Wrong::WindowClosed { owner } => {
                write!(f, "uses the memory of rank {owner} and has not awaited a message that tells its place")
            }
            Wrong::Overlap { owner } => write!(f, "reads and writes parts of the memory of rank {owner} that overlap"),
            other => f.write_str(other.name()),
        }
    }

    fn show_value(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::ReadsUnset { space, element } => {
                write!(f, "reads element {element} of its {space:?}, where nothing was written")
            }
            Wrong::ReadsOverwritten { owner, element } => {
                write!(f, "reads element {element} of the input of rank {owner}, where a result was written in place")
            }
            Wrong::ReadsUnscaled { space, element } => {
                write!(
                    f,
                    "reads the user's data as element {element} of its {space:?}: a pre-multiplied sum scales the Input only"
                )
            }
            Wrong::CombinesFinal { element } => write!(f, "combines its element {element} with a finished value"),
            Wrong::FinishesEarly { element, count } => {
                write!(f, "finishes its element {element}, which has {count} contributions")
            }
            Wrong::FinishesTwice { element } => write!(f, "finishes its element {element} again"),
            other => f.write_str(other.name()),
        }
    }

    fn show_result(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::NotWritten { element } => write!(f, "output element {element} was never written"),
            Wrong::NotFinished { element } => write!(f, "output element {element} was never finished"),
            Wrong::WrongContributions { element, count, suspect } => {
                write!(f, "output element {element} is made of {count} contributions and they are the wrong ones")?;
                match suspect {
                    Some((rank, true)) => write!(f, ": rank {rank}'s is there twice"),
                    Some((rank, false)) => write!(f, ": rank {rank}'s is missing"),
                    None => Ok(()),
                }
            }
            Wrong::WrongElement { element, wants, has } => {
                write!(f, "output element {element} should be element {} of rank {}", wants.1, wants.0)?;
                match has {
                    Some((rank, at)) => write!(f, " and is element {at} of rank {rank}"),
                    None => f.write_str(" and is none of the inputs' elements"),
                }
            }
            Wrong::OrderDiffers { element, from } => {
                write!(f, "output element {element} was combined in another order than on rank {from}")
            }
            Wrong::NotLeftFold { element } => {
                write!(
                    f,
                    "output element {element} was not combined in the ascending order of ranks, one after the other"
                )
            }
            other => f.write_str(other.name()),
        }
    }
}

fn show_deadlock(f: &mut fmt::Formatter<'_>, chain: &[Waiting], circle: bool) -> fmt::Result {
    const SHOWN: usize = 8;
    f.write_str("nobody can go on: ")?;
    for (i, waiting) in chain.iter().take(SHOWN).enumerate() {
        if i > 0 {
            f.write_str("; ")?;
        }
        write!(f, "{waiting}")?;
    }
    if chain.len() > SHOWN {
        write!(f, "; and {} more", chain.len() - SHOWN)?;
    }
    f.write_str(if circle { "; the last waits for the first" } else { "; and that rank has no step left" })
}
