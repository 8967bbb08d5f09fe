//! One device: its folder, attributes, links and uevents.

use alloc::{boxed::Box, format, string::String, sync::Arc, vec::Vec};
use core::any::Any;

use frame::sync::{Mutex, once::Once};

use super::{Bus, bus::Bound, relative, synthetic::Synthetic};
use crate::{
    errno::{Errno, Result},
    tree::{self, Out},
    uevent::{self, Action},
};

/// What a device belongs to.
#[derive(Clone, Copy)]
pub enum Subsystem {
    Bus(&'static Bus),
    Class(&'static str),
    /// Neither: the root of a bus, such as `pci0000:00`. Such a device sends no uevents.
    None,
}

impl Subsystem {
    fn name(self) -> &'static str {
        match self {
            Subsystem::Bus(b) => b.name(),
            Subsystem::Class(c) => c,
            Subsystem::None => "",
        }
    }
    /// Its folder in sysfs.
    fn folder(self) -> Option<String> {
        match self {
            Subsystem::Bus(b) => Some(format!("bus/{}", b.name())),
            Subsystem::Class(c) => Some(format!("class/{c}")),
            Subsystem::None => None,
        }
    }
    /// Where links to its devices stand.
    fn devices(self) -> Option<String> {
        match self {
            Subsystem::Bus(b) => Some(format!("bus/{}/devices", b.name())),
            Subsystem::Class(c) => Some(format!("class/{c}")),
            Subsystem::None => None,
        }
    }
}

/// The variables of a uevent, in order.
#[derive(Default)]
pub struct Env(Vec<(&'static str, String)>);

impl Env {
    /// Appends a variable.
    pub fn add(&mut self, key: &'static str, value: impl Into<String>) {
        self.0.push((key, value.into()));
    }
}

type Variables = Box<dyn Fn(&mut Env) + Send + Sync>;

/// What a device is made from.
pub struct Spec {
    pub name: String,
    pub parent: Option<Arc<Device>>,
    pub subsystem: Subsystem,
    /// Further variables of its uevents (`MAJOR`, `MODALIAS` …).
    pub variables: Option<Variables>,
    /// What drivers know it by: the bus's own structure.
    pub data: Option<Arc<dyn Any + Send + Sync>>,
}

/// A device.
pub struct Device {
    name: String,
    /// Its folder, relative to `/sys`.
    path: String,
    parent: Option<Arc<Device>>,
    subsystem: Subsystem,
    variables: Option<Variables>,
    data: Option<Arc<dyn Any + Send + Sync>>,
    /// Who drives it. The lock is held while a driver is bound or unbound.
    pub(super) bound: Once<Mutex<Bound>>,
}

fn folder_of(spec: &Spec) -> String {
    let name = spec.name.replace('/', "!");
    match (&spec.parent, spec.subsystem) {
        (None, Subsystem::Class(c)) => format!("devices/virtual/{c}/{name}"),
        (None, Subsystem::Bus(b)) if b.is_system() => format!("devices/system/{}/{name}", b.name()),
        (None, _) => format!("devices/{name}"),
        (Some(p), Subsystem::Class(c)) if !matches!(p.subsystem, Subsystem::Class(_)) => {
            format!("{}/{c}/{name}", p.path)
        }
        (Some(p), _) => format!("{}/{name}", p.path),
    }
}

impl Device {
    /// Makes a device and its folder. User space is not told and no driver looked for until [`Device::announce`], so that the
    /// caller can add attributes before. EEXIST.
    pub fn new(spec: Spec) -> Result<Arc<Device>> {
        let path = folder_of(&spec);
        if tree::sys().find(&path).is_ok() {
            return Err(Errno::EEXIST);
        }
        let Spec { name, parent, subsystem, variables, data } = spec;
        let dev = Arc::new(Device {
            name: name.replace('/', "!"),
            path,
            parent,
            subsystem,
            variables,
            data,
            bound: Once::new(),
        });
        if let Err(e) = dev.make_entries() {
            dev.remove_entries();
            return Err(e);
        }
        Ok(dev)
    }

    fn make_entries(self: &Arc<Self>) -> Result<()> {
        let t = tree::sys();
        t.dir(&self.path)?;
        let (shown, told) = (Arc::downgrade(self), Arc::downgrade(self));
        t.knob(
            &format!("{}/uevent", self.path),
            0o644,
            move |o| shown.upgrade().ok_or(Errno::ENODEV)?.show_variables(o),
            move |b| told.upgrade().ok_or(Errno::ENODEV)?.synthesize(b),
        )?;
        if let Some(folder) = self.subsystem.folder() {
            self.link_to("subsystem", &folder)?;
        }
        if let (Some(p), Subsystem::Class(_)) = (&self.parent, self.subsystem) {
            self.link_to("device", &p.path)?;
        }
        if let Some(d) = self.subsystem.devices() {
            let at = format!("{d}/{}", self.name);
            t.link(&at, &relative(&at, &self.path))?;
        }
        Ok(())
    }

    fn remove_entries(&self) {
        let t = tree::sys();
        if let Some(d) = self.subsystem.devices() {
            t.remove(&format!("{d}/{}", self.name));
        }
        t.remove(&self.path);
        // The folder with the class's name goes with its last device.
        if let (Some(p), Subsystem::Class(c)) = (&self.parent, self.subsystem) {
            let glue = format!("{}/{c}", p.path);
            if self.path.starts_with(&format!("{glue}/"))
                && t.find(&glue).and_then(|n| n.list()).is_ok_and(|l| l.is_empty())
            {
                t.remove(&glue);
            }
        }
    }

    /// Tells user space, and looks for a driver.
    pub fn announce(self: &Arc<Self>) {
        self.tell(Action::Add);
        if let Subsystem::Bus(b) = self.subsystem {
            b.arrive(self);
        }
    }

    /// Takes it away: its driver is unbound first. Its children must be gone.
    pub fn remove(self: &Arc<Self>) {
        if let Subsystem::Bus(b) = self.subsystem {
            b.leave(self);
        }
        self.tell(Action::Remove);
        self.remove_entries();
    }

    /// Takes one away that was never announced.
    pub fn discard(&self) {
        self.remove_entries();
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    /// Its folder, relative to `/sys`.
    pub fn path(&self) -> &str {
        &self.path
    }
    pub fn parent(&self) -> Option<&Arc<Device>> {
        self.parent.as_ref()
    }
    pub fn subsystem(&self) -> Subsystem {
        self.subsystem
    }
    /// The bus's own structure, if it is a `T`.
    pub fn data<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.data.clone()?.downcast().ok()
    }
    /// The name of its driver.
    pub fn driver_name(&self) -> Option<String> {
        // Shown from a probe function too, which holds the lock: then there is none yet.
        let bound = self.bound.get()?.try_lock()?;
        bound.driver.as_ref().map(|d| d.name().into())
    }

    /// Adds a file to its folder.
    pub fn attribute(
        &self,
        name: &str,
        mode: u32,
        show: impl Fn(&mut Out) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        tree::sys().file(&format!("{}/{name}", self.path), mode, show)
    }
    /// Adds a file that can be written to its folder.
    pub fn knob(
        &self,
        name: &str,
        mode: u32,
        show: impl Fn(&mut Out) -> Result<()> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Result<()> {
        tree::sys().knob(&format!("{}/{name}", self.path), mode, show, store)
    }
    /// Adds a link to another folder of sysfs to its own.
    pub fn link_to(&self, name: &str, target: &str) -> Result<()> {
        let at = format!("{}/{name}", self.path);
        tree::sys().link(&at, &relative(&at, target))
    }
    pub(super) fn unlink(&self, name: &str) {
        tree::sys().remove(&format!("{}/{name}", self.path));
    }

    fn env(&self) -> Env {
        let mut env = Env::default();
        if let Some(d) = self.driver_name() {
            env.add("DRIVER", d);
        }
        if let Some(f) = &self.variables {
            f(&mut env);
        }
        env
    }
    fn show_variables(&self, o: &mut Out) -> Result<()> {
        self.env().0.iter().try_for_each(|(k, v)| Ok(writeln!(o, "{k}={v}")?))
    }

    /// Sends a uevent. One that cannot be sent is lost, as on Linux.
    pub fn tell(&self, action: Action) {
        let _ = self.send(action, &[]);
    }
    fn send(&self, action: Action, first: &[(&str, &str)]) -> Result<()> {
        if matches!(self.subsystem, Subsystem::None) {
            return Ok(());
        }
        let env = self.env();
        let mut all: Vec<(&str, &str)> = first.into();
        all.extend(env.0.iter().map(|(k, v)| (*k, v.as_str())));
        uevent::emit(action, &format!("/{}", self.path), self.subsystem.name(), &all)
    }
    /// What is written to `uevent`: an action, and perhaps a UUID and variables.
    fn synthesize(&self, bytes: &[u8]) -> Result<()> {
        let s = Synthetic::parse(bytes)?;
        let mut first = alloc::vec![("SYNTH_UUID", s.uuid)];
        first.extend(s.variables.iter().map(|(k, v)| (k.as_str(), *v)));
        self.send(s.action, &first)
    }
}
