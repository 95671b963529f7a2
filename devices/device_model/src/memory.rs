//! Guest RAM as every device sees it.

use std::any::Any;
use std::sync::Arc;

use vm_memory::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};

/// Guest RAM: cheap to clone, without a dirty bitmap.
pub type GuestMemory = vm_memory::GuestMemoryMmap<Keeper>;

/// Keeps what a region of guest RAM is mapped from until the region's last
/// user is gone: vm-memory either makes and removes a mapping itself, with no
/// say in where it lies, or leaves both to others. It takes the place of the
/// region's dirty bitmap, as the one part of a region that its maker chooses.
#[derive(Clone, Default)]
pub struct Keeper(
    #[expect(dead_code, reason = "held for its drop")] Option<Arc<dyn Any + Send + Sync>>,
);

impl Keeper {
    /// Drops `kept` when no region needs it any more.
    pub fn of(kept: impl Any + Send + Sync) -> Self {
        Keeper(Some(Arc::new(kept)))
    }
}

impl WithBitmapSlice<'_> for Keeper {
    type S = ();
}

impl Bitmap for Keeper {
    fn mark_dirty(&self, _offset: usize, _len: usize) {}

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, _offset: usize) {}
}

/// For regions that vm-memory maps itself.
impl NewBitmap for Keeper {
    fn with_len(_len: usize) -> Self {
        Keeper::default()
    }
}
