//! Files that are no protocol modules, and the cache of machine code.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;

use bulkhead::artifact::{Artifact, ArtifactError, Cache, Problem};
use bulkhead::placement::Instance as _;
use bulkhead_tests::wat::Wat;

fn problem(bytes: &[u8]) -> ArtifactError {
    let error = Artifact::with_cache("file.wasm", bytes, None).err().expect("no protocol module");
    let line = error.to_string();
    assert!(line.starts_with("file.wasm: ") && !line.contains('\n') && line.len() < 500, "{line}");
    error
}

#[test]
fn what_is_no_component_is_said_in_one_line() {
    assert_eq!(problem(b"").problem, Problem::Empty);
    assert_eq!(problem(b"(module)\n").problem, Problem::Text);
    assert_eq!(problem(b"\x7fELF\x02\x01\x01\0\0\0").problem, Problem::NotWasm);
    assert_eq!(problem(&Wat::default().core()).problem, Problem::CoreModule);
    assert!(matches!(problem(b"\0asm").problem, Problem::Malformed(_)));
    assert!(matches!(problem(b"\0asm\xff\xff\xff\xff").problem, Problem::Malformed(_)));
    let whole = Wat::default().component();
    for length in [9, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        let error = problem(&whole[..length]);
        let known = matches!(
            error.problem,
            Problem::Malformed(_) | Problem::NotProtocol { .. } | Problem::Compile(_)
        );
        assert!(known, "{error}");
    }
}

#[test]
fn every_damaged_byte_is_an_error_or_harmless() {
    let whole = Wat::default().component();
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x55;
        if let Err(error) = Artifact::with_cache("file.wasm", &damaged, None) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

#[test]
fn another_version_is_named() {
    let newer = Wat { version: "2.1.0", ..Wat::default() };
    let error = problem(&newer.component());
    assert_eq!(error.problem, Problem::Version { found: "bulkhead:protocol/protocol@2.1.0".into() });
    assert!(error.to_string().contains("bulkhead:protocol/protocol@1.0.0"), "{error}");
}

#[test]
fn a_component_of_another_kind_is_told_by_its_exports() {
    // An empty component, and nothing else.
    let error = problem(b"\0asm\x0d\0\x01\0");
    assert_eq!(error.problem, Problem::NotProtocol { exports: vec![] });
}

#[test]
fn imports_beyond_the_world_are_listed_and_nothing_runs() {
    let import = "(import \"bulkhead:protocol/other@1.0.0\" \"clock\" (func (result i64)))";
    // Imports come before everything else in a module's text.
    let greedy = Wat { world: "greedy", ..Wat::default() }.importing(import);
    let error = problem(&greedy.component());
    assert_eq!(error.problem, Problem::Imports(vec!["bulkhead:protocol/other@1.0.0".into()]));
    assert!(error.to_string().contains("bulkhead:protocol/other"), "{error}");
}

#[test]
fn payload_access_shows() {
    let import = "(import \"bulkhead:protocol/payload@1.0.0\" \"stage\" (func (param i32 i32) (result i32)))";
    let module = Wat { world: "protocol-module-with-payload", ..Wat::default() }.importing(import);
    let artifact = Artifact::with_cache("file.wasm", &module.component(), None).expect("it can be inspected");
    assert!(!artifact.facts().payload_blind);
    assert!(artifact.instance().expect("an instance").has_payload());
    let blind =
        Artifact::with_cache("file.wasm", &Wat::default().component(), None).expect("it can be inspected");
    assert!(blind.facts().payload_blind && !blind.instance().expect("an instance").has_payload());
}

#[test]
fn facts_are_read_without_running_anything() {
    let module = Wat { pages: (7, 9), ..Wat::default() };
    let bytes = module.component();
    let artifact = Artifact::with_cache("file.wasm", &bytes, None).unwrap();
    let facts = artifact.facts();
    assert_eq!((facts.size, facts.memories.len()), (bytes.len(), 1));
    assert_eq!((facts.memories[0].least, facts.memories[0].most), (7 << 16, Some(9 << 16)));
    assert!(facts.payload_blind && facts.imports.is_empty());
    assert_eq!(artifact.description().name, "test");
    let huge = Wat { pages: (4097, 4097), ..Wat::default() };
    assert_eq!(problem(&huge.component()).problem, Problem::Memory { least: 4097 << 16 });
}

#[test]
fn a_file_that_is_not_there_or_is_a_folder_is_said_so() {
    let folder = Scratch::new("missing");
    for path in [folder.0.join("none.wasm"), folder.0.clone()] {
        let error = Artifact::from_file(&path).err().expect("nothing to read");
        assert!(matches!(error.problem, Problem::Unreadable(_)), "{error}");
    }
}

#[test]
fn the_bundled_module_loads_and_is_blind() {
    let artifact = Artifact::bundled().expect("the bundled module");
    assert!(artifact.facts().payload_blind);
    artifact.instance().expect("an instance");
}

/// A folder that goes when the test does.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bulkhead-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> =
            fs::read_dir(self.0.join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.retain(|path| path.extension().is_some_and(|end| end == "aot"));
        entries
    }

    /// Whether the module's machine code came from the cache in this folder.
    fn is_cached(&self, bytes: &[u8]) -> bool {
        let cache = Cache::at(&self.0.join("cache"));
        let artifact = Artifact::with_cache("test", bytes, Some(&cache)).expect("a module");
        artifact.instance().expect("an instance");
        artifact.loading().cached
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn machine_code_is_kept_and_used() {
    let folder = Scratch::new("kept");
    let bytes = Wat::default().component();
    assert!(!folder.is_cached(&bytes));
    assert!(folder.is_cached(&bytes));
    assert!(!folder.is_cached(&Wat::step("nop").component()), "another module");
    assert_eq!(folder.entries().len(), 2);
    let mode = |path: PathBuf| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder.0.join("cache")), 0o700);
    assert_eq!(mode(folder.0.join("cache/key")), 0o600);
    assert_eq!(mode(folder.entries().remove(0)), 0o600);
}

#[test]
fn entries_that_were_touched_are_ignored_and_replaced() {
    let folder = Scratch::new("touched");
    let bytes = Wat::default().component();
    assert!(!folder.is_cached(&bytes));
    let entry = folder.entries().remove(0);
    let sound = fs::read(&entry).unwrap();
    let spoil: [&dyn Fn(); 5] = [
        &|| fs::write(&entry, &sound[..sound.len() / 2]).unwrap(),
        &|| fs::write(&entry, b"").unwrap(),
        &|| {
            let mut flipped = sound.clone();
            let at = flipped.len() / 2;
            flipped[at] ^= 1;
            fs::write(&entry, flipped).unwrap();
        },
        &|| fs::set_permissions(&entry, fs::Permissions::from_mode(0o644)).unwrap(),
        &|| {
            let aside = folder.0.join("aside");
            fs::copy(&entry, &aside).unwrap();
            fs::remove_file(&entry).unwrap();
            symlink(&aside, &entry).unwrap();
        },
    ];
    for (number, spoil) in spoil.iter().enumerate() {
        spoil();
        assert!(!folder.is_cached(&bytes), "spoiled in way {number}");
        assert!(folder.is_cached(&bytes), "replaced after way {number}");
    }
    // The code of one module under the name of another.
    let other = Wat::step("nop").component();
    assert!(!folder.is_cached(&other));
    let [first, second] = <[PathBuf; 2]>::try_from(folder.entries()).unwrap();
    fs::copy(&first, &second).unwrap();
    assert_eq!([&bytes, &other].iter().filter(|bytes| folder.is_cached(bytes)).count(), 1);
    // Another key: nothing that was sealed with the old one counts.
    fs::write(folder.0.join("cache/key"), [7; 32]).unwrap();
    assert!(!folder.is_cached(&bytes));
    fs::write(folder.0.join("cache/key"), b"short").unwrap();
    assert!(!folder.is_cached(&bytes));
    assert!(folder.is_cached(&bytes));
}

#[test]
fn a_directory_that_others_can_reach_is_not_used() {
    let folder = Scratch::new("open");
    let bytes = Wat::default().component();
    let cache = folder.0.join("cache");
    fs::create_dir(&cache).unwrap();
    fs::set_permissions(&cache, fs::Permissions::from_mode(0o755)).unwrap();
    for _ in 0..2 {
        assert!(!folder.is_cached(&bytes));
    }
    fs::remove_dir_all(&cache).unwrap();
    let real = folder.0.join("real");
    fs::create_dir(&real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
    symlink(&real, &cache).unwrap();
    for _ in 0..2 {
        assert!(!folder.is_cached(&bytes));
    }
    assert_eq!(fs::read_dir(&real).unwrap().count(), 0);
}

#[test]
fn a_place_that_cannot_be_written_is_no_error() {
    let bytes = Wat::default().component();
    for place in ["/proc/bulkhead", "/dev/null/bulkhead"] {
        let cache = Cache::at(place.as_ref());
        let artifact = Artifact::with_cache("test", &bytes, Some(&cache)).expect("a module");
        assert!(!artifact.loading().cached);
    }
}

#[test]
fn the_cache_stays_within_its_bounds() {
    let folder = Scratch::new("bounds");
    for number in 0..Cache::ENTRIES + 3 {
        let step = format!("(drop (i32.const {number}))");
        assert!(!folder.is_cached(&Wat::step(step).component()));
    }
    assert_eq!(folder.entries().len(), Cache::ENTRIES);
}
