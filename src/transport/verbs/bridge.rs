//! A queue whose other end is a queue pair of the `ibverbs` crate (feature `ibverbs`, off by default: that crate links libibverbs for good, and
//! builds rdma-core with cmake and libclang).
//!
//! ```text
//!   this library                                           the crate
//!   send ── write with immediate, into the slots of ──>    a MemoryRegion<u8>; the completion says that it has come, and how long it is
//!   receive <── SEND ───────────────────────────────       QueuePair::post_send
//!
//!   a message: 4 bytes, how many messages from the other end were taken (little-endian); 4 bytes, how long it is, these 8 included; then the
//!   payload
//! ```

use super::offer::Offer;
use super::queue::{LAST, Queue};
use super::{Nic, ready};
use crate::boot::BootConfig;
use crate::sys::verbs::Channel;
use ibverbs::{Gid, MemoryRegion, QueuePairEndpoint};
use std::sync::Arc;

/// Bytes before a payload.
pub const HEAD: usize = LAST;

/// This library's end.
#[derive(Debug)]
pub struct Bridge {
    queue: Queue<()>,
    nic: Arc<Nic>,
    offer: Offer,
}

impl Bridge {
    /// An end on the first device that is ready, for messages of at most so many bytes.
    pub fn new(most: usize) -> Result<Bridge, String> {
        let config = BootConfig::from_env().map_err(|error| error.to_string())?;
        let nic = ready(&config).first().cloned().ok_or("no RDMA device is ready")?;
        let channel = Channel::new(&nic.device).map_err(|errno| errno.to_string())?;
        let (queue, offer) = Queue::new(&nic, &channel, 1, 1, (0, most, 1)).map_err(|errno| errno.to_string())?;
        Ok(Bridge { queue, nic, offer })
    }

    /// The device's name.
    pub fn device(&self) -> &str {
        self.nic.device.name()
    }

    /// The index of its address among those of its port, if it has one.
    pub fn gid_index(&self) -> Option<u32> {
        self.nic.gid.as_ref().map(|entry| entry.index.into())
    }

    /// What the other end's `handshake` takes.
    pub fn endpoint(&self) -> QueuePairEndpoint {
        let gid = self.offer.gid.map(|bytes| {
            let mut gid = Gid::default();
            gid.as_mut().raw = bytes;
            gid
        });
        QueuePairEndpoint { num: self.offer.number, lid: self.offer.lid, gid }
    }

    /// The number of the first packet from here, for `set_rq_psn`.
    pub fn first_packet(&self) -> u32 {
        self.offer.first
    }

    /// Bytes of a packet, for `set_path_mtu`.
    pub fn mtu(&self) -> u32 {
        self.offer.mtu.into()
    }

    /// How many slots the other end has to have, one behind the other, and the bytes of each. Message n comes into slot n modulo their number.
    pub fn slots(&self) -> (usize, usize) {
        (self.queue.depth() as usize, self.queue.slot())
    }

    /// Joins this end to the other one, whose first packet has number 0, as those of that crate do.
    ///
    /// # Safety
    /// The memory stays registered as long as this end lives, and nobody looks at a slot but between the completion of a message in it and the
    /// word that it was taken.
    pub unsafe fn join(&mut self, theirs: QueuePairEndpoint, memory: &MemoryRegion<u8>) -> Result<(), String> {
        let (count, bytes) = self.slots();
        if memory.len() < count * bytes {
            return Err(format!("{} bytes are no {count} slots of {bytes}", memory.len()));
        }
        let gid = theirs.gid.map(|gid| {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&gid.subnet_prefix().to_be_bytes());
            bytes[8..].copy_from_slice(&gid.interface_id().to_be_bytes());
            bytes
        });
        let (slots, key) = (memory.as_ptr() as u64, memory.rkey().key);
        let offer = Offer { number: theirs.num, first: 0, lid: theirs.lid, gid, slots, key, ..self.offer };
        self.queue.join(&offer).map_err(|errno| errno.to_string())?;
        self.queue.open();
        Ok(())
    }

    /// Sends a message. False: the other end has to take some first.
    pub fn send(&mut self, payload: &[u8]) -> Result<bool, String> {
        let (_, slot) = self.slots();
        if HEAD + payload.len() > slot {
            return Err(format!("{} bytes do not fit in a slot of {slot}", payload.len()));
        }
        if !self.queue.has_room() {
            return Ok(false);
        }
        // SAFETY: the payload has that length.
        unsafe { self.queue.begin(&[], payload.as_ptr(), payload.len(), false, None) };
        self.queue.go_on(|()| ()).map_err(|lost| lost.0)?;
        Ok(true)
    }

    /// The payload of the next message, if one has come.
    pub fn receive(&mut self) -> Result<Option<Vec<u8>>, String> {
        let Some(came) = self.queue.next().map_err(|lost| lost.0)? else { return Ok(None) };
        // SAFETY: a message that has come has so many bytes, and its sender leaves them alone until it hears that they were taken.
        let payload = unsafe { std::slice::from_raw_parts(came.bytes(), came.len) }[HEAD..].to_vec();
        self.queue.recycle(came).map_err(|lost| lost.0)?;
        Ok(Some(payload))
    }
}
