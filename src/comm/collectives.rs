//! The list of typed calls. It is written once; a communicator runs each at once, a group collects them, a scope begins them.
//!
//! Names: a call without suffix works in place where that is the natural form (`all_reduce(&mut data)`); `_into` takes two buffers;
//! `_in_place` is the in-place form of a collective whose natural form has two; `_v` takes a count for each rank.

use super::Communicator;
use super::requests::Requests;
use crate::error::{Error, Result};
use crate::exec::Element;
use crate::types::ReduceOp;

/// Calls the macro `$with` with every call: its documentation, name and arguments, whose buffers live for `'b`.
macro_rules! each_call {
    ($with:ident) => {
        $with! {
            /// Every rank gets the reduction of all ranks' data, in place.
            fn all_reduce(data: &'b mut [T], op: ReduceOp);
            /// Every rank gets the reduction of all ranks' `input` in `output`.
            fn all_reduce_into(input: &'b [T], output: &'b mut [T], op: ReduceOp);
            /// Every rank gets every rank's `input`, one after the other in rank order.
            fn all_gather(input: &'b [T], output: &'b mut [T]);
            /// The same where this rank's block already lies at its place in `data`.
            fn all_gather_in_place(data: &'b mut [T]);
            /// Rank r gets block r of the reduction of all ranks' `input`.
            fn reduce_scatter(input: &'b [T], output: &'b mut [T], op: ReduceOp);
            /// The same with the result at block r of `data`; the other blocks are left with unspecified contents.
            fn reduce_scatter_in_place(data: &'b mut [T], op: ReduceOp);
            /// Every rank gets the root's data.
            fn broadcast(data: &'b mut [T], root: usize);
            /// Every rank, the root included, gets the root's `input` in `output`. The input counts on the root only.
            fn broadcast_into(input: &'b [T], output: &'b mut [T], root: usize);
            /// The root gets the reduction of all ranks' data in its own; the others' data stay as they are.
            fn reduce(data: &'b mut [T], op: ReduceOp, root: usize);
            /// The root gets the reduction of all ranks' `input` in `output`, which counts on the root only.
            fn reduce_into(input: &'b [T], output: &'b mut [T], op: ReduceOp, root: usize);
            /// The root gets every rank's `input` in `output`, which counts on the root only.
            fn gather(input: &'b [T], output: &'b mut [T], root: usize);
            /// Rank r gets block r of the root's `input`, which counts on the root only.
            fn scatter(input: &'b [T], output: &'b mut [T], root: usize);
            /// Block r of `input` goes to rank r; block r of `output` comes from rank r.
            fn all_to_all(input: &'b [T], output: &'b mut [T]);
            /// all_gather with a count for each rank.
            fn all_gather_v(input: &'b [T], output: &'b mut [T], counts: &[usize]);
            /// reduce_scatter with a count for each rank.
            fn reduce_scatter_v(input: &'b [T], output: &'b mut [T], counts: &[usize], op: ReduceOp);
            /// gather with a count for each rank.
            fn gather_v(input: &'b [T], output: &'b mut [T], counts: &[usize], root: usize);
            /// scatter with a count for each rank.
            fn scatter_v(input: &'b [T], output: &'b mut [T], counts: &[usize], root: usize);
            /// all_to_all with counts: what this rank sends to each rank, and what it receives from each.
            fn all_to_all_v(input: &'b [T], send_counts: &[usize], output: &'b mut [T], receive_counts: &[usize]);
            /// Sends to a rank, which must receive as many elements of the same type. Messages between two ranks keep their order. Up to
            /// 256 KiB may be on their way before the receiver comes; do not rely on that, use a group.
            fn send(data: &'b [T], to: usize);
            /// Receives from a rank.
            fn recv(data: &'b mut [T], from: usize);
        }
    };
}
pub(super) use each_call;

macro_rules! run_at_once {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl Communicator {
            $($(#[$doc])* pub fn $name<'b, T: Element>(&self, $($arg: $type),*) -> Result<()> {
                self.perform(&Requests(self).$name($($arg),*)?)
            })*
        }
    };
}
each_call!(run_at_once);

impl Communicator {
    /// Returns when every rank has entered.
    pub fn barrier(&self) -> Result<()> {
        self.perform(&Requests(self).barrier()?)
    }

    /// [`Communicator::all_to_all`] in place, by way of a copy of `data`.
    pub fn all_to_all_in_place<T: Element>(&self, data: &mut [T]) -> Result<()> {
        let copy = data.to_vec();
        self.all_to_all(&copy, data)
    }

    /// Sends to one rank while receiving from another, or the same.
    pub fn send_recv<T: Element>(&self, data: &[T], to: usize, into: &mut [T], from: usize) -> Result<()> {
        if to != self.rank() || from != self.rank() {
            let requests = [Requests(self).send(data, to)?, Requests(self).recv(into, from)?];
            return self.perform_together(&requests);
        }
        if into.len() != data.len() {
            return Err(Error::misuse(
                format!("a rank receives {} elements from itself and sends {}", into.len(), data.len()),
                "Make the buffers equally long",
            ));
        }
        into.copy_from_slice(data);
        Ok(())
    }
}
