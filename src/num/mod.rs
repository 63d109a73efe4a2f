//! num: numbers, vectors, memory and threads. Knows nothing of networks.

pub mod aligned;
pub mod foreign;
pub mod format;
pub mod math;
pub mod meeting;
pub mod normal;
pub mod peak;
pub mod pool;
pub mod real;
pub mod rng;
pub mod rows;
pub mod scale;
pub mod scaled;
pub mod setting;
pub mod simd;
