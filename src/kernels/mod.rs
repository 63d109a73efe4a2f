//! kernels: slices in, slices out, forward beside backward. Know numbers, not networks.

mod bins;
pub mod branch;
pub mod cell;
pub mod cell_faint;
pub mod cell_figures;
pub mod delta;
pub mod gradient;
pub mod gram_schmidt;
pub mod magnitudes;
pub mod matmul;
pub mod norm;
pub mod norm_columns;
pub mod number;
pub mod pointwise;
pub mod row_affine;
pub mod unit;
pub mod update;
