// Products of a few rows a with rows of b: lanes along k, ROWS x COLS sums per workgroup, for which b is read once, STEPS x
// COLS loads of it in flight in each lane; the sums of the lanes meet in workgroup memory.
//   ROWS, STEPS, LANES   constants before this text; LANES a multiple of ROWS x COLS
//   uses    common/operand_f32.wgsl or common/operand_half.wgsl, common/few_rows_alone.wgsl or common/few_rows_normed.wgsl, and
//           of the kernel's own text: at.k, row_of, column_of, which repeat the last row or column past it, a_index, b_index,
//           and b_load, whose column is that within the workgroup
const COLS: u32 = 4u;
const RESULTS: u32 = ROWS * COLS;
// lanes that add up one result, and the pitch of a result's sums: odd, so that results fall into different banks
const SHARE: u32 = LANES / RESULTS;
const PITCH: u32 = LANES + 1u;
var<workgroup> sums: array<f32, RESULTS * PITCH>;

// The sum of row lane / COLS and column lane % COLS, for the first RESULTS lanes. Every invocation must call it.
fn few_rows(at: Place, lane: u32) -> f32 {
    let i{ROWS} = row_of(at, {ROWS}u);
    let j{COLS} = column_of(at, {COLS}u);
    var r{ROWS}_{COLS} = 0.0;
    var q{ROWS} = 0.0;
    var l = lane * PACK;
    for (; l + (STEPS - 1u) * LANES * PACK < at.k; l += STEPS * LANES * PACK) {
        let y{STEPS}_{COLS} = pack_of(b_load(at, {COLS}u, b_index(at, l + {STEPS}u * LANES * PACK, j{COLS})));
        let x{STEPS}_{ROWS} = a_pack(a_index(at, i{ROWS}, l + {STEPS}u * LANES * PACK));
        q{ROWS} = with_square(q{ROWS}, x{STEPS}_{ROWS});
        let w{STEPS}_{ROWS} = weighed(x{STEPS}_{ROWS}, l + {STEPS}u * LANES * PACK);
        r{ROWS}_{COLS} = added(r{ROWS}_{COLS}, w{STEPS}_{ROWS}, y{STEPS}_{COLS});
    }
    for (; l < at.k; l += LANES * PACK) {
        let y{COLS} = pack_of(b_load(at, {COLS}u, b_index(at, l, j{COLS})));
        let x{ROWS} = a_pack(a_index(at, i{ROWS}, l));
        q{ROWS} = with_square(q{ROWS}, x{ROWS});
        let w{ROWS} = weighed(x{ROWS}, l);
        r{ROWS}_{COLS} = added(r{ROWS}_{COLS}, w{ROWS}, y{COLS});
    }

    sums[({ROWS}u * COLS + {COLS}u) * PITCH + lane] = r{ROWS}_{COLS};
    keep_squares({ROWS}u, lane, q{ROWS});
    workgroupBarrier();
    // RESULTS sums to a lane, four at a time
    let first = lane / SHARE * PITCH + lane % SHARE;
    var s{COLS} = 0.0;
    for (var e = 0u; e < RESULTS; e += COLS) {
        s{COLS} += sums[first + (e + {COLS}u) * SHARE];
    }
    join_squares(lane);
    workgroupBarrier();
    sums[first] = (s0 + s1) + (s2 + s3);
    workgroupBarrier();
    var total = 0.0;
    if (lane < RESULTS) {
        for (var e = 0u; e < SHARE; e++) { total += sums[lane * PITCH + e]; }
    }
    return total * factor_of(min(lane / COLS, ROWS - 1u));
}
