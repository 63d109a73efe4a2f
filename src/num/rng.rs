//! STUB
pub struct Key { pub seed: u64, pub tensor: u32, pub layer: u32 }
