//! A reader's end of a link: the messages that came and were not released, in any order, each exactly once.
//!
//! ```text
//!   released ─┐
//!             ▼
//!   seq       n     n+1   n+2   n+3           a message before n: it came twice, over a connection that was lost
//!           ┌─────┬─────┬─────┬─────┐         one from n + SLOTS on: nobody would send that
//!           │whole│ open│     │whole│
//!           └─────┴─────┴─────┴─────┘
//! ```

use super::frame::{Frame, Kind};
use super::outbox::SLOTS;
use super::room::Room;
use crate::transport::Message;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    /// Some of it has come; over several carriers, perhaps, of which all but one are lost, whether or not that was noticed.
    Open,
    Whole,
}

#[derive(Debug)]
struct Arrival {
    state: State,
    room: Room,
    at: *mut u8,
    len: u32,
    tag: u32,
    /// Its writer waits for the release.
    lent: bool,
}

/// The messages of one link that came.
#[derive(Debug)]
pub(super) struct Inbox {
    slots: Vec<Arrival>,
    released: u32,
    /// How many releases the writer has been told of.
    told: u32,
    /// A lent message is among those that were released and not told: its writer waits.
    awaited: bool,
    /// Where the next message may be put at once, if it has that length.
    landing: Option<(*mut u8, usize)>,
}

/// What is to be done with a message that begins to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// Its bytes go there. Another carrier may bring the same ones: whichever is the first to bring all of them counts.
    Take(*mut u8),
    /// It is here already: its bytes go nowhere.
    Drop,
    /// No rank would send it.
    Refuse,
}

impl Inbox {
    pub(super) fn new() -> Inbox {
        Inbox { slots: Vec::new(), released: 0, told: 0, awaited: false, landing: None }
    }

    fn slot(&mut self, seq: u32) -> &mut Arrival {
        let index = (seq % SLOTS) as usize;
        while self.slots.len() <= index {
            let (room, at) = (Room::default(), std::ptr::null_mut());
            self.slots.push(Arrival { state: State::Empty, room, at, len: 0, tag: 0, lent: false });
        }
        &mut self.slots[index]
    }

    /// A message begins to come.
    pub(super) fn open(&mut self, frame: &Frame) -> Opening {
        let Frame { seq, len, tag, .. } = *frame;
        let ahead = seq.wrapping_sub(self.released);
        if ahead >= SLOTS {
            // It was released before its writer heard of that.
            return if self.released.wrapping_sub(seq) <= SLOTS { Opening::Drop } else { Opening::Refuse };
        }
        let landing = if ahead == 0 { self.landing.take_if(|(_, room)| *room == len as usize) } else { None };
        let slot = self.slot(seq);
        match slot.state {
            State::Whole => return Opening::Drop,
            State::Open if (slot.len, slot.tag) != (len, tag) => return Opening::Refuse,
            State::Open => {}
            State::Empty => {
                (slot.len, slot.tag, slot.lent) = (len, tag, frame.kind == Kind::Lent);
                slot.at = landing.map_or_else(|| slot.room.of(len as usize), |(at, _)| at);
            }
        }
        slot.state = State::Open;
        Opening::Take(slot.at)
    }

    /// All of it has come.
    pub(super) fn complete(&mut self, seq: u32) {
        self.slot(seq).state = State::Whole;
    }

    /// All its carriers are lost. What has come of it is worth nothing.
    pub(super) fn abandon(&mut self, seq: u32) {
        let slot = self.slot(seq);
        if slot.state == State::Open {
            slot.state = State::Empty;
        }
    }

    /// The oldest message, if it is whole.
    #[inline]
    pub(super) fn front(&self) -> Option<Message> {
        let slot = self.slots.get((self.released % SLOTS) as usize)?;
        (slot.state == State::Whole).then_some(Message { at: slot.at, len: slot.len as usize, tag: slot.tag })
    }

    /// The next message may be put there, if it has not begun to come. It is taken at its word only if it has that length.
    pub(super) fn land(&mut self, at: *mut u8, len: usize) {
        self.landing = Some((at, len));
    }

    /// The oldest message was read.
    pub(super) fn release(&mut self) {
        let seq = self.released;
        let slot = self.slot(seq);
        slot.state = State::Empty;
        let lent = slot.lent;
        self.awaited |= lent;
        self.landing = None;
        self.released = seq.wrapping_add(1);
    }

    /// How many were released, for the writer to hear.
    pub(super) fn tell(&mut self) -> u32 {
        self.told = self.released;
        self.awaited = false;
        self.told
    }

    /// What the writer was told last may not have reached it: it is told again, if there was anything.
    pub(super) fn tell_again(&mut self) -> bool {
        self.awaited = self.released != 0;
        self.told = if self.untold() > 0 { self.told } else { self.released.wrapping_sub(u32::from(self.awaited)) };
        self.awaited
    }

    /// How many releases the writer has not been told of.
    pub(super) fn untold(&self) -> u32 {
        self.released.wrapping_sub(self.told)
    }

    /// Whether the writer waits to be told.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited && self.untold() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{LinkKind, Spot};
    use super::*;

    fn frame(seq: u32) -> Frame {
        let spot = Spot { lane: 0, kind: LinkKind::PAIR };
        Frame { kind: Kind::Kept, spot, len: 8, seq, tag: seq ^ 0x55, released: 0, sum: 0 }
    }

    fn take(inbox: &mut Inbox, seq: u32) {
        assert!(matches!(inbox.open(&frame(seq)), Opening::Take(_)));
        inbox.complete(seq);
    }

    #[test]
    fn messages_are_shown_in_order_whatever_order_they_come_in() {
        let mut inbox = Inbox::new();
        for seq in [2, 1, 3, 0] {
            assert_eq!(inbox.front().map(|message| message.tag), None);
            take(&mut inbox, seq);
        }
        for seq in 0..4 {
            assert_eq!(inbox.front().map(|message| message.tag), Some(seq ^ 0x55));
            inbox.release();
        }
        assert!(inbox.front().is_none());
    }

    #[test]
    fn a_message_that_comes_twice_is_taken_once_before_and_after_its_release() {
        let mut inbox = Inbox::new();
        take(&mut inbox, 0);
        assert_eq!(inbox.open(&frame(0)), Opening::Drop);
        inbox.release();
        assert_eq!(inbox.open(&frame(0)), Opening::Drop);
        take(&mut inbox, 1);
    }

    #[test]
    fn a_message_that_two_carriers_bring_goes_to_one_place_until_it_is_whole_or_both_are_lost() {
        let mut inbox = Inbox::new();
        let Opening::Take(at) = inbox.open(&frame(0)) else { panic!("the first") };
        assert_eq!(inbox.open(&frame(0)), Opening::Take(at));
        inbox.abandon(0);
        assert!(inbox.front().is_none());
        assert_eq!(inbox.open(&frame(0)), Opening::Take(at), "a third one");
        inbox.complete(0);
        assert_eq!(inbox.open(&frame(0)), Opening::Drop);
        inbox.abandon(0);
        assert!(inbox.front().is_some(), "what is whole stays");
    }

    #[test]
    fn what_nobody_would_send_is_refused() {
        let mut inbox = Inbox::new();
        for seq in [SLOTS, SLOTS + 5, u32::MAX / 2] {
            assert_eq!(inbox.open(&frame(seq)), Opening::Refuse, "{seq}");
        }
        let other = Frame { len: 9, ..frame(0) };
        inbox.open(&frame(0));
        assert_eq!(inbox.open(&other), Opening::Refuse, "another length under the same number");
    }

    #[test]
    fn the_next_message_lands_where_it_is_wanted_if_it_fits() {
        let (mut inbox, mut place) = (Inbox::new(), [0u8; 8]);
        let at = place.as_mut_ptr();
        inbox.land(at, 8);
        assert!(matches!(inbox.open(&frame(1)), Opening::Take(other) if other != at), "not the next one");
        assert_eq!(inbox.open(&frame(0)), Opening::Take(at));
        let mut inbox = Inbox::new();
        inbox.land(at, 7);
        assert!(matches!(inbox.open(&frame(0)), Opening::Take(other) if other != at), "another length");
    }

    #[test]
    fn numbers_begin_anew_after_the_last_one() {
        let mut inbox = Inbox { released: u32::MAX - 1, told: u32::MAX - 1, ..Inbox::new() };
        for step in 0..40u32 {
            take(&mut inbox, (u32::MAX - 1).wrapping_add(step));
            inbox.release();
            assert_eq!(inbox.untold(), step + 1);
        }
        assert_eq!(inbox.open(&frame(u32::MAX)), Opening::Refuse, "long gone");
    }
}
