//! From what a user writes to a request: lengths, roots and counts checked.

use super::{Communicator, extent};
use crate::error::{Error, Result};
use crate::exec::{Element, Request};
use crate::types::{Call, Collective, ReduceOp};

/// Makes requests for a communicator.
#[derive(Clone, Copy, Debug)]
pub struct Requests<'c>(pub &'c Communicator);

impl Requests<'_> {
    #[inline(always)]
    fn run<T: Element>(&self, call: Call, op: ReduceOp, input: *const T, output: *mut T) -> Result<Request> {
        Ok(Request::Collective { call, op, input: input.cast(), output: output.cast() })
    }

    #[inline(always)]
    pub fn all_reduce<T: Element>(&self, data: &mut [T], op: ReduceOp) -> Result<Request> {
        let call = self.0.call::<T>(Collective::AllReduce, op, 0, data.len())?;
        let data = data.as_mut_ptr();
        self.run(call, op, data, data)
    }

    #[inline(always)]
    pub fn all_reduce_into<T: Element>(&self, input: &[T], output: &mut [T], op: ReduceOp) -> Result<Request> {
        same("output", output.len(), input.len())?;
        let call = self.0.call::<T>(Collective::AllReduce, op, 0, input.len())?;
        self.run(call, op, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn all_gather<T: Element>(&self, input: &[T], output: &mut [T]) -> Result<Request> {
        same("output", output.len(), input.len() * self.0.size())?;
        let call = self.0.call::<T>(Collective::AllGather, ReduceOp::Sum, 0, input.len())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn all_gather_in_place<T: Element>(&self, data: &mut [T]) -> Result<Request> {
        let block = self.blocks_of(data.len())?;
        let call = self.0.call::<T>(Collective::AllGather, ReduceOp::Sum, 0, block)?;
        let data = data.as_mut_ptr();
        self.run(call, ReduceOp::Sum, data.wrapping_add(self.0.rank() * block), data)
    }

    #[inline(always)]
    pub fn reduce_scatter<T: Element>(&self, input: &[T], output: &mut [T], op: ReduceOp) -> Result<Request> {
        same("input", input.len(), output.len() * self.0.size())?;
        let call = self.0.call::<T>(Collective::ReduceScatter, op, 0, output.len())?;
        self.run(call, op, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn reduce_scatter_in_place<T: Element>(&self, data: &mut [T], op: ReduceOp) -> Result<Request> {
        let block = self.blocks_of(data.len())?;
        let call = self.0.call::<T>(Collective::ReduceScatter, op, 0, block)?;
        let data = data.as_mut_ptr();
        self.run(call, op, data, data.wrapping_add(self.0.rank() * block))
    }

    #[inline(always)]
    pub fn broadcast<T: Element>(&self, data: &mut [T], root: usize) -> Result<Request> {
        let call = self.0.call::<T>(Collective::Broadcast, ReduceOp::Sum, root, data.len())?;
        let data = data.as_mut_ptr();
        self.run(call, ReduceOp::Sum, data, data)
    }

    #[inline(always)]
    pub fn broadcast_into<T: Element>(&self, input: &[T], output: &mut [T], root: usize) -> Result<Request> {
        if self.0.rank() == root {
            same("input", input.len(), output.len())?;
        }
        let call = self.0.call::<T>(Collective::Broadcast, ReduceOp::Sum, root, output.len())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn reduce<T: Element>(&self, data: &mut [T], op: ReduceOp, root: usize) -> Result<Request> {
        let call = self.0.call::<T>(Collective::Reduce, op, root, data.len())?;
        let data = data.as_mut_ptr();
        self.run(call, op, data, data)
    }

    #[inline(always)]
    pub fn reduce_into<T: Element>(&self, input: &[T], output: &mut [T], op: ReduceOp, root: usize) -> Result<Request> {
        if self.0.rank() == root {
            same("output", output.len(), input.len())?;
        }
        let call = self.0.call::<T>(Collective::Reduce, op, root, input.len())?;
        self.run(call, op, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn gather<T: Element>(&self, input: &[T], output: &mut [T], root: usize) -> Result<Request> {
        if self.0.rank() == root {
            same("output", output.len(), input.len() * self.0.size())?;
        }
        let call = self.0.call::<T>(Collective::Gather, ReduceOp::Sum, root, input.len())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn scatter<T: Element>(&self, input: &[T], output: &mut [T], root: usize) -> Result<Request> {
        if self.0.rank() == root {
            same("input", input.len(), output.len() * self.0.size())?;
        }
        let call = self.0.call::<T>(Collective::Scatter, ReduceOp::Sum, root, output.len())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn all_to_all<T: Element>(&self, input: &[T], output: &mut [T]) -> Result<Request> {
        let block = self.blocks_of(input.len())?;
        same("output", output.len(), input.len())?;
        let call = self.0.call::<T>(Collective::AllToAll, ReduceOp::Sum, 0, block)?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    pub fn all_gather_v<T: Element>(&self, input: &[T], output: &mut [T], counts: &[usize]) -> Result<Request> {
        let call = self.unequal::<T>(Collective::AllGather, ReduceOp::Sum, 0, counts)?;
        same("input", input.len(), counts[self.0.rank()])?;
        same("output", output.len(), counts.iter().sum())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    pub fn reduce_scatter_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        op: ReduceOp,
    ) -> Result<Request> {
        let call = self.unequal::<T>(Collective::ReduceScatter, op, 0, counts)?;
        same("input", input.len(), counts.iter().sum())?;
        same("output", output.len(), counts[self.0.rank()])?;
        self.run(call, op, input.as_ptr(), output.as_mut_ptr())
    }

    pub fn gather_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        root: usize,
    ) -> Result<Request> {
        let call = self.unequal::<T>(Collective::Gather, ReduceOp::Sum, root, counts)?;
        same("input", input.len(), counts[self.0.rank()])?;
        if self.0.rank() == root {
            same("output", output.len(), counts.iter().sum())?;
        }
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    pub fn scatter_v<T: Element>(
        &self,
        input: &[T],
        output: &mut [T],
        counts: &[usize],
        root: usize,
    ) -> Result<Request> {
        let call = self.unequal::<T>(Collective::Scatter, ReduceOp::Sum, root, counts)?;
        same("output", output.len(), counts[self.0.rank()])?;
        if self.0.rank() == root {
            same("input", input.len(), counts.iter().sum())?;
        }
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    pub fn all_to_all_v<T: Element>(
        &self,
        input: &[T],
        send_counts: &[usize],
        output: &mut [T],
        receive_counts: &[usize],
    ) -> Result<Request> {
        let mut call = self.unequal::<T>(Collective::AllToAll, ReduceOp::Sum, 0, send_counts)?;
        same("the list of counts to receive", receive_counts.len(), self.0.size())?;
        same("the own block to receive", receive_counts[self.0.rank()], send_counts[self.0.rank()])?;
        call.receive_counts = Some(receive_counts.iter().map(|count| *count as u64).collect());
        same("input", input.len(), send_counts.iter().sum())?;
        same("output", output.len(), receive_counts.iter().sum())?;
        self.run(call, ReduceOp::Sum, input.as_ptr(), output.as_mut_ptr())
    }

    #[inline(always)]
    pub fn barrier(&self) -> Result<Request> {
        let call = self.0.call::<u8>(Collective::Barrier, ReduceOp::Sum, 0, 0)?;
        self.run(call, ReduceOp::Sum, std::ptr::null::<u8>(), std::ptr::null_mut())
    }

    #[inline(always)]
    pub fn send<T: Element>(&self, data: &[T], to: usize) -> Result<Request> {
        let (count, dtype) = extent(data);
        Ok(Request::Send { to: self.0.check_peer(to)?, count, dtype, at: data.as_ptr().cast() })
    }

    #[inline(always)]
    pub fn recv<T: Element>(&self, data: &mut [T], from: usize) -> Result<Request> {
        let (count, dtype) = extent(data);
        Ok(Request::Receive { from: self.0.check_peer(from)?, count, dtype, at: data.as_mut_ptr().cast() })
    }

    fn unequal<T: Element>(&self, collective: Collective, op: ReduceOp, root: usize, counts: &[usize]) -> Result<Call> {
        same("the list of counts", counts.len(), self.0.size())?;
        let mut call = self.0.call::<T>(collective, op, root, 0)?;
        call.counts = Some(counts.iter().map(|count| *count as u64).collect());
        Ok(call)
    }

    fn blocks_of(&self, len: usize) -> Result<usize> {
        if len.is_multiple_of(self.0.size()) {
            return Ok(len / self.0.size());
        }
        Err(Error::misuse(
            format!("{len} elements can't be divided into {} equal blocks", self.0.size()),
            "Pad the buffer, or use the form with a count for each rank",
        ))
    }
}

fn same(what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::misuse(format!("{what} has {len} elements, expected {expected}"), "Make the buffers fit the call"))
}
