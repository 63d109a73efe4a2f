//! engine: what layers draw in training: whether a branch is there, which units are. Knows keys and counters, no tape.
//!
//! Everything drawn is a pure function of the seed, the layer's path, its application, the step and, for units, the row of
//! the whole batch: the way back draws it again instead of keeping it, whatever the threads and the memory plan.

use super::op::{Chance, Noise};
use super::pass::Training;
use crate::num::rng::{Key, Law, fill};

/// Philox streams: one for branches, one for units.
const BRANCH: u32 = 1;
const UNITS: u32 = 0;

/// The key of an application's numbers. Steps are too many for the counter beside rows and units, so seed and step are
/// mixed, by the finaliser of splitmix64 (Steele, Lea, Flood 2014).
fn key(training: Training, noise: &Noise, i: usize) -> Key {
    let mut z = training.seed.wrapping_add(training.step.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Key { seed: z ^ (z >> 31), tensor: noise.key, layer: (noise.first + i * noise.stride) as u32 }
}

/// Whether a branch is left out of this pass in iteration `i`. Inference leaves none out.
pub fn left_out(training: Option<Training>, chance: &Chance, i: usize) -> bool {
    let Some(training) = training else { return false };
    let mut u = [0.0f32];
    fill(&mut u, key(training, &chance.noise, i), BRANCH, 0, Law::Unit, 1.0, 0.0);
    f64::from(u[0]) >= chance.survival
}

/// Numbers in (0, 1) for the rows from `row` on, (rows, width): the same for both types that networks compute in.
pub fn units(training: Training, noise: &Noise, i: usize, row: usize, width: usize, out: &mut [f32]) {
    fill(out, key(training, noise, i), UNITS, (row * width) as u64, Law::Unit, 1.0, 0.0);
}
