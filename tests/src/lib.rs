//! What end-to-end tests share: kernels, images, the `shem` program and VMs of
//! the library, all as `cargo xtask test` has made them.
//!
//! Tests wait for events and never sleep; a guest that hangs is ended by the
//! limits that VMs and commands are started with.

mod exe_unit;
mod folder;
mod host;
mod image;
mod layout;
mod namespace;
mod outside;
mod peer;
mod program;
mod registry;
mod tree;
mod unprivileged;

use std::env;
use std::path::{Path, PathBuf};
use std::time::Duration;

use shem::{Command, Event, ExitStatus, Image, KernelPack, Process, Store, Vm, VmBuilder};

pub use exe_unit::{Activity, Answer, Call, Heard, Message, Runtime, bytes, number, text};
pub use folder::Folder;
pub use host::{HostSum, Resources};
pub use image::{build_image, image_of_programs};
pub use layout::Layout;
pub use namespace::{in_own_network, ip};
pub use outside::{way_out, web_server};
pub use peer::{ECHO, Peer, PeerSocket, free_port};
pub use program::{Outcome, Shem};
pub use registry::{PASSWORD, RegistryServer, USER};
pub use tree::{Entry, assert_same_tree, tree};
pub use unprivileged::Unprivileged;

/// Longest time for one command or boot. Guests in an emulated machine are
/// slow when the tests beside them are busy.
pub const LIMIT: Duration = Duration::from_secs(180);

/// Runs each test once with each kernel pack, as `stock::name` and `tuned::name`.
#[macro_export]
macro_rules! with_each_kernel {
    ($($name:ident),+ $(,)?) => {
        mod stock {
            $(#[test] fn $name() { super::$name("stock"); })+
        }
        mod tuned {
            $(#[test] fn $name() { super::$name("tuned"); })+
        }
    };
}

/// A kernel pack by name.
pub fn kernel(name: &str) -> KernelPack {
    Store::discover()
        .kernel(Some(name))
        .expect("`cargo xtask test` has made both packs")
}

/// The demo image: a busybox with the users `root` and `user`.
pub fn demo_image() -> PathBuf {
    variable("SHEM_DEMO_IMAGE")
}

/// The program `ya-runtime-shem`.
pub fn runtime() -> PathBuf {
    variable("SHEM_RUNTIME")
}

/// The image of real programs, which the long run has.
pub fn debian_image() -> PathBuf {
    variable("SHEM_DEBIAN_IMAGE")
}

/// The folder of `posix-suite` and `fs-exerciser`, built to run in any guest.
pub fn guest_programs() -> PathBuf {
    variable("SHEM_GUEST_PROGRAMS")
}

/// The Debian package.
pub fn package() -> PathBuf {
    variable("SHEM_PACKAGE")
}

/// A folder with Debian's essential packages, and dpkg's list of them.
pub fn debian_root() -> PathBuf {
    variable("SHEM_DEBIAN_ROOT")
}

/// The folder of plugins that were made by `shem plugin new`.
pub fn newcomer() -> PathBuf {
    variable("SHEM_NEWCOMER")
}

/// Whether this is the long run, with more of everything.
pub fn long() -> bool {
    env::var_os("SHEM_TEST_LONG").is_some()
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name)
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("{name} is not set: run the tests by `cargo xtask test`"))
}

/// A VM of the demo image on the tuned kernel, ready to be changed and booted.
pub fn vm() -> VmBuilder {
    vm_of(&demo_image())
}

/// A VM of `image` on the tuned kernel, ready to be changed and booted.
pub fn vm_of(image: &Path) -> VmBuilder {
    builder("tuned").layer(Image::open(image).expect("the image is whole"))
}

/// A VM on a kernel pack, still without an image.
pub fn builder(kernel_name: &str) -> VmBuilder {
    let init = Store::discover()
        .guest_init()
        .expect("`cargo xtask test` has built it");
    Vm::builder(kernel(kernel_name), init).boot_timeout(LIMIT)
}

/// What a command wrote to stdout; it has to exit with 0.
pub fn output(vm: &Vm, argv: &[&str]) -> String {
    let (stdout, status) = run(vm, &Command::new(argv));
    assert_eq!(status, ExitStatus::Code(0), "{argv:?} said {stdout:?}");
    stdout
}

/// What a command wrote to stdout and stderr, and how it ended.
pub fn run(vm: &Vm, command: &Command) -> (String, ExitStatus) {
    let process = vm
        .exec(command)
        .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    collect(process)
}

/// What is left of a process's output, and how it ended.
pub fn collect(mut process: Process) -> (String, ExitStatus) {
    let mut text = Vec::new();
    loop {
        match process.next_event().expect("the VM lives") {
            Event::Stdout(bytes) | Event::Stderr(bytes) => text.extend(bytes),
            Event::Exit(exit) => return (String::from_utf8_lossy(&text).into_owned(), exit.status),
        }
    }
}
