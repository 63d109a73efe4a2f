//! engine: a network: its program, its parameters and their initial values. Knows no passes.

use super::pass::Spare;
use super::program::{Program, compile};
use crate::error::Error;
use crate::num::aligned::Buffer;
use crate::num::pool;
use crate::num::real::Real;
use crate::num::rng::Key;
use crate::parts::layer::Layer;
use std::sync::{Mutex, PoisonError, RwLock};

/// A network whose parameters are of type `T`.
pub struct Network<T: Real> {
    /// What is computed.
    pub program: Program,
    /// The parameters, by tensor. Passes read them, a step writes them.
    pub params: RwLock<Vec<Buffer<T>>>,
    /// Buffers of the last pass, for the next of the same shape.
    pub(super) spare: Mutex<Option<Spare<T>>>,
}

impl<T: Real> Network<T> {
    /// Compiles the layers and fills the parameters from the generator.
    pub fn new(layers: &[Layer], in_features: usize, seed: u64) -> Result<Self, Error> {
        let program = compile(layers, in_features)?;
        let mut params = Vec::with_capacity(program.tensors.len());
        for t in &program.tensors {
            let len = t.copies.saturating_mul(t.len());
            let b = Buffer::zeroed(len).map_err(|e| Error::Memory {
                what: format!("parameter {}", t.name),
                need: e.0 as u64,
                limit: 0,
            })?;
            params.push(b);
        }
        for (t, b) in program.tensors.iter().zip(&mut params) {
            if t.is_empty() {
                continue;
            }
            // Copies small enough to cost less than handing them out go to a task together.
            let group = (16_384 / t.len()).max(1);
            let failed = Mutex::new(None);
            let chunks: Vec<_> = b.chunks_mut(group * t.len()).enumerate().collect();
            pool::each_owned(pool::num_threads(), chunks, &|_, (g, chunk)| {
                for (i, copy) in chunk.chunks_mut(t.len()).enumerate() {
                    let key = Key { seed, tensor: t.key, layer: (g * group + i) as u32 };
                    if let Err(e) = t.init.fill(copy, t.rows, t.cols, t.fans.0, t.fans.1, key) {
                        *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(e);
                    }
                }
            });
            if let Some(e) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(Error::Argument(format!("parameter {}: {e}", t.name)));
            }
        }
        Ok(Self { program, params: RwLock::new(params), spare: Mutex::new(None) })
    }

    /// Index of a parameter.
    pub fn find(&self, name: &str) -> Result<usize, Error> {
        let tensors = &self.program.tensors;
        self.program.find(name).ok_or_else(|| Error::Unknown {
            kind: "parameter",
            name: name.into(),
            known: tensors.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// A copy of a parameter's values.
    pub fn get(&self, tensor: usize) -> Vec<T> {
        self.params.read().unwrap_or_else(PoisonError::into_inner)[tensor].to_vec()
    }

    /// Sets a parameter's values.
    pub fn set(&self, tensor: usize, values: &[T]) -> Result<(), Error> {
        let mut params = self.params.write().unwrap_or_else(PoisonError::into_inner);
        let have = params[tensor].len();
        if values.len() != have {
            let t = &self.program.tensors[tensor];
            return Err(Error::Shape(format!(
                "parameter {} has shape {:?} ({have} values), got {} values",
                t.name,
                t.shape,
                values.len()
            )));
        }
        params[tensor].copy_from_slice(values);
        Ok(())
    }

    /// Number of parameters in all.
    pub fn num_parameters(&self) -> usize {
        self.program.tensors.iter().map(|t| t.copies * t.len()).sum()
    }

    /// Copies the values of another network of the same program.
    pub fn copy_from(&self, other: &Self) {
        let theirs = other.params.read().unwrap_or_else(PoisonError::into_inner);
        let mut ours = self.params.write().unwrap_or_else(PoisonError::into_inner);
        for (a, b) in ours.iter_mut().zip(theirs.iter()) {
            a.copy_from_slice(b);
        }
    }
}
