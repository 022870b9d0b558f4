//! The memory of all ranks, with the overlap of input and output that a call in place has.
//!
//! ```text
//!                      out of place                 in place
//!   all_reduce         input | output               output, the input is the same
//!   all_gather         input | output               output, the input is this rank's block of it
//!   reduce_scatter     input | output               input, the output is this rank's block of it
//! ```
//!
//! An input that nothing overlaps is never written, so it takes no memory: its elements are made when they are read.

use super::value::{Kind, MANY, Value};
use super::verdict::Wrong;
use crate::plan::Space;
use alloc::vec::Vec;

/// Where input and output of one rank lie in the memory that the user gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub input_len: u64,
    pub output_len: u64,
    pub scratch_len: u64,
    /// Where the input begins, if it overlaps the output.
    pub input_at: Option<u64>,
    pub output_at: u64,
}

impl Layout {
    /// Elements of the user's memory that can be written.
    pub fn user_len(&self) -> u64 {
        let output_end = self.output_at + self.output_len;
        self.input_at.map_or(output_end, |at| output_end.max(at + self.input_len))
    }

    #[inline]
    fn len(&self, space: Space) -> u64 {
        match space {
            Space::Nothing => 0,
            Space::Input => self.input_len,
            Space::Output => self.output_len,
            Space::Scratch => self.scratch_len,
        }
    }

    /// Where an element of that space lies.
    #[inline]
    pub fn cell(&self, space: Space, at: u64) -> Cell {
        match (space, self.input_at) {
            (Space::Scratch, _) => Cell::Scratch(at as usize),
            (Space::Output, _) => Cell::User((self.output_at + at) as usize),
            (_, Some(start)) => Cell::User((start + at) as usize),
            (_, None) => Cell::Pristine(at),
        }
    }
}

/// One element of a rank's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// Of an input that nothing overlaps.
    Pristine(u64),
    /// Of the user's memory.
    User(usize),
    /// Of the executor's.
    Scratch(usize),
}

/// One rank's.
#[derive(Debug)]
pub(super) struct Memory {
    owner: u32,
    layout: Layout,
    user: Vec<Value>,
    scratch: Vec<Value>,
}

/// Who reads or writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Access {
    pub space: Space,
    pub at: u64,
    pub len: u32,
    /// The channel, from 1; 0 where vector clocks look for races in the user's memory instead.
    pub channel: u8,
    /// Whether the collective reduces: then its own input must be raw, and everything else not.
    pub reduces: bool,
}

impl Memory {
    pub fn new(owner: u32, layout: Layout) -> Memory {
        let mut user = alloc::vec![Value::UNSET; layout.user_len() as usize];
        if let Some(start) = layout.input_at {
            for at in 0..layout.input_len {
                user[(start + at) as usize] = Value::raw(owner, at);
            }
        }
        Memory { owner, layout, user, scratch: alloc::vec![Value::UNSET; layout.scratch_len as usize] }
    }

    #[inline]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the elements are there at all.
    #[inline]
    pub fn check(&self, space: Space, at: u64, len: u32) -> Result<(), Wrong> {
        let end = self.layout.len(space);
        if len > 0 && at.checked_add(u64::from(len)).is_none_or(|last| last > end) {
            return Err(Wrong::Bounds { owner: self.owner, space, at, len, end });
        }
        Ok(())
    }

    /// An element of the output, after the last step.
    pub fn output(&self, at: u64) -> Value {
        self.user[(self.layout.output_at + at) as usize]
    }

    /// Reads elements one by one: `each` gets the number of each and its value.
    pub fn read(
        &mut self,
        access: Access,
        mut each: impl FnMut(usize, Value) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let Access { space, at, len, channel, reduces } = access;
        let cells = match self.layout.cell(space, at) {
            Cell::Pristine(first) => {
                for i in 0..u64::from(len) {
                    let mut value = Value::raw(self.owner, first + i);
                    if reduces {
                        value.kind = Kind::Partial;
                    }
                    each(i as usize, value)?;
                }
                return Ok(());
            }
            Cell::User(first) => &mut self.user[first..first + len as usize],
            Cell::Scratch(first) => &mut self.scratch[first..first + len as usize],
        };
        if channel > 0 {
            // Before values are looked at: what another channel writes there is a matter of luck, and so is what would be wrong with it.
            for (i, cell) in cells.iter_mut().enumerate() {
                if cell.writer != 0 && cell.writer != channel {
                    return Err(Wrong::ChannelsShare { space, element: at + i as u64 });
                }
                cell.reader = if cell.reader == 0 || cell.reader == channel { channel } else { MANY };
            }
        }
        for (i, cell) in cells.iter().enumerate() {
            let element = at + i as u64;
            let mut value = *cell;
            match value.kind {
                Kind::Unset => return Err(Wrong::ReadsUnset { space, element }),
                Kind::Raw if reduces && space != Space::Input => return Err(Wrong::ReadsUnscaled { space, element }),
                Kind::Raw if reduces => value.kind = Kind::Partial,
                Kind::Raw => {}
                Kind::Partial | Kind::Final if reduces && space == Space::Input => {
                    return Err(Wrong::ReadsOverwritten { owner: self.owner, element });
                }
                Kind::Partial | Kind::Final => {}
            }
            (value.writer, value.reader) = (0, 0);
            each(i, value)?;
        }
        Ok(())
    }

    /// Writes elements.
    pub fn write(&mut self, access: Access, values: &[Value]) -> Result<(), Wrong> {
        let Access { space, at, channel, .. } = access;
        let cells = match self.layout.cell(space, at) {
            Cell::Pristine(_) => return Err(Wrong::Malformed("it writes to the input")),
            Cell::User(first) => &mut self.user[first..first + values.len()],
            Cell::Scratch(first) => &mut self.scratch[first..first + values.len()],
        };
        for (i, (cell, value)) in cells.iter_mut().zip(values).enumerate() {
            let alone = |other: u8| other == 0 || other == channel;
            if channel > 0 && !(alone(cell.writer) && alone(cell.reader)) {
                return Err(Wrong::ChannelsShare { space, element: at + i as u64 });
            }
            *cell = *value;
            cell.writer = channel;
        }
        Ok(())
    }
}
