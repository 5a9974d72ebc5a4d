//! How a workgroup reduces: which text stands behind `group_sum` and `group_max` of `common/reduce.wgsl`.

use crate::REDUCE_WIDTH;

/// The declarations of workgroup reductions. A kernel that lists this text gets the functions that suit its adapter.
pub const REDUCE: &str = include_str!("../../../shaders/common/reduce.wgsl");

const TREE: &str = include_str!("../../../shaders/common/reduce_tree.wgsl");
const BY_SUBGROUPS: &str = include_str!("../../../shaders/common/reduce_subgroups.wgsl");

/// Ways to reduce over a workgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// By halves, with a barrier for each: every adapter can.
    Tree,
    /// Subgroups first.
    Subgroups,
    /// A workgroup is one subgroup.
    OneSubgroup,
}

impl Reduction {
    /// Every way.
    pub const ALL: [Reduction; 3] = [Reduction::Tree, Reduction::Subgroups, Reduction::OneSubgroup];

    /// The way for an adapter whose subgroups, if kernels may use them, have `smallest` invocations at least.
    pub(super) fn of(smallest: Option<u32>, small_simd: bool) -> Reduction {
        match smallest {
            None => Reduction::Tree,
            Some(smallest) if small_simd && smallest >= REDUCE_WIDTH.small as u32 => Reduction::OneSubgroup,
            Some(_) => Reduction::Subgroups,
        }
    }

    /// What a kernel that lists [`REDUCE`] has besides.
    pub(super) fn texts(self) -> &'static [&'static str] {
        match self {
            Reduction::Tree => &["const ONE_SUBGROUP: bool = false;\n", TREE],
            Reduction::Subgroups => &["const ONE_SUBGROUP: bool = false;\n", BY_SUBGROUPS],
            Reduction::OneSubgroup => &["const ONE_SUBGROUP: bool = true;\n", BY_SUBGROUPS],
        }
    }
}
