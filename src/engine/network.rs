//! engine: a network: its program, its parameters and their initial values. Knows no passes.

use super::derived;
use super::guarded::Guarded;
use super::pass::Spare;
use super::program::{Origin, Program, Tensor, compile};
use super::recurrent::{Recurrent, TimeSpare};
use crate::error::Error;
use crate::num::aligned::{Buffer, NoMemory, filled};
use crate::num::pool;
use crate::num::real::Real;
use crate::num::rng::Key;
use crate::parts::init::{InitError, check_range};
use crate::parts::layer::Layer;
use std::sync::{Mutex, PoisonError};

/// A part of a network that is swept as one.
#[derive(Debug)]
pub enum Stage {
    /// Layers without time.
    Feed(Program),
    /// Time steps.
    Recurrent(Box<Recurrent>),
}

impl Stage {
    /// Its parameters.
    pub fn tensors(&self) -> &[Tensor] {
        match self {
            Stage::Feed(p) => &p.tensors,
            Stage::Recurrent(r) => &r.tensors,
        }
    }
    /// Width of its output.
    pub fn out_features(&self) -> usize {
        match self {
            Stage::Feed(p) => p.out_features,
            Stage::Recurrent(r) => r.out_features,
        }
    }
}

/// A network whose parameters are of type `T`.
pub struct Network<T: Real> {
    /// What is computed: one part, unless there are recurrent layers.
    pub stages: Vec<Stage>,
    /// Width of the input.
    pub in_features: usize,
    /// The parameters, by tensor. Passes read them, a step writes them.
    pub params: Guarded<Vec<Buffer<T>>>,
    /// Buffers of the last pass, for the next of the same shape.
    pub(super) spare: Mutex<Vec<Spare<T>>>,
    /// The same of recurrent layers.
    pub(super) time_spare: TimeSpare<T>,
}

impl<T: Real> Network<T> {
    /// Compiles the layers and fills the parameters from the generator. Unless `stored`, a parameter with a copy for each
    /// step is not kept: every pass makes its initial values again.
    pub fn new(layers: &[Layer], in_features: usize, seed: u64, stored: bool) -> Result<Self, Error> {
        let mut stages = stages(layers, in_features)?;
        for s in &mut stages {
            if let Stage::Feed(p) = s {
                p.seed = seed;
            }
        }
        let tensors: Vec<&Tensor> = stages.iter().flat_map(Stage::tensors).collect();
        let mut params = Vec::with_capacity(tensors.len());
        for t in &tensors {
            let len = if stored || !t.makes_again() { t.copies.saturating_mul(t.len()) } else { 0 };
            let refused = |e: NoMemory| Error::Refused { what: format!("parameter {}", t.name), bytes: e.0 as u64 };
            params.push(Buffer::zeroed(len).map_err(refused)?);
        }
        for (t, b) in tensors.into_iter().zip(&mut params) {
            if t.is_empty() {
                continue;
            }
            let refused = |e: InitError| Error::Argument(format!("parameter {}: {e}", t.name));
            let draw = |copy: &mut [T], layer: usize| {
                let key = Key { seed, tensor: t.key, layer: layer as u32 };
                t.init.fill(copy, t.rows, t.cols, t.fans.0, t.fans.1, key)?;
                check_range(copy)
            };
            if b.is_empty() {
                // What is not kept has one law for all its copies: the first tells whether the type holds them.
                if matches!(t.origin, Origin::Drawn) {
                    draw(&mut filled(T::ZERO, t.len())?, 0).map_err(refused)?;
                }
                continue;
            }
            // Copies small enough to cost less than handing them out go to a task together.
            let group = (16_384 / t.len()).max(1);
            let failed: Mutex<Option<(usize, InitError)>> = Mutex::new(None);
            let chunks: Vec<_> = b.chunks_mut(group * t.len()).enumerate().collect();
            pool::each_owned(pool::num_threads(), chunks, &|_, (g, chunk)| {
                for (i, copy) in chunk.chunks_mut(t.len()).enumerate() {
                    let layer = g * group + i;
                    if let Err(e) = draw(copy, layer) {
                        let mut first = failed.lock().unwrap_or_else(PoisonError::into_inner);
                        // The same error whichever thread comes first.
                        if first.as_ref().is_none_or(|f| layer < f.0) {
                            *first = Some((layer, e));
                        }
                    }
                }
            });
            if let Some((_, e)) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
                return Err(refused(e));
            }
        }
        let mut at = 0;
        for s in &stages {
            let n = s.tensors().len();
            if let Stage::Recurrent(r) = s {
                r.finish_start(&mut params[at..at + n], seed);
            }
            at += n;
        }
        let net = Self {
            stages,
            in_features,
            params: Guarded::new(params),
            spare: Mutex::new(Vec::new()),
            time_spare: TimeSpare::default(),
        };
        net.restart()?;
        net.check_made()?;
        Ok(net)
    }

    /// Refuses parameters that other values led to, or a cell set, and the type does not hold. Weights that are made
    /// from parameters may be what they are: a row without any spread has no standardised one.
    fn check_made(&self) -> Result<(), Error> {
        let params = self.params.read()?;
        let timed = self.stages.iter().flat_map(|s| s.tensors().iter().map(|_| matches!(s, Stage::Recurrent(_))));
        for ((t, b), timed) in self.tensors().zip(params.iter()).zip(timed) {
            if timed || matches!(t.origin, Origin::Started(..)) {
                check_range(b).map_err(|e| Error::Argument(format!("parameter {}: {e}", t.name)))?;
            }
        }
        Ok(())
    }

    /// Puts the vectors of parametrized weights where their matrices say they start.
    pub fn restart(&self) -> Result<(), Error> {
        let mut params = self.params.write()?;
        self.by_stage(&mut params, |tensors, params| derived::restart(tensors, params));
        self.refresh(&mut params);
        Ok(())
    }

    /// Makes weights that are made from parameters again, after those have changed.
    pub fn refresh(&self, params: &mut [Buffer<T>]) {
        self.by_stage(params, |tensors, params| derived::refresh(tensors, params, None));
    }

    fn by_stage(&self, params: &mut [Buffer<T>], f: impl Fn(&[Tensor], &mut [Buffer<T>])) {
        let mut rest = params;
        for s in &self.stages {
            let (own, others) = rest.split_at_mut(s.tensors().len());
            f(s.tensors(), own);
            rest = others;
        }
    }

    /// The parameters' descriptions, in order.
    pub fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        self.stages.iter().flat_map(Stage::tensors)
    }

    /// Width of the output.
    pub fn out_features(&self) -> usize {
        self.stages.last().map_or(self.in_features, Stage::out_features)
    }

    /// The program, where there is no time.
    pub fn program(&self) -> Option<&Program> {
        match &self.stages[..] {
            [Stage::Feed(p)] => Some(p),
            _ => None,
        }
    }

    /// Whether the last recurrent layer gives a result for every time step; none without time.
    pub fn every(&self) -> Option<bool> {
        self.stages.iter().rev().find_map(|s| match s {
            Stage::Recurrent(r) => Some(r.every),
            Stage::Feed(_) => None,
        })
    }

    /// Index of a parameter.
    pub fn find(&self, name: &str) -> Result<usize, Error> {
        let found = match self.program() {
            Some(p) => p.find(name),
            None => self.tensors().position(|t| t.name == name),
        };
        found.ok_or_else(|| Error::Unknown {
            kind: "parameter",
            name: name.into(),
            known: self
                .tensors()
                .filter(|t| t.derived().is_none())
                .map(|t| t.name.as_str())
                .collect::<Vec<_>>()
                .join(", "),
        })
    }

    /// A parameter's description.
    pub fn tensor(&self, index: usize) -> &Tensor {
        match self.program() {
            Some(p) => &p.tensors[index],
            None => self.tensors().nth(index).unwrap_or_else(|| unreachable!("`find` gave the index")),
        }
    }

    /// A copy of a parameter's values.
    pub fn get(&self, tensor: usize) -> Result<Vec<T>, Error> {
        Ok(self.params.read()?[tensor].to_vec())
    }

    /// Sets a parameter's values.
    pub fn set(&self, tensor: usize, values: &[T]) -> Result<(), Error> {
        let mut params = self.params.write()?;
        let have = params[tensor].len();
        if values.len() != have {
            let t = self.tensor(tensor);
            if have == 0 && !t.is_empty() {
                return Err(Error::Argument(format!(
                    "parameter {} is not stored, because the network was built with stored=False, so it cannot be set",
                    t.name
                )));
            }
            return Err(Error::Shape(format!(
                "parameter {} has shape {:?} ({have} values), got {} values",
                t.name,
                t.shape,
                values.len()
            )));
        }
        params[tensor].copy_from_slice(values);
        let mut at = 0;
        for s in &self.stages {
            let end = at + s.tensors().len();
            if (at..end).contains(&tensor) {
                derived::refresh(s.tensors(), &mut params[at..end], Some(tensor - at));
            }
            at = end;
        }
        Ok(())
    }

    /// Number of parameters in all, without those that no gradient changes.
    pub fn num_parameters(&self) -> usize {
        self.tensors().filter(|t| t.learned()).map(|t| t.copies * t.len()).sum()
    }

    /// Copies the values of another network of the same program.
    pub fn copy_from(&self, other: &Self) -> Result<(), Error> {
        let theirs = other.params.read()?;
        let mut ours = self.params.write()?;
        for (a, b) in ours.iter_mut().zip(theirs.iter()) {
            a.copy_from_slice(b);
        }
        Ok(())
    }
}

/// The parts of a network: recurrent layers, and what stands between them.
fn stages(layers: &[Layer], in_features: usize) -> Result<Vec<Stage>, Error> {
    let mut out: Vec<Stage> = Vec::new();
    let mut rest = layers;
    let mut width = in_features;
    loop {
        let n = rest.iter().position(|l| matches!(l, Layer::Recurrent(_))).unwrap_or(rest.len());
        if n > 0 || layers.is_empty() {
            out.push(Stage::Feed(compile(&rest[..n], width)?));
        }
        width = out.last().map_or(width, Stage::out_features);
        let Some(Layer::Recurrent(r)) = rest.get(n) else { break };
        out.push(Stage::Recurrent(Box::new(Recurrent::compile(r, width)?)));
        width = out.last().map_or(width, Stage::out_features);
        rest = &rest[n + 1..];
    }
    // A layer that follows one which reads the last step alone has no sequence to run over.
    let mut ended: Option<&str> = None;
    for s in &out {
        if let Stage::Recurrent(r) = s {
            if let Some(before) = ended {
                return Err(Error::Argument(format!(
                    "Recurrent {:?} needs every step of Recurrent {before:?}, which reads the last alone; give that one read=\"every\"",
                    r.name
                )));
            }
            if !r.every {
                ended = Some(&r.name);
            }
        }
    }
    Ok(out)
}
