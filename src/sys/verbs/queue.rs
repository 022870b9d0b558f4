//! Completion queues and reliable connected queue pairs.

use super::abi::number::*;
use super::abi::{
    AddressHandle, Capacity, Completion, GlobalRoute, Piece, QpAttributes, QpInit, RawCq, RawQp, ReceiveRequest,
    SendRequest,
};
use super::device::{Channel, Domain};
use nix::errno::Errno;
use std::sync::Arc;

/// Where completions come.
#[derive(Debug)]
pub struct CompletionQueue {
    channel: Arc<Channel>,
    raw: *mut RawCq,
}

// SAFETY: verbs objects may be used from any thread.
unsafe impl Send for CompletionQueue {}

impl CompletionQueue {
    /// With room for so many.
    pub fn new(channel: &Arc<Channel>, room: u32) -> Result<CompletionQueue, Errno> {
        let device = &channel.device;
        // SAFETY: the device is open and the channel is one of its.
        let raw = unsafe {
            (device.library.ibv_create_cq)(device.context, room as i32, std::ptr::null_mut(), channel.raw, 0)
        };
        if raw.is_null() { Err(Errno::last()) } else { Ok(CompletionQueue { channel: channel.clone(), raw }) }
    }

    /// Takes what has come into `into`; how much that is.
    #[inline]
    pub fn poll(&mut self, into: &mut [Completion]) -> Result<usize, Errno> {
        // SAFETY: the queue lives; the call writes at most as many completions as there is room for.
        let count = unsafe { ((*(*self.raw).context).ops.poll_cq)(self.raw, into.len() as i32, into.as_mut_ptr()) };
        usize::try_from(count).map_err(|_| Errno::EIO)
    }

    /// Wakes the channel at the next completion.
    pub fn arm(&mut self) -> Result<(), Errno> {
        // SAFETY: the queue lives.
        let status = unsafe { ((*(*self.raw).context).ops.req_notify_cq)(self.raw, 0) };
        if status == 0 { Ok(()) } else { Err(Errno::from_raw(status.abs())) }
    }
}

impl Drop for CompletionQueue {
    fn drop(&mut self) {
        // What it has woken must be taken before, or this waits for ever.
        self.channel.silence();
        // SAFETY: the queue pair that used it is gone; see `QueuePair`.
        let status = unsafe { (self.channel.device.library.ibv_destroy_cq)(self.raw) };
        if status != 0 {
            log::warn!("verbs: a completion queue stays ({})", Errno::from_raw(status).desc());
        }
    }
}

/// What is asked of a queue pair.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    /// Requests under way.
    pub sends: u32,
    pub receives: u32,
    /// Bytes that are copied into the request.
    pub inline: u32,
    /// Pieces of memory that a request may gather.
    pub pieces: u32,
}

/// The way to the other end, as both ends have told each other.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// The port here.
    pub port: u8,
    /// Bytes of a packet, as the verbs number it.
    pub mtu: i32,
    /// The other end's queue pair, and the number of its first packet.
    pub their_number: u32,
    pub their_first: u32,
    /// The number of the first packet from here.
    pub own_first: u32,
    /// The other end's address; with a global one also the index of the address to send from.
    pub lid: u16,
    pub global: Option<([u8; 16], u8)>,
    /// Quality of service.
    pub service_level: u8,
    pub traffic_class: u8,
    /// How long a packet is waited for: 4.1 us times two to that power, and how often it is sent again.
    pub timeout: u8,
    pub retries: u8,
}

/// A reliable connected queue pair with a completion queue of its own.
#[derive(Debug)]
pub struct QueuePair {
    raw: *mut RawQp,
    domain: Arc<Domain>,
    /// Bytes that requests may carry themselves.
    inline: u32,
    /// Dropped after the pair itself.
    completions: CompletionQueue,
}

// SAFETY: verbs objects may be used from any thread.
unsafe impl Send for QueuePair {}

impl QueuePair {
    /// One of that domain, ready to be told what to receive into. With less inline data where the device has less.
    pub fn new(domain: &Arc<Domain>, channel: &Arc<Channel>, port: u8, wish: Wish) -> Result<QueuePair, Errno> {
        let completions = CompletionQueue::new(channel, wish.sends + wish.receives)?;
        let mut inline = wish.inline;
        let raw = loop {
            let cap = Capacity {
                max_send_wr: wish.sends,
                max_recv_wr: wish.receives,
                max_send_sge: wish.pieces,
                max_recv_sge: 1,
                max_inline_data: inline,
            };
            let mut init = QpInit {
                qp_context: std::ptr::null_mut(),
                send_cq: completions.raw,
                recv_cq: completions.raw,
                srq: std::ptr::null_mut(),
                cap,
                qp_type: QPT_RC,
                sq_sig_all: 0,
            };
            // SAFETY: domain and completion queue live as long as the pair.
            let raw = unsafe { (domain.device.library.ibv_create_qp)(domain.raw, &raw mut init) };
            match (raw.is_null(), inline) {
                (false, _) => {
                    inline = init.cap.max_inline_data.min(wish.inline);
                    break raw;
                }
                (true, 0) => return Err(Errno::last()),
                (true, _) => inline /= 2,
            }
        };
        let pair = QueuePair { raw, domain: domain.clone(), inline, completions };
        let qp_access_flags = ACCESS_REMOTE_WRITE as u32;
        let init = QpAttributes { qp_state: STATE_INIT, port_num: port, qp_access_flags, ..QpAttributes::default() };
        pair.modify(init, SET_INIT)?;
        Ok(pair)
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        // SAFETY: it lives as long as `self`.
        unsafe { (*self.raw).qp_num }
    }

    /// Bytes that a request may carry itself.
    pub fn inline(&self) -> u32 {
        self.inline
    }

    /// Where its completions come.
    pub fn completions(&mut self) -> &mut CompletionQueue {
        &mut self.completions
    }

    fn modify(&self, mut attributes: QpAttributes, mask: i32) -> Result<(), Errno> {
        // SAFETY: it lives; the call reads the attributes that the mask names.
        let status = unsafe { (self.domain.device.library.ibv_modify_qp)(self.raw, &raw mut attributes, mask) };
        if status == 0 { Ok(()) } else { Err(Errno::from_raw(status.abs())) }
    }

    /// From now on it takes what the other end sends.
    pub fn receive_from(&mut self, path: &Path) -> Result<(), Errno> {
        let grh = path.global.map_or_else(GlobalRoute::default, |(dgid, sgid_index)| GlobalRoute {
            dgid,
            sgid_index,
            hop_limit: 64,
            traffic_class: path.traffic_class,
            ..GlobalRoute::default()
        });
        let ah_attr = AddressHandle {
            grh,
            dlid: path.lid,
            sl: path.service_level,
            is_global: u8::from(path.global.is_some()),
            port_num: path.port,
            ..AddressHandle::default()
        };
        let attributes = QpAttributes {
            qp_state: STATE_RTR,
            path_mtu: path.mtu,
            dest_qp_num: path.their_number,
            rq_psn: path.their_first,
            max_dest_rd_atomic: 1,
            // 0.64 ms until one that found no buffer tries again.
            min_rnr_timer: 12,
            ah_attr,
            ..QpAttributes::default()
        };
        self.modify(attributes, SET_RTR)
    }

    /// From now on it sends, too.
    pub fn send_to(&mut self, path: &Path) -> Result<(), Errno> {
        let attributes = QpAttributes {
            qp_state: STATE_RTS,
            sq_psn: path.own_first,
            timeout: path.timeout,
            retry_cnt: path.retries,
            // For ever: a rank that computes has no buffers free, and is not gone.
            rnr_retry: 7,
            max_rd_atomic: 1,
            ..QpAttributes::default()
        };
        self.modify(attributes, SET_RTS)
    }

    /// Ends all that is under way: every request completes, with an error.
    pub fn stop(&mut self) -> Result<(), Errno> {
        self.modify(QpAttributes { qp_state: STATE_ERR, ..QpAttributes::default() }, SET_STATE)
    }

    /// Puts requests on their way, in order.
    ///
    /// # Safety
    /// The pieces are of registered memory of the same domain, or are carried inline, and stay until the completion of their request or
    /// of a later one.
    pub unsafe fn send(&mut self, requests: &mut [SendRequest]) -> Result<(), Errno> {
        for at in 1..requests.len() {
            let next = &raw mut requests[at];
            requests[at - 1].next = next;
        }
        let Some(first) = requests.first_mut() else { return Ok(()) };
        let mut bad = std::ptr::null_mut();
        // SAFETY: the list ends with the slice; the caller vouches for the pieces.
        let status = unsafe { ((*(*self.raw).context).ops.post_send)(self.raw, first, &raw mut bad) };
        if status == 0 { Ok(()) } else { Err(Errno::from_raw(status.abs())) }
    }

    /// Takes one more message, whose completion has that number: one that is written with an immediate number, wherever its sender puts it, or
    /// one that is sent, which goes to `into`.
    ///
    /// # Safety
    /// The piece is of registered memory of the same domain, is used for nothing else, and stays until the completion.
    pub unsafe fn expect_message(&mut self, number: u64, mut into: Piece) -> Result<(), Errno> {
        let next = std::ptr::null_mut();
        let mut request = ReceiveRequest { wr_id: number, next, sg_list: &raw mut into, num_sge: 1 };
        let mut bad = std::ptr::null_mut();
        // SAFETY: the pair, the request and the piece's description live until the call returns; the caller vouches for the memory.
        let status = unsafe { ((*(*self.raw).context).ops.post_recv)(self.raw, &raw mut request, &raw mut bad) };
        if status == 0 { Ok(()) } else { Err(Errno::from_raw(status.abs())) }
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        // SAFETY: its completion queue and its domain are dropped after it; nothing under way touches memory afterwards.
        let status = unsafe { (self.domain.device.library.ibv_destroy_qp)(self.raw) };
        if status != 0 {
            log::warn!("verbs: a queue pair stays ({})", Errno::from_raw(status).desc());
        }
    }
}
