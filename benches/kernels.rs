//! Benches of the kernels and of a whole training step, at the shapes the project is judged by.
//!
//! `cargo bench --no-default-features` runs all; add a name, such as `matmul/forward`, for some. One thread, save in
//! `step` and `magnitudes`, which name their number. Throughput of products and steps is in multiply-add pairs: a
//! "Gelem/s" there is half a GFLOP/s.

use criterion::{BenchmarkId, Criterion, Throughput};
use std::hint::black_box;
use std::time::Duration;
use vgcore::engine::network::Network;
use vgcore::engine::pass::{Mode, Request, Time, Top};
use vgcore::engine::sweep::Level;
use vgcore::kernels::delta::{RowDelta, delta_rows};
use vgcore::kernels::gradient::{Block, Step, Weights, block};
use vgcore::kernels::magnitudes::Magnitudes;
use vgcore::kernels::matmul::{Matrix, Scratch, Start, product};
use vgcore::kernels::pointwise::RowForward;
use vgcore::num::foreign::Foreign;
use vgcore::num::pool;
use vgcore::num::real::Real;
use vgcore::parts::activation::Act;
use vgcore::parts::init::Init;
use vgcore::parts::layer::Layer;
use vgcore::parts::loss::{Loss, Target};

/// (width, batch): the table's shapes, a small and a narrow one.
const SHAPES: [(usize, usize); 6] = [(16, 4), (32, 16), (64, 32), (256, 128), (1024, 256), (256, 1)];

/// Numbers in [-1, 1) that are the same on every run.
fn numbers<T: Real>(count: usize, seed: u64) -> Vec<T> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            T::from_f64((state >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        })
        .collect()
}

fn type_name<T: Real>() -> &'static str {
    if T::MANTISSA_BITS == 23 { "f32" } else { "f64" }
}

/// One product by this crate and by `gemm`, on the same operands: `c (m, n) = a (m, k) b (k, n)`.
fn both<T: Real>(c: &mut Criterion, name: &str, label: &str, (m, n, k): (usize, usize, usize), at: bool, bt: bool) {
    let (a, b) = (numbers::<T>(m * k, 1), numbers::<T>(k * n, 2));
    let mut out = vec![T::ZERO; m * n];
    let side = |data, rows: usize, cols: usize, turned: bool| {
        if turned { Matrix::columns(data, rows) } else { Matrix::rows(data, cols) }
    };
    let (ma, mb) = (side(&a[..], m, k, at), side(&b[..], k, n, bt));
    let mut scratch = Scratch::default();
    let mut group = c.benchmark_group(format!("matmul/{name}/{}", type_name::<T>()));
    group.throughput(Throughput::Elements((m * n * k) as u64));
    group.bench_function(BenchmarkId::new("vgcore", label), |bench| {
        bench.iter(|| product((m, n, k), ma, mb, Start::Zero, black_box(&mut out), &mut scratch));
    });
    group.bench_function(BenchmarkId::new("gemm", label), |bench| {
        bench.iter(|| {
            // SAFETY: the strides describe the operands above, which hold m * k, k * n and m * n elements.
            unsafe {
                gemm::gemm(
                    m,
                    n,
                    k,
                    black_box(&mut out).as_mut_ptr(),
                    1,
                    n as isize,
                    false,
                    a.as_ptr(),
                    ma.col as isize,
                    ma.row as isize,
                    b.as_ptr(),
                    mb.col as isize,
                    mb.row as isize,
                    T::ZERO,
                    T::ONE,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
        });
    });
    group.finish();
}

fn matmul<T: Real>(c: &mut Criterion) {
    for (width, batch) in SHAPES {
        let label = format!("{width}x{batch}");
        both::<T>(c, "forward", &label, (batch, width, width), false, true);
        both::<T>(c, "delta", &label, (batch, width, width), false, false);
        both::<T>(c, "weight_gradient", &label, (width, width, batch), true, false);
    }
}

/// Value and slope of a row, as the sweep takes them, without and with the full statistics.
fn activations<T: Real>(c: &mut Criterion) {
    let (width, rows) = (256, 32);
    let x = numbers::<T>(width * rows, 3);
    let mut group = c.benchmark_group(format!("pointwise/{}", type_name::<T>()));
    group.throughput(Throughput::Elements((width * rows) as u64));
    for info in Act::infos() {
        let Ok(act) = Act::parse(info.name, &[]) else { continue };
        let (mut y, mut d) = (x.clone(), x.clone());
        let mut sums = vec![RowForward::default(); rows];
        for (kind, full) in [("pass", false), ("pass_with_statistics", true)] {
            // Every activation goes through the same code; the statistics cost the same for all.
            if full && info.name != "tanh" {
                continue;
            }
            group.bench_function(BenchmarkId::new(kind, info.name), |bench| {
                bench.iter(|| {
                    y.copy_from_slice(&x);
                    act.forward_in_place(black_box(&mut y), &mut d, width, &mut sums, full);
                });
            });
        }
    }
    group.finish();
}

/// The row pass of the backward sweep.
fn deltas<T: Real>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("delta_rows/{}", type_name::<T>()));
    for (width, batch) in SHAPES {
        let (g, slope) = (numbers::<T>(width * batch, 4), numbers::<T>(width * batch, 5));
        let mut out = g.clone();
        let mut rows = vec![RowDelta::default(); batch];
        group.throughput(Throughput::Elements((width * batch) as u64));
        for (kind, sums) in [("plain", false), ("with_norms", true)] {
            group.bench_function(BenchmarkId::new(kind, format!("{width}x{batch}")), |bench| {
                bench.iter(|| delta_rows(&g, Some(&slope), black_box(Some(&mut out)), width, &mut rows, sums));
            });
        }
    }
    group.finish();
}

/// The pass over a finished weight gradient: norm and update, and with everything counted.
fn gradients<T: Real>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("gradient_block/{}", type_name::<T>()));
    for width in [64usize, 256] {
        let gradient = numbers::<T>(width * width, 6);
        let mut weights = numbers::<T>(width * width, 7);
        group.throughput(Throughput::Elements((width * width) as u64));
        for (kind, full) in [("norm_and_step", false), ("full_and_step", true)] {
            group.bench_function(BenchmarkId::new(kind, width), |bench| {
                bench.iter(|| {
                    block(Block {
                        gradient: &gradient,
                        weights: Weights::Write(black_box(&mut weights)),
                        // So small that the weights stay what they are over any number of runs.
                        step: Some(Step::new(1e-30, 0)),
                        flush: [T::ZERO; 6],
                        full,
                    })
                });
            });
        }
    }
    group.finish();
}

/// All figures of one array.
fn magnitudes<T: Real>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("magnitudes/{}", type_name::<T>()));
    group.sample_size(20);
    for count in [1usize << 16, 10_000_000] {
        let x = numbers::<T>(count, 8);
        group.throughput(Throughput::Bytes((count * size_of::<T>()) as u64));
        for threads in [1, 2] {
            group.bench_function(BenchmarkId::new(format!("{threads}_threads"), count), |bench| {
                bench.iter(|| Foreign::<T>::from_cells(black_box(&x[..])).map(|x| Magnitudes::of(x, threads)));
            });
        }
    }
    group.finish();
}

/// A whole training step at the table's shapes, on two threads, by how much is measured on the way.
fn step(c: &mut Criterion) {
    pool::set_num_threads(2);
    let mut group = c.benchmark_group("step/2_threads");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for (depth, width, batch) in [(1000usize, 64usize, 32usize), (1000, 256, 128), (100, 1024, 256)] {
        let parts = Init::parse("glorot_normal", &[]).ok().zip(Init::parse("zeros", &[]).ok());
        let (Some((weight, bias)), Ok(act), Ok(loss)) = (parts, Act::parse("tanh", &[]), Loss::parse("mse", &[]))
        else {
            panic!("the catalogues have no glorot_normal, zeros, tanh or mse");
        };
        let dense =
            Layer::Dense { name: String::new(), features: width, weight, bias: Some(bias), parametrization: None };
        let body = vec![dense, Layer::Activation { name: "1".into(), act }];
        let layers = [Layer::Repeat { name: "hidden".into(), n: depth, tied: false, body }];
        let network = match Network::<f32>::new(&layers, width, 0, true) {
            Ok(n) => n,
            Err(e) => panic!("{e}"),
        };
        let (x, y) = (numbers::<f32>(batch * width, 9), numbers::<f32>(batch * width, 10));
        group.throughput(Throughput::Elements((3 * depth * batch * width * width) as u64));
        for level in [Level::None, Level::Norms, Level::Full] {
            group.bench_function(BenchmarkId::new(format!("{level:?}"), format!("{depth}x{width}x{batch}")), |bench| {
                bench.iter(|| {
                    let request = Request {
                        x: &x,
                        batch,
                        top: Top::Loss(loss, Target::Values(&y)),
                        mode: Mode::Step,
                        rate: Some(1e-3),
                        level,
                        budget: None,
                        training: None,
                        time: Time::NONE,
                        poll: &|| false,
                    };
                    match network.pass(&request) {
                        Ok(outcome) => black_box(outcome.loss),
                        Err(e) => panic!("{e}"),
                    }
                });
            });
        }
    }
    group.finish();
}

fn main() {
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    matmul::<f32>(&mut c);
    matmul::<f64>(&mut c);
    activations::<f32>(&mut c);
    activations::<f64>(&mut c);
    deltas::<f32>(&mut c);
    deltas::<f64>(&mut c);
    gradients::<f32>(&mut c);
    gradients::<f64>(&mut c);
    magnitudes::<f32>(&mut c);
    magnitudes::<f64>(&mut c);
    step(&mut c);
    c.final_summary();
}
