//! The plugin's one exported object.

/// Makes the crate a plugin, named and numbered as the package.
///
/// First come, in this order, `summary` and as needed `syscalls`, `paths` (with
/// `read`, `write` or `execute` summed up from `PATH_*` of [`crate::abi`]) and
/// `offer` (values are JSON); then the drivers: a name and the type of
/// [`Device`](crate::Device), with `virtio` or `net` before it if it is one.
///
/// ```text
/// export_plugin! {
///     summary: "Networks",
///     syscalls: ["sendmsg", "recvmsg"],
///     paths: ["/dev/net/tun" => abi::PATH_READ | abi::PATH_WRITE],
///     offer: ["golem.inf.net.example" => "true"],
///     "net-example" => net Example,
///     "rng" => virtio Entropy,
///     "hello" => Hello,
/// }
/// ```
#[macro_export]
macro_rules! export_plugin {
    (
        summary: $summary:literal,
        $(syscalls: [$($syscall:literal),* $(,)?],)?
        $(paths: [$($path:literal => $access:expr),* $(,)?],)?
        $(offer: [$($property:literal => $value:literal),* $(,)?],)?
        $($name:literal => $($word:ident)+),+ $(,)?
    ) => {
        /// What the host reads.
        #[allow(unsafe_code, non_upper_case_globals, reason = "the ABI's one symbol")]
        // SAFETY: the name of the ABI's symbol, and of its type.
        #[unsafe(no_mangle)]
        pub static shem_plugin_entry: $crate::abi::Entry = {
            const SYSCALLS: &[$crate::abi::Str] = &[$($($crate::abi::Str::new($syscall)),*)?];
            const PATHS: &[$crate::abi::Path] = &[$($($crate::abi::Path {
                path: $crate::abi::Str::new($path),
                access: $access,
                reserved: 0,
            }),*)?];
            const OFFER: &[$crate::abi::Property] = &[$($($crate::abi::Property {
                name: $crate::abi::Str::new($property),
                value: $crate::abi::Str::new($value),
            }),*)?];
            const DRIVERS: &[*const $crate::abi::Driver] =
                &[$(&$crate::export_plugin!(@driver $summary, $name, $($word)+)),+];
            $crate::abi::Entry {
                name: $crate::abi::Str::new(env!("CARGO_PKG_NAME")),
                version: $crate::abi::Str::new(env!("CARGO_PKG_VERSION")),
                summary: $crate::abi::Str::new($summary),
                syscalls: SYSCALLS.as_ptr(),
                syscall_count: SYSCALLS.len(),
                paths: PATHS.as_ptr(),
                path_count: PATHS.len(),
                offer_properties: OFFER.as_ptr(),
                offer_property_count: OFFER.len(),
                drivers: DRIVERS.as_ptr(),
                driver_count: DRIVERS.len(),
                ..$crate::abi::Entry::EMPTY
            }
        };
    };
    (@driver $summary:literal, $name:literal, virtio $device:ident) => {
        $crate::shim::driver::<$device, $crate::shim::Virtio>($name, $summary)
    };
    (@driver $summary:literal, $name:literal, net $device:ident) => {
        $crate::shim::driver::<$device, $crate::shim::Net>($name, $summary)
    };
    (@driver $summary:literal, $name:literal, $device:ident) => {
        $crate::shim::driver::<$device, $crate::shim::Plain>($name, $summary)
    };
}
