//! libibverbs, opened when it is first asked for: the same program runs where there is none.

use super::abi::*;
use libloading::os::unix::{Library as Opened, RTLD_GLOBAL, RTLD_NOW};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::OnceLock;

/// Declares the calls that are looked up by name; one that is missing is named.
macro_rules! calls {
    ($($name:ident: fn($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// The calls of the library.
        pub struct Library {
            $(pub $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
            _opened: Opened,
        }

        impl Library {
            fn look_up(opened: Opened) -> Result<Library, String> {
                // SAFETY: these are the functions of libibverbs of these names, with the types that its header gives them.
                unsafe {
                    Ok(Library {
                        $($name: *opened
                            .get(concat!(stringify!($name), "\0").as_bytes())
                            .map_err(|error| format!("{LIBRARY} has no {}: {error}", stringify!($name)))?,)*
                        _opened: opened,
                    })
                }
            }
        }
    };
}

calls! {
    ibv_get_device_list: fn(*mut c_int) -> *mut *mut RawDevice;
    ibv_free_device_list: fn(*mut *mut RawDevice);
    ibv_get_device_name: fn(*mut RawDevice) -> *const c_char;
    ibv_open_device: fn(*mut RawDevice) -> *mut RawContext;
    ibv_close_device: fn(*mut RawContext) -> c_int;
    ibv_query_device: fn(*mut RawContext, *mut DeviceAttributes) -> c_int;
    ibv_query_port: fn(*mut RawContext, u8, *mut PortAttributes) -> c_int;
    ibv_query_gid: fn(*mut RawContext, u8, c_int, *mut [u8; 16]) -> c_int;
    ibv_alloc_pd: fn(*mut RawContext) -> *mut Opaque;
    ibv_dealloc_pd: fn(*mut Opaque) -> c_int;
    ibv_reg_mr: fn(*mut Opaque, *mut c_void, usize, c_int) -> *mut RawMr;
    ibv_dereg_mr: fn(*mut RawMr) -> c_int;
    ibv_create_comp_channel: fn(*mut RawContext) -> *mut RawChannel;
    ibv_destroy_comp_channel: fn(*mut RawChannel) -> c_int;
    ibv_create_cq: fn(*mut RawContext, c_int, *mut c_void, *mut RawChannel, c_int) -> *mut RawCq;
    ibv_destroy_cq: fn(*mut RawCq) -> c_int;
    ibv_get_cq_event: fn(*mut RawChannel, *mut *mut RawCq, *mut *mut c_void) -> c_int;
    ibv_ack_cq_events: fn(*mut RawCq, u32);
    ibv_create_qp: fn(*mut Opaque, *mut QpInit) -> *mut RawQp;
    ibv_modify_qp: fn(*mut RawQp, *mut QpAttributes, c_int) -> c_int;
    ibv_destroy_qp: fn(*mut RawQp) -> c_int;
    ibv_get_async_event: fn(*mut RawContext, *mut AsyncEvent) -> c_int;
    ibv_ack_async_event: fn(*mut AsyncEvent);
    ibv_wc_status_str: fn(c_int) -> *const c_char;
    ibv_fork_init: fn() -> c_int;
}

/// The name that every distribution installs it under.
const LIBRARY: &str = "libibverbs.so.1";

/// The library, or why there is none.
pub fn library() -> Result<&'static Library, String> {
    static ONCE: OnceLock<Result<Library, String>> = OnceLock::new();
    let open = || {
        // SAFETY: opening it runs its initialisers, which every program that links it runs too.
        let opened = unsafe { Opened::open(Some(LIBRARY), RTLD_NOW | RTLD_GLOBAL) };
        let library = Library::look_up(opened.map_err(|error| format!("{LIBRARY} can't be opened: {error}"))?)?;
        // SAFETY: it may be called at any time before the first registration; memory of it stays with the parent then.
        if unsafe { (library.ibv_fork_init)() } != 0 {
            log::debug!("verbs: the library can't protect registered memory when this process forks");
        }
        Ok(library)
    };
    ONCE.get_or_init(open).as_ref().map_err(String::clone)
}

/// What a completion's status means.
pub fn status_text(status: c_int) -> String {
    match library() {
        // SAFETY: the library returns a text of its own for any number.
        Ok(library) => unsafe { CStr::from_ptr((library.ibv_wc_status_str)(status)) }.to_string_lossy().into_owned(),
        Err(_) => format!("status {status}"),
    }
}
