//! Declares a struct of the ABI with its size as the header has it.

/// A field's name and offset.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// As in the header.
    pub name: &'static str,
    /// In bytes.
    pub offset: usize,
}

/// A struct as this crate lays it out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The type's name in C.
    pub name: &'static str,
    /// In bytes.
    pub size: usize,
    /// All of them, in order.
    pub fields: &'static [Field],
}

/// Declares `#[repr(C)]` structs, `fixed`, or such that `grows`, perhaps grown `(from
/// SIZE)` already, and checks that each has the size written beside
/// its name in C and no byte between its fields, so that none can hide there.
macro_rules! abi_structs {
    ($(
        $(#[$doc:meta])*
        pub struct $name:ident as $c:literal, $size:literal $sized:tt {
            $( $(#[$field_doc:meta])* pub $field:ident: $type:ty, )*
        }
    )*) => {
        $(
            $(#[$doc])*
            #[repr(C)]
            #[derive(Clone, Copy)]
            pub struct $name {
                $( $(#[$field_doc])* pub $field: $type, )*
            }

            impl $name {
                const LAYOUT: $crate::Layout = $crate::Layout {
                    name: $c,
                    size: ::core::mem::size_of::<$name>(),
                    fields: &[$( $crate::Field {
                        name: stringify!($field),
                        offset: ::core::mem::offset_of!($name, $field),
                    } ),*],
                };
            }

            const _: () = {
                assert!(::core::mem::size_of::<$name>() == $size);
                let mut end = 0;
                $(
                    assert!(::core::mem::offset_of!($name, $field) == end);
                    end += ::core::mem::size_of::<$type>();
                )*
                assert!(end == $size);
            };

            abi_structs!(@sized $sized $name, $size);
        )*
        /// The structs of this file.
        pub(crate) const LAYOUTS: &[$crate::Layout] = &[$( $name::LAYOUT ),*];
    };
    (@sized fixed $name:ident, $size:literal) => {};
    (@sized grows $name:ident, $size:literal) => {
        abi_structs!(@sized (from $size) $name, $size);
    };
    (@sized (from $first:literal) $name:ident, $size:literal) => {
        // SAFETY: `#[repr(C)]`, begins with `struct_size: u32`, and zero is a
        // value of each field: integers, raw pointers, optional functions.
        unsafe impl $crate::Versioned for $name {
            const FIRST_SIZE: usize = $first;
        }
    };
}
pub(crate) use abi_structs;

/// Every struct of the ABI, by file.
pub const LAYOUTS: &[&[Layout]] = &[crate::core_abi::LAYOUTS, crate::ext::LAYOUTS];
