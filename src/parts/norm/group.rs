//! parts: group normalisation. Knows no arithmetic.

use super::{EPS, Given, Info, Over, Param, Rule};

/// Groups of neighbouring units of each row by their own mean and variance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    groups: usize,
}

impl Rule for Group {
    const INFO: &'static Info = &Info {
        name: "group",
        aliases: &["group_norm", "GroupNorm", "GroupNormalization"],
        formula: "y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias, over each group of neighbouring units of a \
                  sample",
        summary: "Layer normalisation in groups: one group is layer normalisation, and no unit silences another group.",
        reference: "Wu & He 2018, arXiv:1803.08494; PyTorch torch.nn.GroupNorm",
        params: &[Param::bounded("groups", 1.0, 1.0, 1e9, "Groups; they divide the width."), EPS],
    };
    fn new(given: &Given) -> Self {
        Self { groups: given.number("groups") as usize }
    }
    fn over(&self, width: usize) -> Result<Over, String> {
        let groups = self.groups;
        if width.is_multiple_of(groups) {
            return Ok(Over::Row { groups, centre: true });
        }
        let near = (1..=groups.min(width)).rev().find(|g| width.is_multiple_of(*g)).unwrap_or(1);
        Err(format!("{groups} groups do not divide its {width} features; take {near}"))
    }
}
