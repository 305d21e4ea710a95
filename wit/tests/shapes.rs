//! `bulkhead.wit`, `types.rs` and the byte encoding say the same: names, order and types of every field, case and flag.
//!
//! Rust cannot list a struct's fields at run time, so the sources are read as text. They are ours and formatted.

use std::collections::BTreeMap;

use wit_parser::abi::AbiVariant;
use wit_parser::{Docs, Function, InterfaceId, Resolve, SizeAlign, Type, TypeDef, TypeDefKind};

const TYPES: &str = concat!(
    include_str!("../src/types/mod.rs"),
    include_str!("../src/types/address.rs"),
    include_str!("../src/types/config.rs"),
    include_str!("../src/types/inputs.rs"),
    include_str!("../src/types/outputs.rs"),
);
const ENCODING: [&str; 4] = [
    include_str!("../src/encoding/wire.rs"),
    include_str!("../src/encoding/life.rs"),
    include_str!("../src/encoding/inputs.rs"),
    include_str!("../src/encoding/outputs.rs"),
];

/// Fields, cases or flags in order, each with its type (`()` where there is none).
type Shape = Vec<(String, String)>;

fn contract() -> (Resolve, InterfaceId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("bulkhead.wit", include_str!("../bulkhead.wit")).unwrap();
    let interface = resolve.packages[package].interfaces["protocol"];
    (resolve, interface)
}

fn pascal(name: &str) -> String {
    let parts = name.split('-').map(|part| part[..1].to_uppercase() + &part[1..]);
    parts.collect()
}

fn snake(name: &str) -> String {
    name.replace('-', "_")
}

/// A type as types.rs writes it.
fn rust_type(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::U8 => "u8".into(),
        Type::U16 => "u16".into(),
        Type::U32 => "u32".into(),
        Type::U64 => "u64".into(),
        Type::String => "String".into(),
        Type::Id(id) => {
            let def = &resolve.types[*id];
            match (&def.name, &def.kind) {
                (Some(name), _) => pascal(name),
                (None, TypeDefKind::List(element)) => format!("Vec<{}>", rust_type(resolve, element)),
                (None, TypeDefKind::Tuple(tuple)) => {
                    let types: Vec<_> = tuple.types.iter().map(|ty| rust_type(resolve, ty)).collect();
                    format!("({})", types.join(", "))
                }
                other => panic!("a type that the contract does not use: {other:?}"),
            }
        }
        other => panic!("a type that the contract does not use: {other:?}"),
    }
}

/// What types.rs should say of a type; nothing for an alias.
fn expected(resolve: &Resolve, def: &TypeDef) -> Option<Shape> {
    let none = || "()".to_owned();
    Some(match &def.kind {
        TypeDefKind::Record(record) => {
            record.fields.iter().map(|f| (snake(&f.name), rust_type(resolve, &f.ty))).collect()
        }
        TypeDefKind::Enum(cases) => cases.cases.iter().map(|case| (pascal(&case.name), none())).collect(),
        TypeDefKind::Flags(flags) => {
            let names = flags.flags.iter().map(|flag| snake(&flag.name).to_uppercase());
            names.enumerate().map(|(bit, name)| (name, (1_u32 << bit).to_string())).collect()
        }
        TypeDefKind::Variant(variant) => {
            let payload = |ty: &Option<Type>| ty.as_ref().map_or_else(none, |ty| rust_type(resolve, ty));
            variant.cases.iter().map(|case| (pascal(&case.name), payload(&case.ty))).collect()
        }
        TypeDefKind::Type(_) => return None,
        other => panic!("a kind that the contract does not use: {other:?}"),
    })
}

/// Every struct, enum and set of flags in types.rs.
fn written() -> BTreeMap<String, Shape> {
    let mut shapes: BTreeMap<String, Shape> = BTreeMap::new();
    let mut of = String::new();
    for line in TYPES.lines().map(str::trim) {
        if let Some(rest) = line.strip_prefix("pub struct ").or_else(|| line.strip_prefix("pub enum ")) {
            of = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
            shapes.insert(of.clone(), Shape::new());
        } else if let Some(rest) = line.strip_prefix("impl ") {
            // An `impl Trait for Type` has nothing of interest.
            of = rest.strip_suffix(" {").filter(|name| !name.contains(' ')).unwrap_or_default().to_owned();
        } else if let Some((name, value)) = constant(line) {
            shapes.entry(of.clone()).or_default().push((name.into(), value.into()));
        } else if let Some(entry) = field(line).or_else(|| case(line)) {
            shapes.entry(of.clone()).or_default().push(entry);
        }
    }
    shapes
}

/// `pub const PUSH: Self = Self(1);`
fn constant(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("pub const ")?.split_once(": Self = Self(")?;
    Some((name, value.strip_suffix(");")?))
}

/// `pub written: u64,`
fn field(line: &str) -> Option<(String, String)> {
    let (name, ty) = line.strip_prefix("pub ")?.strip_suffix(',')?.split_once(": ")?;
    name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_').then(|| (name.into(), ty.into()))
}

/// `Whole,` or `Listen(Listen),`
fn case(line: &str) -> Option<(String, String)> {
    let text = line.strip_suffix(',')?;
    let (name, payload) = text.split_once('(').unwrap_or((text, ")"));
    let is_name =
        name.starts_with(|c: char| c.is_ascii_uppercase()) && name.bytes().all(|b| b.is_ascii_alphanumeric());
    let payload = payload.strip_suffix(')')?;
    let payload = if text.contains('(') { payload.to_owned() } else { "()".to_owned() };
    is_name.then(|| (name.into(), payload))
}

#[test]
fn types_agree_with_the_wit() {
    let (resolve, interface) = contract();
    let written = written();
    for (name, id) in &resolve.interfaces[interface].types {
        let Some(shape) = expected(&resolve, &resolve.types[*id]) else { continue };
        let own = written.get(&pascal(name)).unwrap_or_else(|| panic!("types.rs has no {}", pascal(name)));
        assert_eq!(own, &shape, "{name}");
    }
    // The other way round: what types.rs has for itself (and nothing, for what is in no type).
    let own: Vec<&str> = written
        .keys()
        .map(String::as_str)
        .filter(|rust| !resolve.interfaces[interface].types.keys().any(|name| pascal(name) == *rust))
        .collect();
    assert_eq!(own, ["", "Batch", "Inputs"]);
}

#[test]
fn inputs_are_the_parameters_of_step() {
    let (resolve, interface) = contract();
    let step = &resolve.interfaces[interface].functions["step"];
    let parameters: Shape =
        step.params.iter().map(|p| (snake(&p.name), rust_type(&resolve, &p.ty))).collect();
    assert_eq!(written()["Batch"], parameters);
    // Through registers and not through memory: 16 are the most.
    assert_eq!(flat_parameters(&resolve, step), 13);
    assert_eq!(
        resolve.interfaces[interface].functions.keys().map(String::as_str).collect::<Vec<_>>(),
        ["describe", "start", "save", "load", "step"]
    );
}

fn flat_parameters(resolve: &Resolve, function: &Function) -> usize {
    let signature = resolve.wasm_signature(AbiVariant::GuestExport, function);
    assert!(!signature.indirect_params);
    signature.params.len()
}

#[test]
fn hot_records_have_the_sizes_that_were_designed() {
    let (resolve, interface) = contract();
    let mut sizes = SizeAlign::default();
    sizes.fill(&resolve);
    for (name, bytes) in [("segment", 20), ("position", 40), ("send", 32), ("place", 32), ("mark", 40)] {
        let id = resolve.interfaces[interface].types[name];
        assert_eq!(sizes.size(&Type::Id(id)).size_wasm32(), bytes, "{name}");
    }
}

#[test]
fn the_encoding_agrees_with_the_wit() {
    let (resolve, interface) = contract();
    let encoding = ENCODING.concat();
    for (name, id) in &resolve.interfaces[interface].types {
        let Some(shape) = expected(&resolve, &resolve.types[*id]) else { continue };
        let rust = pascal(name);
        let written: Shape = match &resolve.types[*id].kind {
            TypeDefKind::Record(_) => match block(&encoding, &format!("record!({rust} {{")) {
                Some(fields) => {
                    let pair = |one: &str| one.split_once(": ").map(|(a, b)| (a.to_owned(), b.to_owned()));
                    fields.split(',').filter_map(|one| pair(one.trim())).collect()
                }
                // With lists in it: written out, and compared below.
                None => by_hand(&rust, &encoding, &shape),
            },
            TypeDefKind::Flags(flags) => {
                let bits = (1_u32 << flags.flags.len()) - 1;
                let line =
                    encoding.lines().find(|line| line.starts_with(&format!("flags!({rust},"))).unwrap();
                let mask = line.rsplit_once("0b").unwrap().1.trim_end_matches(");").replace('_', "");
                assert_eq!(u32::from_str_radix(&mask, 2).unwrap(), bits, "{name}");
                continue;
            }
            _ => cases(&encoding, &rust),
        };
        let written: Vec<&String> = written.iter().map(|(name, _)| name).collect();
        let shape: Vec<&String> = shape.iter().map(|(name, _)| name).collect();
        assert_eq!(written, shape, "{name}");
    }
}

/// What stands between `begin` and the next closing brace.
fn block<'a>(text: &'a str, begin: &str) -> Option<&'a str> {
    let rest = &text[text.find(begin)? + begin.len()..];
    rest.split('}').next()
}

/// `tagged!(Call, "call", least ..., { 0 = Configure(Config), ... });`, whose numbers must be the positions.
fn cases(encoding: &str, rust: &str) -> Shape {
    let begin = format!("tagged!({rust}, ");
    let rest = block(encoding, &begin).unwrap_or_else(|| panic!("no encoding of {rust}"));
    let list = rest.split_once('{').unwrap().1;
    let mut shape = Shape::new();
    for one in list.split(',').map(str::trim).filter(|one| !one.is_empty()) {
        let (number, name) = one.split_once(" = ").unwrap();
        assert_eq!(number.parse(), Ok(shape.len()), "{rust}");
        shape.push((name.split('(').next().unwrap().to_owned(), String::new()));
    }
    shape
}

/// Fields in the order in which an `impl Wire for` writes them, or `encode_outputs` does.
fn by_hand(rust: &str, encoding: &str, shape: &Shape) -> Shape {
    let outer = include_str!("../src/encoding/mod.rs");
    let (text, begin, value) = if rust == "Outputs" {
        (outer, "pub fn encode_outputs".to_owned(), "outputs.")
    } else {
        (encoding, format!("impl Wire for {rust} {{"), "self.")
    };
    let rest = &text[text.find(&begin).unwrap_or_else(|| panic!("no encoding of {rust}"))..];
    let body = rest[rest.find("fn ").unwrap()..].split("\n    }").next().unwrap();
    let body = body.split("\n}").next().unwrap();
    // Where each field is first named.
    let mut places: Vec<(usize, &String)> = Vec::new();
    for (name, _) in shape {
        let mut from = 0;
        while let Some(at) = body[from..].find(&format!("{value}{name}")) {
            let end = from + at + value.len() + name.len();
            if !body[end..].starts_with(|c: char| c.is_alphanumeric() || c == '_') {
                places.push((from + at, name));
                break;
            }
            from = end;
        }
    }
    places.sort_unstable();
    places.into_iter().map(|(_, name)| (name.clone(), String::new())).collect()
}

#[test]
fn every_item_is_documented() {
    let (resolve, interface) = contract();
    let mut bare = Vec::new();
    let mut look = |what: String, docs: &Docs| {
        if docs.is_empty() {
            bare.push(what);
        }
    };
    for (name, id) in &resolve.interfaces[interface].types {
        let def = &resolve.types[*id];
        look(name.clone(), &def.docs);
        match &def.kind {
            TypeDefKind::Record(r) => {
                r.fields.iter().for_each(|f| look(format!("{name}.{}", f.name), &f.docs))
            }
            TypeDefKind::Enum(e) => e.cases.iter().for_each(|c| look(format!("{name}.{}", c.name), &c.docs)),
            TypeDefKind::Variant(v) => {
                v.cases.iter().for_each(|c| look(format!("{name}.{}", c.name), &c.docs))
            }
            TypeDefKind::Flags(f) => f.flags.iter().for_each(|f| look(format!("{name}.{}", f.name), &f.docs)),
            _ => {}
        }
    }
    for (_, interface) in &resolve.interfaces {
        look(interface.name.clone().unwrap_or_default(), &interface.docs);
        interface.functions.iter().for_each(|(name, function)| look(name.clone(), &function.docs));
    }
    for (_, world) in &resolve.worlds {
        look(world.name.clone(), &world.docs);
    }
    assert_eq!(bare, [""; 0]);
    // Any comment passes for documentation of what follows it, so there is no other kind.
    let lines = include_str!("../bulkhead.wit").lines().map(str::trim);
    assert_eq!(lines.filter(|line| line.contains("//") && !line.starts_with("///")).count(), 0);
}

#[test]
fn the_version_is_the_one_that_modules_are_linked_by() {
    let (resolve, interface) = contract();
    assert_eq!(resolve.id_of(interface).as_deref(), Some(bulkhead_wit::CONTRACT));
}
