//! What the standard library has no function for. Linux on x86-64, glibc: constants are those of its
//! headers (asm-generic/fcntl.h, bits/signum-generic.h, linux/fs.h).

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// `sigset_t` of glibc: 1,024 bits.
type SignalSet = [u64; 16];

#[repr(C)]
struct PollFd {
    fd: i32,
    events: i16,
    revents: i16,
}

unsafe extern "C" {
    fn fcntl(fd: i32, command: i32, ...) -> i32;
    #[link_name = "fork"]
    fn c_fork() -> i32;
    fn getpid() -> i32;
    fn ioctl(fd: i32, request: u64, ...) -> i32;
    fn poll(fds: *mut PollFd, count: u64, timeout_ms: i32) -> i32;
    fn setsid() -> i32;
    fn signal(number: i32, handler: usize) -> usize;
    fn sigprocmask(how: i32, set: *const SignalSet, old: *mut SignalSet) -> i32;
    fn sigwait(set: *const SignalSet, number: *mut i32) -> i32;
    fn sync();
    #[link_name = "umask"]
    fn c_umask(mask: u32) -> u32;
}

const SIGHUP: i32 = 1;
const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;
const SIGCHLD: i32 = 17;
const SIGIO: i32 = 29;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_BLOCK: i32 = 0;
const F_SETFL: i32 = 4;
const F_SETOWN: i32 = 8;
const O_RDWR: i32 = 2;
const O_NONBLOCK: i32 = 0o4000;
const O_ASYNC: i32 = 0o20000;
const POLLOUT: i16 = 4;
const POLLHUP: i16 = 16;
const BLKFLSBUF: u64 = 0x1261;

fn only_sigio() -> SignalSet {
    let mut set = [0; 16];
    set[0] = 1 << (SIGIO - 1);
    set
}

/// From here on a signal waits for [`wait_for_news`] whenever there is something to read, and when the
/// host opens or closes its end (drivers/char/virtio_console.c).
pub fn signal_news(port: &File) {
    // SAFETY: plain system calls on a descriptor that is open, with sets of glibc's size.
    unsafe {
        sigprocmask(SIG_BLOCK, &only_sigio(), std::ptr::null_mut());
        fcntl(port.as_raw_fd(), F_SETOWN, getpid());
        fcntl(port.as_raw_fd(), F_SETFL, O_RDWR | O_NONBLOCK | O_ASYNC);
    }
}

pub fn wait_for_news() {
    let mut number = 0;
    // SAFETY: both point to values of ours.
    unsafe { sigwait(&only_sigio(), &mut number) };
}

/// Whether it can be written within that time, and somebody listens.
pub fn writable(port: &File, within_ms: i32) -> bool {
    let mut asked = PollFd {
        fd: port.as_raw_fd(),
        events: POLLOUT,
        revents: 0,
    };
    // SAFETY: one element, as said.
    let ready = unsafe { poll(&mut asked, 1, within_ms) };
    ready > 0 && asked.revents & POLLHUP == 0 && asked.revents & POLLOUT != 0
}

/// Children that end are gone at once, and nobody has to wait for them.
pub fn forget_ended_children() {
    // SAFETY: no handler of ours is involved.
    unsafe { signal(SIGCHLD, SIG_IGN) };
}

pub enum Forked {
    Parent,
    Child,
    Failed,
}

/// This program has one thread, so that a child may do everything.
pub fn fork() -> Forked {
    // SAFETY: see above.
    match unsafe { c_fork() } {
        0 => Forked::Child,
        -1 => Forked::Failed,
        _ => Forked::Parent,
    }
}

extern "C" fn heard(_: i32) {}

/// A job's parent is not ended by what ends its session. A caught signal is back at its default in the
/// work, an ignored one would not be.
pub fn outlive_the_session() {
    let caught: extern "C" fn(i32) = heard;
    // SAFETY: the handler does nothing.
    unsafe {
        setsid();
        signal(SIGCHLD, SIG_DFL);
        for number in [SIGHUP, SIGINT, SIGTERM] {
            signal(number, caught as usize);
        }
    }
}

pub fn umask(mask: u32) {
    // SAFETY: cannot fail.
    unsafe { c_umask(mask) };
}

/// What was written to the block device has left the guest after this.
pub fn flush(device: &[u8]) {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(device));
    // SAFETY: the request takes no argument; sync cannot fail.
    let flushed = File::open(path).is_ok_and(|file| {
        file.sync_all().is_ok() && unsafe { ioctl(file.as_raw_fd(), BLKFLSBUF, 0) } == 0
    });
    if !flushed {
        unsafe { sync() };
    }
}
