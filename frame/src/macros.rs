//! The macros that other crates use. They hide an `unsafe` attribute each, and bind their arguments outside of it; CI
//! checks that no other file of this crate exports macros.

/// Declares the kernel's entry: `frame::kernel_entry!(main)` with `fn main() -> !`, called once on the boot processor
/// when `frame` is ready, with interrupts off.
#[macro_export]
macro_rules! kernel_entry {
    ($main:path) => {
        const _: fn() -> ! = $main;
        // SAFETY: frame declares the name, with just this type, and calls it once; a second definition does not link.
        #[unsafe(no_mangle)]
        extern "Rust" fn __nightshift_main() -> ! {
            $main()
        }
    };
}

/// Makes a type fit for [`containers::List`](crate::containers::List): `list_node!(Type, field)`, where the field is a `Link<Type>`.
/// With several links, a type tells them apart: `list_node!(Type, field, Tag)`. It is plain safe code: the list checks all.
#[macro_export]
macro_rules! list_node {
    ($node:ty, $field:ident) => {
        $crate::list_node!($node, $field, ());
    };
    ($node:ty, $field:ident, $tag:ty) => {
        impl $crate::containers::ListNode<$tag> for $node {
            #[inline]
            fn link(&self) -> &$crate::containers::Link<Self> {
                let Self { $field: found, .. } = self;
                found
            }
        }
    };
}
