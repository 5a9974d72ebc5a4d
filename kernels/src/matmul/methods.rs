//! The ways to compute a product on a GPU, and their kernels.

use super::Layout;
use super::gpu::Params;
use crate::buffer::Dtype;
use crate::device::{Access, Constant, Kernel, MATRICES, ROW_VALUES};
use crate::narrow::{BF16, F16};

const GRID: &str = include_str!("../../../shaders/common/grid.wgsl");
const PRODUCT: &str = include_str!("../../../shaders/common/product.wgsl");

/// What the methods for few rows are made for: rows, loads in flight, and lanes.
const FOR_1: &str = "const ROWS: u32 = 1u;\nconst STEPS: u32 = 4u;\nconst LANES: u32 = 128u;\n";
const FOR_4: &str = "const ROWS: u32 = 4u;\nconst STEPS: u32 = 4u;\nconst LANES: u32 = 128u;\n";
const FOR_8: &str = "const ROWS: u32 = 8u;\nconst STEPS: u32 = 4u;\nconst LANES: u32 = 64u;\n";
const FOR_16: &str = "const ROWS: u32 = 16u;\nconst STEPS: u32 = 2u;\nconst LANES: u32 = 64u;\n";
const FEW_ROWS: &str = include_str!("../../../shaders/common/few_rows.wgsl");

/// The texts of the methods that are not on matrix units, in their order, for an operand b that is read by these texts.
const fn plain(b: [&'static str; 2]) -> [[&'static str; 9]; 8] {
    const F32: &str = include_str!("../../../shaders/common/product_f32.wgsl");
    const TILED: &str = include_str!("../../../shaders/matmul.wgsl");
    const DIRECT: &str = include_str!("../../../shaders/matmul_direct.wgsl");
    const MANY: &str = "const ROWS: u32 = 64u;\nconst VECTORS: u32 = 16u;\n";
    const FEW: &str = "const ROWS: u32 = 16u;\nconst VECTORS: u32 = 32u;\n";
    const SINGLE: &str = include_str!("../../../shaders/matmul_few_rows.wgsl");
    const ALONE: &str = include_str!("../../../shaders/common/few_rows_alone.wgsl");
    let [b0, b1] = b;
    [
        [GRID, PRODUCT, F32, b0, b1, "", "", "", TILED],
        [GRID, PRODUCT, F32, b0, b1, "", "", "", TILED],
        [GRID, PRODUCT, F32, b0, b1, MANY, ROW_VALUES, "", DIRECT],
        [GRID, PRODUCT, F32, b0, b1, FEW, ROW_VALUES, "", DIRECT],
        [GRID, PRODUCT, F32, b0, b1, FOR_1, FEW_ROWS, ALONE, SINGLE],
        [GRID, PRODUCT, F32, b0, b1, FOR_4, FEW_ROWS, ALONE, SINGLE],
        [GRID, PRODUCT, F32, b0, b1, FOR_8, FEW_ROWS, ALONE, SINGLE],
        [GRID, PRODUCT, F32, b0, b1, FOR_16, FEW_ROWS, ALONE, SINGLE],
    ]
}
const IN_FOUR_BYTES: [&str; 2] = ["", include_str!("../../../shaders/common/operand_f32.wgsl")];
const IN_TWO_BYTES: &str = include_str!("../../../shaders/common/operand_half.wgsl");
const OF_F32: &[[&str; 9]; 8] = &plain(IN_FOUR_BYTES);
const OF_F16: &[[&str; 9]; 8] = &plain([F16, IN_TWO_BYTES]);
const OF_BF16: &[[&str; 9]; 8] = &plain([BF16, IN_TWO_BYTES]);

/// The texts of a kernel for few rows with several matrices: by the method for few rows, then for f32, f16 and bf16.
pub(super) const fn with_several(op: &'static str) -> [[[&'static str; 8]; 3]; 4] {
    const SEVERAL: &str = include_str!("../../../shaders/common/few_rows_several.wgsl");
    const NORMED: &str = include_str!("../../../shaders/common/few_rows_normed.wgsl");
    const fn of(rows: &'static str, op: &'static str) -> [[&'static str; 8]; 3] {
        [
            [GRID, IN_FOUR_BYTES[0], IN_FOUR_BYTES[1], rows, FEW_ROWS, NORMED, SEVERAL, op],
            [GRID, F16, IN_TWO_BYTES, rows, FEW_ROWS, NORMED, SEVERAL, op],
            [GRID, BF16, IN_TWO_BYTES, rows, FEW_ROWS, NORMED, SEVERAL, op],
        ]
    }
    [of(FOR_1, op), of(FOR_4, op), of(FOR_8, op), of(FOR_16, op)]
}

const COOPERATIVE: &str = include_str!("../../../shaders/matmul_cooperative.wgsl");
// Subgroups of a workgroup, matrices of each, terms of a step: for many tiles, for few, and for one row of low ones.
const OF_4: &str = "const SUBGROUPS_DOWN: u32 = 2u;\nconst SUBGROUPS_ACROSS: u32 = 2u;\nconst DOWN: u32 = 4u;\n\
    const ACROSS: u32 = 4u;\nconst STEP: u32 = 32u;\n";
const OF_8: &str = "const SUBGROUPS_DOWN: u32 = 2u;\nconst SUBGROUPS_ACROSS: u32 = 4u;\nconst DOWN: u32 = 4u;\n\
    const ACROSS: u32 = 2u;\nconst STEP: u32 = 64u;\n";
const LOW: &str = "const SUBGROUPS_DOWN: u32 = 1u;\nconst SUBGROUPS_ACROSS: u32 = 4u;\nconst DOWN: u32 = 4u;\n\
    const ACROSS: u32 = 1u;\nconst STEP: u32 = 64u;\n";

/// The texts of the methods on matrix units, in their order, for an operand b that is staged by these texts.
const fn cooperative(b: [&'static str; 2]) -> [[&'static str; 8]; 3] {
    const A: &str = "alias EightOfA = mat2x4<f32>;\n";
    let [b0, b1] = b;
    [
        [MATRICES, GRID, PRODUCT, A, b0, b1, OF_4, COOPERATIVE],
        [MATRICES, GRID, PRODUCT, A, b0, b1, OF_8, COOPERATIVE],
        [MATRICES, GRID, PRODUCT, A, b0, b1, LOW, COOPERATIVE],
    ]
}
const EIGHTS: &str = include_str!("../../../shaders/common/eights.wgsl");
const HALF_EIGHTS: &str = include_str!("../../../shaders/common/eights_half.wgsl");
const EIGHTS_OF_F32: &[[&str; 8]; 3] = &cooperative(["alias EightOfB = mat2x4<f32>;\n", EIGHTS]);
const EIGHTS_OF_F16: &[[&str; 8]; 3] = &cooperative([F16, HALF_EIGHTS]);
const EIGHTS_OF_BF16: &[[&str; 8]; 3] = &cooperative([BF16, HALF_EIGHTS]);
const ROUNDED: &[&str] = {
    const OPERANDS: &str = "alias EightOfA = mat2x4<f16>;\nalias EightOfB = mat2x4<f16>;\n";
    &[MATRICES, GRID, PRODUCT, OPERANDS, EIGHTS, OF_4, COOPERATIVE]
};

/// The ways to compute a product on a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// Through workgroup memory, 128 x 128 of c per workgroup.
    Tiled128,
    /// Through workgroup memory, 64 x 64 of c per workgroup.
    Tiled64,
    /// In registers, 64 x 64 of c per workgroup of 8.
    Direct,
    /// In registers, 16 x 128 of c per workgroup of 8: for few rows.
    DirectFew,
    /// Lanes along k, 1 x 4 of c per workgroup of 128: for one row against the rows of b.
    OneRow,
    /// The same with 4 x 4 of c.
    FewRows4,
    /// With 8 x 4 of c per workgroup of 64.
    FewRows8,
    /// With 16 x 4 of c per workgroup of 64.
    FewRows16,
    /// On matrix units, 8 x 8 matrices of c per workgroup of 4 subgroups: for many tiles.
    Cooperative4,
    /// On matrix units, 8 x 8 matrices of c per workgroup of 8 subgroups: for few.
    Cooperative8,
    /// On matrix units, 4 x 4 matrices of c per workgroup of 4 subgroups: for a single row of tiles as low as these.
    CooperativeLow,
    /// As [`Method::Cooperative4`], of operands that are rounded to f16 in memory first: for large products.
    CooperativeRounded,
}

/// All, in their order.
pub(super) const METHODS: [Method; 12] = [
    Method::Tiled128,
    Method::Tiled64,
    Method::Direct,
    Method::DirectFew,
    Method::OneRow,
    Method::FewRows4,
    Method::FewRows8,
    Method::FewRows16,
    Method::Cooperative4,
    Method::Cooperative8,
    Method::CooperativeLow,
    Method::CooperativeRounded,
];

impl Method {
    /// Its name, the middle of that of its kernels.
    pub(super) fn name(self) -> &'static str {
        self.kernel(Layout::Tn, Dtype::F32, false).name.split('.').nth(1).expect("invariant: matmul.METHOD.layout")
    }

    /// Rows and columns of c per workgroup, where matrices have `side`.
    pub(super) fn tile(self, side: usize) -> (usize, usize) {
        match self {
            Method::Tiled128 => (128, 128),
            Method::Tiled64 => (64, 64),
            Method::Direct => (64, 64),
            Method::DirectFew => (16, 128),
            Method::OneRow => (1, 4),
            Method::FewRows4 => (4, 4),
            Method::FewRows8 => (8, 4),
            Method::FewRows16 => (16, 4),
            Method::Cooperative4 | Method::Cooperative8 | Method::CooperativeRounded => (8 * side, 8 * side),
            Method::CooperativeLow => (4 * side, 4 * side),
        }
    }

    /// Its kernel for operands b of this dtype, those of two bytes in rows ([`Layout::Nt`]), and for sums that are added to c.
    pub(super) fn kernel(self, layout: Layout, b: Dtype, accumulate: bool) -> &'static Kernel {
        let kernels = match b {
            _ if self == Method::CooperativeRounded => &OF_ROUNDED,
            Dtype::F16 => &HALVES[self as usize][0],
            Dtype::Bf16 => &HALVES[self as usize][1],
            _ => &KERNELS[self as usize][layout as usize],
        };
        &kernels[accumulate as usize]
    }

    /// True if it works on matrix units.
    pub(super) fn cooperates(self) -> bool {
        use Method::{Cooperative4, Cooperative8, CooperativeLow, CooperativeRounded};
        matches!(self, Cooperative4 | Cooperative8 | CooperativeLow | CooperativeRounded)
    }

    /// True if it reads b in whole packs of four where it has two bytes an element.
    pub(super) fn reads_packs(self) -> bool {
        matches!(self, Method::OneRow | Method::FewRows4 | Method::FewRows8 | Method::FewRows16)
    }
}

/// Of a layout, without and with accumulation.
type Constants = [[Constant; 3]; 2];

const fn constants(a_rows_are_k: f64, b_rows_are_n: f64) -> Constants {
    const fn with(a_rows_are_k: f64, b_rows_are_n: f64, accumulate: f64) -> [Constant; 3] {
        [
            Constant { name: "A_ROWS_ARE_K", wide: a_rows_are_k, small: a_rows_are_k },
            Constant { name: "B_ROWS_ARE_N", wide: b_rows_are_n, small: b_rows_are_n },
            Constant { name: "ACCUMULATE", wide: accumulate, small: accumulate },
        ]
    }
    [with(a_rows_are_k, b_rows_are_n, 0.0), with(a_rows_are_k, b_rows_are_n, 1.0)]
}
const NN: &Constants = &constants(0.0, 0.0);
const NT: &Constants = &constants(0.0, 1.0);
const TN: &Constants = &constants(1.0, 0.0);

const fn kernels(
    sources: &'static [&'static str],
    names: [&'static str; 2],
    entry: &'static str,
    constants: &'static Constants,
) -> [Kernel; 2] {
    const BINDINGS: &[Access] = &[Access::Read, Access::Read, Access::Write];
    let (params, [name, adding]) = (size_of::<Params>(), names);
    [
        Kernel { name, sources, entry, bindings: BINDINGS, constants: &constants[0], params },
        Kernel { name: adding, sources, entry, bindings: BINDINGS, constants: &constants[1], params },
    ]
}

/// A kernel, and the one that adds its sums to c.
macro_rules! pair {
    ($sources:expr, $name:literal, $kind:literal, $entry:literal, $constants:ident) => {
        kernels(
            $sources,
            [concat!("matmul.", $name, ".", $kind), concat!("matmul.", $name, ".", $kind, ".add")],
            $entry,
            $constants,
        )
    };
}

/// The kernels of a method for every layout.
macro_rules! layouts {
    ($name:literal, $entry:literal, $sources:expr) => {
        [
            pair!($sources, $name, "nn", $entry, NN),
            pair!($sources, $name, "nt", $entry, NT),
            pair!($sources, $name, "tn", $entry, TN),
        ]
    };
}

/// By method, then by layout, then without and with accumulation.
pub(crate) static KERNELS: [[[Kernel; 2]; 3]; 11] = [
    layouts!("tiled_128", "tiled_128", &OF_F32[0]),
    layouts!("tiled_64", "tiled_64", &OF_F32[1]),
    layouts!("direct", "direct", &OF_F32[2]),
    layouts!("direct_few", "direct", &OF_F32[3]),
    layouts!("one_row", "single", &OF_F32[4]),
    layouts!("few_rows_4", "single", &OF_F32[5]),
    layouts!("few_rows_8", "single", &OF_F32[6]),
    layouts!("few_rows_16", "single", &OF_F32[7]),
    layouts!("cooperative_4", "cooperative", &EIGHTS_OF_F32[0]),
    layouts!("cooperative_8", "cooperative", &EIGHTS_OF_F32[1]),
    layouts!("cooperative_low", "cooperative", &EIGHTS_OF_F32[2]),
];

/// For operands that were rounded, whose sums run down columns: without and with accumulation.
pub(crate) static OF_ROUNDED: [Kernel; 2] = pair!(ROUNDED, "cooperative_rounded", "tn", "cooperative", TN);

/// The kernels of a method for the rows of f16 and of bf16.
macro_rules! halves {
    ($name:literal, $entry:literal, $method:literal) => {
        halves!($name, $entry, [OF_F16, OF_BF16], $method)
    };
    ($name:literal, $entry:literal, [$f16:ident, $bf16:ident], $method:literal) => {
        [pair!(&$f16[$method], $name, "f16", $entry, NT), pair!(&$bf16[$method], $name, "bf16", $entry, NT)]
    };
}

/// For weights of two bytes: by method, then f16 and bf16, then without and with accumulation.
pub(crate) static HALVES: [[[Kernel; 2]; 2]; 11] = [
    halves!("tiled_128", "tiled_128", 0),
    halves!("tiled_64", "tiled_64", 1),
    halves!("direct", "direct", 2),
    halves!("direct_few", "direct", 3),
    halves!("one_row", "single", 4),
    halves!("few_rows_4", "single", 5),
    halves!("few_rows_8", "single", 6),
    halves!("few_rows_16", "single", 7),
    halves!("cooperative_4", "cooperative", [EIGHTS_OF_F16, EIGHTS_OF_BF16], 0),
    halves!("cooperative_8", "cooperative", [EIGHTS_OF_F16, EIGHTS_OF_BF16], 1),
    halves!("cooperative_low", "cooperative", [EIGHTS_OF_F16, EIGHTS_OF_BF16], 2),
];
