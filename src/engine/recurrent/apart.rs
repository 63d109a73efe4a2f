//! engine: rows of dL/d(state) whose two states' gradients lie too far apart for one exponent, as in a memory that is
//! kept behind closed gates. Know no cells, no weights and no sweep.

use super::backward::{NOTHING, join};
use crate::kernels::delta::normalise;
use crate::num::real::Real;

/// The part of a row that would be lost beside the other, by itself.
pub struct Apart<T> {
    /// It is that of the output, not of the second state.
    pub output: bool,
    /// Its mantissas.
    pub values: Vec<T>,
    /// Its exponent.
    pub e: i64,
}

/// Whether a part with one exponent would lose digits beside a part with the other.
pub fn far<T: Real>(a: i64, b: i64) -> bool {
    a != NOTHING && b != NOTHING && (a - b).abs() > i64::from(T::BIAS) / 2
}

/// Adds `b 2^eb` to the output's part of a row, its first entries, `b.len()` of them; what then is apart is returned.
/// The row itself holds both parts in the larger scale, the smaller one as far as it reaches there.
#[cold]
pub fn add_output<T: Real>(g: &mut [T], e: &mut i64, before: Option<Apart<T>>, b: &[T], eb: i64) -> Option<Apart<T>> {
    let h = b.len();
    let (mut output, mut second) = ((g[..h].to_vec(), *e), (g[h..].to_vec(), *e));
    if let Some(a) = before {
        *(if a.output { &mut output } else { &mut second }) = (a.values, a.e);
    }
    // A part of zeros has no scale.
    for part in [&mut output, &mut second] {
        if part.0.iter().all(|x| *x == T::ZERO) {
            part.1 = NOTHING;
        }
    }
    join(&mut output.0, &mut output.1, b, eb);
    *e = output.1.max(second.1);
    for (to, (from, own)) in [(0..h, &output), (h..g.len(), &second)] {
        let to = &mut g[to];
        to.copy_from_slice(from);
        if *own != NOTHING && *own != *e {
            // As far below as nothing of it is left is far enough.
            normalise(to, (*e - *own).min(4 * i64::from(T::BIAS)));
        }
    }
    far::<T>(output.1, second.1).then(|| {
        let small = output.1 < second.1;
        let (values, e) = if small { output } else { second };
        Apart { output: small, values, e }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_meet_and_part_again() {
        let (mut g, mut e) = ([0.0f32, 0.0, 1.5, -2.0], -7000);
        // The output's gradient is 2^200 times smaller: the row cannot hold it, and another may still be added to it.
        let apart = add_output(&mut g, &mut e, None, &[1.25, 0.0], -7200).unwrap();
        assert_eq!((g, e), ([0.0, 0.0, 1.5, -2.0], -7000));
        assert_eq!((apart.output, &apart.values[..], apart.e), (true, &[1.25, 0.0][..], -7200));
        let apart = add_output(&mut g, &mut e, Some(apart), &[0.0, 1.0], -7199).unwrap();
        assert_eq!((&apart.values[..], apart.e), (&[0.625, 1.0][..], -7199));
        // One of the row's own size takes it in.
        assert!(add_output(&mut g, &mut e, Some(apart), &[3.0, 0.5], -7001).is_none());
        assert_eq!((g, e), ([1.5, 0.25, 1.5, -2.0], -7000));
        // One far larger leaves the second state's apart.
        let apart = add_output(&mut g, &mut e, None, &[1.0, 1.0], 0).unwrap();
        assert_eq!((g, e), ([1.0, 1.0, 0.0, 0.0], 0));
        assert_eq!((apart.output, &apart.values[..], apart.e), (false, &[1.5, -2.0][..], -7000));
    }

    #[test]
    fn zeros_have_no_scale() {
        let (mut g, mut e) = ([0.0f64; 4], 0);
        assert!(add_output(&mut g, &mut e, None, &[1.0, 2.0], -9000).is_none());
        assert_eq!((g, e), ([1.0, 2.0, 0.0, 0.0], -9000));
        assert!(add_output(&mut g, &mut e, None, &[0.0, 0.0], 5).is_none());
        assert_eq!((g, e), ([1.0, 2.0, 0.0, 0.0], -9000));
    }
}
