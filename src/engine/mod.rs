//! engine: programs, memory plans, the sweep, the weight phase, and the passes made of them. Knows no Python.

mod branches;
pub mod chain;
pub mod clipping;
pub mod derived;
mod faint;
pub mod feed;
mod look_ahead;
pub mod network;
mod noise;
pub mod op;
pub mod origin;
pub mod pass;
pub mod plan;
pub mod program;
pub mod recurrent;
pub mod shared;
pub mod stats;
pub mod sweep;
mod sweep_branches;
pub mod tape;
pub mod train;
pub mod update;
pub mod uses;
pub mod weights;
