//! Devices beside those that every VM has: of built-in drivers, and of plugins.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use confine::{ConfineError, PluginNeeds, PluginPath};
use device_model::NewDevice;
use device_model::net::{CountedBackend, NetCounters};
use machine::DeviceSpec;
use plugin_host::{
    CreateError, DeviceFailure, Driver, GuestAdditions, GuestFacts, Plugin, PluginDevice,
    PluginSet, SearchError, SearchPath, SetError,
};
use serde_json::{Map, Value};

/// The driver of network cards, whose option `backend` is the id of another device.
const CARD: &str = "virtio-net";
/// The guest's driver of cards.
const CARD_MODULE: &str = "virtio_net";
/// The option of [`CARD`] that is ours.
const BACKEND: &str = "backend";
/// Longest id of a device, in bytes.
const MAX_ID: usize = 64;
/// Drivers whose devices only a VM itself can make.
const OWN: [&str; 2] = ["serial", "virtio-vsock"];
/// Ids that a VM's own devices have, or begin with.
const TAKEN: [&str; 5] = ["console", "vsock", "layer", "volume", "root"];

/// Why there is no such device.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// No plugin of that name.
    #[error(transparent)]
    Search(#[from] SearchError),
    /// A plugin was refused, or there is no such driver.
    #[error(transparent)]
    Set(#[from] SetError),
    /// A plugin needs what no thread of a VM may do.
    #[error("plugin {plugin}")]
    Needs {
        /// The plugin's name.
        plugin: String,
        /// What it asks for.
        source: ConfineError,
    },
    /// The VM has become another one.
    #[error("the devices were made for a VM of {vcpus} vCPUs and {memory} bytes of RAM")]
    OtherSize {
        /// Theirs.
        vcpus: u8,
        /// Theirs, in bytes.
        memory: u64,
    },
    /// A driver of which each VM has its device.
    #[error("every VM has its own {driver}, and no other")]
    OwnDriver {
        /// The driver.
        driver: String,
    },
    /// An id that cannot be one.
    #[error("device id {id:?}: use 1 to {MAX_ID} letters, digits, . _ and -")]
    BadId {
        /// As given.
        id: String,
    },
    /// An id of two devices.
    #[error("two devices have the id {id:?}: give each one of its own with id=")]
    IdTwice {
        /// The id.
        id: String,
    },
    /// An id of the VM's own devices.
    #[error("the VM's own devices have ids such as {id:?}: take another")]
    IdTaken {
        /// As given.
        id: String,
    },
    /// A card whose backend is no network backend.
    #[error("device {id:?}: its {BACKEND} {backend:?} is no network backend; there is {there}")]
    NoBackend {
        /// The card.
        id: String,
        /// The option's value.
        backend: String,
        /// Ids of network backends.
        there: String,
    },
    /// A card without a backend.
    #[error("device {id:?}: a {CARD} needs {BACKEND}=ID, the id of a network backend")]
    NeedsBackend {
        /// The card.
        id: String,
    },
    /// Two cards with one backend.
    #[error("two cards have the {BACKEND} {backend:?}: make one for each")]
    BackendTwice {
        /// Its id.
        backend: String,
    },
    /// The plugin's driver did not make it.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The plugin's device failed.
    #[error(transparent)]
    Failed(#[from] DeviceFailure),
}

/// A driver's options.
pub enum DeviceOptions {
    /// As a configuration file has them.
    Typed(Map<String, Value>),
    /// As a command line has them: what each is, the driver knows. One that comes
    /// again is a list.
    Text(Vec<(String, String)>),
}

/// Devices of one VM. Those of plugins exist from when they are added, so that what
/// they open is open before this process is confined.
pub struct Devices {
    facts: GuestFacts,
    plugins: PluginSet,
    ids: HashSet<String>,
    /// In the order of their adding, which is that of the guest's names for them.
    added: Vec<Added>,
    needs: PluginNeeds,
    /// Names of plugins of which a device was made.
    used: HashSet<String>,
}

enum Added {
    BuiltIn(DeviceSpec),
    OfPlugin(PluginDevice),
}

impl Added {
    fn is_card(&self) -> bool {
        matches!(self, Added::BuiltIn(spec) if spec.driver == CARD)
    }
}

impl Devices {
    /// None yet, for a VM of `vcpus` and `memory` bytes.
    pub fn new(vcpus: u8, memory: u64) -> Self {
        Devices {
            facts: GuestFacts { vcpus, memory },
            plugins: PluginSet::new(machine::drivers().filter(|name| !OWN.contains(name))),
            ids: HashSet::new(),
            added: Vec::new(),
            needs: PluginNeeds::default(),
            used: HashSet::new(),
        }
    }

    /// Loads a plugin by its name, or by its path when there is a `/` in it. One
    /// that is there already stays as it is.
    pub fn load(&mut self, plugin: &str) -> Result<(), DeviceError> {
        let path = SearchPath::from_environment().find(plugin)?;
        if !self.has(&path) {
            self.plugins.add(&path)?;
        }
        Ok(())
    }

    fn has(&self, path: &Path) -> bool {
        let same = |known: &Path| path.canonicalize().is_ok_and(|path| path == known);
        self.plugins
            .plugins()
            .iter()
            .any(|plugin| same(&plugin.path))
    }

    /// Whether there is such a driver.
    pub fn knows(&self, driver: &str) -> bool {
        self.plugins.driver(driver).is_ok()
    }

    /// Adds a device of `driver`, or the first `{driver}{number}` that is free for
    /// its id. A plugin's device is made now. One that is a network backend gets a
    /// card of its id, unless a `virtio-net` names it.
    pub fn add(
        &mut self,
        driver: &str,
        id: Option<&str>,
        options: DeviceOptions,
    ) -> Result<(), DeviceError> {
        let id = match id {
            Some(id) => self.check_id(id)?.to_owned(),
            None => self.free_id(driver),
        };
        if OWN.contains(&driver) {
            let driver = driver.to_owned();
            return Err(DeviceError::OwnDriver { driver });
        }
        match self.plugins.driver(driver)? {
            None => self.added.push(Added::BuiltIn(DeviceSpec {
                id: id.clone(),
                driver: driver.to_owned(),
                options: Value::Object(options.untyped()),
                attachment: None,
            })),
            Some((plugin, driver)) => {
                let (plugin, driver) = (Arc::clone(plugin), driver.clone());
                self.allow(&plugin)?;
                let options = Value::Object(options.for_driver(&driver));
                let device = PluginDevice::create(&plugin, &driver, &id, &options, self.facts)?;
                self.added.push(Added::OfPlugin(device));
            }
        }
        self.ids.insert(id);
        Ok(())
    }

    fn check_id<'i>(&self, id: &'i str) -> Result<&'i str, DeviceError> {
        let sound = |letter: u8| letter.is_ascii_alphanumeric() || b"._-".contains(&letter);
        if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(sound) {
            return Err(DeviceError::BadId { id: id.to_owned() });
        }
        if is_taken(id) {
            return Err(DeviceError::IdTaken { id: id.to_owned() });
        }
        if self.ids.contains(id) {
            return Err(DeviceError::IdTwice { id: id.to_owned() });
        }
        Ok(id)
    }

    fn free_id(&self, driver: &str) -> String {
        (0..)
            .map(|number| format!("{driver}{number}"))
            .find(|id| !self.ids.contains(id) && !is_taken(id))
            .expect("there are more numbers than devices")
    }

    /// What `plugin` declares becomes allowed.
    fn allow(&mut self, plugin: &Plugin) -> Result<(), DeviceError> {
        if !self.used.insert(plugin.name.clone()) {
            return Ok(());
        }
        for call in &plugin.syscalls {
            self.needs
                .add_call(call)
                .map_err(|source| DeviceError::Needs {
                    plugin: plugin.name.clone(),
                    source,
                })?;
        }
        for needed in &plugin.paths {
            self.needs.add_path(PluginPath {
                path: needed.path.clone(),
                read: needed.read,
                write: needed.write,
                execute: needed.execute,
            });
        }
        Ok(())
    }

    /// What the threads of the VM, and who starts them, must be allowed to do.
    pub fn needs(&self) -> &PluginNeeds {
        &self.needs
    }

    pub(crate) fn check_size(&self, vcpus: u8, memory: u64) -> Result<(), DeviceError> {
        let made_for = self.facts;
        if (vcpus, memory) == (made_for.vcpus, made_for.memory) {
            return Ok(());
        }
        Err(DeviceError::OtherSize {
            vcpus: made_for.vcpus,
            memory: made_for.memory,
        })
    }

    fn of_plugins(&self) -> impl Iterator<Item = &PluginDevice> {
        self.added.iter().filter_map(|added| match added {
            Added::OfPlugin(device) => Some(device),
            Added::BuiltIn(_) => None,
        })
    }

    /// The kernel module that the guest needs for cards, if it has any.
    pub(crate) fn card_module(&self) -> Option<&'static str> {
        let cards = self.of_plugins().any(PluginDevice::is_net_backend);
        cards.then_some(CARD_MODULE)
    }

    /// Every device is there: what those of plugins want of the guest.
    pub(crate) fn before_boot(&self) -> Result<GuestAdditions, DeviceError> {
        let mut all = GuestAdditions::default();
        for device in self.of_plugins() {
            let wanted = device.before_boot()?;
            all.env.extend(wanted.env);
            all.modules.extend(wanted.modules);
            all.layers.extend(wanted.layers);
            all.mounts.extend(wanted.mounts);
        }
        Ok(all)
    }

    /// The devices as the machine takes them. A card is where its backend was added,
    /// whoever described it.
    pub(crate) fn finish(self) -> Result<Finished, DeviceError> {
        let devices: Vec<PluginDevice> = self.of_plugins().cloned().collect();
        let mut finished = Finished::default();
        let (cards, others): (Vec<_>, Vec<_>) = self.added.into_iter().partition(Added::is_card);
        let mut described: HashMap<String, DeviceSpec> = HashMap::new();
        for card in cards {
            if let Added::BuiltIn(mut spec) = card {
                let backend = backend_of(&mut spec, &devices)?;
                if described.contains_key(&backend) {
                    return Err(DeviceError::BackendTwice { backend });
                }
                described.insert(backend, spec);
            }
        }
        for added in others {
            match added {
                Added::BuiltIn(spec) => finished.specs.push(spec),
                Added::OfPlugin(device) if !device.is_net_backend() => {
                    finished.made.push(device.into_new_device()?);
                }
                Added::OfPlugin(device) => {
                    let spec = described.remove(device.id());
                    let mut spec = spec.unwrap_or_else(|| DeviceSpec {
                        id: device.id().to_owned(),
                        driver: CARD.into(),
                        options: Value::Null,
                        attachment: None,
                    });
                    let backend = device.net_backend().expect("it is one")?;
                    let counters = Arc::new(NetCounters::default());
                    finished.cards.push(Arc::clone(&counters));
                    spec.attachment = Some(Box::new(CountedBackend { backend, counters }));
                    finished.specs.push(spec);
                }
            }
        }
        finished.plugins = PluginDevices(devices);
        Ok(finished)
    }
}

/// Whether a device of the VM's own may have this id.
fn is_taken(id: &str) -> bool {
    let number = |rest: &str| rest.bytes().all(|letter| letter.is_ascii_digit());
    let own = |taken: &&str| id.strip_prefix(*taken).is_some_and(number);
    TAKEN.iter().any(own)
}

/// Takes the option out of a card's that names its backend.
fn backend_of(spec: &mut DeviceSpec, devices: &[PluginDevice]) -> Result<String, DeviceError> {
    let id = spec.id.clone();
    let options = spec.options.as_object_mut();
    let named = options.and_then(|options| options.remove(BACKEND));
    let Some(Value::String(backend)) = named else {
        return Err(DeviceError::NeedsBackend { id });
    };
    let backends = devices.iter().filter(|device| device.is_net_backend());
    let ids: Vec<_> = backends.map(PluginDevice::id).collect();
    if ids.contains(&backend.as_str()) {
        return Ok(backend);
    }
    let there = match ids.as_slice() {
        [] => "none".into(),
        ids => ids.join(", "),
    };
    Err(DeviceError::NoBackend { id, backend, there })
}

/// What [`Devices`] come to; the machine's are in the order of their adding.
#[derive(Default)]
pub(crate) struct Finished {
    pub(crate) specs: Vec<DeviceSpec>,
    pub(crate) made: Vec<NewDevice>,
    /// Where the cards' frontends count.
    pub(crate) cards: Vec<Arc<NetCounters>>,
    pub(crate) plugins: PluginDevices,
}

/// The devices of plugins around the life of their VM.
#[derive(Default)]
pub(crate) struct PluginDevices(Vec<PluginDevice>);

impl PluginDevices {
    pub(crate) fn agent_ready(&self) -> Result<(), DeviceFailure> {
        self.0.iter().try_for_each(PluginDevice::agent_ready)
    }

    pub(crate) fn join_network(&self, network: &Value) -> Result<(), DeviceFailure> {
        self.0
            .iter()
            .try_for_each(|device| device.join_network(network))
    }

    /// Tells them once, at the latest when this is dropped.
    pub(crate) fn before_stop(&mut self) {
        for device in self.0.drain(..) {
            device.before_stop();
        }
    }
}

impl Drop for PluginDevices {
    fn drop(&mut self) {
        self.before_stop();
    }
}

impl DeviceOptions {
    /// For a driver that reads numbers out of text by itself.
    fn untyped(self) -> Map<String, Value> {
        match self {
            DeviceOptions::Typed(map) => map,
            DeviceOptions::Text(pairs) => by_key(pairs)
                .into_iter()
                .map(|(key, mut texts)| {
                    let value = match texts.len() {
                        1 => Value::from(texts.remove(0)),
                        _ => Value::from(texts),
                    };
                    (key, value)
                })
                .collect(),
        }
    }

    /// For a plugin's driver, whose schema says what each is.
    fn for_driver(self, driver: &Driver) -> Map<String, Value> {
        match (self, &driver.schema) {
            (DeviceOptions::Text(pairs), Some(schema)) => by_key(pairs)
                .into_iter()
                .map(|(key, texts)| {
                    let value = schema.value(&key, &texts);
                    (key, value)
                })
                .collect(),
            (options, _) => options.untyped(),
        }
    }
}

/// The texts of each key, in the order of their first.
fn by_key(pairs: Vec<(String, String)>) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (key, text) in pairs {
        match found.iter_mut().find(|(known, _)| *known == key) {
            Some((_, texts)) => texts.push(text),
            None => found.push((key, vec![text])),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices() -> Devices {
        Devices::new(1, 512 << 20)
    }

    fn text(pairs: &[(&str, &str)]) -> DeviceOptions {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        DeviceOptions::Text(pairs.collect())
    }

    #[test]
    fn built_in_device_keeps_its_options_and_gets_an_id() {
        let mut devices = devices();
        devices
            .add(
                "virtio-blk",
                None,
                text(&[("path", "/d"), ("x", "1"), ("x", "2")]),
            )
            .unwrap();
        devices.add("virtio-blk", Some("data"), text(&[])).unwrap();
        let specs = devices.finish().unwrap().specs;
        let ids: Vec<_> = specs.iter().map(|spec| &*spec.id).collect();
        assert_eq!(ids, ["virtio-blk0", "data"]);
        assert_eq!(
            specs[0].options,
            serde_json::json!({ "path": "/d", "x": ["1", "2"] })
        );
    }

    #[test]
    fn what_cannot_be_a_device_is_refused_with_the_reason() {
        let mut devices = devices();
        devices.add("virtio-blk", Some("a"), text(&[])).unwrap();
        for (driver, id, word) in [
            ("virtio-blk", "a", "two devices have the id \"a\""),
            ("virtio-blk", "a b", "letters, digits"),
            ("virtio-blk", "", "letters, digits"),
            ("virtio-blk", "layer7", "take another"),
            ("virtio-blk", "root", "take another"),
            ("virtio-blc", "b", "did you mean \"virtio-blk\"?"),
            ("gpu", "b", "the drivers are"),
            ("gpu", "b", "needs --plugin"),
            ("serial", "b", "its own serial"),
        ] {
            let error = devices.add(driver, Some(id), text(&[])).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(devices.add("virtio-blk", Some("layers"), text(&[])).is_ok());
        let error = devices.load("no-such-plugin").unwrap_err().to_string();
        assert!(error.contains("libshem_no_such_plugin.so"), "{error}");
    }

    #[test]
    fn card_needs_a_backend_that_is_there() {
        for (options, word) in [
            (text(&[]), "needs backend=ID"),
            (text(&[("backend", "tap0")]), "there is none"),
        ] {
            let mut devices = devices();
            devices.add(CARD, Some("eth0"), options).unwrap();
            let error = devices.finish().err().unwrap().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
