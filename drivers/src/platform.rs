//! The platform bus: devices that nothing finds, because a table or the command line names them (`/sys/bus/platform`).

use alloc::sync::Arc;
use core::any::Any;

use base::{
    Result,
    model::{Bus, Device, Spec, Subsystem},
};
use frame::sync::{LockClass, once::Once};

static BIND: LockClass = LockClass::new("platform_bind");
/// The bus `platform`.
pub static BUS: Bus = Bus::new("platform", &BIND);
static ROOT: Once<Arc<Device>> = Once::new();

/// Makes the bus and `/sys/devices/platform`.
pub fn init() -> Result<()> {
    BUS.register()?;
    let root = Device::new(Spec {
        name: "platform".into(),
        parent: None,
        subsystem: Subsystem::None,
        variables: None,
        data: None,
    })?;
    ROOT.call_once(|| root);
    Ok(())
}

/// Makes a device; the caller adds attributes and announces it.
pub fn add(name: &str, data: Option<Arc<dyn Any + Send + Sync>>) -> Result<Arc<Device>> {
    let alias = alloc::format!("platform:{name}");
    Device::new(Spec {
        name: name.into(),
        parent: ROOT.get().cloned(),
        subsystem: Subsystem::Bus(&BUS),
        variables: Some(alloc::boxed::Box::new(move |e| e.add("MODALIAS", alias.clone()))),
        data,
    })
}
