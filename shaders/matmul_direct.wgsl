// matmul for small vectors: in registers, without workgroup memory.
//   direct  workgroup = ROWS rows of c by VECTORS vectors of four columns. A lane holds all of its sums, so
//           that each load, which is a loop over lanes on such adapters, serves many products.
//   uses    common/product.wgsl, common/row_values.wgsl, and a text with ROWS and VECTORS
const LANES: u32 = 8u;
const EIGHTS: u32 = ROWS / LANES;
const COLUMNS: u32 = VECTORS / LANES;

@compute @workgroup_size(LANES)
fn direct(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), ROWS, 4u * VECTORS);
    if (!at.inside) { return; }
    let a_row = select(p.lda, 1u, A_ROWS_ARE_K);
    let a_step = select(1u, p.lda, A_ROWS_ARE_K);
    let b_column = select(1u, p.ldb, B_ROWS_ARE_N);
    let b_step = select(p.ldb, 1u, B_ROWS_ARE_N);
    // rows and columns past the end are clamped to the last one: computed, not stored
    let own{EIGHTS} = at.a + min(at.i + {EIGHTS}u * LANES + lane, p.m - 1u) * a_row;
    let a{EIGHTS}_{LANES} = at.a + min(at.i + {EIGHTS}u * LANES + {LANES}u, p.m - 1u) * a_row;
    let j{COLUMNS} = at.j + 4u * (lane + {COLUMNS}u * LANES);
    let b{COLUMNS} = at.b + min(vec4(j{COLUMNS}) + vec4(0u, 1u, 2u, 3u), vec4(p.n - 1u)) * b_column;
    var r{EIGHTS}_{LANES}_{COLUMNS} = vec4(0.0);
    for (var l = 0u; l < at.k; l++) {
        let s = l * a_step;
        let t = l * b_step;
        let y{COLUMNS} = vec4(b_at(b{COLUMNS}.x + t), b_at(b{COLUMNS}.y + t), b_at(b{COLUMNS}.z + t), b_at(b{COLUMNS}.w + t));
        let own_x{EIGHTS} = own(own{EIGHTS} + s);
        let x{EIGHTS}_{LANES} = vec4(of_row_{LANES}(own_x{EIGHTS}, a{EIGHTS}_{LANES} + s));
        r{EIGHTS}_{LANES}_{COLUMNS} = fma(x{EIGHTS}_{LANES}, y{COLUMNS}, r{EIGHTS}_{LANES}_{COLUMNS});
    }
    store4(at.c, at.i + {EIGHTS}u * LANES + {LANES}u, j{COLUMNS}, r{EIGHTS}_{LANES}_{COLUMNS});
}
