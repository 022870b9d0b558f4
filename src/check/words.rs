//! Verdicts in words: what `ringtree check` prints.

use super::verdict::{At, LinkName, Report, Violation, Waiting, Where, Wrong};
use crate::plan::{Space, Step};
use core::fmt;

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

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}, channel {}, step {}", self.rank, self.channel, self.index)
    }
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

impl fmt::Display for LinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkName::Pair { from, to } => write!(f, "the link from rank {from} to rank {to}"),
            LinkName::Board { from, group } => write!(f, "the board of rank {from} ({group:?})"),
        }
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.for_slot { "a free slot of" } else { "a message of" };
        write!(f, "{} waits for {what} {}, that is for rank {}", self.at, self.link, self.on)
    }
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
            | Wrong::LentOverwritten { .. }
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
            Wrong::LentOverwritten { owner, space, element, with } => {
                write!(
                    f,
                    "element {element} of the {space:?} of rank {owner} may be sent from where it lies, and nothing orders this and \
                     {with}: it is overwritten before every reader has it (the message needs a copy)"
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
