//! What came is not what was sent, or what is sent is not what was published: every operation from then on fails, with the rank to blame.

use super::links::TcpLinks;
use super::peer::{Nonsense, Parcel};
use crate::config::Protection;
use crate::error::{Error, Place};

impl TcpLinks {
    /// What came from a rank is not to be used; whatever is asked from now on fails with that.
    #[cold]
    pub(super) fn breaks(&mut self, rank: u32, Nonsense(what): Nonsense) -> Error {
        if self.fault.is_none() {
            self.fault = Some((rank, format!("{what}; it is {}", self.office.name(rank))));
        }
        self.broken()
    }

    #[cold]
    pub(super) fn broken(&self) -> Error {
        let (rank, what) = self.fault.clone().unwrap_or_default();
        Error::Corrupt { place: Box::new(Place::default()), rank: rank as usize, what }
    }

    /// Whether messages have checksums.
    pub(super) fn checked(&self) -> bool {
        self.protection == Protection::Checksum
    }

    /// A message to that rank is not what it was when it was published.
    #[cold]
    pub(super) fn has_changed(&mut self, to: u32, Parcel { spot, seq, len, .. }: Parcel) {
        let what = format!(
            "message {seq} of {}, {len} bytes to rank {to}, whose memory was changed after it was published and before it was sent: \
             nobody may write to a buffer that an operation uses; if nobody does, memory is faulty",
            spot.name()
        );
        self.breaks(self.rank, Nonsense(what.into()));
        // Whoever settles accounts must hear of it.
        self.wants_to_send(to);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Office, world};
    use super::*;
    use crate::plan::World;
    use crate::transport::{Links, Outgoing};
    use std::time::{Duration, Instant};

    /// Rank 0 lends a message, which is changed or not; what it hears when it settles, once it hears anything.
    fn settles(protection: Protection, changes: bool) -> Option<Error> {
        let offices = world(2, Duration::from_secs(60)).expect("two offices");
        let flat = World::flat(2);
        let link = |office: &std::sync::Arc<Office>| TcpLinks::new(office.clone(), &flat, (2, 2), &[], protection);
        let (mut here, mut there) = (link(&offices[0]), link(&offices[1]));
        let mut bytes = vec![1u8; 128 << 10];
        let (at, len, to) = (bytes.as_mut_ptr(), bytes.len(), Outgoing::Pair(1));
        let place = here.reserve_from(0, to, at, len).expect("no error").expect("a free slot");
        assert_eq!(place, at, "it is lent");
        here.publish(0, to, len, 7).expect("no error");
        if changes {
            // SAFETY: the memory is this test's, which breaks the contract on purpose.
            unsafe { at.add(99_999).write(2) };
        }
        let end = Instant::now() + Duration::from_secs(60);
        let error = loop {
            assert!(Instant::now() < end, "nothing is heard");
            let from = crate::transport::Incoming::Pair(0);
            if there.peek(0, from).expect("what came is whole").is_some() {
                there.release(0, from);
                there.settle().expect("no error");
            }
            match here.settle() {
                Err(error) => break Some(error),
                Ok(None) => break None,
                Ok(Some(_)) => std::thread::yield_now(),
            }
        };
        if let Some(error) = &error {
            // It comes again, whatever is asked.
            let again = here.peek(0, crate::transport::Incoming::Pair(1)).expect_err("the links are of no use");
            assert_eq!(again.to_string(), error.to_string());
        }
        offices.iter().for_each(|office| office.leave());
        error
    }

    #[test]
    fn who_changes_what_it_has_lent_is_named_itself() {
        let Some(Error::Corrupt { rank: 0, what, .. }) = settles(Protection::Checksum, true) else {
            panic!("it was sent")
        };
        for words in ["message 0 of channel 0, pair link, 131072 bytes to rank 1", "changed after it was published"] {
            assert!(what.contains(words), "{what}");
        }
        assert!(what.contains(&format!("process {}", std::process::id())), "{what}");
        assert!(settles(Protection::Checksum, false).is_none() && settles(Protection::Plain, true).is_none());
    }
}
