//! One queue pair as a carrier of messages between two ranks.
//!
//! ```text
//!   here:     │slot│slot│slot│…      a message is put together in slots; they are free again when a later request is done. Of a long message
//!               │                    in memory that the device knows only the header goes there (`cache`, `gather`)
//!               │ write with immediate: the number of the first slot (how messages lie in slots, several in one write: `run`)
//!               ▼
//!   there:    │slot│slot│slot│…      the slots of the same numbers; free again as soon as their message is in its place
//!
//!   a message: header (its own; how many slots from the other end were taken; its length, all included), then the payload
//! ```
//!
//! The slots are all that the other end may write to, and nobody but it: each pair has a protection domain of its own. SEND into posted buffers
//! is as fast over Soft-RoCE (530 MB/s one way, 64 KiB); with a write a slot's place is known beforehand. What a program sends that knows
//! nothing of slots goes to them in turn.
//!
//! **Credits.** Each end has as many slots as the other: it counts what it has taken, and says so in every message, or in one of its own when
//! half of them were taken and nothing else goes there. Two are kept back for those.

use super::Nic;
use super::cache::Registrations;
use super::gather::{PIECES_OF_ONE, Waiting, pieces};
use super::offer::Offer;
use super::run::{self, Layout};
use crate::boot::host::random;
use crate::sys::verbs::abi::number::{
    SEND_INLINE, SEND_SIGNALED, WC_RECV, WC_RECV_WITH_IMMEDIATE, WR_WRITE_WITH_IMMEDIATE,
};
use crate::sys::verbs::abi::{Completion, Piece, SendRequest};
use crate::sys::verbs::{Channel, Domain, Grant, Path, QueuePair, Region, Wish, status_text};
use nix::errno::Errno;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// The last bytes before a payload: how many slots from the other end were taken, and how long the message is, all included.
const NEWS: usize = 4;
pub(super) const LAST: usize = NEWS + 4;

/// Messages under way, small and long ones, each way. 12 long ones are 3 MiB of slots at each end, each way. One way over Soft-RoCE, messages of
/// 64 KiB: 640 MB/s with 8, 724 with 12, 742 with 16; of 1 MiB all the same.
const SMALL_DEPTH: u32 = 64;
const LONG_DEPTH: u32 = 12;

/// Slots of a long message: shorter ones take fewer, so that more of them are under way. One way over Soft-RoCE in messages of 64 KiB, in parts
/// of what `ib_write_bw` gets in the same four rounds: with one slot for each 128 KiB 0.86, 256 KiB 0.88; with four for the longest 0.95, 0.94.
pub(crate) const PARTS: u32 = 4;

/// Slots that are kept back for messages that only say how many were taken.
const KEPT_BACK: u32 = 2;

/// Bytes that the device takes with the request itself: more of them make requests longer than a cache line or two.
const INLINE: u32 = 220;

/// How long the other end's device is waited for: 4.1 us · 2^14 = 67 ms, and so often again: dead after half a second.
const TIMEOUT: u8 = 14;
const RETRIES: u8 = 6;

/// At the end: how long the device has between two looks, and how many there are at most.
const LOOK: Duration = Duration::from_millis(1);
const MOST_LOOKS: u32 = 20;

/// Completions taken, and writes posted, at a time; and the pieces of those writes.
const AT_A_TIME: usize = 16;
const PIECES_AT_A_TIME: usize = 4 * run::MOST * PIECES_OF_ONE;

/// From so many bytes on a payload is sent from where it lies.
const GATHERED: usize = 8 << 10;

/// Marks a receive's number.
const RECEIVED: u64 = 1 << 63;

/// How far the joining is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The other end's offer has not come.
    Offered,
    /// Both ends take what comes; the other may not know.
    Joined,
    /// The other end has said that it is joined.
    Open,
}

/// Why a queue is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lost(pub(crate) String);

impl From<Errno> for Lost {
    fn from(errno: Errno) -> Lost {
        Lost(errno.desc().to_string())
    }
}

/// A message that has come: it is in its slot until `recycle`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came {
    at: *const u8,
    pub(crate) len: usize,
    /// The slot behind it.
    behind: u64,
    /// It is the last one of its write.
    ends: bool,
}

impl Came {
    /// Its bytes: first those before its own that the other end wrote.
    pub(crate) fn bytes(&self) -> *const u8 {
        self.at
    }
}

/// A queue. `P` is what its user calls a message.
#[derive(Debug)]
pub(crate) struct Queue<P> {
    /// Ended before the memory it uses goes.
    pair: QueuePair,
    nic: Arc<Nic>,
    stage: Stage,
    pub(crate) index: u8,
    pub(crate) attempt: u32,
    first: u32,
    depth: u32,
    layout: Layout,
    out: Region,
    into: Region,
    /// Where the other end's slots begin, and the key to them.
    theirs: (u64, u32),
    /// Memory that the device reads payloads from.
    registrations: Registrations,
    /// Messages of a write at most, so that the device takes all their pieces.
    together: usize,
    /// Messages that wait to be posted.
    waiting: VecDeque<Waiting<P>>,
    /// Slots that were filled, that were posted, and whose requests are done; those that were left out among them.
    filled: u64,
    posted: u64,
    done: u64,
    /// Slots from here that the other end has taken, and from there that this one has; and what was said of that.
    taken_there: u32,
    taken_here: u64,
    said: u32,
    /// Slots whose messages have come.
    arrived: u64,
    came: VecDeque<Came>,
    /// What is wrong with it, once what came before has been handed out.
    failed: Option<Lost>,
}

impl<P: Copy> Queue<P> {
    /// A queue for messages of at most so many bytes behind headers of so many, of which the longest have so many slots, with its buffers
    /// posted; and what to tell the other end.
    pub(crate) fn new(
        nic: &Arc<Nic>,
        channel: &Arc<Channel>,
        index: u8,
        attempt: u32,
        (header, most, parts): (usize, usize, u32),
    ) -> Result<(Queue<P>, Offer), Errno> {
        let depth = if index == 0 { SMALL_DEPTH } else { LONG_DEPTH };
        let layout = Layout::new(depth, parts, header + LAST, most);
        let pieces = nic.device.pieces(if index == 0 { 1 } else { run::MOST * PIECES_OF_ONE });
        let wish = Wish { sends: layout.slots, receives: layout.slots, inline: INLINE, pieces: pieces as u32 };
        // A domain of its own: nobody but the other end of this pair can write to its slots, whatever keys somebody guesses.
        let domain = Domain::new(&nic.device)?;
        let pair = QueuePair::new(&domain, channel, nic.port, wish)?;
        let bytes = layout.bytes();
        let (out, into) = (Region::new(&domain, bytes, Grant::Nothing)?, Region::new(&domain, bytes, Grant::Write)?);
        let first = random::<4>().map_or(1, u32::from_le_bytes) & 0xff_ffff;
        let gid = nic.gid.as_ref().map(|gid| gid.gid);
        let (number, lid, mtu) = (pair.number(), nic.lid, nic.mtu as u8);
        let mut queue = Queue {
            pair,
            nic: nic.clone(),
            stage: Stage::Offered,
            index,
            attempt,
            first,
            depth,
            layout,
            out,
            into,
            theirs: (0, 0),
            registrations: Registrations::new(domain),
            together: if index == 0 { run::MOST } else { pieces / PIECES_OF_ONE },
            waiting: VecDeque::new(),
            filled: 0,
            posted: 0,
            done: 0,
            taken_there: 0,
            taken_here: 0,
            said: 0,
            arrived: 0,
            came: VecDeque::new(),
            failed: None,
        };
        (0..layout.slots).try_for_each(|number| queue.expect(number.into()))?;
        let (slots, key) = (queue.into.base() as u64, queue.into.remote_key());
        Ok((queue, Offer { index, attempt, number, first, lid, gid, mtu, slots, key }))
    }

    /// A write may come. What is sent, as programs do that know nothing of slots, goes to that slot, which is free.
    fn expect(&mut self, number: u64) -> Result<(), Errno> {
        let at = self.layout.at(number);
        let addr = self.into.base() as u64 + at as u64;
        let piece = Piece { addr, length: self.layout.slot as u32, lkey: self.into.key() };
        // SAFETY: the slot lies in the region, which goes after the pair. The message that was in it has been taken.
        unsafe { self.pair.expect_message(RECEIVED | at as u64, piece) }
    }

    /// Joins this end to the other one, as it has told.
    pub(crate) fn join(&mut self, theirs: &Offer) -> Result<(), Errno> {
        let own_index = self.nic.gid.as_ref().map(|gid| gid.index);
        let path = Path {
            port: self.nic.port,
            mtu: self.nic.mtu.min(theirs.mtu.into()),
            their_number: theirs.number,
            their_first: theirs.first,
            own_first: self.first,
            lid: theirs.lid,
            global: theirs.gid.zip(own_index),
            service_level: 0,
            traffic_class: 0,
            timeout: TIMEOUT,
            retries: RETRIES,
        };
        self.theirs = (theirs.slots, theirs.key);
        self.pair.receive_from(&path)?;
        self.pair.send_to(&path)?;
        self.stage = Stage::Joined;
        Ok(())
    }

    /// Bytes before a payload.
    pub(crate) fn header(&self) -> usize {
        self.layout.header
    }

    /// Whether the other end's offer is still awaited.
    pub(crate) fn awaits_offer(&self) -> bool {
        self.stage == Stage::Offered
    }

    /// The other end takes what comes.
    pub(crate) fn open(&mut self) {
        if self.stage == Stage::Joined {
            self.stage = Stage::Open;
        }
    }

    /// Whether anything has got through.
    pub(crate) fn has_carried(&self) -> bool {
        self.done > 0 || self.arrived > 0
    }

    pub(crate) fn is_open(&self) -> bool {
        self.stage == Stage::Open
    }

    /// Bytes of a slot.
    #[cfg(feature = "ibverbs")]
    pub(crate) fn slot(&self) -> usize {
        self.layout.slot
    }

    /// Messages of the longest kind that may be under way.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Slots that the device has yet to bring to the other end.
    pub(crate) fn with_device(&self) -> u64 {
        self.filled - self.done
    }

    /// Slots under way or waiting for the device.
    pub(crate) fn under_way(&self) -> u64 {
        (self.filled - self.done).max(u64::from((self.filled as u32).wrapping_sub(self.taken_there)))
    }

    /// Whether a message may be put into slots, however long it is.
    pub(crate) fn has_room(&self) -> bool {
        self.is_open() && self.under_way() + self.layout.most() <= u64::from(self.layout.slots - KEPT_BACK)
    }

    /// Whether the other end waits to hear how many were taken, and can be told.
    pub(crate) fn owes_news(&self) -> bool {
        let owed = (self.taken_here as u32).wrapping_sub(self.said) >= self.layout.slots / 2;
        self.is_open() && owed && self.under_way() < u64::from(self.layout.slots)
    }

    /// Whether something is to be posted.
    pub(crate) fn is_sending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether the other end's device has all that was sent.
    pub(crate) fn is_delivered(&self) -> bool {
        self.done == self.filled
    }

    /// The messages that wait to be posted.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = P> + Clone {
        self.waiting.iter().filter_map(|message| message.parcel)
    }

    /// Puts a message into the next slots; there is room. `header`: what goes before the payload, without the last words, which are this
    /// queue's own. `stays`: the payload stays where it is until the other end has it, and may be sent from there.
    ///
    /// # Safety
    /// `at` is valid for reads of `len` bytes. What stays is, in memory that `known` knows, not given back before the other end has the message,
    /// or this queue is gone.
    pub(crate) unsafe fn begin(&mut self, header: &[u8], at: *const u8, len: usize, stays: bool, parcel: Option<P>) {
        let Layout { header: before, full, .. } = self.layout;
        assert!(header.len() + LAST == before && before + len <= full, "{len} bytes in slots for {full}");
        let lying = self.layout.place(self.filled, before + len);
        let behind = self.layout.behind(lying);
        let slot = self.out.base().wrapping_add(self.layout.at(lying.number));
        let (said, length) = (self.tell().to_le_bytes(), (lying.length as u32).to_le_bytes());
        let may_gather = stays && len >= GATHERED && self.index != 0 && self.together > 0;
        let key = may_gather.then(|| self.registrations.key(at, len, behind, self.done)).flatten();
        // SAFETY: the slots are inside the region and free: fewer than there are are not done. They have room for all parts.
        unsafe {
            std::ptr::copy_nonoverlapping(header.as_ptr(), slot, header.len());
            std::ptr::copy_nonoverlapping(said.as_ptr(), slot.add(header.len()), said.len());
            std::ptr::copy_nonoverlapping(length.as_ptr(), slot.add(header.len() + NEWS), length.len());
            if key.is_none() {
                std::ptr::copy_nonoverlapping(at, slot.add(before), len);
            }
        }
        self.filled = behind;
        let lies = key.map(|key| (at.expose_provenance() as u64, key));
        self.waiting.push_back(Waiting { lying, lies, parcel });
    }

    /// Posts what waits, and hands over what the messages are called.
    pub(crate) fn go_on(&mut self, mut taken: impl FnMut(P)) -> Result<(), Lost> {
        while !self.waiting.is_empty() {
            let mut all = [Piece::default(); PIECES_AT_A_TIME];
            let mut requests = [SendRequest::default(); AT_A_TIME];
            let (mut writes, mut count, mut used, mut behind) = (0, 0, 0, self.posted);
            while writes < AT_A_TIME && count < self.waiting.len() && used + run::MOST * PIECES_OF_ONE <= all.len() {
                let lying = self.waiting.range(count..).map(|message| message.lying);
                let (messages, bytes) = self.layout.together(self.together.max(1), lying);
                let run = self.waiting.range(count..count + messages);
                let own = (self.out.base() as u64, self.out.key());
                let of_it = pieces(&self.layout, own, run, &mut all[used..]);
                let first = self.waiting[count].lying.number;
                let inline = if bytes <= self.pair.inline() as usize { SEND_INLINE } else { 0 };
                count += messages;
                behind = self.layout.behind(self.waiting[count - 1].lying);
                requests[writes] = SendRequest {
                    wr_id: behind,
                    sg_list: &raw mut all[used],
                    num_sge: of_it as i32,
                    opcode: WR_WRITE_WITH_IMMEDIATE,
                    imm_data: (first as u32).to_be(),
                    remote_addr: self.theirs.0 + self.layout.at(first) as u64,
                    rkey: self.theirs.1,
                    send_flags: inline,
                    ..SendRequest::default()
                };
                (writes, used) = (writes + 1, used + of_it);
            }
            // One completion for all: the requests before it are done when it is.
            requests[writes - 1].send_flags |= SEND_SIGNALED;
            // SAFETY: the pieces are of slots and other memory that is registered in this pair's domain: slots are not used again, and
            // registrations do not go, before `done` has passed them.
            unsafe { self.pair.send(&mut requests[..writes])? };
            self.posted = behind;
            self.waiting.drain(..count).filter_map(|message| message.parcel).for_each(&mut taken);
        }
        Ok(())
    }

    /// The next message that has come.
    pub(crate) fn next(&mut self) -> Result<Option<Came>, Lost> {
        if self.came.is_empty() && self.failed.is_none() {
            self.failed = self.poll().err();
        }
        match (self.came.pop_front(), &self.failed) {
            (Some(came), _) => Ok(Some(came)),
            (None, Some(lost)) => Err(lost.clone()),
            (None, None) => Ok(None),
        }
    }

    /// Takes in what the device says is done.
    fn poll(&mut self) -> Result<(), Lost> {
        let mut completions = [Completion::default(); AT_A_TIME];
        let count = self.pair.completions().poll(&mut completions)?;
        for completion in &completions[..count] {
            if completion.status != 0 {
                let what = if completion.wr_id & RECEIVED != 0 { "receiving" } else { "sending" };
                return Err(Lost(format!("{what}: {}", status_text(completion.status))));
            }
            if completion.wr_id & RECEIVED == 0 {
                self.done = self.done.max(completion.wr_id);
                continue;
            }
            self.take_in(completion)?;
        }
        Ok(())
    }

    /// Takes in the messages of a write. Those of a connection come in order: the number only says that both ends count alike, and one that
    /// was sent has none, but a slot that was told beforehand.
    fn take_in(&mut self, completion: &Completion) -> Result<(), Lost> {
        let next = self.arrived;
        let Some((count, messages)) = self.take_apart(completion) else {
            return Err(Lost(format!("a completion that makes no sense: {completion:?}, slot {next}")));
        };
        // It sends only after this end has said that it is joined: so the other end is too, whether or not its word has come.
        self.open();
        for (place, message) in messages[..count].iter().enumerate() {
            let (at, behind) = (self.place_of(message.number), self.layout.behind(*message));
            // Its slots are free: who writes only what it has credit for never meets this.
            if behind - self.taken_here > u64::from(self.layout.slots) {
                return Err(Lost(format!("a message came before its slot {} was free", message.number)));
            }
            self.arrived = behind;
            self.hear(at)?;
            self.came.push_back(Came { at, len: message.length, behind, ends: place + 1 == count });
        }
        Ok(())
    }

    fn take_apart(&self, completion: &Completion) -> Option<run::Apart> {
        let next = self.arrived;
        let first = match completion.opcode {
            WC_RECV_WITH_IMMEDIATE => next + u64::from(u32::from_be(completion.imm_data).wrapping_sub(next as u32)),
            WC_RECV if completion.wr_id == RECEIVED | self.layout.at(next) as u64 => next,
            _ => return None,
        };
        // Further on than all slots there is none for it.
        let near = first - next < u64::from(self.layout.slots);
        let says = |number: u64| self.says(number) as usize;
        near.then(|| self.layout.apart(next, first, completion.byte_len as usize, says))?
    }

    /// Where a slot from the other end lies.
    fn place_of(&self, number: u64) -> *const u8 {
        self.into.base().wrapping_add(self.layout.at(number)).cast_const()
    }

    /// How long the message in a slot says that it is: a word that the other end wrote, or could have written.
    fn says(&self, number: u64) -> u32 {
        let mut word = [0; LAST - NEWS];
        let at = self.place_of(number).wrapping_add(self.layout.header - word.len());
        // SAFETY: every slot has room for a header.
        unsafe { std::ptr::copy_nonoverlapping(at, word.as_mut_ptr(), word.len()) };
        u32::from_le_bytes(word)
    }

    /// What a message says of that.
    fn hear(&mut self, at: *const u8) -> Result<(), Lost> {
        let mut word = [0; NEWS];
        // SAFETY: a slot has at least a header, and its message is complete.
        unsafe { std::ptr::copy_nonoverlapping(at.add(self.layout.header - LAST), word.as_mut_ptr(), NEWS) };
        self.hear_taken(u32::from_le_bytes(word))
    }

    /// How many slots this end has taken, for the other end to hear.
    pub(crate) fn tell(&mut self) -> u32 {
        self.said = self.taken_here as u32;
        self.said
    }

    /// How many slots the other end has taken: never more than were sent.
    pub(crate) fn hear_taken(&mut self, taken: u32) -> Result<(), Lost> {
        let more = taken.wrapping_sub(self.taken_there);
        // Queues overtake each other: what another one says may be old.
        if more > u32::MAX / 2 {
            return Ok(());
        }
        if u64::from(more) > u64::from((self.posted as u32).wrapping_sub(self.taken_there)) {
            return Err(Lost(format!("the other end says that it took {taken} slots of {}", self.posted)));
        }
        self.taken_there = taken;
        Ok(())
    }

    /// The message that was shown last is where it belongs: its slot is free.
    pub(crate) fn recycle(&mut self, came: Came) -> Result<(), Lost> {
        self.taken_here = came.behind;
        // A receive for each write. Where each message has one slot, and each write one message, it is told the one that is free now.
        if came.ends {
            self.expect(came.behind - 1)?;
        }
        Ok(())
    }

    /// The next completion wakes the channel.
    pub(crate) fn arm(&mut self) -> Result<(), Lost> {
        Ok(self.pair.completions().arm()?)
    }
}

impl<P> Drop for Queue<P> {
    /// All that is under way is ended before the pair goes, and the device gets a moment for that: Soft-RoCE of Linux 6.1 waits in a circle for
    /// requests that are just being worked on, and on one processor for ever.
    fn drop(&mut self) {
        if let Err(errno) = self.pair.stop() {
            log::debug!("verbs: a queue does not stop ({})", errno.desc());
        }
        let mut completions = [Completion::default(); AT_A_TIME];
        for _ in 0..MOST_LOOKS {
            std::thread::sleep(LOOK);
            let mut any = false;
            while matches!(self.pair.completions().poll(&mut completions), Ok(1..)) {
                any = true;
            }
            if !any {
                return;
            }
        }
    }
}
