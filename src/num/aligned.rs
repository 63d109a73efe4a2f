//! num: large zeroed buffers that start on a cache line and fail with an error, not an abort. Knows no shapes.

use super::real::Real;
use std::ops::{Deref, DerefMut};

/// A zeroed, 64-byte aligned buffer of floats.
///
/// Large ones come straight from the operating system: pages are made when first touched, by the thread that uses
/// them, and huge pages are asked for, because a deep network's buffers are walked end to end.
pub struct Buffer<T: Real> {
    ptr: *mut T,
    len: usize,
    bytes: usize,
    mapped: bool,
}

/// The system had no memory for a buffer of this many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory(pub usize);

const ALIGN: usize = 64;
/// From here on a buffer is mapped; below, the allocator's own pools are faster.
const MAP_FROM: usize = 1 << 20;

impl<T: Real> Buffer<T> {
    /// A buffer of `len` zeros.
    pub fn zeroed(len: usize) -> Result<Self, NoMemory> {
        let bytes = len.checked_mul(size_of::<T>()).filter(|&b| b <= isize::MAX as usize - ALIGN);
        let bytes = bytes.ok_or(NoMemory(usize::MAX))?;
        if bytes == 0 {
            return Ok(Self { ptr: ALIGN as *mut T, len, bytes, mapped: false });
        }
        #[cfg(unix)]
        if bytes >= MAP_FROM {
            // SAFETY: an anonymous private mapping touches no existing memory.
            let p = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    bytes,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            if p == libc::MAP_FAILED {
                return Err(NoMemory(bytes));
            }
            #[cfg(target_os = "linux")]
            // SAFETY: the range was mapped just above; the advice changes no contents.
            unsafe {
                libc::madvise(p, bytes, libc::MADV_HUGEPAGE);
            }
            return Ok(Self { ptr: p.cast(), len, bytes, mapped: true });
        }
        let layout = std::alloc::Layout::from_size_align(bytes, ALIGN).map_err(|_| NoMemory(bytes))?;
        // SAFETY: the layout has a size above zero.
        let p = unsafe { std::alloc::alloc_zeroed(layout) };
        if p.is_null() { Err(NoMemory(bytes)) } else { Ok(Self { ptr: p.cast(), len, bytes, mapped: false }) }
    }

    /// A copy, or the reason why there is none.
    pub fn try_clone(&self) -> Result<Self, NoMemory> {
        let mut b = Self::zeroed(self.len)?;
        b.copy_from_slice(self);
        Ok(b)
    }
}

/// An empty list with room for `len` entries, or the reason why there is none.
pub fn reserved<X>(len: usize) -> Result<Vec<X>, NoMemory> {
    let mut list = Vec::new();
    list.try_reserve_exact(len).map_err(|_| NoMemory(len.saturating_mul(size_of::<X>())))?;
    Ok(list)
}

/// A list of `len` times `x`, or the reason why there is none.
pub fn filled<X: Clone>(x: X, len: usize) -> Result<Vec<X>, NoMemory> {
    let mut list = reserved(len)?;
    list.resize(len, x);
    Ok(list)
}

/// Adds to a list that may grow long, or tells why there is no room.
pub fn push<X>(list: &mut Vec<X>, x: X) -> Result<(), NoMemory> {
    list.try_reserve(1).map_err(|_| NoMemory((2 * list.len() + 1).saturating_mul(size_of::<X>())))?;
    list.push(x);
    Ok(())
}

impl<T: Real> Drop for Buffer<T> {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        #[cfg(unix)]
        if self.mapped {
            // SAFETY: the pointer and length are those of the mapping made in `zeroed`.
            unsafe { libc::munmap(self.ptr.cast(), self.bytes) };
            return;
        }
        // SAFETY: the pointer came from `alloc_zeroed` with this layout.
        unsafe {
            std::alloc::dealloc(self.ptr.cast(), std::alloc::Layout::from_size_align_unchecked(self.bytes, ALIGN))
        };
    }
}

impl<T: Real> Deref for Buffer<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the buffer owns `len` initialised (zeroed) floats; for len 0 the pointer is aligned and not null.
        unsafe { std::slice::from_raw_parts(self.ptr, self.len) }
    }
}

impl<T: Real> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as above, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.ptr, self.len) }
    }
}

// SAFETY: the buffer owns its memory and T is Send.
unsafe impl<T: Real> Send for Buffer<T> {}
// SAFETY: shared access only reads, and T is Sync.
unsafe impl<T: Real> Sync for Buffer<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeroed_aligned_and_honest_about_failure() {
        for len in [0, 1, 1000, 1 << 20] {
            let b = Buffer::<f32>::zeroed(len).unwrap();
            assert_eq!(b.len(), len);
            assert!(b.iter().all(|&x| x == 0.0) && (b.as_ptr() as usize).is_multiple_of(ALIGN));
        }
        assert!(Buffer::<f64>::zeroed(usize::MAX / 4).is_err());
        assert!(Buffer::<f64>::zeroed(1 << 50).is_err());
        assert_eq!(filled(1.5, 3), Ok(vec![1.5; 3]));
        assert_eq!(filled(0u8, usize::MAX), Err(NoMemory(usize::MAX)));
        assert_eq!(filled(0u64, 1 << 58), Err(NoMemory(1 << 61)));
    }
}
