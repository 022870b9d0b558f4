//! Memory that comes and goes while it is watched, by one thread and by several.

use super::*;
use crate::sys::known::{Own, is_known};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

const LEN: usize = 1 << 20;

/// A mapping of so many bytes, at that address or anywhere; nothing: there is one.
fn try_map(at: usize, len: usize, flags: libc::c_int) -> Option<usize> {
    let (hint, rights) = (std::ptr::without_provenance_mut(at), libc::PROT_READ | libc::PROT_WRITE);
    // SAFETY: a new mapping, or one in place of a mapping of the test's own.
    let base = unsafe { libc::mmap(hint, len, rights, flags | libc::MAP_ANONYMOUS, -1, 0) };
    (base != libc::MAP_FAILED).then(|| base.expose_provenance())
}

fn map(len: usize, flags: libc::c_int) -> usize {
    try_map(0, len, flags).expect("memory")
}

fn pointer(at: usize) -> *mut libc::c_void {
    std::ptr::with_exposed_provenance_mut(at)
}

fn unmap(at: usize, len: usize) {
    // SAFETY: the test's own mapping, which nobody uses any more.
    assert_eq!(unsafe { libc::munmap(pointer(at), len) }, 0);
}

fn send_twice(at: usize, len: usize) {
    (0..2).for_each(|_| sent_from(pointer(at).cast(), len));
}

/// Turns at watching memory, as neighbours are watched together; nothing where memory can't be watched, which is said.
fn turn(what: &str) -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    if watcher().is_none() {
        writeln!(std::io::stderr(), "skipped: {what}: this machine lets nobody watch memory (userfaultfd)")
            .expect("a line");
        return None;
    }
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    // Others may have had their memory where this one will have its.
    *candidates() = Candidates::NONE;
    Some(turn)
}

/// A mapping that was sent from twice. Of what is known at its address later other tests may be the owners.
fn watched() -> (usize, Span) {
    let at = map(LEN, libc::MAP_PRIVATE);
    sent_from(pointer(at).cast(), LEN);
    sent_from(pointer(at).cast(), LEN);
    (at, find(at, LEN).expect("sent from twice"))
}

#[test]
fn memory_that_was_sent_from_once_is_not_watched() {
    let Some(_turn) = turn("memory that is sent from") else { return };
    let at = map(LEN, libc::MAP_PRIVATE);
    sent_from(pointer(at).cast(), LEN);
    assert!(find(at, LEN).is_none());
    unmap(at, LEN);
}

#[test]
fn memory_that_was_sent_from_twice_is_known_until_any_of_it_is_given_back() {
    let Some(_turn) = turn("memory that is given back") else { return };
    let (at, span) = watched();
    unmap(at, LEN);
    assert!(!is_known(&span), "unmapped");

    let (at, span) = watched();
    unmap(at + LEN / 2, 4096);
    assert!(!is_known(&span), "a page of it unmapped");
    unmap(at, LEN / 2);
    unmap(at + LEN / 2 + 4096, LEN / 2 - 4096);

    let (at, span) = watched();
    // SAFETY: the test's own pages, whose contents nobody needs.
    assert_eq!(unsafe { libc::madvise(pointer(at + LEN / 2), 4096, libc::MADV_DONTNEED) }, 0);
    assert!(!is_known(&span), "a page of it made anew");
    unmap(at, LEN);

    let (at, span) = watched();
    // SAFETY: the test's own mapping, which it knows by its new address from then on.
    let moved = unsafe { libc::mremap(pointer(at), LEN, 2 * LEN, libc::MREMAP_MAYMOVE) };
    assert_ne!(moved, libc::MAP_FAILED);
    assert!(moved.addr() == at || !is_known(&span), "moved elsewhere");
    unmap(moved.addr(), 2 * LEN);
    assert!(!is_known(&span));

    let (at, span) = watched();
    assert_eq!(try_map(at, LEN, libc::MAP_PRIVATE | libc::MAP_FIXED), Some(at));
    assert!(!is_known(&span), "other memory in its place");
    send_twice(at, LEN);
    let span = find(at, LEN).expect("which is watched in its turn");
    unmap(at, LEN);
    assert!(!is_known(&span));
}

#[test]
fn what_the_allocator_gives_back_is_known_no_more() {
    let Some(_turn) = turn("memory of the allocator") else { return };
    // Beyond 32 MiB the allocator always maps and unmaps.
    let buffer = vec![1u8; 40 << 20];
    let at = buffer.as_ptr();
    (0..2).for_each(|_| sent_from(at, buffer.len()));
    let span = find(at.addr(), buffer.len()).expect("watched");
    drop(buffer);
    assert!(!is_known(&span));
}

#[test]
fn no_more_is_watched_than_is_lent() {
    let Some(_turn) = turn("parts of a buffer") else { return };
    let at = map(LEN, libc::MAP_PRIVATE);
    sent_from(pointer(at).cast(), LEN);
    sent_from(pointer(at + LEN / 2).cast(), LEN / 4);
    let span = find(at + LEN / 2, 1).expect("a part of what was sent from");
    assert_eq!((span.begin, span.len), (at + LEN / 2, LEN / 4));
    send_twice(at, LEN);
    assert_eq!(find(at, LEN).map(|span| span.len), Some(LEN), "all of it");
    unmap(at, LEN);
}

#[test]
fn shared_memory_is_not_watched_and_not_asked_for_again_and_again() {
    let Some(_turn) = turn("shared memory") else { return };
    let at = map(LEN, libc::MAP_SHARED);
    send_twice(at, LEN);
    assert!(find(at, 1).is_none());
    let covers = |at: usize, (from, len, left): &(usize, usize, u32)| *left > 0 && (*from..from + len).contains(&at);
    let refused = |at| candidates().refused.iter().any(|range| covers(at, range));
    assert!(refused(at), "it is remembered");
    send_twice(at, LEN);
    assert!(find(at, 1).is_none());
    unmap(at, LEN);
    let own = Own::new(LEN).expect("memory");
    let before = candidates().refused;
    send_twice(own.base().addr(), LEN);
    assert_eq!(candidates().refused, before, "what is known needs no watching");
}

#[test]
fn what_other_threads_give_back_is_gone_when_they_have_done_so() {
    let Some(_turn) = turn("threads that give memory back") else { return };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looker = scope.spawn(|| {
            let mut looks = 0u64;
            while !over.load(Ordering::Relaxed) {
                find(4096, 1);
                looks += 1;
            }
            looks
        });
        let workers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let at = map(LEN, libc::MAP_PRIVATE);
                        send_twice(at, LEN);
                        // Another thread's notes may have pushed this one out.
                        let span = find(at, LEN);
                        unmap(at, LEN);
                        assert!(span.is_none_or(|span| !is_known(&span)));
                    }
                })
            })
            .collect();
        let ended: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        over.store(true, Ordering::Relaxed);
        assert!(looker.join().expect("looks") > 0);
        assert!(ended.iter().all(Result::is_ok), "no span outlives its memory");
    });
}

/// The kernel lets others have the place of memory that is given back before it can be heard that it is: the watcher is held up here until
/// another mapping is there.
#[test]
fn new_memory_in_the_place_of_what_is_being_given_back_is_not_taken_for_that() {
    let Some(_turn) = turn("memory that is being given back") else { return };
    let steady = || watcher().is_some_and(|watcher| watcher.userfault.is_steady());
    let (at, span) = watched();
    std::thread::scope(|scope| {
        let spans = known::spans();
        assert!(find_among(&spans, at, LEN).is_some() && steady());
        let giver = scope.spawn(|| unmap(at, LEN));
        while steady() {
            std::thread::yield_now();
        }
        // If this fails, another test has been faster, and has its new memory there.
        let mapped = try_map(at, LEN, libc::MAP_PRIVATE | libc::MAP_FIXED_NOREPLACE);
        assert_eq!(known::find(&spans, at, LEN), Some(span), "nobody has heard of it");
        assert!(find_among(&spans, at, LEN).is_none(), "and yet it is not found");
        assert!(!giver.is_finished());
        drop(spans);
        giver.join().expect("it goes on");
        mapped.into_iter().for_each(|at| unmap(at, LEN));
    });
    assert!(!is_known(&span));
}

#[test]
fn a_child_watches_nothing_of_its_parents() {
    let Some(_turn) = turn("a fork") else { return };
    let at = map(LEN, libc::MAP_PRIVATE);
    // SAFETY: the child calls nothing but what a fork of threads may: a look at a number that is made before, and an exit.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(watcher().is_some());
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: waits for the child that was made above.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(libc::WEXITSTATUS(status), 0, "the child asked the parent's kernel");
    unmap(at, LEN);
}

#[test]
fn what_is_sent_from_once_leaves_a_bounded_trace() {
    let mut candidates = Candidates::NONE;
    for n in 0..1000 {
        assert_eq!(candidates.note(n << 20, 4096), Verdict::Leave);
    }
    assert_eq!(candidates.note(999 << 20, 4096), Verdict::Watch);
    assert_eq!(candidates.note(999 << 20, 4096), Verdict::Leave, "it begins anew");
    candidates.refuse(999 << 20, 4096);
    (0..REFUSED_FOR).for_each(|_| assert_eq!(candidates.note(999 << 20, 4096), Verdict::Leave));
    assert_eq!(candidates.note(999 << 20, 4096), Verdict::Watch, "and then it is tried again");
}
