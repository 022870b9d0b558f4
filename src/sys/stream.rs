//! Sending from, and receiving into, several places at once on a stream socket, without waiting.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
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
