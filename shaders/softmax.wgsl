// softmax: y = exp(x - max(x)) / sum(exp(x - max(x))) along the last dimension.
//   x, y, dy, dx   (R, C)  f32     `span` lanes per row
//   backward       dx = y (dy - sum(y dy))
//   uses           common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/reduce.wgsl, common/rows.wgsl
struct Params { rows: u32, cols: u32, span: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let cols = p.cols / WIDTH;
    let start = min(row, p.rows - 1u) * cols;
    let first = lane & (p.span - 1u);
    // each lane keeps the sum of its own elements relative to its own largest: one load finds both
    var mine = -3.4e38;
    var sum = 0.0;
    // max() and exp() may drop a NaN; its bits are above all others
    var bits = Index();
    var v{BATCH}: Elem;
    var turn = 0u;
    loop {
        v{BATCH} = x[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        let before = mine;
        mine = max(mine, max_of(v{BATCH}));
        bits = max(bits, bitcast<Index>(v{BATCH}) & Index(0x7fffffffu));
        sum *= exp(before - mine);
        sum += select(0.0, sum_of(exp(v{BATCH} - mine)), turn + first + {BATCH}u * p.span < cols);
        if (turn + BATCH * p.span >= cols) { break; }
        turn += BATCH * p.span;
    }
    let poison = bitcast<f32>(top_of(bits));
    mine = select(mine, poison, is_nan(poison));
    let largest = row_max(lane, mine);
    let total = row_sum(lane, sum * exp(mine - largest));
    let scale = select(1.0 / total, largest, is_nan(largest));
    if (row >= p.rows) { return; }
    loop {
        let at = start + turn + first;
        if (turn + first + {BATCH}u * p.span < cols) { y[at + {BATCH}u * p.span] = exp(v{BATCH} - largest) * scale; }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        v{BATCH} = x[start + turn + first + {BATCH}u * p.span];
    }
}

@group(0) @binding(0) var<storage, read> saved: array<Elem>;
@group(0) @binding(1) var<storage, read> dy: array<Elem>;
@group(0) @binding(2) var<storage, read_write> dx: array<Elem>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let cols = p.cols / WIDTH;
    let start = min(row, p.rows - 1u) * cols;
    let first = lane & (p.span - 1u);
    var total = 0.0;
    var s{BATCH}: Elem;
    var d{BATCH}: Elem;
    var turn = 0u;
    loop {
        s{BATCH} = saved[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        d{BATCH} = dy[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        total += select(0.0, sum_of(s{BATCH} * d{BATCH}), turn + first + {BATCH}u * p.span < cols);
        if (turn + BATCH * p.span >= cols) { break; }
        turn += BATCH * p.span;
    }
    total = row_sum(lane, total);
    if (row >= p.rows) { return; }
    loop {
        let at = start + turn + first;
        if (turn + first + {BATCH}u * p.span < cols) { dx[at + {BATCH}u * p.span] = s{BATCH} * (d{BATCH} - total); }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        s{BATCH} = saved[start + turn + first + {BATCH}u * p.span];
        d{BATCH} = dy[start + turn + first + {BATCH}u * p.span];
    }
}
