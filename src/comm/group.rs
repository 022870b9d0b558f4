//! Groups: operations that are collected first and then go on side by side, so that none waits for another that comes later in the program.
//! Sends and receives of one group cannot deadlock; collectives on the same communicator keep their order.

use super::collectives::each_call;
use super::requests::Requests;
use super::{Communicator, Locked};
use crate::error::Result;
use crate::exec::{Element, Pace, Patience, Poll, Request};
use crate::transport::Blocked;
use crate::types::ReduceOp;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

/// How long a group on several communicators sleeps between two looks at all of them.
const NAP: Duration = Duration::from_micros(200);

/// Operations to be run together. Buffers stay borrowed until the group has run or is dropped; nothing happens before `run`.
#[derive(Debug)]
#[must_use = "a group does nothing before it is run"]
pub struct Group<'c, 'b> {
    /// The communicator that the next operation is for.
    on: &'c Communicator,
    requests: Vec<(&'c Communicator, Request)>,
    buffers: PhantomData<&'b mut [u8]>,
}

impl Communicator {
    /// An empty group whose operations are for this communicator, until [`Group::on`] names another.
    pub fn group<'c, 'b>(&'c self) -> Group<'c, 'b> {
        Group { on: self, requests: Vec::new(), buffers: PhantomData }
    }
}

macro_rules! collect {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*);)*) => {
        impl<'b> Group<'_, 'b> {
            $(
                #[doc = concat!("Adds [`Communicator::", stringify!($name), "`].")]
                pub fn $name<T: Element>(&mut self, $($arg: $type),*) -> Result<()> {
                    let request = Requests(self.on).$name($($arg),*)?;
                    self.requests.push((self.on, request));
                    Ok(())
                }
            )*
        }
    };
}
each_call!(collect);

impl<'c> Group<'c, '_> {
    /// The operations that follow are for that communicator.
    pub fn on(&mut self, communicator: &'c Communicator) -> &mut Self {
        self.on = communicator;
        self
    }

    /// Runs all operations to their end. All ranks that take part must run groups with the matching operations.
    pub fn run(mut self) -> Result<()> {
        let mut communicators: Vec<&Communicator> = self.requests.iter().map(|(on, _)| *on).collect();
        // One order of locking for all threads of the process.
        communicators.sort_by_key(|communicator| std::ptr::from_ref(&*communicator.shared));
        communicators.dedup_by_key(|communicator| std::ptr::from_ref(&*communicator.shared));
        for communicator in &communicators {
            communicator.shared.refuse_in_fork()?;
            communicator.shared.worker.finish();
        }
        let mut engines: Vec<Locked<'_>> =
            communicators.iter().map(|communicator| communicator.shared.lock()).collect();
        let mut refused = Ok(());
        for (on, request) in self.requests.drain(..) {
            let at = communicators.iter().position(|communicator| std::ptr::eq(&*communicator.shared, &*on.shared));
            refused = refused.and(engines[at.unwrap_or(0)].collect(&request));
        }
        // What was taken runs to its end even if something else was refused: no engine may keep a borrowed buffer.
        let ran = match engines.as_mut_slice() {
            [engine] => engine.finish(),
            _ => together(&mut engines, self.on.shared.config.timeout),
        };
        refused.and(ran)
    }
}

/// Polls several engines until all are idle. After an error the others are polled on until the first error of their own or their end:
/// their buffers are borrowed only that long.
fn together(engines: &mut [Locked<'_>], timeout: Duration) -> Result<()> {
    let mut wait =
        Wait { outcome: Ok(()), open: (0..engines.len()).map(|number| (number, None)).collect(), said: false };
    let mut pace = Pace::new(2, 1, timeout);
    let mut began = None;
    while !wait.open.is_empty() {
        let mut progressed = wait.poll(engines);
        if !progressed {
            let mut patience = pace.advise();
            if patience == Patience::Clock {
                patience = pace.after(began.get_or_insert_with(Instant::now).elapsed());
            }
            match patience {
                Patience::Spin => std::hint::spin_loop(),
                Patience::Yield | Patience::Clock => std::thread::yield_now(),
                Patience::Sleep(limit) => {
                    progressed = wait.look_for_trouble(engines);
                    if !progressed {
                        std::thread::sleep(limit.min(NAP));
                    }
                }
                Patience::GiveUp => progressed = wait.give_up(engines),
            }
        }
        if progressed {
            wait.go_on(engines);
            pace.progressed();
            began = None;
        }
    }
    wait.go_on(engines);
    wait.outcome
}

/// Several engines under way.
struct Wait {
    /// The first error.
    outcome: Result<()>,
    /// The engines that are not idle, and what each was last seen to wait for.
    open: Vec<(usize, Option<Blocked>)>,
    /// Whether the engines say for whom they wait.
    said: bool,
}

impl Wait {
    /// Polls every engine. Whether anything moved; a fold that now waits for another rank has moved too.
    fn poll(&mut self, engines: &mut [Locked<'_>]) -> bool {
        let mut progressed = false;
        let outcome = &mut self.outcome;
        self.open.retain_mut(|(number, last)| match engines[*number].poll() {
            Ok(Poll::Idle) => {
                progressed = true;
                false
            }
            Ok(Poll::Blocked { on, moved }) => {
                progressed |= moved || last.replace(on).is_some_and(|before| before != on);
                true
            }
            Err(error) => {
                *outcome = outcome.clone().and(Err(error));
                false
            }
        });
        progressed
    }

    /// Has every engine look for a reason why its wait will not end. An error stays in its engine: the next poll takes it up.
    fn look_for_trouble(&mut self, engines: &mut [Locked<'_>]) -> bool {
        let mut progressed = false;
        for (number, on) in &self.open {
            let Some(on) = *on else { continue };
            progressed |= engines[*number].look_for_trouble(on).unwrap_or(false);
            // Once a wait: it runs a fence on all processors.
            if !self.said {
                engines[*number].say_waiting(Some(on));
            }
        }
        self.said = true;
        progressed
    }

    /// The deadline has passed for every engine. What moves after all begins the time anew.
    fn give_up(&mut self, engines: &mut [Locked<'_>]) -> bool {
        let waits = self.open.iter().filter_map(|(number, on)| Some((*number, (*on)?)));
        waits.fold(false, |progressed, (number, on)| engines[number].give_up(on).is_ok() | progressed)
    }

    /// Takes back what the engines say of for whom they wait.
    fn go_on(&mut self, engines: &mut [Locked<'_>]) {
        if std::mem::take(&mut self.said) {
            engines.iter_mut().for_each(|engine| engine.say_waiting(None));
        }
    }
}
