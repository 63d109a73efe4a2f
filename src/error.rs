//! The one error of the core; what it displays is what a user reads. Knows no Python.

/// Why a call could not be carried out: what was expected, what came, where, and what to do.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Sizes that do not fit each other.
    #[error("{0}")]
    Shape(String),
    /// A value that makes no sense.
    #[error("{0}")]
    Argument(String),
    /// A name that no table has.
    #[error("unknown {kind} {name:?}; known are {known}")]
    Unknown {
        /// Which table.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// A label outside the classes.
    #[error("label {label} of sample {sample} is not one of the {classes} classes 0..{last}; check y or out_features", last = classes - 1)]
    Label {
        /// The row.
        sample: usize,
        /// What it holds.
        label: i64,
        /// How many classes the output has.
        classes: usize,
    },
    /// More memory than allowed or available.
    #[error(
        "{what} needs about {}, but {} are allowed; lower depth, length, width or batch, or raise memory_budget",
        size(*need), size_below(*limit)
    )]
    Memory {
        /// For what.
        what: String,
        /// Estimate in bytes.
        need: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// Memory that the system did not give, whatever was allowed.
    #[error(
        "the system refused {} for {what}; lower depth, length, width or batch, or let the process have more memory",
        size(*bytes)
    )]
    Refused {
        /// For what.
        what: String,
        /// Bytes that were asked for.
        bytes: u64,
    },
    /// What is wanted is in use by the very thread that wants it.
    #[error("{0}")]
    Busy(String),
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Bytes as people read them, rounded up: what is said to be needed is enough.
pub fn size(bytes: u64) -> String {
    in_words(bytes, true)
}

/// The same rounded down: what is said to be allowed is allowed.
fn size_below(bytes: u64) -> String {
    in_words(bytes, false)
}

fn in_words(bytes: u64, up: bool) -> String {
    const UNITS: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let (mut unit, mut scale) = (0, 1u128);
    while u128::from(bytes) >= scale * 1024 && unit + 1 < UNITS.len() {
        unit += 1;
        scale *= 1024;
    }
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenfold = u128::from(bytes) * 10;
    let tenths = if up { tenfold.div_ceil(scale) } else { tenfold / scale };
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// A number with a comma after each three digits.
pub fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

impl From<crate::num::aligned::NoMemory> for Error {
    fn from(e: crate::num::aligned::NoMemory) -> Self {
        Error::Refused { what: "a buffer".into(), bytes: e.0 as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_the_system_is_not_one_by_the_budget() {
        let refused = Error::from(crate::num::aligned::NoMemory(160_000_000_000));
        let want = "the system refused 149.1 GiB for a buffer; lower depth, length, width or batch, or let the process \
                    have more memory";
        assert_eq!(refused.to_string(), want);
        let budget = Error::Memory { what: "a pass".into(), need: 2048, limit: 1000 };
        let want = "a pass needs about 2.0 KiB, but 1000 B are allowed; lower depth, length, width or batch, or raise \
                    memory_budget";
        assert_eq!(budget.to_string(), want);
    }
}
