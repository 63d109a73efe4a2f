//! parts: catalogues of what a network is made of. Knows kernels and numbers, no engine.

pub mod activation;
