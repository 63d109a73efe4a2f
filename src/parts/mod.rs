//! parts: the catalogues, one file a part. Know kernels, not networks.

pub mod activation;
pub mod catalogue;
pub mod cell;
pub mod clip;
pub mod constraint;
pub mod init;
pub mod layer;
pub mod loss;
pub mod norm;
pub mod optimizer;
pub mod parametrization;
