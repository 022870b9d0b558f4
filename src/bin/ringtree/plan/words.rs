//! Steps in words.

use ringtree::plan::{Flags, Group, Put, Space, Step, Take};

/// What a step mainly is, for its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sort {
    /// Writes a message, or another rank's memory.
    Put,
    /// Reads a message, or another rank's memory.
    Take,
    /// Reads and combines.
    Reduce,
    /// Moves its own memory.
    Copy,
}

impl Sort {
    pub(super) const ALL: [Sort; 4] = [Sort::Put, Sort::Take, Sort::Reduce, Sort::Copy];

    pub(super) fn of(step: &Step) -> Sort {
        let folds = matches!(step.take, Take::FoldPairs | Take::FoldBoards | Take::FoldWindows);
        match (step.take, step.put) {
            (Take::Nothing, Put::Nothing) => Sort::Copy,
            (Take::Nothing, _) => Sort::Put,
            // A window is addressed like `src`, so its place there says nothing about a second operand.
            _ if folds || (step.src() != Space::Nothing && step.len > 0) => Sort::Reduce,
            _ => Sort::Take,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Put => "put",
            Sort::Take => "take",
            Sort::Reduce => "reduce",
            Sort::Copy => "copy",
        }
    }
}

fn space(space: Space) -> &'static str {
    match space {
        Space::Nothing => "nothing",
        Space::Input => "input",
        Space::Output => "output",
        Space::Scratch => "scratch",
    }
}

fn others(group: Group) -> &'static str {
    match group {
        Group::World => "all other ranks",
        Group::Inner => "the other ranks of the domain",
        Group::Outer => "the ranks of the same place in other domains",
    }
}

/// `input[0..1024]`.
fn range(of: Space, at: u64, len: u32) -> String {
    format!("{}[{at}..{}]", space(of), at.saturating_add(len as u64))
}

/// What comes in, as `the message of rank 3`.
fn incoming(step: &Step) -> String {
    match step.take {
        Take::Nothing => String::new(),
        Take::Pair => format!("the message of rank {}", step.from),
        Take::Board => format!("the board of rank {}", step.from),
        Take::FoldPairs => format!("the messages of {}", others(step.group())),
        Take::FoldBoards => format!("the boards of {}", others(step.group())),
        Take::Window => format!("rank {}'s {}", step.from, range(Space::Input, step.src_at, step.len)),
        Take::FoldWindows => format!("{} of {}", range(Space::Input, step.src_at, step.len), others(step.group())),
    }
}

/// Where it goes besides memory, as `send it to rank 1`.
fn outgoing(step: &Step) -> Option<String> {
    match step.put {
        Put::Nothing => None,
        Put::Pair => Some(format!("to rank {}", step.to)),
        Put::Board => Some(format!("on the board for {}", others(step.group()))),
        Put::Windows => {
            Some(format!("into {} of {}", range(Space::Output, step.dst_at, step.len), others(step.group())))
        }
    }
}

/// One step in words: `reduce input[0..8] with the message of rank 3, send to rank 1`.
pub(super) fn describe(step: &Step) -> String {
    let (src, dst) = (step.src(), step.dst());
    let mine = range(src, step.src_at, step.len);
    let into = |text: String| match dst {
        Space::Nothing => text,
        dst => format!("{text} into {}", range(dst, step.dst_at, step.len)),
    };
    let mut text = match (step.take, src) {
        _ if step.len == 0 => signal(step),
        (Take::Nothing, _) => match outgoing(step) {
            Some(to) if dst == Space::Nothing => return notes(step, format!("send {mine} {to}")),
            _ => into(format!("copy {mine}")),
        },
        (Take::Window, _) | (_, Space::Nothing) => into(format!("take {}", incoming(step))),
        _ => into(format!("reduce {mine} with {}", incoming(step))),
    };
    if step.flags.has(Flags::MESSAGE_FIRST) {
        text += " (the message first)";
    }
    if let Some(to) = outgoing(step).filter(|_| step.len > 0) {
        text += &format!(", send {to}");
    }
    notes(step, text)
}

/// A step without elements: only its messages matter.
fn signal(step: &Step) -> String {
    let what = if step.flags.has(Flags::PLACES) { "tell where the buffers lie" } else { "signal" };
    let out = outgoing(step).map(|to| format!("{what} {to}"));
    let wait = (step.take != Take::Nothing).then(|| format!("wait for {}", incoming(step)));
    match (wait, out) {
        (Some(wait), Some(out)) => format!("{wait}, then {out}"),
        (wait, out) => wait.or(out).unwrap_or_else(|| "nothing".to_string()),
    }
}

/// What is not whole.
fn notes(step: &Step, text: String) -> String {
    let mut notes = Vec::new();
    let takes = !matches!(step.take, Take::Nothing | Take::Window | Take::FoldWindows);
    if takes {
        match (step.flags.has(Flags::AWAIT), step.flags.has(Flags::RELEASE)) {
            (true, false) => notes.push("more of the message follows"),
            (false, true) => notes.push("the rest of the message"),
            (false, false) => notes.push("a part of the message"),
            (true, true) => {}
        }
    }
    if matches!(step.put, Put::Pair | Put::Board) {
        match (step.flags.has(Flags::CREDIT), step.flags.has(Flags::SIGNAL)) {
            (true, false) => notes.push("the slot is filled further"),
            (false, true) => notes.push("the rest of the slot"),
            (false, false) => notes.push("a part of the slot"),
            (true, true) => {}
        }
    }
    if step.flags.has(Flags::FINISH) {
        notes.push("final");
    }
    if notes.is_empty() { text } else { format!("{text} ({})", notes.join("; ")) }
}

/// The same in a few characters, for a box: `→1`, `+3→1`, `←3`.
pub(super) fn brief(step: &Step) -> String {
    let source = match step.take {
        Take::Pair | Take::Board | Take::Window => step.from.to_string(),
        Take::FoldPairs | Take::FoldBoards | Take::FoldWindows => "all".to_string(),
        Take::Nothing => String::new(),
    };
    let sink = match step.put {
        Put::Pair => format!("→{}", step.to),
        Put::Board | Put::Windows => "→all".to_string(),
        Put::Nothing => String::new(),
    };
    match Sort::of(step) {
        Sort::Put => sink,
        Sort::Take => format!("←{source}{sink}"),
        Sort::Reduce => format!("+{source}{sink}"),
        Sort::Copy => "copy".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_read_as_sentences() {
        let send = Step::of(8).read(Space::Input, 16).put_pair(1);
        assert_eq!(describe(&send), "send input[16..24] to rank 1");
        let reduce = Step::of(8).read(Space::Input, 0).take_pair(3).put_pair(1);
        assert_eq!(describe(&reduce), "reduce input[0..8] with the message of rank 3, send to rank 1");
        let keep = Step::of(8).take_pair(3).write(Space::Output, 8);
        assert_eq!(describe(&keep), "take the message of rank 3 into output[8..16]");
        let fold = Step::of(8)
            .read(Space::Input, 0)
            .fold_boards()
            .among(Group::Inner)
            .write(Space::Output, 0)
            .also(Flags::FINISH);
        assert_eq!(
            describe(&fold),
            "reduce input[0..8] with the boards of the other ranks of the domain into output[0..8] (final)"
        );
        let show = Step::of(4).read(Space::Input, 0).put_board();
        assert_eq!(describe(&show), "send input[0..4] on the board for all other ranks");
    }

    #[test]
    fn parts_and_signals_say_what_they_are() {
        let part = Step::of(8).read(Space::Input, 0).put_pair(1).but_not(Flags::SIGNAL);
        assert!(describe(&part).ends_with("(the slot is filled further)"));
        let rest = Step::of(8).take_pair(1).write(Space::Output, 0).but_not(Flags::AWAIT);
        assert!(describe(&rest).ends_with("(the rest of the message)"));
        let barrier = Step::of(0).take_pair(2).put_pair(3);
        assert_eq!(describe(&barrier), "wait for the message of rank 2, then signal to rank 3");
    }

    #[test]
    fn sorts_follow_from_what_comes_and_goes() {
        let input = Step::of(8).read(Space::Input, 0);
        assert_eq!(Sort::of(&input.put_pair(1)), Sort::Put);
        assert_eq!(Sort::of(&input.take_pair(1)), Sort::Reduce);
        assert_eq!(Sort::of(&Step::of(8).take_pair(1).write(Space::Output, 0)), Sort::Take);
        assert_eq!(Sort::of(&input.write(Space::Output, 0)), Sort::Copy);
        assert_eq!(Sort::of(&input.fold_windows()), Sort::Reduce);
        assert_eq!(Sort::of(&Step::of(8).take_window(2, 0).write(Space::Output, 0)), Sort::Take);
        assert_eq!(brief(&input.take_pair(3).put_pair(1)), "+3→1");
    }
}
