//! The registration cache: what the device knows of the memory that messages are sent from where they lie.
//!
//! ```text
//!   message ── find ──> span ──> registered already? ──> its key
//!                         │ no             ▲
//!                         └── register all of it ──> the oldest one goes, if there are too many and no request uses it
//!   a span has ended (freed, mapped anew) ──> its registration is found no more, and goes with the next long message over this queue
//! ```
//!
//! A queue has a cache of its own, as its domain is its own.

use crate::sys::known::{self, Span};
use crate::sys::verbs::{Domain, Grant, Registration};
use crate::sys::watched;
use std::sync::Arc;

/// Registrations of a queue at most: the buffers of a few calls, and the messages of a few links that are kept here.
const MOST: usize = 64;

#[derive(Debug)]
struct Entry {
    span: Span,
    /// Nothing: the device refuses this memory.
    registration: Option<Registration>,
    /// Behind the slots of the message that used it last.
    used: u64,
}

/// The registrations of one queue's domain.
#[derive(Debug)]
pub(super) struct Registrations {
    domain: Arc<Domain>,
    entries: Vec<Entry>,
    /// How many spans had ended when all entries were looked at.
    ends: u64,
    complained: bool,
}

impl Registrations {
    pub(super) fn new(domain: Arc<Domain>) -> Registrations {
        Registrations { domain, entries: Vec::new(), ends: 0, complained: false }
    }

    /// The key for sending from that range; nothing: it must be copied. `behind`: the slot behind its message; `done`: that behind the messages
    /// whose requests are done.
    pub(super) fn key(&mut self, at: *const u8, len: usize, behind: u64, done: u64) -> Option<u32> {
        self.sweep(done);
        let span = watched::find(at.addr(), len)?;
        let found = self.entries.iter().position(|entry| entry.span == span);
        let entry = match found {
            Some(found) => &mut self.entries[found],
            None => self.register(span, done)?,
        };
        entry.used = behind;
        entry.registration.as_ref().map(Registration::key)
    }

    fn register(&mut self, span: Span, done: u64) -> Option<&mut Entry> {
        if self.entries.len() >= MOST {
            let (oldest, entry) = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used)?;
            if entry.used > done {
                return None;
            }
            self.entries.swap_remove(oldest);
        }
        let at = std::ptr::with_exposed_provenance_mut(span.begin);
        // SAFETY: the device only reads it.
        let registration = unsafe { Registration::new(&self.domain, at, span.len, Grant::Nothing) };
        let registration = registration.inspect_err(|errno| {
            if !std::mem::replace(&mut self.complained, true) {
                log::info!(
                    "verbs: {} bytes can't be registered ({}) and are copied: the limit of locked memory (ulimit -l) may be too low",
                    span.len,
                    errno.desc()
                );
            }
        });
        if registration.is_ok() {
            log::debug!("verbs: {} bytes are registered", span.len);
        }
        self.entries.push(Entry { span, registration: registration.ok(), used: 0 });
        self.entries.last_mut()
    }

    /// Lets go of what is known no more and used by no request.
    fn sweep(&mut self, done: u64) {
        let ends = known::ends();
        if ends == self.ends {
            return;
        }
        self.entries.retain(|entry| known::is_known(&entry.span) || entry.used > done);
        // Those that are still used are looked at again.
        if self.entries.iter().all(|entry| known::is_known(&entry.span)) {
            self.ends = ends;
        }
    }
}
