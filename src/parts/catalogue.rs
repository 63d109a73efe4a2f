//! parts: what every catalogue entry tells of itself and how its parameters are read. Knows no entry.

use super::activation::Act;
use std::fmt;

/// A parameter's value as the user gave it.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Number(f64),
    /// One of a few words.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(x) => write!(f, "{x}"),
            Value::Text(s) => write!(f, "\"{s}\""),
        }
    }
}

/// What a parameter may be, and is when not given.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// A finite number between two bounds, both included.
    Number {
        /// Value when not given.
        default: f64,
        /// Least value.
        low: f64,
        /// Greatest value.
        high: f64,
    },
    /// The name of an activation that learns nothing.
    Activation {
        /// Value when not given.
        default: &'static str,
    },
    /// Yes or no: a number that is 1 or 0.
    Flag {
        /// Value when not given.
        default: bool,
    },
    /// One of a few words.
    Choice {
        /// Value when not given.
        default: &'static str,
        /// All valid words.
        of: &'static [&'static str],
    },
}

/// A parameter of a catalogue entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Param {
    /// Name.
    pub name: &'static str,
    /// What it may be, and its default.
    pub kind: Kind,
    /// What it does.
    pub doc: &'static str,
}

impl Param {
    /// A parameter that takes any finite number.
    pub const fn number(name: &'static str, default: f64, doc: &'static str) -> Self {
        Self::bounded(name, default, -f64::MAX, f64::MAX, doc)
    }

    /// A parameter that takes a number from `low` to `high`.
    pub const fn bounded(name: &'static str, default: f64, low: f64, high: f64, doc: &'static str) -> Self {
        Self { name, kind: Kind::Number { default, low, high }, doc }
    }

    /// A parameter that takes one of the words `of`.
    pub const fn choice(
        name: &'static str,
        default: &'static str,
        of: &'static [&'static str],
        doc: &'static str,
    ) -> Self {
        Self { name, kind: Kind::Choice { default, of }, doc }
    }

    /// A parameter that takes the name of an activation.
    pub const fn activation(name: &'static str, default: &'static str, doc: &'static str) -> Self {
        Self { name, kind: Kind::Activation { default }, doc }
    }

    /// A parameter that is on or off.
    pub const fn flag(name: &'static str, default: bool, doc: &'static str) -> Self {
        Self { name, kind: Kind::Flag { default }, doc }
    }

    /// The value when none is given.
    pub fn default_value(&self) -> Value {
        match self.kind {
            Kind::Number { default, .. } => Value::Number(default),
            Kind::Flag { default } => Value::Number(f64::from(u8::from(default))),
            Kind::Activation { default } | Kind::Choice { default, .. } => Value::Text(default.to_owned()),
        }
    }

    /// What it takes, in words.
    pub fn expected(&self) -> String {
        match self.kind {
            Kind::Number { low, high, .. } => match (low > -f64::MAX, high < f64::MAX) {
                (false, false) => "a finite number".to_owned(),
                (true, false) if low == f64::MIN_POSITIVE => "a finite number above 0".to_owned(),
                (true, false) => format!("a finite number of at least {low}"),
                (false, true) => format!("a finite number of at most {high}"),
                (true, true) if low == f64::MIN_POSITIVE => format!("a number above 0 and at most {high}"),
                (true, true) => format!("a number from {low} to {high}"),
            },
            Kind::Activation { .. } => {
                let names: Vec<_> = Act::infos().iter().filter(|i| !i.learned).map(|i| i.name).collect();
                format!("the name of an activation that learns nothing ({})", names.join(", "))
            }
            Kind::Flag { .. } => "true or false".to_owned(),
            Kind::Choice { of, .. } => format!("one of \"{}\"", of.join("\", \"")),
        }
    }

    fn takes(&self, v: &Value) -> bool {
        match (&self.kind, v) {
            (Kind::Number { low, high, .. }, Value::Number(x)) => low <= x && x <= high,
            (Kind::Flag { .. }, Value::Number(x)) => *x == 0.0 || *x == 1.0,
            (Kind::Activation { .. }, Value::Text(s)) => {
                Act::parse(s, &[]).is_ok_and(|act| act.learned_start().is_none())
            }
            (Kind::Choice { of, .. }, Value::Text(s)) => of.contains(&s.as_str()),
            _ => false,
        }
    }
}

/// What the catalogue says of an entry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Info {
    /// Canonical name.
    pub name: &'static str,
    /// Names it has elsewhere (PyTorch, Keras, JAX) and answers to.
    pub aliases: &'static [&'static str],
    /// What it computes.
    pub formula: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Where it comes from.
    pub reference: &'static str,
    /// Its parameters.
    pub params: &'static [Param],
}

impl Info {
    /// Whether this entry answers to `name`; case, '-', '_' and spaces do not count.
    pub fn answers_to(&self, name: &str) -> bool {
        let plain = |s: &str| -> String {
            s.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).flat_map(char::to_lowercase).collect()
        };
        let asked = plain(name);
        plain(self.name) == asked || self.aliases.iter().any(|a| plain(a) == asked)
    }

    /// Checks parameters by name and value, and adds the defaults of those not given.
    pub fn read(&'static self, given: &[(String, Value)]) -> Result<Given, CatalogueError> {
        for (name, v) in given {
            let Some(p) = self.params.iter().find(|p| p.name == name) else {
                return Err(CatalogueError::UnknownParam { entry: self, name: name.clone() });
            };
            if !p.takes(v) {
                return Err(self.invalid(p.name, v.to_string(), p.expected()));
            }
        }
        let value = |p: &Param| {
            let asked = given.iter().rev().find(|(name, _)| name == p.name);
            (p.name, asked.map_or_else(|| p.default_value(), |(_, v)| v.clone()))
        };
        Ok(Given { info: self, values: self.params.iter().map(value).collect() })
    }

    /// An error about a parameter whose value does not fit.
    pub fn invalid(&'static self, param: &'static str, got: String, expected: String) -> CatalogueError {
        CatalogueError::InvalidParam { entry: self, param, got, expected }
    }
}

/// The checked parameters of one entry, defaults filled in.
#[derive(Clone, Debug)]
pub struct Given {
    info: &'static Info,
    values: Vec<(&'static str, Value)>,
}

impl Given {
    /// The entry they belong to.
    pub fn info(&self) -> &'static Info {
        self.info
    }

    /// A numeric parameter; NaN if the entry's own list does not have it, which its tests would show.
    pub fn number(&self, name: &str) -> f64 {
        match self.values.iter().find(|(n, _)| *n == name) {
            Some((_, Value::Number(x))) => *x,
            _ => f64::NAN,
        }
    }

    /// A parameter that is on or off.
    pub fn flag(&self, name: &str) -> bool {
        self.number(name) == 1.0
    }

    /// A parameter that is a word.
    pub fn text(&self, name: &str) -> &str {
        match self.values.iter().find(|(n, _)| *n == name) {
            Some((_, Value::Text(s))) => s,
            _ => "",
        }
    }
}

/// Why a name or a parameter was refused; carries all that a message needs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CatalogueError {
    /// No entry answers to the name.
    #[error("{kind}: expected one of {}; got \"{name}\". Use one of these names or an alias that the catalogue lists", known.join(", "))]
    UnknownName {
        /// What the catalogue holds, as "initializer".
        kind: &'static str,
        /// The name that was asked for.
        name: String,
        /// All canonical names.
        known: Vec<&'static str>,
    },
    /// The entry has no such parameter.
    #[error("{}: expected parameters {}; got \"{name}\". Leave it out or use one of these", entry.name, names(entry))]
    UnknownParam {
        /// The entry.
        entry: &'static Info,
        /// The parameter that was given.
        name: String,
    },
    /// The value does not fit the parameter.
    #[error("{}: expected {param} to be {expected}; got {got}. Change {param}", entry.name)]
    InvalidParam {
        /// The entry.
        entry: &'static Info,
        /// The parameter.
        param: &'static str,
        /// The value that was given.
        got: String,
        /// What would have fitted.
        expected: String,
    },
}

impl CatalogueError {
    /// Whether it is the name that no entry answers to.
    pub fn is_unknown_name(&self) -> bool {
        matches!(self, Self::UnknownName { .. })
    }
}

fn names(entry: &Info) -> String {
    if entry.params.is_empty() {
        return "(none)".to_owned();
    }
    entry.params.iter().map(|p| p.name).collect::<Vec<_>>().join(", ")
}
