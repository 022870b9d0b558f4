//! One collective under way on one rank: a cursor into the plan for each channel.

use super::cursor::{Advance, Cursor};
use super::kernel::{Kernel, Operand, Sink};
use super::program::Program;
use crate::error::Error;
use crate::plan::Space;
use crate::transport::{Blocked, Links, Window};
use std::sync::Arc;

/// The memory that a job works on. Lengths are those that the plan states for this rank.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    /// The send buffer.
    pub input: *const u8,
    /// The receive buffer; may overlap the input as `in place` means.
    pub output: *mut u8,
    /// Private memory as large as the plan's scratch.
    pub scratch: *mut u8,
}

/// What a fault is before it is dressed in words.
#[derive(Debug)]
pub enum Fault {
    /// A message that belongs to something else than what this rank does.
    Stranger {
        /// Who sent it.
        rank: u32,
        /// Its tag.
        tag: u32,
        /// Its length in bytes.
        len: usize,
        /// The length that was expected.
        expected: usize,
    },
    /// The links failed.
    Links(Error),
    /// Somebody has ended the communicator: buffers of others may be gone.
    Ended,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Fault {
        Fault::Links(error)
    }
}

/// How far a job got when it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything is done.
    Done,
    /// Something is missing; `moved`: steps were done before that.
    Blocked {
        /// What is missing.
        on: Blocked,
        /// Whether anything was done in this poll.
        moved: bool,
    },
}

/// A collective under way, or at rest between two calls of the same kind: its vectors are used again, the short path allocates nothing.
#[derive(Debug)]
pub struct Job {
    context: Context,
    cursors: Vec<Cursor>,
}

/// What the cursors of a job share.
#[derive(Debug)]
pub(super) struct Context {
    program: Arc<Program>,
    /// Followed after the places are known, if not all of them can be reached.
    without_windows: Option<Arc<Program>>,
    /// Which of the two is followed now.
    plain: bool,
    pub(super) kernel: Option<Kernel>,
    pub(super) buffers: Buffers,
    pub(super) tag: u32,
    /// Non-temporal stores into the output.
    pub(super) stream: bool,
    /// Fetching what the next step reads while an output is written: what the call touches does not stay in the cache.
    pub(super) ahead: bool,
    pub(super) windows: Vec<Window>,
}

// SAFETY: the pointers are to buffers that the session's caller lends for the time of the job, and to link memory that the protocol
// gives this rank; a job may move between threads as long as one at a time polls it.
unsafe impl Send for Job {}

impl Job {
    /// A job at rest; `without_windows` must be there for a plan with windows.
    pub fn new(program: Arc<Program>, without_windows: Option<Arc<Program>>) -> Job {
        let buffers = Buffers { input: std::ptr::null(), output: std::ptr::null_mut(), scratch: std::ptr::null_mut() };
        let (plain, kernel, tag, stream, ahead, windows) = Default::default();
        let context = Context { program, without_windows, plain, kernel, buffers, tag, stream, ahead, windows };
        Job { context, cursors: Vec::new() }
    }

    /// Begins a call: `tag` is what all its messages carry, `stream` asks for non-temporal stores into outputs, `ahead` for the next read
    /// to be fetched while they are written.
    #[inline]
    pub fn start(&mut self, kernel: Option<Kernel>, buffers: Buffers, tag: u32, stream: bool, ahead: bool) {
        let context = &mut self.context;
        (context.kernel, context.buffers, context.tag) = (kernel, buffers, tag);
        (context.stream, context.ahead) = (stream, ahead);
        context.plain = false;
        self.rewind();
    }

    /// Notes that the first steps of the only channel have been done by the short path.
    #[cold]
    pub(super) fn skip(&mut self, steps: usize) {
        self.cursors[0].skip(&self.context, steps);
    }

    /// Whether other ranks may be in this rank's buffers, or this one in theirs.
    pub(super) fn opens_windows(&self) -> bool {
        self.context.without_windows.is_some()
    }

    /// Puts the cursors to the first steps of the program that is followed now.
    #[inline]
    fn rewind(&mut self) {
        let channels = self.context.program().plan().channels();
        self.cursors.truncate(channels as usize);
        for channel in self.cursors.len() as u32..channels {
            self.cursors.push(Cursor::new(channel));
        }
        for cursor in &mut self.cursors {
            cursor.restart(&self.context);
        }
    }

    /// Does what can be done now.
    #[inline]
    pub fn poll<L: Links>(&mut self, links: &mut L) -> Result<Progress, Fault> {
        let mut blocked = None;
        let mut moved = false;
        let mut number = 0;
        while number < self.cursors.len() {
            match self.cursors[number].advance(&mut self.context, links, &mut moved)? {
                Advance::Done => {}
                Advance::Blocked(on) => {
                    blocked.get_or_insert(on);
                }
                Advance::Unreachable => {
                    // A plan with windows has one channel: nothing else is under way. From here on all ranks follow the plain one.
                    self.context.plain = true;
                    self.rewind();
                    (blocked, number) = (None, 0);
                    continue;
                }
            }
            number += 1;
        }
        Ok(match blocked {
            None => Progress::Done,
            Some(on) => Progress::Blocked { on, moved },
        })
    }
}

impl Context {
    #[inline(always)]
    pub(super) fn program(&self) -> &Program {
        match &self.without_windows {
            Some(plain) if self.plain => plain,
            _ => &self.program,
        }
    }

    /// Bytes of an element.
    #[inline(always)]
    pub(super) fn item(&self) -> usize {
        self.program.item()
    }

    /// The address of an element of this rank's memory.
    #[inline(always)]
    pub(super) fn local(&self, space: Space, at: u64) -> *mut u8 {
        let base = match space {
            Space::Input => self.buffers.input.cast_mut(),
            Space::Output => self.buffers.output,
            Space::Scratch | Space::Nothing => self.buffers.scratch,
        };
        base.wrapping_add(at as usize * self.item())
    }

    /// An element of another rank's input that this rank can address.
    pub(super) fn window_input(&self, rank: u32, at: u64) -> Operand {
        let Window::Mapped { input, .. } = self.windows[rank as usize] else {
            unreachable!("plans that fetch copy only")
        };
        Operand { at: input.wrapping_add(at as usize * self.item()), raw: true }
    }

    /// An element of another rank's output.
    pub(super) fn window_output(&self, rank: u32, at: u64) -> Sink {
        let Window::Mapped { output, .. } = self.windows[rank as usize] else {
            unreachable!("plans that fetch copy only")
        };
        Sink::new(output.wrapping_add(at as usize * self.item()), self.stream)
    }

    /// Where an element of another rank's input lies in its process, if that is from where it is fetched.
    pub(super) fn fetched_input(&self, rank: u32, at: u64) -> Option<u64> {
        match self.windows[rank as usize] {
            Window::Fetched(input) => Some(input.wrapping_add(at * self.item() as u64)),
            Window::Mapped { .. } => None,
        }
    }

    /// Bytes of a rank's input.
    pub(super) fn input_bytes(&self, rank: u32) -> usize {
        self.program.plan().input_len(rank) as usize * self.item()
    }

    /// Bytes of a rank's output.
    pub(super) fn output_bytes(&self, rank: u32) -> usize {
        self.program.plan().output_len(rank) as usize * self.item()
    }
}
