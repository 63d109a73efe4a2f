//! kernels: loops over slices, written once for all instruction paths. Knows no networks.

pub mod pointwise;
