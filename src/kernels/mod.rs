//! kernels: slices in, slices out, forward beside backward. Know numbers, not networks.

pub mod matmul;
