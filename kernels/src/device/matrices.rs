//! Matrix units: what an adapter offers of them, and how shaders name it.

/// Marks a kernel that works on matrix units. It gets `Left`, `Right` and `Sums`, cooperative matrices of f16, f16 and f32
/// with SIDE rows and columns, held by SUBGROUP invocations.
pub const MATRICES: &str = include_str!("../../../shaders/common/matrices.wgsl");

/// Cooperative matrices with f16 operands and f32 sums, `side` x `side` x `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrices {
    /// Rows and columns: 16, or 8.
    pub side: u32,
    /// Invocations that hold one together.
    pub subgroup: u32,
}

impl Matrices {
    /// What kernels need.
    pub(super) const FEATURES: wgpu::Features = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX
        .union(wgpu::Features::SHADER_F16)
        .union(wgpu::Features::SUBGROUP);

    /// Those of an adapter, the larger ones if it has both; none if the size of its subgroups may vary.
    pub(super) fn of(adapter: &wgpu::Adapter) -> Option<Matrices> {
        let info = adapter.get_info();
        if !adapter.features().contains(Self::FEATURES) || info.subgroup_min_size != info.subgroup_max_size {
            return None;
        }
        let (f16, f32) = (wgpu::CooperativeScalarType::F16, wgpu::CooperativeScalarType::F32);
        let offered = adapter.cooperative_matrix_properties();
        let has = |side: &u32| {
            offered.iter().any(|o| [o.m_size, o.n_size, o.k_size] == [*side; 3] && o.ab_type == f16 && o.cr_type == f32)
        };
        let side = [16, 8].into_iter().find(has)?;
        Some(Matrices { side, subgroup: info.subgroup_min_size })
    }

    /// What stands before a kernel that lists [`MATRICES`].
    pub(super) fn text(self) -> String {
        let Matrices { side, subgroup } = self;
        format!(
            "enable f16;\nenable wgpu_cooperative_matrix;\nconst SIDE: u32 = {side}u;\nconst SUBGROUP: u32 = {subgroup}u;\n\
             alias Left = coop_mat{side}x{side}<f16, A>;\nalias Right = coop_mat{side}x{side}<f16, B>;\n\
             alias Sums = coop_mat{side}x{side}<f32, C>;\n"
        )
    }
}
