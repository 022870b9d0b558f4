//! Devices, protection domains, registered memory, and the descriptor that completions wake.

use super::abi::number::{ACCESS_LOCAL_WRITE, ACCESS_REMOTE_WRITE, TRANSPORT_IB};
use super::abi::{AsyncEvent, DeviceAttributes, Opaque, PortAttributes, RawChannel, RawContext, RawDevice, RawMr};
use super::library::{Library, library};
use crate::sys::memory::Mapping;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// A device that the system has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name, as `mlx5_0`.
    pub name: String,
    /// Whether it speaks InfiniBand's transport (RoCE does too). iWARP does not: it connects through a manager and has no immediate data.
    pub is_infiniband: bool,
}

/// All devices, or why none can be asked for.
pub fn devices() -> Result<Vec<Found>, String> {
    let library = library()?;
    let mut found = Vec::new();
    with_list(library, |device| {
        // SAFETY: the list's entries live until the list is freed.
        let (name, transport) = unsafe { (name_of(library, device), (*device).transport_type) };
        found.push(Found { name, is_infiniband: transport == TRANSPORT_IB });
        false
    })?;
    Ok(found)
}

/// # Safety
/// An entry of a list that was not freed.
unsafe fn name_of(library: &Library, device: *mut RawDevice) -> String {
    // SAFETY: the caller's contract; the name is a C string inside the entry.
    unsafe { CStr::from_ptr((library.ibv_get_device_name)(device)) }.to_string_lossy().into_owned()
}

/// Shows every entry of the list of devices until one is taken.
fn with_list(library: &Library, mut look: impl FnMut(*mut RawDevice) -> bool) -> Result<(), String> {
    let mut count = 0;
    // SAFETY: the list has `count` entries and is freed below, once.
    unsafe {
        let list = (library.ibv_get_device_list)(&raw mut count);
        if list.is_null() {
            return Err(format!("the devices can't be listed ({})", Errno::last().desc()));
        }
        for index in 0..usize::try_from(count).unwrap_or(0) {
            if look(*list.add(index)) {
                break;
            }
        }
        (library.ibv_free_device_list)(list);
    }
    Ok(())
}

/// An open device.
pub struct Device {
    pub(super) library: &'static Library,
    pub(super) context: *mut RawContext,
    name: String,
    attributes: DeviceAttributes,
}

// SAFETY: verbs objects may be used from any thread; libibverbs locks what it shares.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Device({})", self.name)
    }
}

impl Device {
    /// Opens the device of that name.
    pub fn open(name: &str) -> Result<Arc<Device>, String> {
        let library = library()?;
        let mut opened = Err(format!("there is no device {name}"));
        with_list(library, |device| {
            // SAFETY: as in `devices`.
            if unsafe { name_of(library, device) } != name {
                return false;
            }
            // SAFETY: opening keeps what it needs of the entry.
            let context = unsafe { (library.ibv_open_device)(device) };
            opened = match context.is_null() {
                true => Err(format!("device {name} can't be opened ({})", Errno::last().desc())),
                false => Ok(context),
            };
            true
        })?;
        let context = opened?;
        // SAFETY: all zeroes are attributes; the call fills them.
        let mut attributes: DeviceAttributes = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open.
        let status = unsafe { (library.ibv_query_device)(context, &raw mut attributes) };
        let device = Device { library, context, name: name.into(), attributes };
        if status != 0 {
            return Err(format!("device {name} can't be asked for its limits ({})", Errno::from_raw(status).desc()));
        }
        // News are read between other things.
        device.do_not_wait(device.news_fd()).map_err(|errno| format!("device {name}: {}", errno.desc()))?;
        Ok(Arc::new(device))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its limits.
    pub fn attributes(&self) -> &DeviceAttributes {
        &self.attributes
    }

    /// Of so many pieces of memory, those that a request may gather.
    pub fn pieces(&self, wished: usize) -> usize {
        usize::try_from(self.attributes.max_sge).unwrap_or(1).clamp(1, wished)
    }

    fn do_not_wait(&self, fd: BorrowedFd<'_>) -> nix::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?) | OFlag::O_NONBLOCK;
        fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop)
    }

    /// How a port is.
    pub fn port(&self, port: u8) -> Result<PortAttributes, Errno> {
        let mut attributes = PortAttributes::default();
        // SAFETY: the context is open; the call writes no more than the structure of its time, which this one begins with.
        let status = unsafe { (self.library.ibv_query_port)(self.context, port, &raw mut attributes) };
        if status == 0 { Ok(attributes) } else { Err(Errno::from_raw(status)) }
    }

    /// An entry of a port's table of addresses.
    pub fn gid(&self, port: u8, index: u8) -> Option<[u8; 16]> {
        let mut gid = [0; 16];
        // SAFETY: the call writes 16 bytes.
        let status = unsafe { (self.library.ibv_query_gid)(self.context, port, index.into(), &raw mut gid) };
        (status == 0 && gid != [0; 16]).then_some(gid)
    }

    /// What becomes readable when there is news of the device.
    pub fn news_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the context's, which lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw((*self.context).async_fd) }
    }

    /// The next piece of news, by its number; nothing for now.
    pub fn news(&self) -> Option<i32> {
        let mut event = AsyncEvent { element: 0, event_type: 0 };
        // SAFETY: an event that was got is acknowledged, once; the descriptor does not wait.
        unsafe {
            if (self.library.ibv_get_async_event)(self.context, &raw mut event) != 0 {
                return None;
            }
            let kind = event.event_type;
            (self.library.ibv_ack_async_event)(&raw mut event);
            Some(kind)
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // SAFETY: everything that was made from it kept it alive, and is gone.
        let status = unsafe { (self.library.ibv_close_device)(self.context) };
        if status != 0 {
            log::warn!("verbs: device {} was not closed ({})", self.name, Errno::from_raw(status).desc());
        }
    }
}

/// A protection domain.
#[derive(Debug)]
pub struct Domain {
    pub(super) device: Arc<Device>,
    pub(super) raw: *mut Opaque,
}

// SAFETY: as for the device.
unsafe impl Send for Domain {}
// SAFETY: as for the device.
unsafe impl Sync for Domain {}

impl Domain {
    /// One of that device.
    pub fn new(device: &Arc<Device>) -> Result<Arc<Domain>, Errno> {
        // SAFETY: the device is open.
        let raw = unsafe { (device.library.ibv_alloc_pd)(device.context) };
        if raw.is_null() { Err(Errno::last()) } else { Ok(Arc::new(Domain { device: device.clone(), raw })) }
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        // SAFETY: everything that was made from it kept it alive, and is gone.
        unsafe { (self.device.library.ibv_dealloc_pd)(self.raw) };
    }
}

/// What the other ends of a domain's queue pairs may do with registered memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// It is for this process's own requests.
    Nothing,
    /// Whoever has its key may write to it.
    Write,
}

/// Memory that the device may read, and write as granted, as long as this lives.
#[derive(Debug)]
pub struct Registration {
    domain: Arc<Domain>,
    raw: *mut RawMr,
}

// SAFETY: as for the device.
unsafe impl Send for Registration {}

impl Registration {
    /// Of that range. Its pages stay with the device, also if the program gives them back to the system.
    ///
    /// # Safety
    /// Nobody takes what the others write there, where they may, for anything but bytes that change.
    pub unsafe fn new(domain: &Arc<Domain>, at: *mut u8, len: usize, grant: Grant) -> Result<Registration, Errno> {
        let access = ACCESS_LOCAL_WRITE | if grant == Grant::Write { ACCESS_REMOTE_WRITE } else { 0 };
        // SAFETY: the kernel looks whether the range is memory of this process; the rest is the caller's contract.
        let raw = unsafe { (domain.device.library.ibv_reg_mr)(domain.raw, at.cast(), len, access) };
        if raw.is_null() { Err(Errno::last()) } else { Ok(Registration { domain: domain.clone(), raw }) }
    }

    /// Its key, for this process's own requests.
    pub fn key(&self) -> u32 {
        // SAFETY: it is registered as long as `self` lives.
        unsafe { (*self.raw).lkey }
    }

    /// The key for those who may write to it.
    pub fn remote_key(&self) -> u32 {
        // SAFETY: as for the own key.
        unsafe { (*self.raw).rkey }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // SAFETY: whoever dropped it has ended the requests that used it.
        let status = unsafe { (self.domain.device.library.ibv_dereg_mr)(self.raw) };
        if status != 0 {
            log::warn!("verbs: memory stays registered ({})", Errno::from_raw(status).desc());
        }
    }
}

/// Registered memory of its own.
#[derive(Debug)]
pub struct Region {
    registration: Registration,
    memory: Mapping,
}

impl Region {
    /// So many bytes, zeroed.
    pub fn new(domain: &Arc<Domain>, len: usize, grant: Grant) -> Result<Region, Errno> {
        let memory = Mapping::private(len).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the mapping has `len` bytes, which are read and written through raw pointers only, and lives longer than that.
        let registration = unsafe { Registration::new(domain, memory.base(), len, grant)? };
        Ok(Region { registration, memory })
    }

    /// Where it begins.
    pub fn base(&self) -> *mut u8 {
        self.memory.base()
    }

    /// Its key, for this process's own requests.
    pub fn key(&self) -> u32 {
        self.registration.key()
    }

    /// The key for those who may write to it.
    pub fn remote_key(&self) -> u32 {
        self.registration.remote_key()
    }
}

/// What completion queues wake.
#[derive(Debug)]
pub struct Channel {
    pub(super) device: Arc<Device>,
    pub(super) raw: *mut RawChannel,
}

// SAFETY: as for the device.
unsafe impl Send for Channel {}
// SAFETY: as for the device.
unsafe impl Sync for Channel {}

impl Channel {
    /// One of that device.
    pub fn new(device: &Arc<Device>) -> Result<Arc<Channel>, Errno> {
        // SAFETY: the device is open.
        let raw = unsafe { (device.library.ibv_create_comp_channel)(device.context) };
        if raw.is_null() {
            return Err(Errno::last());
        }
        let channel = Channel { device: device.clone(), raw };
        device.do_not_wait(channel.fd())?;
        Ok(Arc::new(channel))
    }

    /// What becomes readable when a queue that was asked to has a completion.
    pub fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the channel's, which lives as long as `self`.
        unsafe { BorrowedFd::borrow_raw((*self.raw).fd) }
    }

    /// Takes all that has been woken.
    pub fn silence(&self) {
        let (mut queue, mut context) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: every event that was got is acknowledged, once, while its queue lives: queues are dropped by the thread that calls this.
        unsafe {
            while (self.device.library.ibv_get_cq_event)(self.raw, &raw mut queue, &raw mut context) == 0 {
                (self.device.library.ibv_ack_cq_events)(queue, 1);
            }
        }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: the queues that wake it kept it alive, and are gone.
        unsafe { (self.device.library.ibv_destroy_comp_channel)(self.raw) };
    }
}
