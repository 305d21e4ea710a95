//! Wraps a core module into a component, and reads from both whether they keep the rules of their world.

use anyhow::{Context as _, bail};
use wasmparser::{Encoding, Parser, Payload, TypeRef};

/// What every module exports: the contract in its one version.
const PROTOCOL: &str = bulkhead_wit::CONTRACT;

/// What was read from a core module that kept the rules.
pub(super) struct Facts {
    /// Bytes of its one memory, now and always.
    pub(super) memory: u64,
    /// Bytes of its code.
    pub(super) code: usize,
}

/// Makes a component of a core module in which wit-bindgen has left its description of the world.
pub(super) fn wrap(core: &[u8]) -> anyhow::Result<Vec<u8>> {
    wit_component::ComponentEncoder::default().validate(true).module(core)?.encode()
}

/// Checks what the host relies on for recovery by copying, and for equal replays everywhere: one memory of a fixed size,
/// no state outside of it but the stack pointer, and no floating point.
///
/// # Errors
/// The rule that is broken, and where.
pub(super) fn examine_core(core: &[u8]) -> anyhow::Result<Facts> {
    let mut facts = Facts { memory: 0, code: 0 };
    let (mut memories, mut mutable, mut functions) = (0, 0, 0);
    for payload in Parser::new(0).parse_all(core) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    if matches!(import.ty, TypeRef::Memory(_) | TypeRef::Global(_) | TypeRef::Table(_)) {
                        bail!(
                            "imports {} {}: a module has all of its state in itself",
                            import.module,
                            import.name
                        );
                    }
                    functions += u32::from(matches!(import.ty, TypeRef::Func(_)));
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    let memory = memory?;
                    if memory.maximum != Some(memory.initial) {
                        bail!("its memory can grow from {} to {:?} pages", memory.initial, memory.maximum);
                    }
                    memories += 1;
                    facts.memory = memory.initial * 65_536;
                }
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    mutable += u32::from(global?.ty.mutable);
                }
            }
            Payload::CodeSectionStart { size, .. } => facts.code = size as usize,
            Payload::CodeSectionEntry(body) => {
                no_floating_point(&body).with_context(|| format!("function {functions}"))?;
                functions += 1;
            }
            _ => {}
        }
    }
    if memories != 1 {
        bail!("it has {memories} memories, not one");
    }
    if mutable > 1 {
        bail!("it has {mutable} mutable globals; only the stack pointer can be put back");
    }
    Ok(facts)
}

/// Rounding, and above all the bits of a NaN, may differ from machine to machine.
fn no_floating_point(body: &wasmparser::FunctionBody<'_>) -> anyhow::Result<()> {
    for operator in body.get_operators_reader()? {
        let text = format!("{:?}", operator?);
        let name = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        if name.contains("F32") || name.contains("F64") {
            bail!("{name} is floating point, which a module must not use");
        }
    }
    Ok(())
}

/// Checks that a component imports nothing but `allowed` and exports the contract; returns what it imports.
///
/// # Errors
/// The import that is not allowed, or what it exports instead.
pub(super) fn check_world(component: &[u8], allowed: &[&str]) -> anyhow::Result<Vec<String>> {
    let (mut depth, mut imports, mut exports) = (0, Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => bail!("it is a core module"),
            Payload::Version { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            // Sections of what is nested in it say nothing about the component itself.
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    exports.push(export?.name.name);
                }
            }
            _ => {}
        }
    }
    if let Some(name) = imports.iter().find(|name| !allowed.contains(&name.as_str())) {
        bail!("it imports {name}, which its world does not allow");
    }
    if exports != [PROTOCOL] {
        bail!("it exports {exports:?}, not {PROTOCOL} alone");
    }
    Ok(imports)
}

#[cfg(test)]
mod tests {
    use super::{check_world, examine_core};

    fn core(text: &str) -> String {
        let bytes = wat::parse_str(format!("(module {text})")).unwrap();
        examine_core(&bytes)
            .map_or_else(|error| format!("{error:#}"), |facts| format!("{} bytes", facts.memory))
    }

    #[test]
    fn a_core_keeps_its_state_where_it_can_be_put_back() {
        assert_eq!(core("(memory 2 2) (global (mut i32) (i32.const 0)) (func)"), "131072 bytes");
        assert!(core("(memory 2 3)").contains("can grow"));
        assert!(core("(memory 2)").contains("can grow"));
        assert!(core("").contains("0 memories"));
        let two = "(global (mut i32) (i32.const 0))";
        assert!(core(&format!("(memory 1 1) {two} {two}")).contains("2 mutable globals"));
        assert!(core(r#"(import "a" "b" (global i32)) (memory 1 1)"#).contains("imports a b"));
    }

    #[test]
    fn a_core_has_no_floating_point() {
        for code in ["f32.const 1 drop", "i32.const 1 f64.convert_i32_s drop", "i32.const 0 f64.load drop"] {
            assert!(core(&format!("(memory 1 1) (func {code})")).contains("floating point"), "{code}");
        }
        assert_eq!(core("(memory 1 1) (func i64.const 1 drop)"), "65536 bytes");
    }

    fn world(text: &str, allowed: &[&str]) -> String {
        let bytes = wat::parse_str(text).unwrap();
        check_world(&bytes, allowed).map_or_else(|error| error.to_string(), |imports| imports.join(" "))
    }

    #[test]
    fn a_component_imports_what_its_world_allows() {
        const EXPORT: &str = r#"(instance $i) (export "bulkhead:protocol/protocol@1.0.0" (instance $i))"#;
        const IMPORT: &str = r#"(import "bulkhead:protocol/payload@1.0.0" (instance))"#;
        const PAYLOAD: &str = "bulkhead:protocol/payload@1.0.0";
        assert_eq!(world(&format!("(component {EXPORT})"), &[]), "");
        let both = format!("(component {IMPORT} {EXPORT})");
        assert_eq!(world(&both, &[PAYLOAD]), PAYLOAD);
        assert!(world(&both, &[]).contains("does not allow"));
        assert!(world("(component)", &[]).contains("exports []"));
        assert!(world("(module)", &[]).contains("core module"));
        // What a nested component imports is not ours.
        assert_eq!(world(&format!("(component (component {IMPORT}) {EXPORT})"), &[]), "");
    }
}
