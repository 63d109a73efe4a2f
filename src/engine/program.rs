//! engine: a description of layers compiled to a flat program: blocks of operations over slots and tensors.
//! Knows no memory and no numbers. A Repeat of a million layers is one block, not a million objects.

pub use super::op::{ActUse, Kind, Op, Ref, Source};
use crate::error::Error;
use crate::parts::activation::Act;
use crate::parts::init::Init;
use crate::parts::layer::Layer;
use crate::parts::parametrization::Parametrization;
use std::collections::{HashMap, HashSet};

/// Where a tensor's values come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Origin {
    /// Drawn by its initializer: a parameter.
    Drawn,
    /// A parameter, one number a row of another tensor, which say where it starts.
    Started(Parametrization, usize),
    /// No parameter: made from a matrix and a vector whenever they change.
    Derived(Derived),
}

/// What a derived tensor is made from: copy by copy, and row by row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Derived {
    /// How.
    pub rule: Parametrization,
    /// Tensor of the matrix v, of the same shape.
    pub matrix: usize,
    /// Tensor of the vector g, one number a row.
    pub vector: usize,
}

/// A parameter: `copies` equal-shaped arrays one after another.
#[derive(Debug)]
pub struct Tensor {
    /// Dotted path of layer names.
    pub name: String,
    /// Shape that users see: a leading axis for each untied Repeat around it.
    pub shape: Vec<usize>,
    /// Rows and columns of one copy; a vector is a column of `rows`.
    pub rows: usize,
    /// See `rows`.
    pub cols: usize,
    /// Number of copies.
    pub copies: usize,
    /// Fan-in and fan-out for the initializer.
    pub fans: (usize, usize),
    /// Its initial values.
    pub init: Init,
    /// Key of its random numbers: a hash of the name, so that other layers coming or going change nothing.
    pub key: u32,
    /// Some copy is used by more than one operation instance.
    pub shared: bool,
    /// A learned number, an activation's slope or a branch's scale, whose gradient the sweep sums over units.
    pub slope: bool,
    /// Axes in front of a copy's own: one for each untied Repeat around it.
    pub lead: usize,
    /// Changed by gradients; else by what passes see, as running statistics are.
    pub trainable: bool,
    /// Where its values come from.
    pub origin: Origin,
    /// Operation instances that use it.
    pub(super) uses: usize,
}

impl Tensor {
    /// Elements of one copy.
    pub fn len(&self) -> usize {
        self.rows * self.cols
    }
    /// Whether its values need no storage while they are the initial ones: one copy for each use.
    pub fn makes_again(&self) -> bool {
        self.copies > 1 && !self.shared && self.lead > 0
    }
    /// What it is made from, if it is no parameter itself.
    pub fn derived(&self) -> Option<Derived> {
        match self.origin {
            Origin::Derived(d) => Some(d),
            _ => None,
        }
    }
    /// Whether gradients change it.
    pub fn learned(&self) -> bool {
        self.trainable && self.derived().is_none()
    }
    /// Whether a copy has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A body applied `times` times.
#[derive(Debug)]
pub struct Block {
    /// Operations of one iteration, in order.
    pub ops: Vec<Op>,
    /// Iterations.
    pub times: usize,
    /// Widths of the kept arrays: outputs, slopes, pre-activations.
    pub slots: Vec<usize>,
    /// Widths of the deltas.
    pub deltas: Vec<usize>,
    /// Where an iteration's result is.
    pub out: Source,
    /// Widths of an iteration's input and output.
    pub widths: (usize, usize),
    /// Units of one iteration.
    pub units: usize,
    /// Number of the block's first unit, iteration and step.
    pub first_unit: usize,
    /// See `first_unit`; one iteration is one step.
    pub first_step: usize,
    /// Widths of the statistics that normalise over the batch, and the number of the first of them.
    pub moments: Vec<usize>,
    /// See `moments`.
    pub first_moment: usize,
}

/// The compiled network.
#[derive(Debug)]
pub struct Program {
    /// Blocks in order.
    pub blocks: Vec<Block>,
    /// Parameters in order of first use.
    pub tensors: Vec<Tensor>,
    /// Width of the input.
    pub in_features: usize,
    /// Width of the output.
    pub out_features: usize,
    /// Units in all.
    pub units: usize,
    /// Steps in all: iterations of all blocks.
    pub steps: usize,
    /// Seed of the initial values, where they are made again instead of stored.
    pub seed: u64,
    /// Tensors by name.
    names: HashMap<String, usize>,
    /// Paths of layers that draw.
    pub(super) drawing: HashSet<String>,
}

/// Leaf name of weights that are made from others: no layer's or parameter's name has a dot.
pub const DERIVED: &str = "weight.effective";

/// The largest product of sizes that is accepted: far above any machine, far below overflow.
const LIMIT: usize = 1 << 48;

/// Compiles a description for inputs of a width.
pub fn compile(layers: &[Layer], in_features: usize) -> Result<Program, Error> {
    if in_features == 0 {
        return Err(Error::Argument("in_features must be at least 1, got 0".into()));
    }
    let mut p = Program {
        blocks: Vec::new(),
        tensors: Vec::new(),
        in_features,
        out_features: in_features,
        units: 0,
        steps: 0,
        seed: 0,
        names: HashMap::new(),
        drawing: HashSet::new(),
    };
    let mut i = 0;
    while i < layers.len() {
        // A Dense or a normalisation and the Activation after it are one unit, so they are one block too.
        let fused = matches!(layers[i], Layer::Dense { .. } | Layer::Norm { .. })
            && matches!(layers.get(i + 1), Some(Layer::Activation { .. }));
        let take = 1 + usize::from(fused);
        p.add_block(&layers[i..i + take])?;
        i += take;
    }
    if p.blocks.is_empty() {
        return Err(Error::Argument("a network needs at least one layer, got an empty list".into()));
    }
    for t in &mut p.tensors {
        t.shared = t.uses > t.copies;
    }
    Ok(p)
}

/// Around a layer while it is lowered.
pub(super) struct Context {
    pub block: Block,
    /// Iterations and tiedness of the block.
    times: (usize, bool),
    /// Unrolled inner Repeats: (n, index, tied).
    inner: Vec<(usize, usize, bool)>,
    pub path: Vec<String>,
}

impl Program {
    /// The index of the tensor of that name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    fn add_block(&mut self, layers: &[Layer]) -> Result<(), Error> {
        let (body, times, tied, name) = match layers {
            [Layer::Repeat { name, n, tied, body }] => (&body[..], *n, *tied, Some(name.clone())),
            other => (other, 1, true, None),
        };
        let width = self.out_features;
        let mut cx = Context {
            block: Block {
                ops: Vec::new(),
                times,
                slots: Vec::new(),
                deltas: Vec::new(),
                out: Source::Input,
                widths: (width, width),
                units: 0,
                first_unit: self.units,
                first_step: self.steps,
                moments: Vec::new(),
                first_moment: self.blocks.iter().map(|b| b.moments.len()).sum(),
            },
            times: (times, tied),
            inner: Vec::new(),
            path: name.into_iter().collect(),
        };
        if times == 0 || body.is_empty() {
            let what = if body.is_empty() { "an empty body" } else { "n = 0" };
            return Err(Error::Argument(format!("Repeat {} has {what}; it needs n >= 1 and a layer", cx.at())));
        }
        let (out, out_width) = self.lower(&mut cx, body, Source::Input, width)?;
        if times > 1 && out_width != width {
            return Err(Error::Shape(format!(
                "Repeat {} is applied {times} times, so its body must keep the width, but it turns {width} features into {out_width}",
                cx.at()
            )));
        }
        let mut block = cx.block;
        block.out = out;
        block.widths = (width, out_width);
        let units = block.units.checked_mul(times).filter(|&u| u < LIMIT);
        self.units += units.ok_or_else(|| Error::Argument(format!("a Repeat of {times} is too large")))?;
        self.steps += times;
        self.out_features = out_width;
        self.blocks.push(block);
        Ok(())
    }

    /// Appends the operations of `layers`; returns where their result is and how wide. Recursion is over the nesting of
    /// the description, never over layers or steps.
    pub(super) fn lower(
        &mut self,
        cx: &mut Context,
        layers: &[Layer],
        mut source: Source,
        mut width: usize,
    ) -> Result<(Source, usize), Error> {
        let mut i = 0;
        while i < layers.len() {
            match &layers[i] {
                Layer::Dense { name, features, weight, bias, parametrization } => {
                    if *features == 0 {
                        return Err(Error::Argument(format!(
                            "Dense {} needs at least 1 feature, got 0",
                            cx.below(name)
                        )));
                    }
                    let fans = (width, *features);
                    let shape = [*features, width];
                    let weight = match parametrization {
                        None => self.tensor(cx, name, "weight", &shape, fans, weight)?,
                        Some(rule) => self.parametrized(cx, name, &shape, weight, *rule)?,
                    };
                    let bias =
                        bias.as_ref().map(|b| self.tensor(cx, name, "bias", &[*features], fans, b)).transpose()?;
                    let act = self.next_act(cx, layers, &mut i, *features)?;
                    source = cx.unit(Kind::Dense { weight, bias }, source, act, (width, *features), true);
                    width = *features;
                }
                Layer::Norm { name, norm, affine } => {
                    let norm = self.norm(cx, name, norm, *affine, width)?;
                    let act = self.next_act(cx, layers, &mut i, width)?;
                    source = cx.unit(Kind::Norm(norm), source, act, (width, width), true);
                }
                Layer::Activation { name, act } => {
                    let act = self.act_use(cx, name, *act, width)?;
                    source = cx.unit(Kind::Pointwise, source, Some(act), (width, width), true);
                }
                Layer::Repeat { name, n, tied, body } => {
                    if *n == 0 || body.is_empty() {
                        return Err(Error::Argument(format!("Repeat {} needs n >= 1 and a layer", cx.below(name))));
                    }
                    cx.path.push(name.clone());
                    for index in 0..*n {
                        cx.inner.push((*n, index, *tied));
                        let (s, w) = self.lower(cx, body, source, width)?;
                        cx.inner.pop();
                        if *n > 1 && w != width {
                            return Err(Error::Shape(format!(
                                "Repeat {} must keep the width, but its body turns {width} features into {w}",
                                cx.at()
                            )));
                        }
                        (source, width) = (s, w);
                    }
                    cx.path.pop();
                }
                Layer::Recurrent(r) => {
                    return Err(Error::Argument(format!(
                        "Recurrent {} stands inside another layer; it must be one of the network's own layers \
                         (num_layers= stacks cells, residual=True adds shortcuts)",
                        cx.below(&r.name)
                    )));
                }
                Layer::Residual(r) => (source, width) = self.residual(cx, r, source, width)?,
                Layer::Highway(h) => source = self.highway(cx, h, source, width)?,
                Layer::Concat { name, body } => (source, width) = self.concat(cx, name, body, source, width)?,
                Layer::Dropout { name, p } => source = self.dropout(cx, name, *p, source, width)?,
            }
            i += 1;
        }
        Ok((source, width))
    }

    /// The weights that a parametrization makes, and the parameters they are made from.
    fn parametrized(
        &mut self,
        cx: &mut Context,
        layer: &str,
        shape: &[usize; 2],
        init: &Init,
        rule: Parametrization,
    ) -> Result<Ref, Error> {
        let fans = (shape[1], shape[0]);
        let [v, g] = rule.leaves();
        let matrix = self.tensor(cx, layer, v, shape, fans, init)?.tensor;
        let vector = self.tensor(cx, layer, g, &shape[..1], fans, &Init::constant(0.0))?.tensor;
        let made = self.tensor(cx, layer, DERIVED, shape, fans, init)?;
        // The matrix starts with the numbers that weights without a parametrization would have.
        let name = &self.tensors[made.tensor].name;
        self.tensors[matrix].key =
            fnv1a(name.strip_suffix(DERIVED).map_or(name.clone(), |n| format!("{n}weight")).as_str());
        self.tensors[vector].origin = Origin::Started(rule, matrix);
        self.tensors[made.tensor].origin = Origin::Derived(Derived { rule, matrix, vector });
        Ok(made)
    }

    /// The activation right after layer `i`, which becomes part of its unit.
    fn next_act(
        &mut self,
        cx: &mut Context,
        layers: &[Layer],
        i: &mut usize,
        width: usize,
    ) -> Result<Option<ActUse>, Error> {
        let Some(Layer::Activation { name, act }) = layers.get(*i + 1) else { return Ok(None) };
        *i += 1;
        Ok(Some(self.act_use(cx, name, *act, width)?))
    }

    fn act_use(&mut self, cx: &mut Context, name: &str, act: Act, width: usize) -> Result<ActUse, Error> {
        let d = cx.slot(width);
        let (slope, h) = match act.learned_start() {
            Some(start) => {
                let r = self.tensor(cx, name, "slope", &[1], (1, 1), &Init::constant(start))?;
                (Some(r), Some(cx.slot(width)))
            }
            None => (None, None),
        };
        Ok(ActUse { act, slope, d, h })
    }

    pub(super) fn tensor(
        &mut self,
        cx: &Context,
        layer: &str,
        leaf: &str,
        shape: &[usize],
        fans: (usize, usize),
        init: &Init,
    ) -> Result<Ref, Error> {
        let name =
            cx.path.iter().map(String::as_str).chain([layer, leaf]).filter(|s| !s.is_empty()).collect::<Vec<_>>();
        let name = name.join(".");
        // Copies of one iteration, and the one of this place in the unrolled body.
        let (mut inner, mut first) = (1usize, 0usize);
        let mut lead = Vec::new();
        if !cx.times.1 {
            lead.push(cx.times.0);
        }
        for &(n, index, tied) in &cx.inner {
            if !tied {
                inner *= n;
                first = first * n + index;
                lead.push(n);
            }
        }
        let stride = if cx.times.1 { 0 } else { inner };
        let copies = inner * if cx.times.1 { 1 } else { cx.times.0 };
        let total = shape.iter().chain([&copies]).try_fold(1usize, |a, &b| a.checked_mul(b).filter(|&x| x < LIMIT));
        if total.is_none() {
            return Err(Error::Memory { what: format!("parameter {name}"), need: u64::MAX, limit: LIMIT as u64 });
        }
        let again = cx.again();
        if let Some(&t) = self.names.get(&name) {
            if !again {
                return Err(Error::Argument(format!(
                    "two parameters are named {name:?}; give one of the layers another name"
                )));
            }
            self.tensors[t].uses += cx.times.0;
            return Ok(Ref { tensor: t, first, stride });
        }
        self.names.insert(name.clone(), self.tensors.len());
        self.tensors.push(Tensor {
            key: fnv1a(&name),
            name,
            shape: lead.iter().chain(shape).copied().collect(),
            rows: shape[0],
            cols: shape.get(1).copied().unwrap_or(1),
            copies,
            fans,
            init: init.clone(),
            shared: false,
            slope: matches!(leaf, "slope" | "scale"),
            lead: lead.len(),
            trainable: true,
            origin: Origin::Drawn,
            uses: cx.times.0,
        });
        Ok(Ref { tensor: self.tensors.len() - 1, first, stride })
    }
}

impl Context {
    pub fn slot(&mut self, width: usize) -> usize {
        self.block.slots.push(width);
        self.block.slots.len() - 1
    }

    pub fn unit(
        &mut self,
        kind: Kind,
        source: Source,
        act: Option<ActUse>,
        widths: (usize, usize),
        delta: bool,
    ) -> Source {
        let y = self.slot(widths.1);
        let delta = delta.then(|| {
            self.block.deltas.push(widths.1);
            self.block.deltas.len() - 1
        });
        let unit = Some(self.block.units);
        self.block.units += 1;
        self.block.ops.push(Op { kind, source, y, act, delta, widths, unit });
        Source::Slot(y)
    }

    /// Whether the layers in work were lowered before, by an unrolled Repeat.
    pub fn again(&self) -> bool {
        self.inner.iter().any(|&(_, index, _)| index > 0)
    }

    /// How many applications of a layer come before this one in an iteration, and how many an iteration has.
    pub fn applications(&self) -> (usize, usize) {
        self.inner.iter().fold((0, 1), |(first, all), &(n, index, _)| (first * n + index, all * n))
    }

    pub fn at(&self) -> String {
        format!("{:?}", self.path.join("."))
    }

    pub fn below(&self, name: &str) -> String {
        let parts = self.path.iter().map(String::as_str).chain([name]).filter(|s| !s.is_empty());
        format!("{:?}", parts.collect::<Vec<_>>().join("."))
    }
}

/// FNV-1a, 32 bits: spreads names over keys; any fixed hash would do.
pub(super) fn fnv1a(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193))
}
