//! Machine code of modules, kept between runs.
//!
//! Machine code that somebody else wrote would be run without any wall, so an entry is used only if nobody else can
//! have written it: the directory belongs to us and to nobody else's reach, and each entry carries a keyed hash under
//! a key that only we can read, over the engine, the module and the code. What does not fit is ignored and replaced.
//! A cache that cannot be used (no home, a full or read-only disk, a foreign directory) is no error: it costs time.

use std::hash::{Hash, Hasher};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use wasmtime::Engine;
use wasmtime::component::Component;

/// The file with the key.
const KEY: &str = "key";
/// How names of entries end.
const SUFFIX: &str = ".aot";
/// Bytes of the keyed hash at the beginning of an entry.
const SEAL: usize = 32;

/// Where machine code is kept: a directory of our own, which need not exist yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Entries that are kept; the oldest go first.
    pub const ENTRIES: usize = 16;
    /// Bytes of all entries together.
    pub const BYTES: u64 = 128 << 20;

    /// The user's: `$XDG_CACHE_HOME/bulkhead`, or `~/.cache/bulkhead`.
    #[must_use]
    pub fn of_user() -> Option<Self> {
        let absolute =
            |name| std::env::var_os(name).map(PathBuf::from).filter(|path: &PathBuf| path.is_absolute());
        let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
        Some(Self::at(&base.join("bulkhead")))
    }

    /// A cache in this directory, which is made with mode 0700 when it is first used.
    #[must_use]
    pub fn at(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    /// Opens it for one engine, if it can be trusted.
    pub(super) fn open(&self, engine: &Engine) -> Option<Open> {
        if let Some(parent) = self.directory.parent() {
            std::fs::create_dir_all(parent).ok()?;
        }
        match rustix::fs::mkdir(&self.directory, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(_) => return None,
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty()).ok()?;
        if !is_ours_alone(&rustix::fs::fstat(&directory).ok()?, FileType::Directory) {
            return None;
        }
        let key = key(&directory)?;
        Some(Open { directory, key, engine: engine_hash(engine) })
    }
}

/// A cache whose directory was found to be ours alone.
pub(super) struct Open {
    directory: OwnedFd,
    key: [u8; 32],
    engine: [u8; 32],
}

impl Open {
    /// The machine code of the module with this hash, if it is there and sound.
    pub(super) fn get(&self, engine: &Engine, module: &[u8; 32]) -> Option<Component> {
        let entry = read(&self.directory, &self.name(module), Cache::BYTES)?;
        let (seal, code) = entry.split_first_chunk::<SEAL>()?;
        // Comparing two `Hash`es takes the same time wherever they differ.
        if self.seal(module, code) != blake3::Hash::from_bytes(*seal) {
            return None;
        }
        deserialize(engine, code)
    }

    /// Keeps machine code, if that is possible.
    pub(super) fn put(&self, component: &Component, module: &[u8; 32]) {
        let Ok(code) = component.serialize() else { return };
        let seal = self.seal(module, &code);
        self.make_room(code.len() as u64);
        let name = self.name(module);
        let part = format!("{name}.{}.part", std::process::id());
        if write_new(&self.directory, &part, &[seal.as_bytes(), &code]).is_none()
            || rustix::fs::renameat(&self.directory, &part, &self.directory, &name).is_err()
        {
            let _ = rustix::fs::unlinkat(&self.directory, &part, AtFlags::empty());
        }
    }

    /// The entry's name: engine and module, so that versions of bulkhead do not drive out each other's.
    fn name(&self, module: &[u8; 32]) -> String {
        let hex =
            |hash: &[u8; 32]| blake3::Hash::from_bytes(*hash).to_hex().get(..16).unwrap_or("").to_owned();
        format!("{}-{}{SUFFIX}", hex(&self.engine), hex(module))
    }

    fn seal(&self, module: &[u8; 32], code: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&self.engine).update(module).update(code);
        hasher.finalize()
    }

    /// Removes the oldest entries, and what interrupted writers left behind, until one more of `size` bytes fits.
    fn make_room(&self, size: u64) {
        let Ok(listing) = rustix::fs::Dir::read_from(&self.directory) else { return };
        let mut entries = Vec::new();
        for name in listing.flatten().map(|entry| entry.file_name().to_owned()) {
            let Ok(stat) = rustix::fs::statat(&self.directory, &name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            let text = name.to_string_lossy();
            if text.ends_with(SUFFIX) || text.ends_with(".part") {
                entries.push((stat.st_mtime, u64::try_from(stat.st_size).unwrap_or(0), name));
            }
        }
        entries.sort();
        let mut bytes = entries.iter().fold(size, |sum, entry| sum.saturating_add(entry.1));
        let mut left = entries.len() + 1;
        for (_, freed, name) in entries {
            if left <= Cache::ENTRIES && bytes <= Cache::BYTES {
                break;
            }
            let _ = rustix::fs::unlinkat(&self.directory, &name, AtFlags::empty());
            left -= 1;
            bytes -= freed;
        }
    }
}

#[expect(unsafe_code, reason = "machine code cannot be checked; who wrote it can")]
fn deserialize(engine: &Engine, code: &[u8]) -> Option<Component> {
    // SAFETY: these bytes were made by `Component::serialize` in a program of this user: the keyed hash over them was
    // found right, under a key that nobody else can read. Wasmtime itself checks its version and settings.
    unsafe { Component::deserialize(engine, code) }.ok()
}

/// Whether a file is of this type, belongs to us, and nobody else has any right to it.
fn is_ours_alone(stat: &Stat, kind: FileType) -> bool {
    FileType::from_raw_mode(stat.st_mode) == kind
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && stat.st_mode & 0o077 == 0
}

/// A whole file of ours, if it is one and at most `limit` bytes long.
fn read(directory: &OwnedFd, name: &str, limit: u64) -> Option<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).ok()?;
    let stat = rustix::fs::fstat(&file).ok()?;
    let size = u64::try_from(stat.st_size).ok()?;
    if !is_ours_alone(&stat, FileType::RegularFile) || size > limit {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?);
    std::fs::File::from(file).take(limit).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// Writes a file that must not exist, with mode 0600.
fn write_new(directory: &OwnedFd, name: &str, parts: &[&[u8]]) -> Option<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let mut file = std::fs::File::from(file);
    parts.iter().try_for_each(|part| file.write_all(part)).ok()
}

/// The key of this directory; made by the first who asks.
fn key(directory: &OwnedFd) -> Option<[u8; 32]> {
    if let Some(key) = read(directory, KEY, 32).and_then(|key| key.try_into().ok()) {
        return Some(key);
    }
    let mut key = [0; 32];
    if rustix::rand::getrandom(&mut key, rustix::rand::GetRandomFlags::empty()).ok()? != key.len() {
        return None;
    }
    let part = format!("{KEY}.{}.part", std::process::id());
    let written = write_new(directory, &part, &[&key]);
    // A link fails where a key exists already: two who make one at the same time come to use the same. One that is
    // not sound (cut off, or open to others) is replaced, and what it sealed with it.
    let linked = written.is_some() && {
        if rustix::fs::statat(directory, KEY, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            rustix::fs::renameat(directory, &part, directory, KEY).is_ok()
        } else {
            rustix::fs::linkat(directory, &part, directory, KEY, AtFlags::empty()).is_ok()
        }
    };
    let _ = rustix::fs::unlinkat(directory, &part, AtFlags::empty());
    if linked { Some(key) } else { read(directory, KEY, 32)?.try_into().ok() }
}

/// Everything that machine code depends on but the module: wasmtime's version, its settings, this processor.
fn engine_hash(engine: &Engine) -> [u8; 32] {
    struct Into(blake3::Hasher);
    impl Hasher for Into {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            0
        }
    }
    let mut hasher = Into(blake3::Hasher::new());
    hasher.write(env!("CARGO_PKG_VERSION").as_bytes());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    *hasher.0.finalize().as_bytes()
}
