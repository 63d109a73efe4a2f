//! parts: the linear recurrent unit: a diagonal complex recurrence. Knows no time.

use super::{CatalogueError, CellPart, Given, Info, Leaf, Param, Shape};
use crate::kernels::cell::{Back, CellMath, CellVisitor, P, S, Z};
use crate::kernels::number::Number;
use crate::num::math::scalar::{exp, log};
use crate::num::simd::Vector;
use crate::parts::init::{Init, Value};

/// `s' = lambda s + gamma z` with `z = [Re, Im]`, `s = [Re, Im]`, `p = [Re lambda, Im lambda, gamma]`.
#[derive(Clone, Copy)]
struct Math;

impl CellMath for Math {
    const COLUMNS: usize = 2;
    const STATES: usize = 2;
    const VECTORS: usize = 3;
    const GATES: usize = 0;
    const DIRECT: bool = true;

    #[inline(always)]
    fn step<V: Vector>(&self, z: Z<V>, s: S<V>, p: P<V>) -> S<V> {
        let re = p[0].fma(s[0], p[1].neg().fma(s[1], p[2].mul(z[0])));
        let im = p[1].fma(s[0], p[0].fma(s[1], p[2].mul(z[1])));
        [re, im]
    }

    #[inline(always)]
    fn back<N: Number>(&self, z: Z<N>, s: S<N>, p: P<N>, d: S<N>) -> Back<N> {
        let o = N::zero();
        let re = p[0].fma(d[0], p[1].mul(d[1]));
        let im = p[0].fma(d[1], p[1].neg().mul(d[0]));
        let lambda_re = d[0].fma(s[0], d[1].mul(s[1]));
        let lambda_im = d[1].fma(s[0], d[0].neg().mul(s[1]));
        let gamma = d[0].fma(z[0], d[1].mul(z[1]));
        Back { z: [p[2].mul(d[0]), p[2].mul(d[1]), o, o], s: [re, im], p: [lambda_re, lambda_im, gamma], c: o }
    }

    #[inline(always)]
    fn gates<V: Vector>(&self, _: Z<V>, _: S<V>, _: P<V>) -> Z<(V, V)> {
        [(V::zero(), V::zero()); 4]
    }
}

/// The cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lru {
    r_min: f64,
    r_max: f64,
    max_phase: f64,
}

impl CellPart for Lru {
    const INFO: &'static Info = &Info {
        name: "lru",
        aliases: &["LRU", "diagonal_rnn"],
        formula: "s' = lambda s + gamma (B x), lambda = exp(-exp(nu) + i exp(theta)), gamma = exp(gamma_log); h = [Re s; Im s]",
        summary: "A linear diagonal recurrence with complex eigenvalues inside the unit circle, placed near it.",
        reference: "Orvieto et al. 2023, Resurrecting recurrent neural networks for long sequences, arXiv:2303.06349, \
                    eq. 5 to 7",
        params: &[
            Param::bounded("r_min", 0.9, 0.0, 1.0, "Least |lambda| at the start."),
            Param::bounded("r_max", 0.999, 0.0, 1.0, "Greatest |lambda| at the start."),
            Param::bounded("max_phase", std::f64::consts::TAU, f64::MIN_POSITIVE, 7.0, "Greatest phase at the start."),
        ],
    };
    fn new(given: &Given) -> Result<Self, CatalogueError> {
        let (r_min, r_max) = (given.number("r_min"), given.number("r_max"));
        if r_min >= r_max || r_max >= 1.0 {
            let got = format!("r_min {r_min} and r_max {r_max}");
            return Err(Self::INFO.invalid("r_max", got, "above r_min and below 1".to_owned()));
        }
        Ok(Self { r_min, r_max, max_phase: given.number("max_phase") })
    }
    fn shape(&self) -> Shape {
        Shape {
            gates: &["re", "im"],
            ih: &[0, 1],
            hh: &[],
            columns: 2,
            states: 2,
            outputs: 2,
            vectors: (3, "lru"),
            bias: false,
            gated: false,
            antisymmetric: None,
            keep: None,
            input: None,
        }
    }
    fn visit<V: CellVisitor>(&self, visitor: V) -> V::Out {
        visitor.visit(Math)
    }
    fn start(&self, leaf: Leaf, fan_in: usize) -> Option<Init> {
        let std = Value::Number(1.0 / (2.0 * fan_in as f64).sqrt());
        (leaf == Leaf::WeightIh).then(|| Init::parse("normal", &[("std".into(), std)]).ok()).flatten()
    }
    fn start_vectors(&self, u: [f64; 3]) -> [f64; 3] {
        // Uniform on the ring between the radii (Lemma 3.2 there), and gamma = sqrt(1 - |lambda|^2), which keeps the
        // state's size whatever the radius.
        let (low, high) = (self.r_min * self.r_min, self.r_max * self.r_max);
        let square = low + u[0] * (high - low);
        [log(-0.5 * log(square)), log(self.max_phase * u[1]), 0.5 * log(1.0 - square)]
    }
    fn effective(&self, [nu, theta, gamma]: [f64; 3]) -> [f64; 3] {
        let (r, phase) = (exp(-exp(nu)), exp(theta));
        [r * phase.cos(), r * phase.sin(), exp(gamma)]
    }
    fn pull_back(&self, learned: [f64; 3], [re, im, gamma]: [f64; 3]) -> [f64; 3] {
        let [lambda_re, lambda_im, size] = self.effective(learned);
        let (rate, phase) = (exp(learned[0]), exp(learned[1]));
        let along = re.mul_add(lambda_re, im * lambda_im);
        let across = im.mul_add(lambda_re, -re * lambda_im);
        [-rate * along, phase * across, gamma * size]
    }
}
