//! A shared library becomes a [`Plugin`], or is refused with the reason.

// UNSAFETY: dlopen, and what a library says of itself is read through pointers.
#![expect(unsafe_code, reason = "loads libraries and reads their entries")]

use std::ffi::{CStr, CString, c_void};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use plugin_abi::{ABI_MAJOR, ABI_MINOR, ENTRY_SYMBOL, Entry, SizeError, Str, read_sized};
use serde_json::Value;

use crate::elf::{self, NotALibrary};
use crate::schema::{Schema, SchemaError};

/// Longest name of a plugin, a driver or a system call, in bytes.
const MAX_NAME: usize = 64;
/// Longest version, summary, path or property, in bytes.
const MAX_TEXT: usize = 4096;
/// Longest schema, in bytes.
const MAX_SCHEMA: usize = 1 << 20;
/// Most drivers, system calls, paths or properties of a plugin.
const MAX_LIST: usize = 1024;
/// Mode bits by which others than the owner may write.
const OTHERS_WRITE: u32 = 0o022;
/// Mode bit of a folder in which only owners remove and rename.
const STICKY: u32 = 0o1000;

/// Why a file is not loaded as a plugin. The text is complete but for the path.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be had.
    #[error("read the file")]
    Read(#[source] io::Error),
    /// Another kind of file.
    #[error("it is no regular file")]
    NotAFile,
    /// Somebody else than root could make root run what he likes.
    #[error("{} can be changed by others than root and this is root: chown root and chmod go-w it", path.display())]
    WritableByOthers {
        /// The file or its folder.
        path: PathBuf,
    },
    /// No shared library for this machine.
    #[error(transparent)]
    NotALibrary(#[from] NotALibrary),
    /// The loader refused: a library or a symbol that it needs is missing.
    #[error("load it: {said}")]
    Open {
        /// What the loader said.
        said: String,
    },
    /// A library, but no plugin.
    #[error("it is no plugin: it does not export {}", ENTRY_SYMBOL.to_string_lossy())]
    NoEntry,
    /// Built with another major number of the ABI.
    #[error(
        "it is built for version {found} of the plugin ABI and this host has version {ABI_MAJOR}: build it anew"
    )]
    OtherMajor {
        /// Its number.
        found: u16,
    },
    /// A struct that no version had.
    #[error(
        "struct_size of its {what} is {found}, at least {least} is needed: it is not built with the ABI's headers"
    )]
    ShortStruct {
        /// Which struct.
        what: String,
        /// As found.
        found: u32,
        /// In bytes.
        least: usize,
    },
    /// A struct that no version will have.
    #[error(
        "struct_size of its {what} is {found}, at most {} is believed: it is not built with the ABI's headers",
        plugin_abi::MAX_STRUCT_SIZE
    )]
    HugeStruct {
        /// Which struct.
        what: String,
        /// As found.
        found: u32,
    },
    /// A pointer to nothing.
    #[error("its {what} is NULL")]
    Null {
        /// What is missing.
        what: String,
    },
    /// A list or text longer than any.
    #[error("its {what} is {found} long, at most {most} is believed")]
    TooLong {
        /// What it is.
        what: String,
        /// In bytes or elements.
        found: usize,
        /// The limit.
        most: usize,
    },
    /// A text that is not one.
    #[error("its {what} is not UTF-8")]
    NotUtf8 {
        /// What it is.
        what: String,
    },
    /// A name that could not be asked for.
    #[error("its {what} is {found:?}, allowed are letters, digits and -")]
    BadName {
        /// What it is.
        what: String,
        /// As found.
        found: String,
    },
    /// It makes no device.
    #[error("it has no driver")]
    NoDriver,
    /// It has two drivers of one name.
    #[error("it has two drivers named {name:?}")]
    TwiceTheDriver {
        /// The name.
        name: String,
    },
    /// A path that means something else wherever one stands.
    #[error("its needed path {path:?} is not absolute")]
    RelativePath {
        /// As found.
        path: String,
    },
    /// A property whose value is not JSON.
    #[error("its offer property {name:?} has a value that is no JSON")]
    BadProperty {
        /// Its name.
        name: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// A schema that cannot be checked.
    #[error("the configuration schema of its driver {driver:?}")]
    Schema {
        /// The driver.
        driver: String,
        /// Where it is wrong.
        source: SchemaError,
    },
}

/// A library that is loaded, and what it says of itself. It stays in the process
/// whatever becomes of this.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file, without links in its path.
    pub path: PathBuf,
    /// Its name.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// What it is, in a line.
    pub summary: String,
    /// Major and minor number of the ABI that it is built with.
    pub abi: (u16, u16),
    /// Size of its entry, as it says.
    pub entry_size: u32,
    /// Names of system calls that it makes while the guest runs.
    pub syscalls: Vec<String>,
    /// What it opens.
    pub paths: Vec<NeededPath>,
    /// What a provider that has it offers.
    pub offer_properties: Vec<OfferProperty>,
    /// What it can make, at least one.
    pub drivers: Vec<Driver>,
}

/// A path that a plugin opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeededPath {
    /// Absolute.
    pub path: PathBuf,
    /// Reads it.
    pub read: bool,
    /// Changes it.
    pub write: bool,
    /// Runs it.
    pub execute: bool,
}

/// A property of a Golem offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferProperty {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Value,
}

/// A kind of device.
#[derive(Clone, Debug)]
pub struct Driver {
    /// What a configuration asks for.
    pub name: String,
    /// What it is, in a line.
    pub summary: String,
    /// What its configuration must be; `None`: it checks by itself.
    pub schema: Option<Schema>,
    pub(crate) create: Create,
}

pub(crate) type Create =
    unsafe extern "C" fn(*const plugin_abi::Host, Str, Str, *mut *mut plugin_abi::Device) -> i32;

impl Plugin {
    /// Loads the library at `path`, which runs its initialisers, and reads what it
    /// declares, which runs nothing.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let path = path.canonicalize().map_err(LoadError::Read)?;
        let file = File::open(&path).map_err(LoadError::Read)?;
        if !file.metadata().map_err(LoadError::Read)?.is_file() {
            return Err(LoadError::NotAFile);
        }
        if nix::unistd::geteuid().is_root() {
            only_one_writes(&path, 0)?;
        }
        elf::check(&file).map_err(LoadError::Read)??;
        let entry = open(&path)?;
        read(entry, path)
    }
}

/// Whoever can change the file, or put another in its place, decides what root
/// runs: nobody but user `one` may.
fn only_one_writes(path: &Path, one: u32) -> Result<(), LoadError> {
    let folder = path.parent().unwrap_or(path);
    for checked in [path, folder] {
        let found = checked.metadata().map_err(LoadError::Read)?;
        let shared = checked == folder && found.mode() & STICKY != 0;
        if found.uid() != one || (found.mode() & OTHERS_WRITE != 0 && !shared) {
            return Err(LoadError::WritableByOthers {
                path: checked.to_owned(),
            });
        }
    }
    Ok(())
}

/// Maps the library, for good, and finds its entry.
fn open(path: &Path) -> Result<*const Entry, LoadError> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|error| LoadError::Read(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    // All symbols now, so that a missing one is found here; none for others; and
    // never away, even if the library is closed by somebody.
    let flags = libc::RTLD_NOW | libc::RTLD_LOCAL | libc::RTLD_NODELETE;
    // SAFETY: a terminated path. Its initialisers are trusted as the plugin is.
    let library = unsafe { libc::dlopen(name.as_ptr(), flags) };
    if library.is_null() {
        return Err(LoadError::Open {
            said: loader_said(),
        });
    }
    // SAFETY: a library that is open, and a terminated name.
    let entry: *mut c_void = unsafe { libc::dlsym(library, ENTRY_SYMBOL.as_ptr()) };
    if entry.is_null() {
        return Err(LoadError::NoEntry);
    }
    Ok(entry.cast_const().cast())
}

fn loader_said() -> String {
    // SAFETY: has no preconditions; the text is this thread's until its next call.
    let said = unsafe { libc::dlerror() };
    if said.is_null() {
        return "the loader does not say why".into();
    }
    // SAFETY: not null, and terminated.
    unsafe { CStr::from_ptr(said) }
        .to_string_lossy()
        .into_owned()
}

/// Reads a library's statics. They are trusted to be what they say, and checked for
/// what a wrong build or a slip makes of them.
fn read(entry: *const Entry, path: PathBuf) -> Result<Plugin, LoadError> {
    // The first fields are the same in each major number.
    let major = entry.wrapping_byte_add(std::mem::offset_of!(Entry, abi_major));
    // SAFETY: the object of this name begins with them.
    let abi_major = unsafe { major.cast::<u16>().read_unaligned() };
    if abi_major != ABI_MAJOR {
        return Err(LoadError::OtherMajor { found: abi_major });
    }
    // SAFETY: a static of the library, of this major number.
    let entry = unsafe { read_sized(entry) }.map_err(|error| size("entry", error))?;
    let drivers = list(entry.drivers, entry.driver_count, "list of drivers")?;
    let mut plugin = Plugin {
        path,
        name: name(entry.name, "name")?,
        version: text(entry.version, "version", MAX_TEXT)?,
        summary: text(entry.summary, "summary", MAX_TEXT)?,
        abi: (entry.abi_major, entry.abi_minor),
        entry_size: entry.struct_size,
        syscalls: list(entry.syscalls, entry.syscall_count, "list of system calls")?
            .iter()
            .map(|call| text(*call, "system call", MAX_NAME))
            .collect::<Result<_, _>>()?,
        paths: list(entry.paths, entry.path_count, "list of paths")?
            .iter()
            .map(needed_path)
            .collect::<Result<_, _>>()?,
        offer_properties: list(
            entry.offer_properties,
            entry.offer_property_count,
            "list of offer properties",
        )?
        .iter()
        .map(offer_property)
        .collect::<Result<_, _>>()?,
        drivers: Vec::new(),
    };
    if drivers.is_empty() {
        return Err(LoadError::NoDriver);
    }
    for (index, pointer) in drivers.iter().enumerate() {
        let driver = driver(*pointer, index)?;
        if plugin.drivers.iter().any(|known| known.name == driver.name) {
            return Err(LoadError::TwiceTheDriver { name: driver.name });
        }
        plugin.drivers.push(driver);
    }
    if entry.abi_minor > ABI_MINOR {
        log::debug!(
            "plugin {} is built with a newer minor version of the ABI, {}.{}",
            plugin.name,
            entry.abi_major,
            entry.abi_minor
        );
    }
    Ok(plugin)
}

fn driver(pointer: *const plugin_abi::Driver, index: usize) -> Result<Driver, LoadError> {
    let what = format!("driver {index}");
    // SAFETY: a static of the library, or null.
    let driver = unsafe { read_sized(pointer) }.map_err(|error| size(&what, error))?;
    let name = name(driver.name, "driver's name")?;
    let schema = text(driver.config_schema, "configuration schema", MAX_SCHEMA)?;
    let schema = match schema.as_str() {
        "" => None,
        text => Some(Schema::parse(text).map_err(|source| LoadError::Schema {
            driver: name.clone(),
            source,
        })?),
    };
    let create = driver.create.ok_or_else(|| LoadError::Null {
        what: format!("create of driver {name:?}"),
    })?;
    Ok(Driver {
        summary: text(driver.summary, "driver's summary", MAX_TEXT)?,
        name,
        schema,
        create,
    })
}

fn needed_path(path: &plugin_abi::Path) -> Result<NeededPath, LoadError> {
    let name = text(path.path, "needed path", MAX_TEXT)?;
    if !name.starts_with('/') {
        return Err(LoadError::RelativePath { path: name });
    }
    Ok(NeededPath {
        path: name.into(),
        read: path.access & plugin_abi::PATH_READ != 0,
        write: path.access & plugin_abi::PATH_WRITE != 0,
        execute: path.access & plugin_abi::PATH_EXECUTE != 0,
    })
}

fn offer_property(property: &plugin_abi::Property) -> Result<OfferProperty, LoadError> {
    let name = text(property.name, "offer property's name", MAX_TEXT)?;
    let value = text(property.value, "offer property's value", MAX_TEXT)?;
    match serde_json::from_str(&value) {
        Ok(value) => Ok(OfferProperty { name, value }),
        Err(source) => Err(LoadError::BadProperty { name, source }),
    }
}

fn size(what: &str, error: SizeError) -> LoadError {
    let what = what.to_owned();
    match error {
        SizeError::Null => LoadError::Null { what },
        // Whatever it points at begins with no size.
        SizeError::Unaligned => LoadError::ShortStruct {
            what,
            found: 0,
            least: size_of::<u32>(),
        },
        SizeError::Short { found, least } => LoadError::ShortStruct { what, found, least },
        SizeError::Huge { found } => LoadError::HugeStruct { what, found },
    }
}

fn list<T>(data: *const T, count: usize, what: &str) -> Result<&'static [T], LoadError> {
    if count == 0 {
        return Ok(&[]);
    }
    if count > MAX_LIST {
        return Err(LoadError::TooLong {
            what: what.into(),
            found: count,
            most: MAX_LIST,
        });
    }
    if data.is_null() || !data.is_aligned() {
        return Err(LoadError::Null { what: what.into() });
    }
    // SAFETY: not null, aligned, and a static array of the library, which is never
    // unloaded, of as many elements as it says.
    Ok(unsafe { std::slice::from_raw_parts(data, count) })
}

fn text(str: Str, what: &str, most: usize) -> Result<String, LoadError> {
    let what = || what.to_owned();
    if str.len > most {
        return Err(LoadError::TooLong {
            what: what(),
            found: str.len,
            most,
        });
    }
    // SAFETY: a static of the library, which is never unloaded.
    let bytes = unsafe { str.bytes(most) }.ok_or_else(|| LoadError::Null { what: what() })?;
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(LoadError::NotUtf8 { what: what() }),
    }
}

fn name(str: Str, what: &str) -> Result<String, LoadError> {
    let found = text(str, what, MAX_NAME)?;
    let sound = |letter: u8| letter.is_ascii_alphanumeric() || letter == b'-';
    if found.is_empty() || !found.bytes().all(sound) {
        return Err(LoadError::BadName {
            what: what.to_owned(),
            found,
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_that_others_can_change_or_replace_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("plugin.so");
        fs::write(&file, "").unwrap();
        let me = nix::unistd::geteuid().as_raw();
        for (folder_mode, file_mode, one, culprit) in [
            (0o700, 0o644, me, None),
            (0o755, 0o755, me, None),
            (0o1777, 0o644, me, None),
            (0o700, 0o664, me, Some(&*file)),
            (0o700, 0o646, me, Some(&*file)),
            (0o777, 0o644, me, Some(folder.path())),
            (0o700, 0o644, me + 1, Some(&*file)),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(file_mode)).unwrap();
            fs::set_permissions(&folder, Permissions::from_mode(folder_mode)).unwrap();
            let found = match only_one_writes(&file, one) {
                Ok(()) => None,
                Err(LoadError::WritableByOthers { path }) => Some(path),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found.as_deref(), culprit, "{folder_mode:o} {file_mode:o}");
        }
    }
}
