//! The map of the crate, nothing else. Data flows one way: py -> engine -> parts -> kernels -> num.

pub mod engine;
pub mod error;
pub mod kernels;
pub mod num;
pub mod parts;
#[cfg(feature = "python")]
mod py;
