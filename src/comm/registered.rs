//! Memory that every rank of the host can address. On such buffers the owner of a slice reads all inputs and writes all outputs where they
//! lie, and nothing is copied through slots. To other hosts an RDMA device sends from there.

use super::Communicator;
use super::requests::Requests;
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::sys::known::Own;
use crate::transport::shm::Piece;
use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// A buffer from [`Communicator::alloc`]; a slice of elements like any other.
pub struct Registered<T: Element> {
    memory: Memory,
    at: *mut T,
    len: usize,
}

enum Memory {
    /// A piece of the rank's span of the shared heap.
    Shared(Piece),
    /// Of this process alone.
    Own(Own),
}

// SAFETY: the memory belongs to this value alone, like a vector's; elements are plain data.
unsafe impl<T: Element> Send for Registered<T> {}
// SAFETY: as above; shared references only read.
unsafe impl<T: Element> Sync for Registered<T> {}

impl<T: Element> Deref for Registered<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: `at` begins `len` elements of zeroed, aligned memory that this value owns. Other ranks write to it only inside
        // collectives that were given this buffer mutably.
        unsafe { std::slice::from_raw_parts(self.at, self.len) }
    }
}

impl<T: Element> DerefMut for Registered<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as for `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.len) }
    }
}

impl<T: Element> std::fmt::Debug for Registered<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if matches!(self.memory, Memory::Shared(_)) { "shared" } else { "of this process" };
        write!(f, "Registered({} {}, {kind})", self.len, T::TYPE)
    }
}

impl Communicator {
    /// Zeroed memory for `len` elements that the other ranks of this host can address: collectives on it need no copies. All ranks must
    /// call this together (lengths may differ). It serves this communicator and those that are split from it afterwards.
    pub fn alloc<T: Element>(&self, len: usize) -> Result<Registered<T>> {
        let bytes = len.checked_mul(size_of::<T>()).ok_or_else(|| {
            Error::misuse(format!("{len} elements of {} are more than memory has", T::TYPE), "Ask for less")
        });
        let memory = match &self.shared.heap {
            Some(heap) => {
                let fits = self.fits_in_group(*bytes.as_ref().unwrap_or(&0))?;
                bytes.and_then(|bytes| fits.and_then(|()| heap.allocate(bytes))).map(Memory::Shared)
            }
            None => bytes.and_then(Own::new).map(Memory::Own),
        };
        // Whether all have it decides how all plan from now on, so all must hear of it, before any of them plans another call.
        let mut lacking = [u32::from(memory.is_err())];
        let request = Requests(self).all_reduce(&mut lacking, crate::ReduceOp::Max)?;
        self.perform_freely_and(&request, &mut |engine| {
            if lacking[0] == 0 && !self.shared.windows.swap(true, std::sync::atomic::Ordering::Relaxed) {
                engine.retune(&mut |tuning| tuning.windows = true);
            }
        })?;
        let memory = memory?;
        if lacking[0] != 0 {
            return Err(Error::misuse(
                "another rank could not allocate registered memory",
                "Look at that rank's error, or ask for less",
            ));
        }
        let at = match &memory {
            Memory::Shared(piece) => piece.at().cast(),
            Memory::Own(own) => own.base().cast(),
        };
        Ok(Registered { memory, at, len })
    }
}

/// What this rank is about to reserve, for those that share its memory limit.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
struct Wish {
    bytes: u64,
    /// The control group with the limit; 0: none.
    group: u64,
}

impl Communicator {
    /// Whether what the ranks of this rank's control group want together is within its memory limit. Past it the kernel would kill one of
    /// them. The outer error is one of the exchange.
    fn fits_in_group(&self, bytes: usize) -> Result<Result<()>> {
        let room = crate::topo::detect::memory_room(std::path::Path::new("/"));
        let wish = Wish { bytes: bytes as u64, group: room.as_ref().map_or(0, |room| room.group) };
        let mut wishes = vec![Wish::zeroed(); self.size()];
        let (own, all) = (bytemuck::bytes_of(&wish), bytemuck::cast_slice_mut::<_, u8>(&mut wishes));
        self.perform_freely(&Requests(self).all_gather(own, all)?)?;
        let Some(room) = room else { return Ok(Ok(())) };
        let mine = wishes.iter().filter(|other| other.group == room.group);
        let together = mine.fold(0u64, |sum, other| sum.saturating_add(other.bytes));
        // The processes need some memory beside it.
        let left = room.left.saturating_sub(room.limit / 16);
        if together <= left {
            return Ok(Ok(()));
        }
        Ok(Err(Error::misuse(
            format!(
                "{bytes} bytes of registered memory ({together} with those that other ranks ask for now) do not fit: the memory limit of \
                 the control group {} is {} bytes, of which {} are left",
                room.folder, room.limit, room.left
            ),
            "Ask for less, or raise the limit (the container's, the batch system's, memory.max)",
        )))
    }
}

/// The heap of a communicator, if it has one.
pub(super) type Heap = Option<Arc<crate::transport::shm::HeapAllocator>>;
