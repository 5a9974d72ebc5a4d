// What products of a few normalised rows a (m, k) with several matrices of rows share; c is f32.
//   uses    common/few_rows.wgsl, common/few_rows_normed.wgsl, and of the kernel's own text: p.m, p.k, and b_load
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn row_of(at: Place, r: u32) -> u32 { return min(at.i + r, p.m - 1u); }
fn a_index(at: Place, i: u32, l: u32) -> u32 { return i * p.k + l; }
fn b_index(at: Place, l: u32, j: u32) -> u32 { return j * p.k + l; }
