//! Sending from, and receiving into, several places at once on a stream socket, without waiting.

use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname, setsockopt, sockopt};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// A piece of memory to be sent, as the kernel takes it.
pub type Part = libc::iovec;

/// Such a piece.
pub fn part(at: *const u8, len: usize) -> Part {
    libc::iovec { iov_base: at.cast_mut().cast(), iov_len: len }
}

/// Sends as much of `parts` as the socket takes now: the bytes of the first, then those of the second, and so on.
///
/// # Safety
/// All are valid for reads.
pub unsafe fn send(socket: BorrowedFd<'_>, parts: &mut [Part]) -> Result<usize, Errno> {
    let message = header(parts);
    let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
    // SAFETY: the header and the list live until the call returns; the kernel reads what the caller vouches for.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    Errno::result(sent).map(|sent| sent as usize)
}

/// Receives what has come, at most as much as `parts` have room for; 0 where they have room: the other end sends nothing more.
///
/// # Safety
/// Both are valid for writes of that many bytes, which nobody else uses.
pub unsafe fn receive(socket: BorrowedFd<'_>, parts: [(*mut u8, usize); 2]) -> Result<usize, Errno> {
    let mut list = parts.map(|(at, len)| libc::iovec { iov_base: at.cast(), iov_len: len });
    let mut message = header(&mut list);
    // SAFETY: the header and the list live until the call returns; the kernel writes to what the caller vouches for.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) };
    Errno::result(received).map(|received| received as usize)
}

fn header(list: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: all zeroes are a message header without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = list.as_mut_ptr();
    message.msg_iovlen = list.len();
    message
}

/// Bytes that were sent and that the other end's kernel does not have yet.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one integer.
    Errno::result(unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) })?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Sees to it that a silent peer's host is asked for a sign of life, and that the connection ends when there is none.
pub fn keep_alive(socket: &impl AsFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    setsockopt(socket, sockopt::TcpKeepIdle, &SILENCE)?;
    setsockopt(socket, sockopt::TcpKeepInterval, &1)?;
    setsockopt(socket, sockopt::TcpKeepCount, &QUESTIONS)
}

/// Within a host there is no network whose speed had to be found out: what is sent has come. A connection that is paced by what was measured
/// (BBR) then waits for its own timers. Two ranks that send to each other on two cores of a Zen 5, BBR and Reno: 1 MiB 410 and 248 us, 16 MiB
/// 6.7 ms and 3.9.
const WITHIN_HOST: &str = "reno";

/// Sees to it that nothing on a connection within this host waits for a timer.
pub fn hurry_within_host(socket: &impl AsFd) -> nix::Result<()> {
    if is_within_host(socket) { setsockopt(socket, sockopt::TcpCongestion, &WITHIN_HOST.into()) } else { Ok(()) }
}

/// Whether both ends of a connection are on this host, as far as their addresses tell.
fn is_within_host(socket: &impl AsFd) -> bool {
    let fd = socket.as_fd().as_raw_fd();
    let ends = getsockname::<SockaddrStorage>(fd).ok().zip(getpeername::<SockaddrStorage>(fd).ok());
    let four = |address: &SockaddrStorage| address.as_sockaddr_in().map(|address| address.ip());
    let six = |address: &SockaddrStorage| address.as_sockaddr_in6().map(|address| address.ip());
    ends.is_some_and(|(own, other)| four(&own) == four(&other) && six(&own) == six(&other))
}

/// Ends a connection too when what was sent is not acknowledged, or not taken, for as long. For one whose other end always reads.
pub fn expect_a_reader(socket: &impl AsFd) -> nix::Result<()> {
    setsockopt(socket, sockopt::TcpUserTimeout, &((SILENCE + QUESTIONS) * 1000))
}

/// Seconds of silence after which a peer's host is asked, and unanswered questions, one a second, after which it counts as gone.
const SILENCE: u32 = 2;
const QUESTIONS: u32 = 5;

/// Tries to send the same in a row, with no answer at all, after which a connection counts as stuck. The pauses between them double, from
/// 200 ms on in a fast network: 3 s.
const TRIES: u8 = 4;

/// Whether the kernel has tried again and again to reach the other end's, and nothing comes back. A peer that only does not read is not
/// meant: its kernel answers.
pub fn is_stuck(socket: BorrowedFd<'_>) -> bool {
    // SAFETY: all zeroes are a tcp_info.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
    // SAFETY: the kernel writes at most `len` bytes, those of the structure.
    let asked = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut info).cast(), &raw mut len) };
    // A kernel that knows fewer fields has these, which are among the first.
    asked == 0 && (info.tcpi_retransmits >= TRIES || info.tcpi_probes >= TRIES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn two_places_are_sent_as_one_stream_and_received_into_two() {
        let (here, there) = UnixStream::pair().unwrap();
        let (first, second, mut head, mut tail) = ([1u8, 2, 3], [4u8, 5], [0u8; 2], [0u8; 8]);
        let mut parts = [part(first.as_ptr(), 3), part(second.as_ptr(), 2)];
        // SAFETY: the arrays have those lengths.
        let sent = unsafe { send(here.as_fd(), &mut parts) };
        assert_eq!(sent, Ok(5));
        // SAFETY: as above.
        let received = unsafe { receive(there.as_fd(), [(head.as_mut_ptr(), 2), (tail.as_mut_ptr(), 8)]) };
        assert_eq!((received, head, &tail[..3]), (Ok(5), [1, 2], &[3, 4, 5][..]));
        // SAFETY: as above.
        let nothing = unsafe { receive(there.as_fd(), [(head.as_mut_ptr(), 2), (tail.as_mut_ptr(), 8)]) };
        assert_eq!(nothing, Err(Errno::EAGAIN));
        drop(here);
        // SAFETY: as above.
        let end = unsafe { receive(there.as_fd(), [(head.as_mut_ptr(), 2), (tail.as_mut_ptr(), 8)]) };
        assert_eq!(end, Ok(0));
        // SAFETY: as above.
        let broken = unsafe { send(there.as_fd(), &mut parts) };
        assert_eq!(broken, Err(Errno::EPIPE), "and no signal");
    }
}
