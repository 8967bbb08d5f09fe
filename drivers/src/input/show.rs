//! What `/proc/bus/input/devices`, `/sys/class/input` and uevents say of a device.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};

use base::{Result, model, tree};

use super::{DEVICES, Description, Device, Set, Variables, evdev};

/// The kinds of codes, with their names in sysfs and the letter of the alias.
const KINDS: [(&str, char, u16); 9] = [
    ("ev", ' ', 0),
    ("key", 'k', 1),
    ("rel", 'r', 2),
    ("abs", 'a', 3),
    ("msc", 'm', 4),
    ("led", 'l', 0x11),
    ("snd", 's', 0x12),
    ("ff", 'f', 0x15),
    ("sw", 'w', 5),
];

fn modalias(d: &Description) -> String {
    /// `KEY_MIN_INTERESTING`: typing keys say little.
    const FIRST_KEY: u16 = 0x71;
    let list = |s: Set, from: u16| {
        let all: Vec<_> = s.iter().filter(|&c| c >= from).map(|c| format!("{c:X},")).collect();
        all.concat()
    };
    let i = d.id;
    let head = format!("input:b{:04X}v{:04X}p{:04X}e{:04X}-", i.bus, i.vendor, i.product, i.version);
    let ev = format!("e{}", list(d.capabilities.types(), 0));
    KINDS[1..].iter().fold(head + &ev, |out, &(_, letter, kind)| {
        let codes = d.capabilities.of(kind).map_or(Set::new(), |c| c.0);
        out + &format!("{letter}{}", list(codes, if kind == 1 { FIRST_KEY } else { 0 }))
    })
}

/// The variables of its uevents.
pub(super) fn variables(d: &Description) -> Variables {
    let i = d.id;
    let mut all: Vec<(&'static str, String)> = alloc::vec![
        ("PRODUCT", format!("{:x}/{:x}/{:x}/{:x}", i.bus, i.vendor, i.product, i.version)),
        ("NAME", format!("\"{}\"", d.name)),
    ];
    if !d.phys.is_empty() {
        all.push(("PHYS", format!("\"{}\"", d.phys)));
    }
    all.push(("PROP", "0".into()));
    all.push(("EV", d.capabilities.types().text()));
    for (key, set) in [("KEY", d.capabilities.key), ("REL", d.capabilities.rel), ("MSC", d.capabilities.msc)]
    {
        if !set.is_empty() {
            all.push((key, set.text()));
        }
    }
    all.push(("MODALIAS", modalias(d)));
    Box::new(move |env: &mut model::Env| all.iter().for_each(|(k, v)| env.add(k, v.clone())))
}

/// Adds the attributes to a device's folder.
pub(super) fn attributes(dev: &Arc<Device>) -> Result<()> {
    let add =
        |name: &str, text: String| dev.object.attribute(name, 0o444, move |o| Ok(writeln!(o, "{text}")?));
    let d = &dev.about;
    add("name", d.name.clone())?;
    add("phys", d.phys.clone())?;
    add("uniq", String::new())?;
    add("modalias", modalias(d))?;
    add("properties", "0".into())?;
    let ids = [
        ("bustype", d.id.bus),
        ("vendor", d.id.vendor),
        ("product", d.id.product),
        ("version", d.id.version),
    ];
    for (name, v) in ids {
        add(&format!("id/{name}"), format!("{v:04x}"))?;
    }
    for (name, _, kind) in KINDS {
        let set = d.capabilities.of(kind).map_or(Set::new(), |c| c.0);
        add(&format!("capabilities/{name}"), set.text())?;
    }
    Ok(())
}

pub(super) fn init() -> Result<()> {
    tree::proc().file("bus/input/devices", 0o444, |o| {
        let all = DEVICES.lock().clone();
        for d in all {
            let (a, i) = (&d.about, d.about.id);
            writeln!(
                o,
                "I: Bus={:04x} Vendor={:04x} Product={:04x} Version={:04x}",
                i.bus, i.vendor, i.product, i.version
            )?;
            writeln!(
                o,
                "N: Name=\"{}\"\nP: Phys={}\nS: Sysfs=/{}\nU: Uniq=",
                a.name,
                a.phys,
                d.object.path()
            )?;
            writeln!(
                o,
                "H: Handlers=event{} \nB: PROP=0\nB: EV={}",
                d.number,
                a.capabilities.types().text()
            )?;
            for (name, set) in
                [("KEY", a.capabilities.key), ("REL", a.capabilities.rel), ("MSC", a.capabilities.msc)]
            {
                if !set.is_empty() {
                    writeln!(o, "B: {name}={}", set.text())?;
                }
            }
            writeln!(o)?;
        }
        Ok(())
    })?;
    tree::proc().file("bus/input/handlers", 0o444, |o| {
        Ok(writeln!(o, "N: Number=0 Name=evdev Minor={}", evdev::FIRST_MINOR)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Capabilities, Id};

    #[test]
    fn the_alias_of_a_power_button() {
        let d = Description {
            name: "Power Button".into(),
            phys: String::new(),
            id: Id { bus: 0x19, vendor: 0, product: 1, version: 0 },
            capabilities: Capabilities { key: Set::of([116]), ..Capabilities::NONE },
        };
        assert_eq!(modalias(&d), "input:b0019v0000p0001e0000-e0,1,k74,ramlsfw");
    }
}
