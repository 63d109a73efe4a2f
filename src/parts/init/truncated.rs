//! parts: normal entries cut off at two bounds. Knows no fans.
//!
//! By rejection, element by element: attempt s of an element is its number in streams of its own, so entries do not
//! depend on each other. Where the bounds leave little of the normal law, the proposals are uniform or exponential
//! instead (Robert 1995, "Simulation of truncated normal variables").

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::math::scalar::{exp, log};
use crate::num::real::Real;
use crate::num::rng::{Key, Law, STREAMS, fill, group};

/// Standard deviation of a standard normal number cut off at -2 and 2.
pub(super) const STD_OF_TWO: f64 = 0.879_625_661_034_239_8;

/// Normal entries inside bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct TruncatedNormal {
    mean: f64,
    std: f64,
    a: f64,
    b: f64,
}

impl Initializer for TruncatedNormal {
    const INFO: &'static Info = &Info {
        name: "truncated_normal",
        aliases: &["trunc_normal", "trunc_normal_", "TruncatedNormal"],
        formula: "W ~ N(mean, std^2) given a <= W <= b",
        summary: "Normal entries inside bounds; as in PyTorch the bounds are absolute, not multiples of std.",
        reference: "PyTorch torch.nn.init.trunc_normal_",
        params: &[
            Param::number("mean", 0.0, "Mean before the cut."),
            Param::bounded("std", 1.0, f64::MIN_POSITIVE, f64::MAX, "Standard deviation before the cut."),
            Param::number("a", -2.0, "Smallest value."),
            Param::number("b", 2.0, "Largest value, above a."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        let [mean, std, a, b] = ["mean", "std", "a", "b"].map(|n| given.number(n));
        if a >= b {
            return Err(Self::INFO.invalid("b", format!("{b}"), format!("above a = {a}")));
        }
        let (low, high) = ((a - mean) / std, (b - mean) / std);
        // Further out, squares of the distance leave the range of a double.
        if !(low < 1e100 && high > -1e100) || low >= high {
            let near = format!("such that [a, b] = [{a}, {b}] is within 1e100 deviations");
            return Err(Self::INFO.invalid("mean", format!("{mean}"), near));
        }
        Ok(Self { mean, std, a, b })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        truncated(site.out, site.key, self.mean, self.std, self.a, self.b);
    }
}

/// How a standard normal number between two bounds is proposed.
enum Proposal {
    /// From the whole law.
    Normal,
    /// Evenly between the bounds; the law's largest density there is at the given point.
    Uniform(f64),
    /// Exponentially from a bound outwards: the bound nearest zero, made positive, and the side.
    Tail(f64, f64),
}

impl Proposal {
    /// Accepts at least a fifth of its numbers, whatever the bounds.
    fn of(low: f64, high: f64) -> Self {
        if low <= 0.0 && high >= 0.0 {
            return if high - low >= 1.0 { Self::Normal } else { Self::Uniform(0.0) };
        }
        let (near, far, side) = if low > 0.0 { (low, high, 1.0) } else { (-high, -low, -1.0) };
        if near < 0.3 && far - near > 1.0 {
            Self::Normal
        } else if (far - near) * near.max(1.0) < 2.0 {
            Self::Uniform(near)
        } else {
            Self::Tail(near, side)
        }
    }
}

/// Fills `out` with `mean + std z`, z standard normal given that the result lies in `[a, b]`.
pub(super) fn truncated<T: Real>(out: &mut [T], key: Key, mean: f64, std: f64, a: f64, b: f64) {
    let (low, high) = ((a - mean) / std, (b - mean) / std);
    let (ta, tb) = (T::from_f64(a), T::from_f64(b));
    match Proposal::of(low, high) {
        Proposal::Normal => {
            let (scale, shift) = (T::from_f64(std), T::from_f64(mean));
            attempts(out, |stream, at, tries: &mut [T]| {
                fill(tries, key, stream, at, Law::Normal, scale, shift);
                tries.iter().map(|&x| if ta <= x && x <= tb { Some(x) } else { None }).collect()
            });
        }
        other => attempts(out, |stream, at, tries: &mut [T]| {
            let n = tries.len();
            let (mut u, mut v) = (vec![0f64; n], vec![0f64; n]);
            fill(&mut u, key, 2 * stream, at, Law::Unit, 1.0, 0.0);
            fill(&mut v, key, 2 * stream + 1, at, Law::Unit, 1.0, 0.0);
            let one = |(&u, &v): (&f64, &f64)| {
                let (z, density) = match other {
                    Proposal::Tail(near, side) => {
                        // x beyond the bound has density exp(-near x - x^2/2); exp(-near x) is proposed.
                        let rate = near.max(0.5);
                        let x = -log(u) / rate;
                        let peak = rate - near;
                        (side * (near + x), exp(-0.5 * (x - peak) * (x - peak)))
                    }
                    Proposal::Uniform(near) => {
                        let z = low + (high - low) * u;
                        (z, exp(-0.5 * (z.abs() - near) * (z.abs() + near)))
                    }
                    Proposal::Normal => (0.0, 1.0),
                };
                let x = T::from_f64(mean + std * z);
                let x = if x < ta {
                    ta
                } else if x > tb {
                    tb
                } else {
                    x
                };
                (v <= density && low <= z && z <= high).then_some(x)
            };
            u.iter().zip(&v).map(one).collect()
        }),
    }
}

/// Attempts, group by group, until every element has accepted one; `try_group(stream, first element, buffer)`.
fn attempts<T: Real>(out: &mut [T], mut try_group: impl FnMut(u32, u64, &mut [T]) -> Vec<Option<T>>) {
    let size = group::<T>();
    let mut buffer = vec![T::ZERO; size];
    for (g, part) in out.chunks_mut(size).enumerate() {
        let mut missing = vec![true; part.len()];
        // A fifth is accepted each time, so the last stream is never reached; it ends the loop all the same.
        for stream in 0..STREAMS / 2 {
            let tries = try_group(stream, (g * size) as u64, &mut buffer[..part.len()]);
            let mut left = false;
            for ((x, missing), t) in part.iter_mut().zip(&mut missing).zip(tries) {
                if *missing {
                    match t {
                        Some(t) => (*x, *missing) = (t, false),
                        None => left = true,
                    }
                }
            }
            if !left {
                break;
            }
        }
    }
}
