//! The device: Linux's watchdog API (`Documentation/watchdog/watchdog-api.rst`), or a pipe that
//! stands in for it.
//!
//! The stand-in is what Patroni calls `driver: testing`: the timeout is written as
//! `Ctimeout=SECONDS\n`, each feed is a `1`, and the end is the magic `V`, as a real device has it.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::write;

/// `WDIOF_SETTIMEOUT` and `WDIOF_MAGICCLOSE` (linux/watchdog.h).
const CAN_SET_TIMEOUT: u32 = 0x0080;
const MAGIC_CLOSE: u32 = 0x0100;

/// `struct watchdog_info` (linux/watchdog.h).
#[repr(C)]
#[derive(Default)]
pub struct Info {
    options: u32,
    firmware_version: u32,
    identity: [u8; 32],
}

mod calls {
    nix::ioctl_read!(get_support, b'W', 0, super::Info);
    nix::ioctl_read!(keep_alive, b'W', 5, libc::c_int);
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
    nix::ioctl_read!(get_timeout, b'W', 7, libc::c_int);
}

/// What a driver can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::guard) struct Abilities {
    /// The timeout can be changed.
    pub set_timeout: bool,
    /// It runs on when its file is closed without the magic `V`.
    pub magic_close: bool,
}

/// A watchdog. None of this allocates.
pub(in crate::guard) trait Device {
    /// Opens it, which starts it.
    fn open(&mut self) -> io::Result<Abilities>;
    /// Whether the kernel refuses to stop it.
    fn no_way_out(&self) -> bool;
    /// Sets the timeout in seconds and returns what the driver made of it.
    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32>;
    /// The timeout in force, in seconds.
    fn timeout(&mut self) -> io::Result<u32>;
    /// Starts its count anew.
    fn feed(&mut self) -> io::Result<()>;
    /// Stops it and closes it.
    fn close(&mut self) -> io::Result<()>;
}

/// A device file.
pub(in crate::guard) struct File {
    path: CString,
    testing: bool,
    no_way_out: bool,
    fd: Option<OwnedFd>,
}

impl File {
    /// Nothing is opened yet.
    pub fn new(path: &Path, testing: bool) -> io::Result<Self> {
        let no_way_out = !testing && is_no_way_out(path);
        Ok(Self { path: CString::new(path.as_os_str().as_bytes())?, testing, no_way_out, fd: None })
    }

    fn fd(&self) -> io::Result<&OwnedFd> {
        self.fd.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn say(&self, bytes: &[u8]) -> io::Result<()> {
        // A part is never written: the words are shorter than what a pipe takes as a whole.
        write(self.fd()?, bytes)?;
        Ok(())
    }
}

/// `/sys/class/watchdog/watchdogN/nowayout` (sysfs-class-watchdog); `/dev/watchdog` is the first.
fn is_no_way_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    let name = if name == "watchdog" { "watchdog0".as_ref() } else { name };
    let file = Path::new("/sys/class/watchdog").join(name).join("nowayout");
    std::fs::read_to_string(file).is_ok_and(|text| text.trim() == "1")
}

fn number(value: libc::c_int) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

impl Device for File {
    fn open(&mut self) -> io::Result<Abilities> {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = open(self.path.as_c_str(), flags, Mode::empty())?;
        let mut info = Info { options: CAN_SET_TIMEOUT | MAGIC_CLOSE, ..Info::default() };
        let told = if self.testing {
            Ok(0)
        } else {
            // SAFETY: `info` is the structure that this request fills, and outlives the call.
            unsafe { calls::get_support(fd.as_raw_fd(), &raw mut info) }
        };
        if let Err(errno) = told {
            // It may run: it is stopped, whatever it is.
            let _ = write(&fd, b"V");
            return Err(errno.into());
        }
        self.fd = Some(fd);
        Ok(Abilities {
            set_timeout: info.options & CAN_SET_TIMEOUT != 0,
            magic_close: info.options & MAGIC_CLOSE != 0,
        })
    }

    fn no_way_out(&self) -> bool {
        self.no_way_out
    }

    fn set_timeout(&mut self, seconds: u32) -> io::Result<u32> {
        if self.testing {
            let mut text = io::Cursor::new([0_u8; 32]);
            writeln!(text, "Ctimeout={seconds}")?;
            let used = usize::try_from(text.position()).unwrap_or(0);
            self.say(text.get_ref().get(..used).unwrap_or_default())?;
            return Ok(seconds);
        }
        let mut value = libc::c_int::try_from(seconds).unwrap_or(libc::c_int::MAX);
        // SAFETY: the request reads and writes one int, which outlives the call.
        unsafe { calls::set_timeout(self.fd()?.as_raw_fd(), &raw mut value) }?;
        Ok(number(value))
    }

    fn timeout(&mut self) -> io::Result<u32> {
        let mut value = 0;
        // SAFETY: the request writes one int, which outlives the call.
        unsafe { calls::get_timeout(self.fd()?.as_raw_fd(), &raw mut value) }?;
        Ok(number(value))
    }

    fn feed(&mut self) -> io::Result<()> {
        if self.testing {
            return self.say(b"1");
        }
        let mut unused = 0;
        // SAFETY: the request takes no notice of its argument, which is valid all the same.
        unsafe { calls::keep_alive(self.fd()?.as_raw_fd(), &raw mut unused) }?;
        Ok(())
    }

    fn close(&mut self) -> io::Result<()> {
        let said = self.say(b"V");
        self.fd = None;
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;

    #[test]
    fn the_stand_in_takes_the_words() {
        let path = std::env::temp_dir().join(format!("hart-dog-{}", std::process::id()));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut device = File::new(&path, true).unwrap();
        assert_eq!(device.open().unwrap_err().raw_os_error(), Some(libc::ENXIO), "nobody reads");
        let flags = libc::O_NONBLOCK;
        let reader = fs::OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let mut reader = reader.unwrap();
        let abilities = device.open().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(abilities.set_timeout && abilities.magic_close && !device.no_way_out());
        assert_eq!(device.set_timeout(13).unwrap(), 13);
        device.feed().unwrap();
        device.close().unwrap();
        assert!(device.feed().is_err(), "closed");
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "Ctimeout=13\n1V");
    }

    #[test]
    fn what_is_no_watchdog_is_refused() {
        let error = File::new(Path::new("/dev/null"), false).unwrap().open().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY));
        let error = File::new(Path::new("/dev/no-such-dog"), false).unwrap().open().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }

    /// The numbers of linux/watchdog.h, as they are on x86 and ARM.
    #[test]
    fn the_request_numbers_are_the_kernels() {
        assert_eq!(size_of::<Info>(), 40);
        assert_eq!(nix::request_code_read!(b'W', 0, size_of::<Info>()), 0x8028_5700);
        assert_eq!(nix::request_code_read!(b'W', 5, size_of::<i32>()), 0x8004_5705);
        assert_eq!(nix::request_code_readwrite!(b'W', 6, size_of::<i32>()), 0xc004_5706);
        assert_eq!(nix::request_code_read!(b'W', 7, size_of::<i32>()), 0x8004_5707);
    }
}
