//! What a module of the second world imports: the [desk](crate::payload) as host functions.

use wasmtime::component::{Component, Linker, WasmList};
use wasmtime::{Error, Result, StoreContextMut};

use super::engine::Host;
use crate::fault::{Fault, Rule};

/// The interface by its full name.
const PAYLOAD: &str = "bulkhead:protocol/payload@1.0.0";

/// Whether a component imports anything: what it may import is payload access.
pub(super) fn is_imported(component: &Component) -> bool {
    component.component_type().imports(component.engine()).next().is_some()
}

/// Links `read` and `stage`. Outside of a step both are broken rules.
pub(super) fn link(linker: &mut Linker<Host>) -> Result<()> {
    let outside = || Error::new(Fault::broken(Rule::Payload, "asks for payload outside of a step"));
    let mut payload = linker.instance(PAYLOAD)?;
    payload.func_wrap(
        "read",
        move |mut store: StoreContextMut<'_, Host>, (source, of, at, length): (u8, u64, u64, u32)| {
            let desk = store.data_mut().desk.as_mut().ok_or_else(outside)?;
            desk.read(source, of, at, length).map(|bytes| (bytes,)).map_err(Error::new)
        },
    )?;
    payload.func_wrap("stage", move |mut store: StoreContextMut<'_, Host>, (bytes,): (WasmList<u8>,)| {
        // The bytes are the store's too, so the desk is taken out of it meanwhile.
        let mut desk = store.data_mut().desk.take().ok_or_else(outside)?;
        let staged = desk.stage(bytes.as_le_slice(&store));
        store.data_mut().desk = Some(desk);
        staged.map(|number| (number,)).map_err(Error::new)
    })
}
