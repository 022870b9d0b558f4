//! One operation, as the communicator hands it over.

use crate::types::{Call, DataType, ReduceOp};

/// One operation, as the communicator hands it over. The memory behind the pointers is lent until the operation has ended: whoever makes a
/// request outside of this crate vouches for that.
#[derive(Clone, Debug)]
pub enum Request {
    /// A collective.
    #[non_exhaustive]
    Collective {
        /// What ranks agree on.
        call: Call,
        /// The reduction with its scalar.
        op: ReduceOp,
        /// The send buffer, as long as the call says for this rank.
        input: *const u8,
        /// The receive buffer, likewise.
        output: *mut u8,
    },
    /// A send.
    #[non_exhaustive]
    Send {
        /// To whom.
        to: u32,
        /// Elements.
        count: u64,
        /// Their type.
        dtype: DataType,
        /// Where they are.
        at: *const u8,
    },
    /// A receive.
    #[non_exhaustive]
    Receive {
        /// From whom.
        from: u32,
        /// Elements.
        count: u64,
        /// Their type.
        dtype: DataType,
        /// Where they go.
        at: *mut u8,
    },
}

// SAFETY: the pointers are to memory lent for the time of the operation; whoever hands a request to another thread lends it there.
unsafe impl Send for Request {}

impl Request {
    /// A collective.
    ///
    /// # Safety
    /// The buffers are as long as the call says for the rank, the input is initialised, and both stay alive and unaliased until every
    /// operation that this request, or a clone of it, was used for has ended. They may overlap as in place means for the collective.
    pub unsafe fn collective(call: Call, op: ReduceOp, input: *const u8, output: *mut u8) -> Request {
        Request::Collective { call, op, input, output }
    }

    /// A send.
    ///
    /// # Safety
    /// `count` elements at `at` are initialised, stay alive and are not written to until every operation that this request, or a clone of
    /// it, was used for has ended.
    pub unsafe fn send(to: u32, at: *const u8, count: u64, dtype: DataType) -> Request {
        Request::Send { to, count, dtype, at }
    }

    /// A receive.
    ///
    /// # Safety
    /// `count` elements at `at` stay alive and unaliased until every operation that this request, or a clone of it, was used for has ended.
    pub unsafe fn receive(from: u32, at: *mut u8, count: u64, dtype: DataType) -> Request {
        Request::Receive { from, count, dtype, at }
    }
}
