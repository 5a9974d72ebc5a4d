//! How invocations of a workgroup pass values on to each other: which texts stand behind `common/reduce.wgsl` and
//! `common/row_values.wgsl`.

use crate::REDUCE_WIDTH;

/// The declarations of workgroup reductions. A kernel that lists this text gets the functions that suit its adapter.
pub(crate) const REDUCE: &str = include_str!("../../../shaders/common/reduce.wgsl");
/// The declarations of values that all of a workgroup need, in the same way.
pub(crate) const ROW_VALUES: &str = include_str!("../../../shaders/common/row_values.wgsl");

const TREE: &str = include_str!("../../../shaders/common/reduce_tree.wgsl");
const BY_SUBGROUPS: &str = include_str!("../../../shaders/common/reduce_subgroups.wgsl");
const READ: &str = include_str!("../../../shaders/common/row_values_read.wgsl");
const PASSED_ON: &str = include_str!("../../../shaders/common/row_values_passed_on.wgsl");

/// Ways to pass values on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exchange {
    /// Through memory: every adapter can. Workgroups reduce by halves, with a barrier for each.
    Memory,
    /// By subgroups, whose results meet in workgroup memory.
    Subgroups,
    /// On adapters with small vectors: workgroups of up to eight, the small `REDUCE_WIDTH`, are one subgroup each.
    OneSubgroup,
}

impl Exchange {
    /// Every way.
    pub const ALL: [Exchange; 3] = [Exchange::Memory, Exchange::Subgroups, Exchange::OneSubgroup];

    /// The way for an adapter whose subgroups, if kernels may use them, have `smallest` invocations at least.
    pub(super) fn of(smallest: Option<u32>, small_simd: bool) -> Exchange {
        match smallest {
            None => Exchange::Memory,
            Some(smallest) if small_simd && smallest >= REDUCE_WIDTH.small as u32 => Exchange::OneSubgroup,
            Some(_) => Exchange::Subgroups,
        }
    }

    /// What a kernel of these texts has besides.
    pub(super) fn texts(self, sources: &[&str]) -> String {
        let reduce: &[&str] = match self {
            Exchange::Memory => &["const ONE_SUBGROUP: bool = false;\n", TREE],
            Exchange::Subgroups => &["const ONE_SUBGROUP: bool = false;\n", BY_SUBGROUPS],
            Exchange::OneSubgroup => &["const ONE_SUBGROUP: bool = true;\n", BY_SUBGROUPS],
        };
        let row_values = if self == Exchange::OneSubgroup { PASSED_ON } else { READ };
        let mut texts = String::new();
        if sources.contains(&REDUCE) {
            texts.extend(reduce.iter().copied());
        }
        if sources.contains(&ROW_VALUES) {
            texts += row_values;
        }
        texts
    }
}
