//! The fixed power button: `LNXPWRBN` on the bus `acpi`, an input device with `KEY_POWER`.

use alloc::{boxed::Box, sync::Arc};

use base::{
    Errno, Result,
    model::{self, Bus, Spec, Subsystem},
};
use frame::sync::{LockClass, Mutex};

use crate::input::{self, Capabilities, Description, Id, Set, code};

static BIND: LockClass = LockClass::new("acpi_bind");
static BUS: Bus = Bus::new("acpi", &BIND);

/// Linux's names for what has none of its own.
const SYSTEM: &str = "LNXSYSTM";
const BUTTON: &str = "LNXPWRBN";

fn device(hid: &'static str, parent: Option<Arc<model::Device>>) -> Result<Arc<model::Device>> {
    let alias = alloc::format!("acpi:{hid}:");
    let shown = alias.clone();
    let dev = model::Device::new(Spec {
        name: alloc::format!("{hid}:00"),
        parent,
        subsystem: Subsystem::Bus(&BUS),
        variables: Some(Box::new(move |e| e.add("MODALIAS", alias.clone()))),
        data: None,
    })?;
    dev.attribute("hid", 0o444, move |o| Ok(writeln!(o, "{hid}")?))?;
    dev.attribute("modalias", 0o444, move |o| Ok(writeln!(o, "{shown}")?))?;
    dev.announce();
    Ok(dev)
}

/// The button, while its driver is bound.
pub(super) struct Button(Mutex<Option<Arc<input::Device>>>);

static CLASS: LockClass = LockClass::new("acpi_button");

impl Button {
    /// Reports one press.
    pub(super) fn press(&self) {
        let dev = self.0.lock().clone();
        if let Some(d) = dev {
            d.press(code::KEY_POWER);
        }
    }
}

/// `button`.
struct Driver(Arc<Button>);
impl model::Driver for Driver {
    fn name(&self) -> &str {
        "button"
    }
    fn matches(&self, dev: &model::Device) -> bool {
        dev.name().starts_with(BUTTON)
    }
    fn probe(&self, dev: &Arc<model::Device>) -> Result<()> {
        let about = Description {
            name: "Power Button".into(),
            phys: alloc::format!("{BUTTON}/button/input0"),
            id: Id { bus: code::BUS_HOST, vendor: 0, product: 1, version: 0 },
            capabilities: Capabilities { key: Set::of([code::KEY_POWER]), ..Capabilities::NONE },
        };
        let input = input::register(about, dev)?;
        base::pr_info!("ACPI: button: Power Button [PWRF]");
        match self.0.0.lock().replace(input) {
            None => Ok(()),
            // One fixed button exists.
            Some(_) => Err(Errno::EBUSY),
        }
    }
    fn remove(&self, _dev: &Arc<model::Device>) {
        let gone = self.0.0.lock().take();
        if let Some(d) = gone {
            input::unregister(&d);
        }
    }
}

/// Makes the devices and binds the driver.
pub(super) fn register() -> Result<Arc<Button>> {
    BUS.register()?;
    let root = device(SYSTEM, None)?;
    device(BUTTON, Some(root))?;
    let button = Arc::new(Button(Mutex::new(&CLASS, None)));
    BUS.add_driver(Arc::new(Driver(button.clone())))?;
    Ok(button)
}
