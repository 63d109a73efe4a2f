//! STUB
use crate::num::{real::Real, rng::Key};
#[derive(Clone, Debug)]
pub struct Init {
    c: Option<f64>,
}
impl Init {
    pub fn constant(v: f64) -> Self {
        Self { c: Some(v) }
    }
    pub fn glorot() -> Self {
        Self { c: None }
    }
    pub fn fill<T: Real>(
        &self,
        out: &mut [T],
        _r: usize,
        _c: usize,
        fi: usize,
        fo: usize,
        key: Key,
    ) -> Result<(), String> {
        if let Some(c) = self.c {
            out.fill(T::from_f64(c));
            return Ok(());
        }
        let b = (6.0 / (fi + fo) as f64).sqrt();
        let mut s = key.seed.wrapping_mul(0x9e3779b97f4a7c15)
            ^ ((key.tensor as u64) << 32 | key.layer as u64).wrapping_mul(0xff51afd7ed558ccd)
            | 1;
        for o in out {
            s ^= s << 13;
            s ^= s >> 7;
            s ^= s << 17;
            *o = T::from_f64(b * ((s >> 11) as f64 / (1u64 << 52) as f64 - 1.0));
        }
        Ok(())
    }
}
#[derive(Clone, Debug)]
pub enum Value {
    Number(f64),
    Text(String),
}
#[derive(Debug)]
pub struct InitError(String);
impl std::fmt::Display for InitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl InitError {
    pub fn is_unknown_name(&self) -> bool {
        true
    }
}
pub struct P {
    pub name: &'static str,
    pub default: Value,
    pub doc: &'static str,
}
pub struct Info {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub formula: &'static str,
    pub summary: &'static str,
    pub reference: &'static str,
    pub params: &'static [P],
}
static I: [Info; 4] = [
    Info { name: "glorot_normal", aliases: &["xavier_normal"], formula: "", summary: "", reference: "", params: &[] },
    Info { name: "he_normal", aliases: &["kaiming_normal"], formula: "", summary: "", reference: "", params: &[] },
    Info { name: "zeros", aliases: &[], formula: "", summary: "", reference: "", params: &[] },
    Info { name: "orthogonal", aliases: &[], formula: "", summary: "", reference: "", params: &[] },
];
impl Init {
    pub fn parse(name: &str, _p: &[(String, Value)]) -> Result<Init, InitError> {
        Ok(if name == "zeros" { Self::constant(0.0) } else { Self::glorot() })
    }
    pub fn infos() -> Vec<&'static Info> {
        I.iter().collect()
    }
}
