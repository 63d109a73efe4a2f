//! kernels: slices in, slices out, forward beside backward. Know numbers, not networks.

pub mod delta;
pub mod gradient;
pub mod matmul;
pub mod unit;
