//! num: floats that belong to somebody else, read in place. Knows not whose they are.

use super::real::Real;
use std::marker::PhantomData;

/// A run of floats that its owner keeps alive, and may even be writing to. It is read in chunks that are copied out.
#[derive(Clone, Copy)]
pub struct Foreign<'a, T> {
    ptr: *const T,
    len: usize,
    life: PhantomData<&'a T>,
}

// SAFETY: the memory is only read, through `copy`, and T is Sync.
unsafe impl<T: Real> Send for Foreign<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Real> Sync for Foreign<'_, T> {}

impl<'a, T: Real> Foreign<'a, T> {
    /// The floats behind a slice of cells that are as large and as aligned as `T` (a buffer view's element type).
    pub fn from_cells<C>(cells: &'a [C]) -> Option<Self> {
        let fits = size_of::<C>() == size_of::<T>() && align_of::<C>() == align_of::<T>();
        fits.then(|| Self { ptr: cells.as_ptr().cast(), len: cells.len(), life: PhantomData })
    }

    /// Number of floats.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Copies `out.len()` floats from index `at`.
    pub fn copy(&self, at: usize, out: &mut [T]) {
        assert!(at <= self.len && out.len() <= self.len - at);
        // SAFETY: the range is inside the run; every bit pattern is a float, so a concurrent writer can at worst make a
        // value that is a mixture of old and new.
        unsafe { std::ptr::copy(self.ptr.add(at), out.as_mut_ptr(), out.len()) }
    }
}
