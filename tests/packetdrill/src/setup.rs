//! What is tested, and in which surroundings: from the loader's flags and the environment.

use bulkhead::placement::Instance;
use bulkhead::placement::native::Native;
use bulkhead_wit::Setting;
use bulkhead_wit::registry::setting;
use std::net::IpAddr;

/// One of the stack's own addresses, with the length of its network's prefix.
pub(crate) type Home = (IpAddr, u8);

/// How the plug-in was asked to be.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// A module's file; without one it is the core that this library carries.
    module: Option<String>,
    /// `native` or `wasm`.
    placement: String,
    /// Our addresses. Those that sockets are bound to before the stack starts are added.
    pub(crate) homes: Vec<Home>,
    /// The link's MTU, in bytes.
    pub(crate) mtu: u32,
    /// Whether the settings of the network namespace (`/proc/sys/net`) are followed.
    pub(crate) sysctl: bool,
    /// Settings of the instance.
    pub(crate) settings: Vec<Setting>,
}

impl Setup {
    /// Reads `key=value` pairs, separated by commas: `module`, `placement`, `address` (with `/prefix`, may come more
    /// than once), `mtu`, `sysctl` (`on` or `off`), and any name of the registry of settings with a number. The
    /// environment's `BULKHEAD_MODULE` and `BULKHEAD_PLACEMENT` stand in for the first two.
    ///
    /// # Errors
    /// A sentence that names what is not understood.
    pub(crate) fn read(flags: &str) -> Result<Self, String> {
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let module = env("BULKHEAD_MODULE");
        let mut placement = env("BULKHEAD_PLACEMENT");
        let mut setup = Self {
            module,
            placement: String::new(),
            homes: Vec::new(),
            mtu: 1500,
            sysctl: true,
            settings: Vec::new(),
        };
        for pair in flags.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair}: expected key=value"))?;
            match key {
                "module" => setup.module = Some(value.to_owned()),
                "placement" => placement = Some(value.to_owned()),
                "address" => setup.homes.push(home(value)?),
                "mtu" => setup.mtu = value.parse().map_err(|error| format!("mtu {value}: {error}"))?,
                "sysctl" => setup.sysctl = value == "on",
                _ => setup.settings.push(named(key, value)?),
            }
        }
        let by_module = if setup.module.is_some() { "wasm" } else { "native" };
        setup.placement = placement.unwrap_or_else(|| by_module.to_owned());
        if setup.homes.is_empty() {
            setup.homes = vec![home("192.168.0.1/16")?, home("fd3d:0a0b:17d6::1/64")?];
        }
        Ok(setup)
    }

    /// The module in its placement.
    ///
    /// # Errors
    /// A sentence that says what cannot be had.
    pub(crate) fn instance(&self) -> Result<Box<dyn Instance>, String> {
        match (self.placement.as_str(), &self.module) {
            ("native", None) => Ok(Box::new(Native::new(Box::<bulkhead_tcp::Tcp>::default()))),
            ("native", Some(file)) => Err(format!("{file}: a module from a file runs in the sandbox only")),
            ("wasm", module) => sandboxed(module.as_deref()),
            (other, _) => Err(format!("{other}: no such placement")),
        }
    }
}

#[cfg(feature = "wasm")]
fn sandboxed(module: Option<&str>) -> Result<Box<dyn Instance>, String> {
    use bulkhead::artifact::Artifact;
    let artifact = match module {
        None => Artifact::bundled(),
        Some(file) => Artifact::from_file(std::path::Path::new(file)),
    };
    let instance = artifact.and_then(|artifact| artifact.instance()).map_err(|error| error.to_string())?;
    Ok(Box::new(instance))
}

#[cfg(not(feature = "wasm"))]
fn sandboxed(_: Option<&str>) -> Result<Box<dyn Instance>, String> {
    Err("built without the feature `wasm`: there is no sandbox".to_owned())
}

fn home(text: &str) -> Result<Home, String> {
    let (address, length) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().map_err(|error| format!("address {text}: {error}"))?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = if length.is_empty() { Ok(longest) } else { length.parse() };
    Ok((address, length.map_err(|error| format!("address {text}: {error}"))?))
}

fn named(key: &str, value: &str) -> Result<Setting, String> {
    let known = setting::ALL.iter().find(|entry| entry.1 == key);
    let key = known.ok_or_else(|| format!("{key}: no such flag or setting"))?.0;
    let number = value.parse().map_err(|_| value);
    let value =
        number.or_else(|text: &str| text_as_number(text)).map_err(|error| format!("{value}: {error}"))?;
    Ok(Setting { key, value })
}

/// Up to eight ASCII bytes, little endian, as the registry writes names.
pub(crate) fn text_as_number(text: &str) -> Result<u64, String> {
    if text.len() > 8 || !text.is_ascii() {
        return Err("neither a number nor eight ASCII bytes".to_owned());
    }
    Ok(text.bytes().enumerate().fold(0, |number, (at, byte)| number | u64::from(byte) << (8 * at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_and_what_is_not_understood_is_named() {
        let setup = Setup::read("placement=native,address=10.0.0.1/8,mtu=1400,sysctl=off,profile=1").unwrap();
        assert_eq!(setup.homes, [("10.0.0.1".parse().unwrap(), 8)]);
        assert_eq!((setup.mtu, setup.sysctl), (1400, false));
        assert_eq!(setup.settings, [Setting { key: setting::PROFILE, value: 1 }]);
        assert!(setup.instance().is_ok());
        let reno = Setup::read("congestion=reno").unwrap().settings[0].value;
        assert_eq!(reno.to_le_bytes(), *b"reno\0\0\0\0");
        for (flags, error) in
            [("what=1", "what: no such flag or setting"), ("mtu", "mtu: expected key=value")]
        {
            assert_eq!(Setup::read(flags).unwrap_err(), error);
        }
        let nowhere = Setup::read("placement=nowhere").unwrap();
        assert_eq!(nowhere.instance().err().unwrap(), "nowhere: no such placement");
    }
}
