//! Strangers at the gate.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;

use super::*;
use crate::boot::connection::wait;
use crate::boot::host::{listen_tcp, listen_unix};
use crate::boot::wire::Event;

const SECRET: Secret = [5; 32];

fn gate() -> (Gate, SocketAddr) {
    let (address, listener) = listen_tcp("127.0.0.1:0".parse().unwrap()).unwrap();
    (Gate::new(vec![Listener::Tcp(listener)], &SECRET, "test"), address)
}

/// Serves at the given time whoever is ready.
fn serve(gate: &mut Gate, now: Instant) -> Vec<Connection> {
    let mut fds = Vec::new();
    gate.watch(&mut fds);
    wait(&mut fds, Some(Instant::now()));
    let ready: Vec<bool> = fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect();
    drop(fds);
    gate.serve(&ready, now)
}

fn take_in(gate: &mut Gate, now: Instant, count: usize) {
    while gate.strangers.len() < count {
        assert!(serve(gate, now).is_empty());
    }
}

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 16]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
    }
}

#[test]
fn who_is_silent_or_slow_is_sent_away_after_five_seconds() {
    let (mut gate, address) = gate();
    let now = Instant::now();
    let mut silent = TcpStream::connect(address).unwrap();
    let mut slow = TcpStream::connect(address).unwrap();
    take_in(&mut gate, now, 2);
    for (at, byte) in [b'R', b'T', b'b', b'1'].into_iter().enumerate() {
        slow.write_all(&[byte]).unwrap();
        serve(&mut gate, now + Duration::from_secs(at as u64));
    }
    assert_eq!(gate.deadline(), Some(now + HANDSHAKE));
    serve(&mut gate, now + HANDSHAKE - Duration::from_millis(1));
    assert_eq!(gate.strangers.len(), 2);
    assert!(!is_closed(&mut silent) && !is_closed(&mut slow));
    // The clock is an argument: nobody waits here. A second look, because the slow one's last byte may arrive only now.
    serve(&mut gate, now + HANDSHAKE);
    assert_eq!(gate.strangers.len(), 0);
    assert!(is_closed(&mut silent) && is_closed(&mut slow));
}

#[test]
fn when_too_many_wait_the_oldest_goes_first() {
    let (mut gate, address) = gate();
    gate.expect(3);
    let now = Instant::now();
    let mut first = TcpStream::connect(address).unwrap();
    take_in(&mut gate, now, 1);
    let mut crowd: Vec<TcpStream> = Vec::new();
    for count in 2..=STRANGERS + 3 {
        crowd.push(TcpStream::connect(address).unwrap());
        take_in(&mut gate, now, count);
    }
    assert!(!is_closed(&mut first));
    let _one_more = TcpStream::connect(address).unwrap();
    while !is_closed(&mut first) {
        serve(&mut gate, now);
    }
    assert_eq!(gate.strangers.len(), STRANGERS + 3);
    assert!(crowd.iter_mut().all(|stream| !is_closed(stream)));
}

#[test]
fn who_knows_the_secret_is_let_through_with_what_it_says_next() {
    let (mut gate, address) = gate();
    let stream = TcpStream::connect(address).unwrap();
    let mut guest = Connection::over_tcp(stream, Wire::client(&SECRET, "test", [1; 32]), "guest".into()).unwrap();
    guest.flush();
    let mut trusted = Vec::new();
    while trusted.is_empty() {
        trusted = serve(&mut gate, Instant::now());
        guest.fill();
        if let Ok(Some(Event::Proved)) = guest.next_event() {
            guest.send_bytes(b"hello");
        }
    }
    let heard = trusted[0].await_event(Instant::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(heard, Some(Event::Frame(b"hello".to_vec())));
}

#[test]
fn another_user_is_not_even_asked() {
    if !nix::unistd::geteuid().is_root() {
        // Only root can become somebody else to try this.
        return;
    }
    let name = format!("ringtree.gate-test.{}", std::process::id()).into_bytes();
    let mut gate = Gate::new(vec![Listener::Unix(listen_unix(&name).unwrap())], &SECRET, "test");
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let foreign = std::thread::spawn(move || {
        // SAFETY: the raw system call changes the user of this thread alone and touches no memory; the thread ends right after.
        let changed = unsafe { libc::syscall(libc::SYS_setresuid, 4242, 4242, 4242) };
        assert_eq!(changed, 0);
        let mut stream = UnixStream::connect_addr(&address).unwrap();
        let mut room = Vec::new();
        let _ = stream.write_all(b"RTb1");
        let _ = stream.read_to_end(&mut room);
        room
    });
    while !foreign.is_finished() {
        assert!(serve(&mut gate, Instant::now()).is_empty());
        assert_eq!(gate.strangers.len(), 0);
    }
    assert_eq!(foreign.join().unwrap(), b"");
}
