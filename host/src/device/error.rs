//! Why a device cannot be had, and what to do about it.

use std::fmt;
use std::io;

/// Why a TUN device could not be opened or configured. What it prints tells people what to do.
#[derive(Debug)]
pub enum DeviceError {
    /// The system does not let this process do it.
    NotPermitted {
        /// What was tried, as in "no permission to ...".
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The interface is in use by another process.
    Busy {
        /// The interface.
        name: String,
    },
    /// The system has no TUN device.
    NoTun {
        /// What the system said.
        source: io::Error,
    },
    /// No interface can have this name.
    BadName {
        /// The name.
        name: String,
    },
    /// There is an interface of that name, and it is of another kind.
    OtherKind {
        /// The interface.
        name: String,
    },
    /// The kernel does not do checksums and segmentation on this interface.
    NoOffload {
        /// The interface.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The address or its network length makes no sense, or IPv6 is switched off.
    BadAddress {
        /// The address and its length.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else.
    System {
        /// What was tried, as in "cannot ...".
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

impl DeviceError {
    /// What the system said to the attempt to open the interface `name`.
    pub(crate) fn opening(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                Self::NotPermitted { what: format!("create or open the interface {name}"), source }
            }
            Some(libc::EBUSY) => Self::Busy { name },
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Self::NoTun { source },
            Some(libc::EINVAL | libc::EEXIST) => Self::OtherKind { name },
            _ => Self::System { what: format!("open the interface {name}"), source },
        }
    }

    /// What the system said to the attempt to do `what`.
    pub(crate) fn configuring(what: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { what, source },
            _ => Self::System { what, source },
        }
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotPermitted { what, source } => write!(
                f,
                "no permission to {what} ({source}); run as root, give the program the capability with \
                 `setcap cap_net_admin+ep PROGRAM`, or let root prepare the interface with \
                 `ip tuntap add dev NAME mode tun user YOU`"
            ),
            Self::Busy { name } => write!(
                f,
                "the interface {name} is in use by another process; end that process or choose another name"
            ),
            Self::NoTun { source } => write!(
                f,
                "this system has no TUN device at /dev/net/tun ({source}); load it with `modprobe tun`, and give a \
                 container `--device /dev/net/tun`"
            ),
            Self::BadName { name } => write!(
                f,
                "{name:?} cannot be the name of an interface; use 1 to 15 letters, digits, dashes or dots"
            ),
            Self::OtherKind { name } => write!(
                f,
                "there is an interface {name} already, and it is not a TUN device of this kind; choose another name, \
                 or remove it with `ip link delete {name}`"
            ),
            Self::NoOffload { name, source } => write!(
                f,
                "the kernel refuses checksum and segmentation offload on {name} ({source}); use the plain TUN device"
            ),
            Self::BadAddress { address, source } => write!(
                f,
                "the address {address} cannot be given to the interface ({source}); check the address and its network \
                 length, and for IPv6 that `sysctl net.ipv6.conf.all.disable_ipv6` is 0"
            ),
            Self::System { what, source } => write!(f, "cannot {what}: {source}"),
        }
    }
}

impl std::error::Error for DeviceError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NotPermitted { source, .. }
            | Self::NoTun { source }
            | Self::NoOffload { source, .. }
            | Self::BadAddress { source, .. }
            | Self::System { source, .. } => Some(source),
            Self::Busy { .. } | Self::BadName { .. } | Self::OtherKind { .. } => None,
        }
    }
}
