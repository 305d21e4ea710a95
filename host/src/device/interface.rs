//! The kernel's side of a device: addresses, MTU and state of a network interface (netdevice(7)).
#![expect(unsafe_code, reason = "ioctls take pointers to C structures")]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use crate::device::error::DeviceError;

/// Bytes of an interface's name at most; the sixteenth is the zero that ends it.
pub const NAME_BYTES: usize = 15;
/// How long an address is waited for.
const TENTATIVE: Duration = Duration::from_secs(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// A network interface of the kernel's, by name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    name: String,
}

impl Interface {
    /// The interface of that name, which need not exist yet.
    ///
    /// # Errors
    /// [`DeviceError::BadName`] for names that the kernel would not take or would cut.
    pub fn new(name: &str) -> Result<Self, DeviceError> {
        let is_good = !name.is_empty()
            && name.len() <= NAME_BYTES
            && !matches!(name, "." | "..")
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
        if is_good { Ok(Self { name: name.into() }) } else { Err(DeviceError::BadName { name: name.into() }) }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The longest datagram that the kernel sends on it, in bytes.
    ///
    /// # Errors
    /// [`DeviceError::System`], for instance if there is no such interface.
    pub fn mtu(&self) -> Result<u32, DeviceError> {
        let mut request = self.request();
        self.control(libc::AF_INET, libc::SIOCGIFMTU, &mut request, "read the MTU")?;
        // SAFETY: the kernel has filled this member, and every value of it is valid.
        let mtu = unsafe { request.ifr_ifru.ifru_mtu };
        Ok(u32::try_from(mtu).unwrap_or_default())
    }

    /// Sets the MTU, in bytes.
    ///
    /// # Errors
    /// [`DeviceError::NotPermitted`], [`DeviceError::System`].
    pub fn set_mtu(&self, mtu: u32) -> Result<(), DeviceError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_mtu = i32::try_from(mtu).unwrap_or(i32::MAX);
        self.control(libc::AF_INET, libc::SIOCSIFMTU, &mut request, "set the MTU")
    }

    /// Gives the kernel's end an address in a network of `length` bits. One IPv4 address: a second one replaces the first.
    ///
    /// # Errors
    /// [`DeviceError::NotPermitted`], [`DeviceError::BadAddress`], [`DeviceError::System`].
    pub fn add_address(&self, address: IpAddr, length: u8) -> Result<(), DeviceError> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let result = match address {
            _ if length > most => {
                Err(DeviceError::configuring(String::new(), io::Error::from_raw_os_error(libc::EINVAL)))
            }
            IpAddr::V4(address) => self.set_address_v4(address, length),
            IpAddr::V6(address) => self.add_address_v6(address, length),
        };
        result.map_err(|error| match error {
            DeviceError::System { source, .. } => {
                DeviceError::BadAddress { address: format!("{address}/{length}"), source }
            }
            other => other,
        })
    }

    /// Switches it on.
    ///
    /// # Errors
    /// [`DeviceError::NotPermitted`], [`DeviceError::System`].
    pub fn up(&self) -> Result<(), DeviceError> {
        let mut request = self.request();
        self.control(libc::AF_INET, libc::SIOCGIFFLAGS, &mut request, "read the state")?;
        // SAFETY: the kernel has filled this member, and every value of it is valid.
        let flags = unsafe { request.ifr_ifru.ifru_flags };
        let wanted = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        if flags & libc::IFF_UP as libc::c_short != 0 {
            return Ok(());
        }
        request.ifr_ifru.ifru_flags = wanted;
        self.control(libc::AF_INET, libc::SIOCSIFFLAGS, &mut request, "switch on")
    }

    /// Switches it on, and waits until the kernel uses these addresses: IPv6's are tentative for a moment (RFC 4862 5.4), in which
    /// a program's first connection would leave from another one. A second is the longest wait.
    ///
    /// # Errors
    /// As [`up`](Self::up).
    pub(crate) fn up_with(&self, addresses: &[(IpAddr, u8)]) -> Result<(), DeviceError> {
        self.up()?;
        let until = Instant::now() + TENTATIVE;
        for (address, _) in addresses.iter().filter(|(address, _)| address.is_ipv6()) {
            while UdpSocket::bind((*address, 0)).is_err() && Instant::now() < until {
                std::thread::sleep(LOOK);
            }
        }
        Ok(())
    }

    /// Everything of this address's version goes out here by default.
    ///
    /// # Errors
    /// [`DeviceError::NotPermitted`], [`DeviceError::System`].
    pub fn add_default_route(&self, like: IpAddr) -> Result<(), DeviceError> {
        let what = "add a default route by way";
        if like.is_ipv6() {
            let mut request = self.request();
            self.control(libc::AF_INET6, libc::SIOCGIFINDEX, &mut request, "find the index")?;
            // SAFETY: the kernel has filled this member, and every value of it is valid.
            let index = unsafe { request.ifr_ifru.ifru_ifindex };
            let mut route =
                RouteV6 { flags: u32::from(libc::RTF_UP), metric: 1, index, ..RouteV6::default() };
            return self.control(libc::AF_INET6, libc::SIOCADDRT, &mut route, what);
        }
        let mut name = [0; NAME_BYTES + 1];
        for (to, from) in name.iter_mut().zip(self.name.bytes()) {
            *to = from as libc::c_char;
        }
        // SAFETY: plain numbers and one pointer; all zero is valid for each.
        let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_flags = libc::RTF_UP;
        // The kernel reads the name while the call lasts.
        route.rt_dev = name.as_mut_ptr();
        self.control(libc::AF_INET, libc::SIOCADDRT, &mut route, what)
    }

    fn set_address_v4(&self, address: Ipv4Addr, length: u8) -> Result<(), DeviceError> {
        let mut request = self.request();
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.control(libc::AF_INET, libc::SIOCSIFADDR, &mut request, "set the address")?;
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        let mut request = self.request();
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from_bits(mask));
        self.control(libc::AF_INET, libc::SIOCSIFNETMASK, &mut request, "set the network mask")
    }

    fn add_address_v6(&self, address: Ipv6Addr, length: u8) -> Result<(), DeviceError> {
        let mut request = self.request();
        self.control(libc::AF_INET6, libc::SIOCGIFINDEX, &mut request, "find the index")?;
        let mut request = libc::in6_ifreq {
            ifr6_addr: libc::in6_addr { s6_addr: address.octets() },
            ifr6_prefixlen: u32::from(length),
            // SAFETY: the kernel has filled this member, and every value of it is valid.
            ifr6_ifindex: unsafe { request.ifr_ifru.ifru_ifindex },
        };
        match self.control(libc::AF_INET6, libc::SIOCSIFADDR, &mut request, "add an address") {
            // It has it already.
            Err(DeviceError::System { source, .. }) if source.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// A request with this name and nothing else in it.
    fn request(&self) -> libc::ifreq {
        request(&self.name)
    }

    /// `Request` must be what the kernel expects with `number`: an `ifreq`, or an `in6_ifreq` for IPv6's `SIOCSIFADDR`.
    fn control<Request>(
        &self,
        family: libc::c_int,
        number: libc::c_ulong,
        request: &mut Request,
        what: &str,
    ) -> Result<(), DeviceError> {
        let result = socket(family).and_then(|socket| {
            // SAFETY: `request` is a live C structure of the type that `number` reads and writes, as all callers in
            // this file see to, and the descriptor is open.
            let result = unsafe { libc::ioctl(socket.as_raw_fd(), number as _, &raw mut *request) };
            if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
        });
        result.map_err(|source| {
            DeviceError::configuring(format!("{what} of the interface {}", self.name), source)
        })
    }
}

/// `struct in6_rtmsg` of linux/ipv6_route.h, whose members libc does not show. All zero is the route to everywhere.
#[repr(C)]
#[derive(Default)]
struct RouteV6 {
    destination: [u32; 4],
    source: [u32; 4],
    gateway: [u32; 4],
    kind: u32,
    destination_length: u16,
    source_length: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

/// A request for the interface `name`, cut to what a request can hold, and otherwise zero.
pub(crate) fn request(name: &str) -> libc::ifreq {
    // SAFETY: an ifreq is characters and a union of plain numbers and one pointer; all zero is valid for each.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes().take(NAME_BYTES)) {
        *to = from as libc::c_char;
    }
    request
}

/// A socket to send requests about interfaces to; it carries no traffic.
fn socket(family: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let descriptor = unsafe { libc::socket(family, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A `sockaddr_in` in the shape of a `sockaddr`: two bytes of port, then the address.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data.iter_mut().skip(2).zip(address.octets()) {
        *to = from as libc::c_char;
    }
    libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data }
}
