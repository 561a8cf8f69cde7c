//! What the `virt` crate has no safe function for. The only unsafe code of the libvirt host.
//!
//! Callbacks run on libvirt's event thread and must neither block nor call libvirt about the same
//! connection; all of ours only post what they heard. Functions: <https://libvirt.org/html/>.

use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

/// What is heard about domains: a lifecycle event with its detail, or the agent's channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// `virDomainEventType` and the detail type that belongs to it.
    Lifecycle { event: u32, detail: u32 },
    /// `virConnectDomainEventAgentLifecycleState`.
    Agent { state: u32 },
}

pub type Listener = Arc<dyn Fn(Uuid, Heard) + Send + Sync>;
pub type CloseListener = Box<dyn Fn(u32) + Send + Sync>;

/// Callbacks that are registered with a connection. Each holds a reference to it inside libvirt, so
/// that the connection stays open until they are taken off again.
pub struct Subscriptions {
    domain_callbacks: Vec<c_int>,
    close_callback: bool,
}

/// Registers `listener` for all domains and `on_close` for the connection's end. Calls to
/// [`unsubscribe`] must follow before the connection can end.
pub fn subscribe(
    connect: &Connect,
    listener: Option<Listener>,
    on_close: CloseListener,
) -> Result<Subscriptions, Error> {
    let mut subscriptions = Subscriptions {
        domain_callbacks: Vec::new(),
        close_callback: false,
    };
    let result = register_all(connect, listener, on_close, &mut subscriptions);
    match result {
        Ok(()) => Ok(subscriptions),
        Err(error) => {
            unsubscribe(connect, subscriptions);
            Err(error)
        }
    }
}

fn register_all(
    connect: &Connect,
    listener: Option<Listener>,
    on_close: CloseListener,
    subscriptions: &mut Subscriptions,
) -> Result<(), Error> {
    let opaque = Box::into_raw(Box::new(on_close)).cast::<c_void>();
    // SAFETY: the connection is open; `opaque` is a leaked Box<CloseListener>, which is what both
    // callbacks take it for. libvirt calls `free_close` exactly once after a success, never after a
    // failure, in which case the box is taken back here.
    unsafe {
        let done = sys::virConnectRegisterCloseCallback(
            connect.as_ptr(),
            Some(closed),
            opaque,
            Some(free_close),
        );
        if done < 0 {
            let error = Error::last_error();
            drop(Box::from_raw(opaque.cast::<CloseListener>()));
            return Err(error);
        }
    }
    subscriptions.close_callback = true;
    let Some(listener) = listener else {
        return Ok(());
    };

    type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
    type Lifecycle = unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        c_int,
        c_int,
        *mut c_void,
    ) -> c_int;
    type Agent =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
    // SAFETY: the API is declared with the generic type and documents that callbacks of an event's
    // own type are to be cast to it (VIR_DOMAIN_EVENT_CALLBACK); libvirt calls them with the
    // arguments of the event id that they are registered for below.
    let (lifecycle, agent) = unsafe {
        (
            std::mem::transmute::<Lifecycle, Generic>(lifecycle_event),
            std::mem::transmute::<Agent, Generic>(agent_event),
        )
    };
    for (event_id, callback) in [
        (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle),
        (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, agent),
    ] {
        let opaque = Box::into_raw(Box::new(listener.clone())).cast::<c_void>();
        // SAFETY: as above, with a leaked Box<Listener> and `free_listener`. A null domain means all.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                connect.as_ptr(),
                ptr::null_mut(),
                event_id as c_int,
                Some(callback),
                opaque,
                Some(free_listener),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: after a failure libvirt neither keeps nor frees `opaque`.
            drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
            return Err(error);
        }
        subscriptions.domain_callbacks.push(id);
    }
    Ok(())
}

/// Takes the callbacks off. May block on a round trip to libvirt; errors of a dead connection are of
/// no interest, because the local half is done in any case.
pub fn unsubscribe(connect: &Connect, subscriptions: Subscriptions) {
    for id in subscriptions.domain_callbacks {
        // SAFETY: the connection object is alive (it is borrowed) and `id` came from it.
        unsafe { sys::virConnectDomainEventDeregisterAny(connect.as_ptr(), id) };
    }
    if subscriptions.close_callback {
        // SAFETY: as above; `closed` is the function that was registered.
        unsafe { sys::virConnectUnregisterCloseCallback(connect.as_ptr(), Some(closed)) };
    }
}

unsafe extern "C" fn lifecycle_event(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: libvirt hands back the pointer that was registered with this callback.
    unsafe {
        tell(
            domain,
            Heard::Lifecycle {
                event: event as u32,
                detail: detail as u32,
            },
            opaque,
        )
    };
    0
}

unsafe extern "C" fn agent_event(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    state: c_int,
    _reason: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: as in `lifecycle_event`.
    unsafe {
        tell(
            domain,
            Heard::Agent {
                state: state as u32,
            },
            opaque,
        )
    };
}

/// # Safety
/// `opaque` is a `Box<Listener>` that is not freed yet, `domain` a domain of libvirt's.
unsafe fn tell(domain: sys::virDomainPtr, heard: Heard, opaque: *mut c_void) {
    let mut uuid = [0u8; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the buffer has the size that the API asks for; the call is answered locally.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } < 0 {
        return;
    }
    // SAFETY: promised by the caller. Shared access only: libvirt frees it after the last call.
    let listener = unsafe { &*opaque.cast::<Listener>() };
    listener(Uuid::from_bytes(uuid), heard);
}

unsafe extern "C" fn closed(_: sys::virConnectPtr, reason: c_int, opaque: *mut c_void) {
    // SAFETY: the pointer that was registered with this callback, a Box<CloseListener>.
    let listener = unsafe { &*opaque.cast::<CloseListener>() };
    listener(reason as u32);
}

unsafe extern "C" fn free_listener(opaque: *mut c_void) {
    // SAFETY: libvirt calls this once, when the callback can no longer run.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}

unsafe extern "C" fn free_close(opaque: *mut c_void) {
    // SAFETY: as in `free_listener`.
    drop(unsafe { Box::from_raw(opaque.cast::<CloseListener>()) });
}

/// `virDomainState` of a domain. The crate's own function swallows the error, which would make a
/// failed question look like an unknown state.
pub fn state(domain: &Domain) -> Result<u32, Error> {
    let mut state: c_int = 0;
    // SAFETY: the domain is alive (it is borrowed); a null reason is allowed.
    match unsafe { sys::virDomainGetState(domain.as_ptr(), &mut state, ptr::null_mut(), 0) } {
        0 => Ok(state as u32),
        _ => Err(Error::last_error()),
    }
}

/// Numbers by libvirt's names such as `cpu.time` or `block.0.rd.bytes`.
pub type Numbers = Vec<(String, u64)>;

/// Numbers of one domain in one round trip. `groups` is an or of `virDomainStatsTypes`. Numbers that are
/// not whole are left out.
pub fn stats(domain: &Domain, groups: u32) -> Result<Numbers, Error> {
    let found = stats_of(std::slice::from_ref(domain), groups, 0)?;
    Ok(found.into_iter().flat_map(|(_, numbers)| numbers).collect())
}

/// The same of several domains of one connection, in one round trip; `flags` is an or of
/// `virConnectGetAllDomainStatsFlags`. Domains that are gone are left out.
pub fn stats_of(
    domains: &[Domain],
    groups: u32,
    flags: u32,
) -> Result<Vec<(Uuid, Numbers)>, Error> {
    if domains.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    // SAFETY: the list of domains ends with null as the API asks. libvirt allocates the records and
    // they are freed with its own function after the numbers were copied out. Each `field` is a
    // NUL-terminated array, and the union is read as the type says. The buffer of the id has the size
    // that the API asks for.
    unsafe {
        let mut pointers: Vec<_> = domains.iter().map(|domain| domain.as_ptr()).collect();
        pointers.push(ptr::null_mut());
        let mut records: *mut sys::virDomainStatsRecordPtr = ptr::null_mut();
        let count = sys::virDomainListGetStats(pointers.as_mut_ptr(), groups, &mut records, flags);
        if count < 0 {
            return Err(Error::last_error());
        }
        for index in 0..count as usize {
            let record = &**records.add(index);
            let mut uuid = [0u8; sys::VIR_UUID_BUFLEN as usize];
            if sys::virDomainGetUUID(record.dom, uuid.as_mut_ptr()) < 0 {
                continue;
            }
            let mut numbers = Vec::new();
            for param in 0..record.nparams as usize {
                let param = &*record.params.add(param);
                let value = match param.type_ as u32 {
                    sys::VIR_TYPED_PARAM_INT => u64::try_from(param.value.i).unwrap_or(0),
                    sys::VIR_TYPED_PARAM_UINT => u64::from(param.value.ui),
                    sys::VIR_TYPED_PARAM_LLONG => u64::try_from(param.value.l).unwrap_or(0),
                    sys::VIR_TYPED_PARAM_ULLONG => param.value.ul,
                    _ => continue,
                };
                let name = CStr::from_ptr(param.field.as_ptr());
                numbers.push((name.to_string_lossy().into_owned(), value));
            }
            found.push((Uuid::from_bytes(uuid), numbers));
        }
        sys::virDomainStatsRecordListFree(records);
    }
    Ok(found)
}
