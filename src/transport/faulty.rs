//! Any links, with faults from a seed: what comes in is delayed, dropped, changed, or cut off; ranks die and stop.
//!
//! ```text
//!   inner link:  m1  m2  m3  m4                 a message is seen at its time and not before,
//!                 │   │   ╳───────  dropped:    the one behind it not before it,
//!                 ▼   ▼             the link    and a link that lost one shows nothing more
//!   peek:     ....m1....m2......... is silent   (no link ever has a gap)
//! ```
//!
//! Everything follows from [`Faults`], which is data, and from a [`Clock`] that the caller moves: the same run twice gives the same faults.
//! All ranks of a world share one [`Weather`]. The faults are on the reader's side, so the writer sees of them what it would see of a slow
//! or lost peer: slots that stay full.
//!
//! What must be detected: a changed tag or length, always, because the executor compares both with the plan. What can't be: a changed
//! payload, because these links' messages carry no checksum: memory of the same host is trusted with that, and what goes between hosts can have
//! one below this (`Protection`).

use super::clock::Clock;
use super::{Abort, Blocked, Entered, Incoming, Links, Message, Outgoing, Shared, Trouble, Watch};
use crate::error::{Error, Place};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One thing that goes wrong. Messages are numbered from 1 in the order in which the reader first sees them, over all links from a rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// That message never comes, nor anything behind it on its link.
    Drop {
        /// The writer.
        from: u32,
        /// The reader.
        to: u32,
        /// Which message.
        number: u64,
    },
    /// That message comes with a bit changed.
    Corrupt {
        /// The writer.
        from: u32,
        /// The reader.
        to: u32,
        /// Which message.
        number: u64,
        /// Which part of it.
        part: Part,
        /// Which bit of that part, modulo how many there are.
        bit: u32,
    },
    /// The links from one rank to another fail at both ends.
    Close {
        /// The writer.
        from: u32,
        /// The reader.
        to: u32,
        /// Since when.
        at: Duration,
    },
    /// A rank dies, and everybody can see that. The caller polls it no more.
    Gone {
        /// Who.
        rank: u32,
        /// Since when.
        at: Duration,
    },
    /// A rank stops for a while, as SIGSTOP does, and everybody can see that. The caller does not poll it then.
    Stopped {
        /// Who.
        rank: u32,
        /// Since when.
        at: Duration,
        /// Until when.
        until: Duration,
    },
}

/// A part of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What the sender took it to be part of.
    Tag,
    /// How long it says it is.
    Length,
    /// Its bytes.
    Payload,
}

/// What goes wrong in a world.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Gives each message its delay.
    pub seed: u64,
    /// The longest delay of a message.
    pub delay: Duration,
    /// Everything else.
    pub mishaps: Vec<Mishap>,
}

impl Faults {
    /// Whether that rank is dead at that time.
    pub fn gone(&self, who: u32, now: Duration) -> bool {
        self.mishaps.iter().any(|mishap| matches!(mishap, Mishap::Gone { rank, at } if *rank == who && *at <= now))
    }

    /// Until when a rank is stopped, if it is.
    pub fn stopped(&self, who: u32, now: Duration) -> Option<Duration> {
        self.mishaps.iter().find_map(|mishap| match mishap {
            Mishap::Stopped { rank, at, until } if *rank == who && *at <= now && now < *until => Some(*until),
            _ => None,
        })
    }

    fn closed(&self, writer: u32, reader: u32, now: Duration) -> bool {
        let closes = |mishap: &Mishap| matches!(mishap, Mishap::Close { from, to, at } if (*from, *to) == (writer, reader) && *at <= now);
        self.mishaps.iter().any(closes)
    }

    fn drops(&self, writer: u32, reader: u32, nth: u64) -> bool {
        let drops = |mishap: &Mishap| matches!(mishap, Mishap::Drop { from, to, number } if (*from, *to, *number) == (writer, reader, nth));
        self.mishaps.iter().any(drops)
    }

    fn harm(&self, writer: u32, reader: u32, nth: u64) -> Option<(Part, u32)> {
        self.mishaps.iter().find_map(|mishap| match mishap {
            Mishap::Corrupt { from, to, number, part, bit } if (*from, *to, *number) == (writer, reader, nth) => {
                Some((*part, *bit))
            }
            _ => None,
        })
    }

    fn delay_of(&self, writer: u32, reader: u32, nth: u64) -> Duration {
        let most = self.delay.as_nanos() as u64;
        let mut word = self.seed;
        for part in [u64::from(writer), u64::from(reader), nth] {
            word = mix(word ^ part);
        }
        // A third of the messages comes at once, so that some overtake others on other links.
        if most == 0 || word.is_multiple_of(3) { Duration::ZERO } else { Duration::from_nanos(word % most) }
    }
}

/// Messages of a link whose times of sending are remembered: more than any link holds.
const REMEMBERED: usize = 64;

/// What all ranks of a world share: the faults, the time, and when each message was sent.
#[derive(Debug)]
pub struct Weather {
    faults: Faults,
    clock: Clock,
    /// For each lane, writer and link: messages so far, and when the last of them were sent.
    sent: Mutex<BTreeMap<(u32, u32, Outgoing), Sent>>,
}

/// The messages of a link that were sent.
type Sent = (u64, [Duration; REMEMBERED]);

impl Weather {
    /// Those faults at the times of that clock.
    pub fn new(faults: Faults, clock: Clock) -> Arc<Weather> {
        Arc::new(Weather { faults, clock, sent: Mutex::default() })
    }

    fn note_sent(&self, lane: u32, writer: u32, link: Outgoing) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, times) = sent.entry((lane, writer, link)).or_insert((0, [Duration::ZERO; REMEMBERED]));
        times[*count as usize % REMEMBERED] = self.clock.now();
        *count += 1;
    }

    /// When message `number`, from 0, of a link was sent.
    fn sent_at(&self, lane: u32, reader: u32, link: Incoming, number: u64) -> Duration {
        let (writer, link) = match link {
            Incoming::Pair(from) => (from, Outgoing::Pair(reader)),
            Incoming::Board(from, group) => (from, Outgoing::Board(group)),
        };
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.get(&(lane, writer, link)).map_or(Duration::ZERO, |(_, times)| times[number as usize % REMEMBERED])
    }
}

/// Steele, Lea and Flood's finaliser: neighbouring words give words that have nothing in common.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// The oldest message of a link, once it has been seen.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// It can be read from that time on, changed so.
    Coming(Duration, Option<(Part, u32)>),
    /// It is lost, and with it everything that is behind it.
    Silent,
}

/// The reader's end of a link.
#[derive(Debug, Default)]
struct Inlet {
    released: u64,
    head: Option<Head>,
    /// The changed bytes of the message that is being read.
    changed: Option<Box<[u8]>>,
}

/// One rank's ends of links with faults.
#[derive(Debug)]
pub struct Faulty<L> {
    inner: L,
    weather: Arc<Weather>,
    inlets: BTreeMap<(u32, Incoming), Inlet>,
    /// Messages first seen so far, for each writer.
    seen: Vec<u64>,
    /// When it was first noticed that a rank has left.
    left: BTreeMap<u32, Duration>,
    /// Whether a message with a changed tag or length was shown.
    deceived: bool,
}

impl<L: Links> Faulty<L> {
    /// Those links in that weather.
    pub fn new(inner: L, weather: Arc<Weather>) -> Faulty<L> {
        let seen = vec![0; inner.size() as usize];
        let (inlets, left) = Default::default();
        Faulty { inner, weather, inlets, seen, left, deceived: false }
    }

    fn now(&self) -> Duration {
        self.weather.clock.now()
    }

    /// Whether this rank was shown a message with a changed tag or length, which it must not believe.
    pub fn deceived(&self) -> bool {
        self.deceived
    }

    /// When the next message that has been sent already can be read.
    pub fn next_arrival(&self) -> Option<Duration> {
        let now = self.now();
        let coming = |inlet: &Inlet| match inlet.head {
            Some(Head::Coming(at, _)) => Some(at).filter(|at| *at > now),
            _ => None,
        };
        self.inlets.values().filter_map(coming).min()
    }

    fn cut_off(&self, rank: u32) -> Error {
        let place = Place { rank: self.rank() as usize, size: self.size() as usize, ..Place::default() };
        Error::PeerLost { place: Box::new(place), rank: rank as usize, how: "its link was closed".into() }
    }

    /// The message as its reader sees it.
    fn change(inlet: &mut Inlet, message: Message, part: Part, bit: u32) -> Message {
        match part {
            Part::Tag => Message { tag: message.tag ^ 1 << (bit % 32), ..message },
            Part::Length => Message { len: message.len ^ 1 << (bit % 24), ..message },
            Part::Payload if message.len == 0 => message,
            Part::Payload => {
                let copy = inlet.changed.get_or_insert_with(|| {
                    let mut copy = vec![0; message.len].into_boxed_slice();
                    // SAFETY: a message that was peeked and not released has `len` readable bytes; the copy is as long and new.
                    unsafe { std::ptr::copy_nonoverlapping(message.at, copy.as_mut_ptr(), message.len) };
                    let bit = bit as usize % (message.len * 8);
                    copy[bit / 8] ^= 1 << (bit % 8);
                    copy
                });
                Message { at: copy.as_ptr(), ..message }
            }
        }
    }
}

impl<L: Links> Links for Faulty<L> {
    fn rank(&self) -> u32 {
        self.inner.rank()
    }

    fn size(&self) -> u32 {
        self.inner.size()
    }

    fn reserve(&mut self, lane: u32, link: Outgoing, len: usize) -> Result<Result<*mut u8, Blocked>, Error> {
        if let Outgoing::Pair(to) = link
            && self.weather.faults.closed(self.rank(), to, self.now())
        {
            return Err(self.cut_off(to));
        }
        self.inner.reserve(lane, link, len)
    }

    fn publish(&mut self, lane: u32, link: Outgoing, len: usize, tag: u32) -> Result<(), Error> {
        self.weather.note_sent(lane, self.rank(), link);
        self.inner.publish(lane, link, len, tag)
    }

    fn peek(&mut self, lane: u32, link: Incoming) -> Result<Option<Message>, Error> {
        let (now, from, to) = (self.now(), link.rank(), self.rank());
        let (weather, faults) = (&self.weather, &self.weather.faults);
        if faults.closed(from, to, now) {
            return Err(self.cut_off(from));
        }
        let Some(message) = self.inner.peek(lane, link)? else { return Ok(None) };
        let inlet = self.inlets.entry((lane, link)).or_default();
        let head = *inlet.head.get_or_insert_with(|| {
            self.seen[from as usize] += 1;
            let number = self.seen[from as usize];
            if faults.drops(from, to, number) {
                return Head::Silent;
            }
            let sent = weather.sent_at(lane, to, link, inlet.released);
            Head::Coming(sent + faults.delay_of(from, to, number), faults.harm(from, to, number))
        });
        match head {
            Head::Silent => Ok(None),
            Head::Coming(at, _) if now < at => Ok(None),
            Head::Coming(_, None) => Ok(Some(message)),
            Head::Coming(_, Some((part, bit))) => {
                self.deceived |= part != Part::Payload;
                Ok(Some(Self::change(inlet, message, part, bit)))
            }
        }
    }

    fn release(&mut self, lane: u32, link: Incoming) {
        let inlet = self.inlets.entry((lane, link)).or_default();
        *inlet = Inlet { released: inlet.released + 1, ..Inlet::default() };
        self.inner.release(lane, link);
    }

    fn share(&self, at: *const u8, len: usize) -> Shared {
        self.inner.share(at, len)
    }

    fn resolve(&mut self, owner: u32, place: Shared, len: usize) -> Option<*mut u8> {
        self.inner.resolve(owner, place, len)
    }

    unsafe fn fetch(&mut self, owner: u32, at: u64, into: *mut u8, len: usize) -> Result<(), Error> {
        // SAFETY: the caller's contract is the same.
        unsafe { self.inner.fetch(owner, at, into, len) }
    }

    fn drained(&mut self, lane: u32, link: Outgoing) -> Result<Option<Blocked>, Error> {
        self.inner.drained(lane, link)
    }

    fn past_caches(&self) -> bool {
        self.inner.past_caches()
    }

    fn message_limit(&self, peer: u32) -> usize {
        self.inner.message_limit(peer)
    }

    fn enter_windows(&mut self) -> bool {
        self.inner.enter_windows()
    }

    fn leave_windows(&mut self) {
        self.inner.leave_windows();
    }
}

impl<L: Watch> Watch for Faulty<L> {
    fn announce(&mut self, entered: &Entered) {
        self.inner.announce(entered);
    }

    fn finish(&mut self, number: u64) {
        self.inner.finish(number);
    }

    fn finished(&self, _rank: u32) -> u64 {
        0 // The end of a call would be heard of before messages that are held back.
    }

    fn aborted(&self) -> bool {
        self.inner.aborted()
    }

    fn trouble(&mut self, number: u64, blocked: Blocked) -> Option<Trouble> {
        let (now, faults) = (self.now(), &self.weather.faults);
        if let Some(rank) = (0..self.size()).find(|rank| *rank != self.rank() && faults.gone(*rank, now)) {
            return Some(Trouble::Lost { rank, how: "it died in a test".into() });
        }
        let trouble = self.inner.trouble(number, blocked)?;
        if let Trouble::Lost { rank, .. } = trouble {
            let noticed = *self.left.entry(rank).or_insert(now);
            // It is heard of behind everything that the rank has sent.
            if now < noticed + faults.delay {
                return None;
            }
        }
        Some(trouble)
    }

    fn entered(&self, rank: u32, number: u64) -> Option<Entered> {
        self.inner.entered(rank, number)
    }

    fn waiting_for(&self, rank: u32) -> Option<u32> {
        self.inner.waiting_for(rank)
    }

    fn stopped(&self, rank: u32) -> bool {
        self.weather.faults.stopped(rank, self.now()).is_some() || self.inner.stopped(rank)
    }

    fn describe(&self, rank: u32, number: u64) -> String {
        self.inner.describe(rank, number)
    }

    fn doze(&mut self, blocked: Blocked) {
        self.inner.doze(blocked);
    }

    fn sleep(&mut self, limit: Duration) {
        self.inner.sleep(limit);
    }

    fn rise(&mut self) {
        self.inner.rise();
    }

    fn go_on(&mut self) {
        self.inner.go_on();
    }

    fn abort(&mut self, abort: Abort) -> Abort {
        self.inner.abort(abort)
    }

    fn withdraw(&mut self) {
        self.inner.withdraw();
    }

    fn failed(&mut self) {
        self.inner.failed();
    }

    fn crowd(&self) -> (u32, u32) {
        self.inner.crowd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::local::LocalLinks;

    const LINK: (u32, Outgoing, Incoming) = (3, Outgoing::Pair(1), Incoming::Pair(0));

    fn pair(faults: Faults, clock: &Clock) -> (Faulty<LocalLinks>, Faulty<LocalLinks>) {
        let weather = Weather::new(faults, clock.clone());
        let mut ends = LocalLinks::world(2).into_iter().map(|links| Faulty::new(links, weather.clone()));
        (ends.next().unwrap(), ends.next().unwrap())
    }

    fn send(links: &mut Faulty<LocalLinks>, bytes: &[u8], tag: u32) {
        let (lane, link, _) = LINK;
        let at = links.reserve(lane, link, bytes.len()).unwrap().unwrap();
        // SAFETY: just reserved with that length.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
        links.publish(lane, link, bytes.len(), tag).unwrap();
    }

    fn look(links: &mut Faulty<LocalLinks>) -> Option<(usize, u32, u8)> {
        let (lane, _, link) = LINK;
        let message = links.peek(lane, link).unwrap()?;
        // SAFETY: the tests below send messages of at least one byte.
        Some((message.len, message.tag, unsafe { *message.at }))
    }

    #[test]
    fn a_delayed_message_is_seen_at_its_time_and_not_before() {
        let (clock, delay) = (Clock::default(), Duration::from_millis(10));
        let mut waited = 0;
        for seed in 0..20 {
            let (mut one, mut two) = pair(Faults { seed, delay, ..Faults::default() }, &clock);
            send(&mut one, &[7], 5);
            if look(&mut two).is_none() {
                let at = two.next_arrival().unwrap();
                assert!(at > clock.now() && at < clock.now() + delay);
                clock.move_to(at - Duration::from_nanos(1));
                assert_eq!(look(&mut two), None);
                clock.move_to(at);
                waited += 1;
            }
            assert_eq!(look(&mut two), Some((1, 5, 7)));
            assert_eq!(two.next_arrival(), None);
        }
        assert!(waited > 5, "{waited}");
    }

    #[test]
    fn nothing_comes_behind_a_dropped_message() {
        let drop = Mishap::Drop { from: 0, to: 1, number: 2 };
        let (mut one, mut two) = pair(Faults { mishaps: vec![drop], ..Faults::default() }, &Clock::default());
        send(&mut one, &[1], 0);
        send(&mut one, &[2], 0);
        assert_eq!(look(&mut two), Some((1, 0, 1)));
        two.release(LINK.0, LINK.2);
        send(&mut one, &[3], 0);
        assert_eq!(look(&mut two), None);
        assert!(one.reserve(LINK.0, LINK.1, 1).unwrap().is_err(), "its slots stay full");
    }

    #[test]
    fn a_changed_message_shows_the_changed_bit_and_the_next_does_not() {
        for (part, want) in [(Part::Tag, (1, 4, 8)), (Part::Length, (0, 5, 8)), (Part::Payload, (1, 5, 9))] {
            let corrupt = Mishap::Corrupt { from: 0, to: 1, number: 1, part, bit: 0 };
            let (mut one, mut two) = pair(Faults { mishaps: vec![corrupt], ..Faults::default() }, &Clock::default());
            send(&mut one, &[8], 5);
            send(&mut one, &[8], 5);
            assert_eq!(look(&mut two), Some(want));
            assert_eq!(look(&mut two), Some(want), "asking again gives the same message");
            two.release(LINK.0, LINK.2);
            assert_eq!(look(&mut two), Some((1, 5, 8)));
        }
    }

    #[test]
    fn a_closed_link_fails_at_both_ends_and_names_the_other() {
        let close = Mishap::Close { from: 0, to: 1, at: Duration::from_secs(1) };
        let clock = Clock::default();
        let (mut one, mut two) = pair(Faults { mishaps: vec![close], ..Faults::default() }, &clock);
        send(&mut one, &[8], 5);
        clock.move_to(Duration::from_secs(1));
        assert_eq!(one.reserve(LINK.0, LINK.1, 1).unwrap_err().culprits(), [1]);
        assert_eq!(two.peek(LINK.0, LINK.2).unwrap_err().culprits(), [0]);
    }
}
