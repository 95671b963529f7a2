//! What the two programs of this crate share: `posix-suite`, which checks what
//! calls on files do, and `fs-exerciser`, which makes random ones and checks
//! that no data is lost. Both are built static, to run in any guest.

pub mod map;
