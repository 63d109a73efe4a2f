//! engine: programs, memory plans, the sweep, the weight phase, and the passes made of them. Knows no Python.

pub mod chain;
mod faint;
pub mod feed;
mod look_ahead;
pub mod network;
pub mod op;
pub mod origin;
pub mod pass;
pub mod plan;
pub mod program;
pub mod recurrent;
pub mod shared;
pub mod stats;
pub mod sweep;
pub mod tape;
pub mod weights;
