//! libibverbs as C sees it: the structures and calls that are used here, written after `infiniband/verbs.h`. Their sizes and offsets are
//! those of every 64-bit Linux; `tests/verbs_abi.rs` compares them with the header where there is one.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// A structure that the library allocates and that nobody here looks into.
#[repr(C)]
pub struct Opaque {
    _private: [u8; 0],
}

/// `ibv_device`, of which the beginning matters.
#[repr(C)]
pub struct RawDevice {
    pub _ops: [*const c_void; 2],
    pub node_type: c_int,
    pub transport_type: c_int,
}

/// `ibv_context_ops`: what is not called through the library but through the context.
#[repr(C)]
pub struct Operations {
    pub _before: [*const c_void; 11],
    pub poll_cq: unsafe extern "C" fn(*mut RawCq, c_int, *mut Completion) -> c_int,
    pub req_notify_cq: unsafe extern "C" fn(*mut RawCq, c_int) -> c_int,
    pub _between: [*const c_void; 12],
    pub post_send: unsafe extern "C" fn(*mut RawQp, *mut SendRequest, *mut *mut SendRequest) -> c_int,
    pub post_recv: unsafe extern "C" fn(*mut RawQp, *mut ReceiveRequest, *mut *mut ReceiveRequest) -> c_int,
    pub _after: [*const c_void; 5],
}

/// `ibv_context`, of which the beginning matters.
#[repr(C)]
pub struct RawContext {
    pub device: *mut RawDevice,
    pub ops: Operations,
    pub cmd_fd: c_int,
    pub async_fd: c_int,
}

/// `ibv_device_attr`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct DeviceAttributes {
    pub _fw_ver: [c_char; 64],
    pub _guids: [u64; 2],
    pub max_mr_size: u64,
    pub _page_size_cap: u64,
    pub _vendor: [u32; 3],
    pub max_qp: c_int,
    pub max_qp_wr: c_int,
    pub _device_cap_flags: c_uint,
    pub max_sge: c_int,
    pub _max_sge_rd: c_int,
    pub _max_cq: c_int,
    pub max_cqe: c_int,
    pub _limits: [c_int; 22],
    pub _max_pkeys: u16,
    pub _local_ca_ack_delay: u8,
    pub phys_port_cnt: u8,
}

/// `ibv_port_attr`, as long as that of the newest library: older ones write less.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct PortAttributes {
    pub state: c_int,
    pub max_mtu: c_int,
    pub active_mtu: c_int,
    pub gid_tbl_len: c_int,
    pub port_cap_flags: u32,
    pub max_msg_sz: u32,
    pub _counters: [u32; 2],
    pub _pkey_tbl_len: u16,
    pub lid: u16,
    pub sm_lid: u16,
    pub _lmc: [u8; 5],
    pub active_width: u8,
    pub active_speed: u8,
    pub _phys_state: u8,
    pub link_layer: u8,
    pub flags: u8,
    _port_cap_flags2: u16,
    pub _active_speed_ex: u32,
}

/// `ibv_mr`.
#[repr(C)]
pub struct RawMr {
    pub _context: *mut RawContext,
    pub _pd: *mut Opaque,
    pub _addr: *mut c_void,
    pub _length: usize,
    pub _handle: u32,
    pub lkey: u32,
    pub rkey: u32,
}

/// `ibv_comp_channel`.
#[repr(C)]
pub struct RawChannel {
    pub _context: *mut RawContext,
    pub fd: c_int,
    pub _refcnt: c_int,
}

/// `ibv_cq`, of which the beginning matters.
#[repr(C)]
pub struct RawCq {
    pub context: *mut RawContext,
}

/// `ibv_qp`, of which the beginning matters.
#[repr(C)]
pub struct RawQp {
    pub context: *mut RawContext,
    pub _qp_context: *mut c_void,
    pub _pd: *mut Opaque,
    pub _cqs: [*mut RawCq; 2],
    pub _srq: *mut Opaque,
    pub _handle: u32,
    pub qp_num: u32,
}

/// `ibv_qp_cap`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Capacity {
    pub max_send_wr: u32,
    pub max_recv_wr: u32,
    pub max_send_sge: u32,
    pub max_recv_sge: u32,
    pub max_inline_data: u32,
}

/// `ibv_qp_init_attr`.
#[repr(C)]
pub struct QpInit {
    pub qp_context: *mut c_void,
    pub send_cq: *mut RawCq,
    pub recv_cq: *mut RawCq,
    pub srq: *mut Opaque,
    pub cap: Capacity,
    pub qp_type: c_int,
    pub sq_sig_all: c_int,
}

/// `ibv_global_route`, whose first field is a union with 64-bit words.
#[repr(C, align(8))]
#[derive(Clone, Copy, Default)]
pub struct GlobalRoute {
    pub dgid: [u8; 16],
    pub flow_label: u32,
    pub sgid_index: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
}

/// `ibv_ah_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct AddressHandle {
    pub grh: GlobalRoute,
    pub dlid: u16,
    pub sl: u8,
    pub src_path_bits: u8,
    pub static_rate: u8,
    pub is_global: u8,
    pub port_num: u8,
}

/// `ibv_qp_attr`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct QpAttributes {
    pub qp_state: c_int,
    pub _cur_qp_state: c_int,
    pub path_mtu: c_int,
    pub _path_mig_state: c_int,
    pub _qkey: u32,
    pub rq_psn: u32,
    pub sq_psn: u32,
    pub dest_qp_num: u32,
    pub qp_access_flags: c_uint,
    pub _cap: Capacity,
    pub ah_attr: AddressHandle,
    pub _alt_ah_attr: AddressHandle,
    pub pkey_index: u16,
    pub _alt_pkey_index: u16,
    pub _en_sqd_async_notify: u8,
    pub _sq_draining: u8,
    pub max_rd_atomic: u8,
    pub max_dest_rd_atomic: u8,
    pub min_rnr_timer: u8,
    pub port_num: u8,
    pub timeout: u8,
    pub retry_cnt: u8,
    pub rnr_retry: u8,
    pub _alt: [u8; 2],
    pub _rate_limit: u32,
}

/// `ibv_sge`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Piece {
    pub addr: u64,
    pub length: u32,
    pub lkey: u32,
}

/// `ibv_send_wr`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SendRequest {
    pub wr_id: u64,
    pub next: *mut SendRequest,
    pub sg_list: *mut Piece,
    pub num_sge: c_int,
    pub opcode: c_int,
    pub send_flags: c_uint,
    pub imm_data: u32,
    pub remote_addr: u64,
    pub rkey: u32,
    pub _rest: [u64; 9],
}

impl Default for SendRequest {
    fn default() -> SendRequest {
        // SAFETY: all zeroes are a request without pieces.
        unsafe { std::mem::zeroed() }
    }
}

/// `ibv_recv_wr`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ReceiveRequest {
    pub wr_id: u64,
    pub next: *mut ReceiveRequest,
    pub sg_list: *mut Piece,
    pub num_sge: c_int,
}

/// `ibv_wc`.
#[repr(C)]
#[derive(Clone, Copy, Default, Debug)]
pub struct Completion {
    pub wr_id: u64,
    pub status: c_int,
    pub opcode: c_int,
    pub vendor_err: u32,
    pub byte_len: u32,
    pub imm_data: u32,
    pub qp_num: u32,
    pub _src_qp: u32,
    pub wc_flags: c_uint,
    pub _pkey_index: u16,
    pub _slid: u16,
    pub _sl: u8,
    pub _dlid_path_bits: u8,
}

/// `ibv_async_event`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct AsyncEvent {
    pub element: u64,
    pub event_type: c_int,
}

/// Numbers of `enum`s and flags.
pub mod number {
    use std::ffi::{c_int, c_uint};

    pub const TRANSPORT_IB: c_int = 0;
    pub const PORT_ACTIVE: c_int = 4;
    pub const LINK_ETHERNET: u8 = 2;
    pub const QPT_RC: c_int = 2;
    pub const ACCESS_LOCAL_WRITE: c_int = 1;
    pub const ACCESS_REMOTE_WRITE: c_int = 2;
    pub const WR_WRITE_WITH_IMMEDIATE: c_int = 1;
    pub const SEND_SIGNALED: c_uint = 2;
    pub const SEND_INLINE: c_uint = 8;
    pub const STATE_INIT: c_int = 1;
    pub const STATE_RTR: c_int = 2;
    pub const STATE_RTS: c_int = 3;
    pub const STATE_ERR: c_int = 6;
    pub const WC_RECV: c_int = 128;
    pub const WC_RECV_WITH_IMMEDIATE: c_int = 129;
    pub const EVENT_DEVICE_FATAL: c_int = 8;
    pub const EVENT_PORT_ACTIVE: c_int = 9;
    pub const EVENT_PORT_ERR: c_int = 10;

    pub const SET_STATE: c_int = 1;
    /// What goes with each state, beside the state itself.
    pub const SET_INIT: c_int = SET_STATE | 16 | 32 | 8;
    pub const SET_RTR: c_int = SET_STATE | 128 | 256 | 1 << 20 | 4096 | 1 << 17 | 1 << 15;
    pub const SET_RTS: c_int = SET_STATE | 512 | 1024 | 2048 | 1 << 16 | 8192;
}

/// What is laid out as `tests/verbs_abi.rs` finds it in the header: (name, size or offset).
pub fn layout() -> Vec<(&'static str, usize)> {
    use std::mem::offset_of as at;
    vec![
        ("sizeof(struct ibv_context_ops)", size_of::<Operations>()),
        ("offsetof(struct ibv_context_ops, poll_cq)", at!(Operations, poll_cq)),
        ("offsetof(struct ibv_context_ops, req_notify_cq)", at!(Operations, req_notify_cq)),
        ("offsetof(struct ibv_context_ops, post_send)", at!(Operations, post_send)),
        ("offsetof(struct ibv_context_ops, post_recv)", at!(Operations, post_recv)),
        ("offsetof(struct ibv_context, ops)", at!(RawContext, ops)),
        ("offsetof(struct ibv_context, async_fd)", at!(RawContext, async_fd)),
        ("offsetof(struct ibv_device, transport_type)", at!(RawDevice, transport_type)),
        ("sizeof(struct ibv_device_attr)", size_of::<DeviceAttributes>()),
        ("offsetof(struct ibv_device_attr, max_mr_size)", at!(DeviceAttributes, max_mr_size)),
        ("offsetof(struct ibv_device_attr, max_qp_wr)", at!(DeviceAttributes, max_qp_wr)),
        ("offsetof(struct ibv_device_attr, max_cqe)", at!(DeviceAttributes, max_cqe)),
        ("offsetof(struct ibv_device_attr, phys_port_cnt)", at!(DeviceAttributes, phys_port_cnt)),
        ("offsetof(struct ibv_port_attr, active_mtu)", at!(PortAttributes, active_mtu)),
        ("offsetof(struct ibv_port_attr, max_msg_sz)", at!(PortAttributes, max_msg_sz)),
        ("offsetof(struct ibv_port_attr, lid)", at!(PortAttributes, lid)),
        ("offsetof(struct ibv_port_attr, active_speed)", at!(PortAttributes, active_speed)),
        ("offsetof(struct ibv_port_attr, link_layer)", at!(PortAttributes, link_layer)),
        ("sizeof(struct ibv_mr)", size_of::<RawMr>()),
        ("offsetof(struct ibv_mr, lkey)", at!(RawMr, lkey)),
        ("offsetof(struct ibv_mr, rkey)", at!(RawMr, rkey)),
        ("offsetof(struct ibv_comp_channel, fd)", at!(RawChannel, fd)),
        ("offsetof(struct ibv_qp, qp_num)", at!(RawQp, qp_num)),
        ("sizeof(struct ibv_qp_init_attr)", size_of::<QpInit>()),
        ("offsetof(struct ibv_qp_init_attr, cap)", at!(QpInit, cap)),
        ("offsetof(struct ibv_qp_init_attr, qp_type)", at!(QpInit, qp_type)),
        ("sizeof(struct ibv_qp_attr)", size_of::<QpAttributes>()),
        ("offsetof(struct ibv_qp_attr, path_mtu)", at!(QpAttributes, path_mtu)),
        ("offsetof(struct ibv_qp_attr, dest_qp_num)", at!(QpAttributes, dest_qp_num)),
        ("offsetof(struct ibv_qp_attr, ah_attr)", at!(QpAttributes, ah_attr)),
        ("offsetof(struct ibv_qp_attr, pkey_index)", at!(QpAttributes, pkey_index)),
        ("offsetof(struct ibv_qp_attr, max_rd_atomic)", at!(QpAttributes, max_rd_atomic)),
        ("offsetof(struct ibv_qp_attr, min_rnr_timer)", at!(QpAttributes, min_rnr_timer)),
        ("offsetof(struct ibv_qp_attr, timeout)", at!(QpAttributes, timeout)),
        ("offsetof(struct ibv_qp_attr, rnr_retry)", at!(QpAttributes, rnr_retry)),
        ("sizeof(struct ibv_ah_attr)", size_of::<AddressHandle>()),
        ("offsetof(struct ibv_ah_attr, dlid)", at!(AddressHandle, dlid)),
        ("offsetof(struct ibv_ah_attr, is_global)", at!(AddressHandle, is_global)),
        ("offsetof(struct ibv_global_route, sgid_index)", at!(GlobalRoute, sgid_index)),
        ("sizeof(struct ibv_sge)", size_of::<Piece>()),
        ("sizeof(struct ibv_send_wr)", size_of::<SendRequest>()),
        ("offsetof(struct ibv_send_wr, opcode)", at!(SendRequest, opcode)),
        ("offsetof(struct ibv_send_wr, wr)", at!(SendRequest, remote_addr)),
        ("sizeof(struct ibv_recv_wr)", size_of::<ReceiveRequest>()),
        ("sizeof(struct ibv_wc)", size_of::<Completion>()),
        ("offsetof(struct ibv_wc, byte_len)", at!(Completion, byte_len)),
        ("offsetof(struct ibv_wc, qp_num)", at!(Completion, qp_num)),
        ("offsetof(struct ibv_wc, wc_flags)", at!(Completion, wc_flags)),
        ("sizeof(struct ibv_async_event)", size_of::<AsyncEvent>()),
    ]
}
