//! parts: tests of all cells: reverse against differences, and the catalogue. Know no time.

use super::*;
use crate::kernels::cell::{CellMath, Reverse, RowBack, Step, reverse, step};

struct Compare;

impl CellVisitor for Compare {
    type Out = f64;
    fn visit<M: CellMath>(self, cell: M) -> f64 {
        let units = 5;
        let wave = |n: usize, seed: f64| (0..n).map(|i| (1.3 * i as f64 + seed).sin()).collect::<Vec<f64>>();
        let (z, s, p) = (wave(M::COLUMNS * units, 0.3), wave(M::STATES * units, 1.7), wave(M::VECTORS * units, 2.9));
        let g = wave(M::STATES * units, 4.1);
        let value = |z: &[f64], s: &[f64], p: &[f64]| {
            let mut out = vec![0.0; M::STATES * units];
            step(Step { cell, units, z, s, p, out: &mut out });
            out.iter().zip(&g).map(|(a, b)| a * b).sum::<f64>()
        };
        let mut delta = vec![0.0; (M::COLUMNS + M::VECTORS) * units];
        let mut direct = vec![0.0; M::STATES * units];
        let mut rows = [RowBack::default()];
        let (d, e) = (&mut delta[..], &mut direct[..]);
        let outputs = 1;
        reverse(Reverse { cell, units, outputs, z: &z, s: &s, p: &p, g: &g, delta: d, direct: e, rows: &mut rows });
        assert_eq!((rows[0].shift, rows[0].direct_shift), (0, 0));
        let h = 1e-6;
        let mut worst = 0.0f64;
        let mut check = |got: f64, plus: f64, minus: f64| {
            let want = (plus - minus) / (2.0 * h);
            worst = worst.max((got - want).abs() / (1e-3 + want.abs()));
        };
        let moved = |v: &[f64], i: usize, by: f64| {
            let mut v = v.to_vec();
            v[i] += by;
            v
        };
        for (i, &d) in delta[..z.len()].iter().enumerate() {
            check(d, value(&moved(&z, i, h), &s, &p), value(&moved(&z, i, -h), &s, &p));
        }
        for (i, &d) in direct.iter().enumerate() {
            check(d, value(&z, &moved(&s, i, h), &p), value(&z, &moved(&s, i, -h), &p));
        }
        for i in 0..p.len() {
            check(delta[z.len() + i], value(&z, &s, &moved(&p, i, h)), value(&z, &s, &moved(&p, i, -h)));
        }
        worst
    }
}

#[test]
fn reverse_is_the_derivative_of_step() {
    let peephole = Cell::parse("lstm", &[("peephole".into(), Value::Number(1.0))]).unwrap();
    for cell in Cell::all().into_iter().chain([peephole]) {
        let worst = cell.visit(Compare);
        assert!(worst < 1e-6, "{}: {worst}", cell.info().name);
    }
}

#[test]
fn shapes_are_consistent() {
    for cell in Cell::all() {
        let s = cell.shape();
        assert_eq!(s.ih.len(), s.gates.len(), "{}", cell.info().name);
        assert!(s.ih.iter().chain(s.hh).all(|&c| c < s.columns));
        assert!(s.outputs <= s.states && s.states.is_multiple_of(s.outputs));
    }
}

#[test]
fn learned_and_effective_parameters_fit() {
    let lru = Cell::parse("lru", &[]).unwrap();
    let raw = lru.start_vectors([0.3, 0.6, 0.0]);
    let g = [0.7, -1.1, 0.4];
    let back = lru.pull_back(raw, g);
    for i in 0..3 {
        let at = |by: f64| {
            let mut r = raw;
            r[i] += by;
            lru.effective(r).iter().zip(g).map(|(a, b)| a * b).sum::<f64>()
        };
        let want = (at(1e-6) - at(-1e-6)) / 2e-6;
        assert!((back[i] - want).abs() < 1e-8 * (1.0 + want.abs()), "{i}: {} {want}", back[i]);
    }
}

#[test]
fn unknown_names_and_values_are_refused() {
    assert!(Cell::parse("lstmm", &[]).unwrap_err().is_unknown_name());
    let bad = Cell::parse("rnn", &[("activation".into(), Value::Text("tahn".into()))]).unwrap_err();
    assert!(bad.to_string().contains("the name of an activation"), "{bad}");
    assert!(Cell::parse("lru", &[("r_max".into(), Value::Number(0.5))]).is_err());
}
