// matmul of a few rows: lanes along k, workgroup = ROWS x 4 of c. b is read once for ROWS rows, STEPS x 4 loads of it in
// flight in each lane; the sums of the lanes meet in workgroup memory.
//   ROWS, STEPS, LANES   constants before this text; LANES a multiple of ROWS x 4
//   uses    common/product_f32.wgsl, common/operand_f32.wgsl or common/operand_half.wgsl
const COLS: u32 = 4u;
const RESULTS: u32 = ROWS * COLS;
// lanes that add up one result, and the pitch of a result's sums: odd, so that results fall into different banks
const SHARE: u32 = LANES / RESULTS;
const PITCH: u32 = LANES + 1u;
var<workgroup> sums: array<f32, RESULTS * PITCH>;

@compute @workgroup_size(LANES)
fn few_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let at = place(group_index(group, groups), ROWS, COLS);
    if (!at.inside) { return; }
    // rows and columns past the last repeat it: their sums are not stored
    let i{ROWS} = min(at.i + {ROWS}u, p.m - 1u);
    let j{COLS} = min(at.j + {COLS}u, p.n - 1u);
    var r{ROWS}_{COLS} = Pack();
    var l = lane * PACK;
    for (; l + (STEPS - 1u) * LANES * PACK < at.k; l += STEPS * LANES * PACK) {
        let y{STEPS}_{COLS} = b_pack(b_index(at, l + {STEPS}u * LANES * PACK, j{COLS}));
        let x{STEPS}_{ROWS} = a_pack(a_index(at, i{ROWS}, l + {STEPS}u * LANES * PACK));
        r{ROWS}_{COLS} = fma(x{STEPS}_{ROWS}, y{STEPS}_{COLS}, r{ROWS}_{COLS});
    }
    for (; l < at.k; l += LANES * PACK) {
        let y{COLS} = b_pack(b_index(at, l, j{COLS}));
        let x{ROWS} = a_pack(a_index(at, i{ROWS}, l));
        r{ROWS}_{COLS} = fma(x{ROWS}, y{COLS}, r{ROWS}_{COLS});
    }

    sums[({ROWS}u * COLS + {COLS}u) * PITCH + lane] = sum_of(r{ROWS}_{COLS});
    workgroupBarrier();
    // RESULTS sums to a lane, four at a time
    let first = lane / SHARE * PITCH + lane % SHARE;
    var s{COLS} = 0.0;
    for (var e = 0u; e < RESULTS; e += COLS) {
        s{COLS} += sums[first + (e + {COLS}u) * SHARE];
    }
    workgroupBarrier();
    sums[first] = (s0 + s1) + (s2 + s3);
    workgroupBarrier();
    if (lane < RESULTS) {
        var total = 0.0;
        for (var e = 0u; e < SHARE; e++) { total += sums[lane * PITCH + e]; }
        store(at.c, at.i + lane / COLS, at.j + lane % COLS, total);
    }
}
