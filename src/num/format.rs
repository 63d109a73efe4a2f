//! num: what each float format keeps of a number: nothing, a subnormal, a value or an overflow. Knows no arrays.

/// The range of a binary float format. All values are exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Format {
    /// As users write it.
    pub name: &'static str,
    /// log2 of the smallest positive number.
    pub min_subnormal_log2: i64,
    /// log2 of the smallest normal number.
    pub min_normal_log2: i64,
    /// Exponent of the largest finite number.
    pub max_exponent: i64,
    /// The largest finite number is this times 2^max_exponent, in [1, 2).
    pub max_significand: f64,
}

const fn ieee(name: &'static str, mantissa_bits: u32, bias: i64) -> Format {
    Format {
        name,
        min_subnormal_log2: 1 - bias - mantissa_bits as i64,
        min_normal_log2: 1 - bias,
        max_exponent: bias,
        max_significand: 2.0 - 1.0 / (1u64 << mantissa_bits) as f64,
    }
}

/// The formats gradients are stored in. Sources: IEEE 754-2019; bfloat16 as in hardware; Micikevicius et al. 2022,
/// "FP8 formats for deep learning" (e4m3 has no infinities, and 448 as its largest number).
pub const FORMATS: [Format; 6] = [
    ieee("float64", 52, 1023),
    ieee("float32", 23, 127),
    ieee("bfloat16", 7, 127),
    ieee("float16", 10, 15),
    ieee("float8_e5m2", 2, 15),
    Format { name: "float8_e4m3", min_subnormal_log2: -9, min_normal_log2: -6, max_exponent: 8, max_significand: 1.75 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_the_standards() {
        let max = |f: &Format| f.max_significand * 2f64.powi(f.max_exponent as i32);
        assert_eq!(FORMATS.map(|f| f.min_subnormal_log2), [-1074, -149, -133, -24, -16, -9]);
        assert_eq!(FORMATS.map(|f| f.min_normal_log2), [-1022, -126, -126, -14, -14, -6]);
        assert_eq!(max(&FORMATS[0]), f64::MAX);
        assert_eq!(max(&FORMATS[1]), f64::from(f32::MAX));
        assert_eq!([max(&FORMATS[3]), max(&FORMATS[4]), max(&FORMATS[5])], [65504.0, 57344.0, 448.0]);
    }
}
