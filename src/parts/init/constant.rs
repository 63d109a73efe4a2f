//! parts: zeros, ones and constants. Know no random numbers.

use super::{CatalogueError, Given, Info, Initializer, Param, Site};
use crate::num::real::Real;

/// Every entry 0.
#[derive(Clone, Debug, PartialEq)]
pub struct Zeros;

impl Initializer for Zeros {
    const INFO: &'static Info = &Info {
        name: "zeros",
        aliases: &["zeros_", "Zeros", "zero"],
        formula: "W = 0",
        summary: "Every entry is 0: the usual start of a bias; a weight matrix of zeros stops every gradient.",
        reference: "PyTorch torch.nn.init.zeros_",
        params: &[],
    };
    fn new(_: &Given) -> Result<Self, CatalogueError> {
        Ok(Self)
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        site.out.fill(T::ZERO);
    }
}

/// Every entry 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Ones;

impl Initializer for Ones {
    const INFO: &'static Info = &Info {
        name: "ones",
        aliases: &["ones_", "Ones"],
        formula: "W = 1",
        summary: "Every entry is 1: the usual start of a gain.",
        reference: "PyTorch torch.nn.init.ones_",
        params: &[],
    };
    fn new(_: &Given) -> Result<Self, CatalogueError> {
        Ok(Self)
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        site.out.fill(T::ONE);
    }
}

/// Every entry the same number.
#[derive(Clone, Debug, PartialEq)]
pub struct Constant {
    /// The number.
    pub value: f64,
}

impl Initializer for Constant {
    const INFO: &'static Info = &Info {
        name: "constant",
        aliases: &["constant_", "Constant", "fill"],
        formula: "W = value",
        summary: "Every entry is the same number, as for a forget gate's bias.",
        reference: "PyTorch torch.nn.init.constant_",
        params: &[Param::number("value", 0.0, "The number.")],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        Ok(Self { value: given.number("value") })
    }
    fn fill<T: Real>(&self, site: Site<'_, T>) {
        site.out.fill(T::from_f64(self.value));
    }
}
