//! Buses: where devices and drivers find each other.

use alloc::{format, string::String, sync::Arc, vec::Vec};

use frame::{
    atomic::{AtomicBool, Ordering},
    sync::{LockClass, Mutex, once::Once},
};

use super::{Device, relative};
use crate::{
    errno::{Errno, Result},
    tree,
    uevent::{self, Action},
};

/// Drives devices of one bus. All functions run in task context.
pub trait Driver: Send + Sync {
    fn name(&self) -> &str;
    /// True if it can drive the device.
    fn matches(&self, dev: &Device) -> bool;
    /// Takes the device over. An error leaves it free for other drivers; ENODEV and ENXIO say that it was not meant.
    fn probe(&self, dev: &Arc<Device>) -> Result<()>;
    /// Lets it go; the device must be quiet afterwards.
    fn remove(&self, dev: &Arc<Device>);
}

/// Who drives a device.
pub(super) struct Bound {
    pub(super) driver: Option<Arc<dyn Driver>>,
    /// It is being taken away: no driver may have it any more.
    gone: bool,
}

/// A bus: a `static` of the crate that has it, with the lock class under which its devices are bound. A bus whose devices are
/// made by drivers of another bus has a class of its own, so that the order between them is checked.
pub struct Bus {
    name: &'static str,
    system: bool,
    bind_class: &'static LockClass,
    lists: Mutex<Lists>,
    entries: Once<()>,
    autoprobe: AtomicBool,
}

struct Lists {
    devices: Vec<Arc<Device>>,
    drivers: Vec<Arc<dyn Driver>>,
}

static LISTS: LockClass = LockClass::new("bus_lists");

impl Bus {
    pub const fn new(name: &'static str, bind_class: &'static LockClass) -> Bus {
        Bus::with_home(name, bind_class, false)
    }
    /// A bus of the machine's own parts: its devices stand in `devices/system/NAME`.
    pub const fn system(name: &'static str, bind_class: &'static LockClass) -> Bus {
        Bus::with_home(name, bind_class, true)
    }
    const fn with_home(name: &'static str, bind_class: &'static LockClass, system: bool) -> Bus {
        Bus {
            name,
            system,
            bind_class,
            lists: Mutex::new(&LISTS, Lists { devices: Vec::new(), drivers: Vec::new() }),
            entries: Once::new(),
            autoprobe: AtomicBool::new(true),
        }
    }
    pub fn name(&self) -> &'static str {
        self.name
    }
    /// Its devices stand in `devices/system`.
    pub(super) fn is_system(&self) -> bool {
        self.system
    }
    /// Makes the bus's folder. Before its first device or driver.
    pub fn register(&'static self) -> Result<()> {
        let (t, home) = (tree::sys(), format!("bus/{}", self.name));
        t.dir(&format!("{home}/devices"))?;
        t.dir(&format!("{home}/drivers"))?;
        t.knob(
            &format!("{home}/drivers_autoprobe"),
            0o644,
            |o| Ok(writeln!(o, "{}", u8::from(self.autoprobe.load(Ordering::Relaxed)))?),
            |b| {
                self.autoprobe.store(b.first() != Some(&b'0'), Ordering::Relaxed);
                Ok(())
            },
        )?;
        t.trigger(&format!("{home}/drivers_probe"), 0o200, |b| {
            let dev = self.find(b)?;
            self.look_for_driver(&dev);
            Ok(())
        })?;
        self.entries.call_once(|| ());
        let _ = uevent::emit(Action::Add, &format!("/{home}"), "bus", &[]);
        Ok(())
    }

    /// Its devices, in the order in which they came.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        self.lists.lock().devices.clone()
    }

    /// The device that what was written to a knob names. ENODEV.
    fn find(&self, written: &[u8]) -> Result<Arc<Device>> {
        let name = core::str::from_utf8(written).map_err(|_| Errno::ENODEV)?.trim_end_matches('\n');
        self.lists.lock().devices.iter().find(|d| d.name() == name).cloned().ok_or(Errno::ENODEV)
    }

    fn bound<'a>(&self, dev: &'a Device) -> &'a Mutex<Bound> {
        dev.bound.call_once(|| Mutex::new(self.bind_class, Bound { driver: None, gone: false }))
    }

    pub(super) fn arrive(&'static self, dev: &Arc<Device>) {
        debug_assert!(self.entries.get().is_some(), "the bus {} is not registered", self.name);
        self.lists.lock().devices.push(dev.clone());
        if self.autoprobe.load(Ordering::Relaxed) {
            self.look_for_driver(dev);
        }
    }
    pub(super) fn leave(&self, dev: &Arc<Device>) {
        // Whoever found it in the list before may still try to bind it.
        self.bound(dev).lock().gone = true;
        self.unbind(dev);
        self.lists.lock().devices.retain(|d| !Arc::ptr_eq(d, dev));
    }

    fn look_for_driver(&self, dev: &Arc<Device>) {
        let drivers = self.lists.lock().drivers.clone();
        for d in drivers {
            if d.matches(dev) && self.bind(dev, &d).is_ok() {
                return;
            }
        }
    }

    /// Adds a driver and gives it the devices that it can drive. EBUSY if one of that name is there.
    pub fn add_driver(&'static self, driver: Arc<dyn Driver>) -> Result<()> {
        {
            let mut l = self.lists.lock();
            if l.drivers.iter().any(|d| d.name() == driver.name()) {
                return Err(Errno::EBUSY);
            }
            l.drivers.push(driver.clone());
        }
        let home = self.driver_home(&*driver);
        let t = tree::sys();
        t.dir(&home)?;
        let me = Arc::downgrade(&driver);
        t.trigger(&format!("{home}/bind"), 0o200, move |b| {
            let driver = me.upgrade().ok_or(Errno::ENODEV)?;
            let dev = self.find(b)?;
            if driver.matches(&dev) { self.bind(&dev, &driver) } else { Err(Errno::ENODEV) }
        })?;
        let me = Arc::downgrade(&driver);
        t.trigger(&format!("{home}/unbind"), 0o200, move |b| {
            let driver = me.upgrade().ok_or(Errno::ENODEV)?;
            let dev = self.find(b)?;
            if dev.driver_name().as_deref() != Some(driver.name()) {
                return Err(Errno::ENODEV);
            }
            self.unbind(&dev);
            Ok(())
        })?;
        let _ = uevent::emit(Action::Add, &format!("/{home}"), "drivers", &[]);
        if self.autoprobe.load(Ordering::Relaxed) {
            for dev in self.devices().iter().filter(|d| driver.matches(d)) {
                // Why it failed was said where it failed; the device waits for another driver.
                let _ = self.bind(dev, &driver);
            }
        }
        Ok(())
    }

    fn driver_home(&self, d: &dyn Driver) -> String {
        format!("bus/{}/drivers/{}", self.name, d.name())
    }

    fn bind(&self, dev: &Arc<Device>, driver: &Arc<dyn Driver>) -> Result<()> {
        {
            let mut b = self.bound(dev).lock();
            if b.gone {
                return Err(Errno::ENODEV);
            }
            if b.driver.is_some() {
                return Err(Errno::EBUSY);
            }
            if let Err(e) = driver.probe(dev) {
                if e != Errno::ENODEV && e != Errno::ENXIO {
                    crate::pr_warn!("{} {}: probe failed: {e}", driver.name(), dev.name());
                }
                return Err(e);
            }
            b.driver = Some(driver.clone());
            let home = self.driver_home(&**driver);
            let at = format!("{home}/{}", dev.name());
            // Without memory for the links the device still works.
            let _ = dev.link_to("driver", &home);
            let _ = tree::sys().link(&at, &relative(&at, dev.path()));
        }
        dev.tell(Action::Bind);
        Ok(())
    }

    fn unbind(&self, dev: &Arc<Device>) {
        {
            let mut b = self.bound(dev).lock();
            let Some(driver) = b.driver.take() else { return };
            driver.remove(dev);
            dev.unlink("driver");
            tree::sys().remove(&format!("{}/{}", self.driver_home(&*driver), dev.name()));
        }
        dev.tell(Action::Unbind);
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Spec, Subsystem},
        *,
    };

    static BIND: LockClass = LockClass::new("test_bus");
    static BUS: Bus = Bus::new("testbus", &BIND);

    struct Only(&'static str);
    impl Driver for Only {
        fn name(&self) -> &str {
            "only"
        }
        fn matches(&self, dev: &Device) -> bool {
            dev.name() == self.0
        }
        fn probe(&self, dev: &Arc<Device>) -> Result<()> {
            dev.attribute("probed", 0o444, |o| Ok(writeln!(o, "1")?))
        }
        fn remove(&self, dev: &Arc<Device>) {
            dev.unlink("probed");
        }
    }

    fn read(p: &str) -> Result<String> {
        Ok(String::from_utf8(tree::sys().find(p)?.read()?).unwrap())
    }

    #[test]
    fn devices_and_drivers_find_each_other_in_either_order() {
        BUS.register().unwrap();
        let root = Device::new(Spec {
            name: "testroot".into(),
            parent: None,
            subsystem: Subsystem::None,
            variables: None,
            data: None,
        })
        .unwrap();
        let make = |name: &str| {
            let d = Device::new(Spec {
                name: name.into(),
                parent: Some(root.clone()),
                subsystem: Subsystem::Bus(&BUS),
                variables: Some(alloc::boxed::Box::new(|e| e.add("MODALIAS", "test:1"))),
                data: Some(Arc::new(7u32)),
            })
            .unwrap();
            d.announce();
            d
        };
        let (a, b) = (make("a"), make("b"));
        assert_eq!(*a.data::<u32>().unwrap(), 7);
        BUS.add_driver(Arc::new(Only("b"))).unwrap();
        assert_eq!((a.driver_name(), b.driver_name()), (None, Some("only".into())));
        assert_eq!(read("devices/testroot/b/uevent").unwrap(), "DRIVER=only\nMODALIAS=test:1\n");
        let t = tree::sys();
        assert_eq!(
            t.find("devices/testroot/b/driver").unwrap().target().unwrap(),
            "../../../bus/testbus/drivers/only"
        );
        assert_eq!(
            t.find("bus/testbus/drivers/only/b").unwrap().target().unwrap(),
            "../../../../devices/testroot/b"
        );
        assert_eq!(t.find("bus/testbus/devices/a").unwrap().target().unwrap(), "../../../devices/testroot/a");
        t.find("bus/testbus/drivers/only/unbind").unwrap().write(b"b\n").unwrap();
        assert!(read("devices/testroot/b/probed").is_err());
        assert_eq!(t.find("bus/testbus/drivers/only/bind").unwrap().write(b"a\n"), Err(Errno::ENODEV));
        t.find("bus/testbus/drivers/only/bind").unwrap().write(b"b\n").unwrap();
        assert_eq!(read("devices/testroot/b/probed").unwrap(), "1\n");
        b.remove();
        assert_eq!(
            BUS.bind(&b, &BUS.lists.lock().drivers[0].clone()),
            Err(Errno::ENODEV),
            "a device that has gone"
        );
        assert!(t.find("devices/testroot/b").is_err() && t.find("bus/testbus/drivers/only/b").is_err());
        make("b");
        assert_eq!(read("devices/testroot/b/probed").unwrap(), "1\n");
        assert_eq!(t.find("devices/testroot/a/uevent").unwrap().write(b"nonsense"), Err(Errno::EINVAL));
        t.find("devices/testroot/a/uevent").unwrap().write(b"change\n").unwrap();
    }
}
