// matmul of a few rows: workgroup = ROWS x COLS of c.
//   uses    common/product_f32.wgsl, common/few_rows.wgsl
fn row_of(at: Place, r: u32) -> u32 { return min(at.i + r, p.m - 1u); }
fn column_of(at: Place, c: u32) -> u32 { return min(at.j + c, p.n - 1u); }
fn b_load(at: Place, column: u32, i: u32) -> Load { return b[i / PACK]; }

@compute @workgroup_size(LANES)
fn single(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), ROWS, COLS);
    if (!at.inside) { return; }
    let total = few_rows(at, lane);
    if (lane < RESULTS) { store(at.c, at.i + lane / COLS, at.j + lane % COLS, total); }
}
