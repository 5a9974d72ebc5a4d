// rms_norm: y = x / sqrt(mean(x²) + eps) * w along the last dimension.
//   x, y, r, h, dy, dx   (R, C)  f32    `span` lanes per row
//   w                    (C)     f32
//   inv_rms              (R)     f32    1 / sqrt(mean(x²) + eps), kept for the way back
//   forward_add          h = x + r, y = rms_norm(h)
//   backward             dx = inv_rms (dy w - x̂ mean(dy w x̂)),  x̂ = x inv_rms
//   weight_partials      (blocks, C): sums of dy x̂ over blocks of rows, one invocation per block and column;
//                        reduce.columns adds them up to dw
//   uses                 common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/reduce.wgsl, common/rows.wgsl
struct Params { rows: u32, cols: u32, span: u32, eps: f32, block: u32, first: u32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> w: array<Elem>;
@group(0) @binding(2) var<storage, read_write> y: array<Elem>;
@group(0) @binding(3) var<storage, read_write> inv_rms: array<f32>;
@group(0) @binding(4) var<storage, read> r: array<Elem>;
@group(0) @binding(5) var<storage, read_write> h: array<Elem>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let cols = p.cols / WIDTH;
    let start = min(row, p.rows - 1u) * cols;
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    var v{BATCH}: Elem;
    var turn = 0u;
    loop {
        v{BATCH} = x[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        squares += select(0.0, sum_of(v{BATCH} * v{BATCH}), turn + first + {BATCH}u * p.span < cols);
        if (turn + BATCH * p.span >= cols) { break; }
        turn += BATCH * p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.cols) + p.eps);
    if (row >= p.rows) { return; }
    loop {
        let at = start + turn + first;
        let w{BATCH} = w[min(turn + first + {BATCH}u * p.span, cols - 1u)];
        if (turn + first + {BATCH}u * p.span < cols) { y[at + {BATCH}u * p.span] = v{BATCH} * inv * w{BATCH}; }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        v{BATCH} = x[start + turn + first + {BATCH}u * p.span];
    }
    if (first == 0u) { inv_rms[row] = inv; }
}

@compute @workgroup_size(WG)
fn forward_add(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let cols = p.cols / WIDTH;
    let start = min(row, p.rows - 1u) * cols;
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    var v{BATCH}: Elem;
    var turn = 0u;
    loop {
        v{BATCH} = x[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        let r{BATCH} = r[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        v{BATCH} += r{BATCH};
        squares += select(0.0, sum_of(v{BATCH} * v{BATCH}), turn + first + {BATCH}u * p.span < cols);
        if (turn + BATCH * p.span >= cols) { break; }
        turn += BATCH * p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.cols) + p.eps);
    if (row >= p.rows) { return; }
    loop {
        let at = start + turn + first;
        let w{BATCH} = w[min(turn + first + {BATCH}u * p.span, cols - 1u)];
        if (turn + first + {BATCH}u * p.span < cols) { h[at + {BATCH}u * p.span] = v{BATCH}; }
        if (turn + first + {BATCH}u * p.span < cols) { y[at + {BATCH}u * p.span] = v{BATCH} * inv * w{BATCH}; }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        v{BATCH} = x[start + turn + first + {BATCH}u * p.span];
        let r{BATCH} = r[start + turn + first + {BATCH}u * p.span];
        v{BATCH} += r{BATCH};
    }
    if (first == 0u) { inv_rms[row] = inv; }
}

@group(0) @binding(2) var<storage, read> saved_inv: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<Elem>;
@group(0) @binding(4) var<storage, read_write> dx: array<Elem>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let at_row = min(row, p.rows - 1u);
    let cols = p.cols / WIDTH;
    let start = at_row * cols;
    let first = lane & (p.span - 1u);
    let inv = saved_inv[at_row];
    var along = 0.0;
    var v{BATCH}: Elem;
    // dy w
    var d{BATCH}: Elem;
    var turn = 0u;
    loop {
        v{BATCH} = x[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        d{BATCH} = dy[start + min(turn + first + {BATCH}u * p.span, cols - 1u)];
        d{BATCH} *= w[min(turn + first + {BATCH}u * p.span, cols - 1u)];
        along += select(0.0, sum_of(d{BATCH} * v{BATCH}), turn + first + {BATCH}u * p.span < cols);
        if (turn + BATCH * p.span >= cols) { break; }
        turn += BATCH * p.span;
    }
    let slope = row_sum(lane, along) * inv / f32(p.cols) * inv;
    if (row >= p.rows) { return; }
    loop {
        let at = start + turn + first;
        let g{BATCH} = inv * (d{BATCH} - v{BATCH} * slope);
        if (turn + first + {BATCH}u * p.span < cols) { dx[at + {BATCH}u * p.span] = g{BATCH}; }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        v{BATCH} = x[start + turn + first + {BATCH}u * p.span];
        d{BATCH} = dy[start + turn + first + {BATCH}u * p.span];
        d{BATCH} *= w[turn + first + {BATCH}u * p.span];
    }
}

@group(0) @binding(0) var<storage, read> partial_x: array<f32>;
@group(0) @binding(1) var<storage, read> partial_inv: array<f32>;
@group(0) @binding(2) var<storage, read> partial_dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;

// rows of one turn: all their loads come first
const ROWS: u32 = 8u;

@compute @workgroup_size(WG)
fn weight_partials(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, groups) * WG + lane;
    let block = i / p.cols;
    let c = i % p.cols;
    let start = block * p.block;
    if (start >= p.rows) { return; }
    let end = min(start + p.block, p.rows);
    var sum = 0.0;
    for (var row = start; row < end; row += ROWS) {
        let dy{ROWS} = partial_dy[min(row + {ROWS}u, end - 1u) * p.cols + c];
        let x{ROWS} = partial_x[min(row + {ROWS}u, end - 1u) * p.cols + c];
        let inv{ROWS} = partial_inv[min(row + {ROWS}u, end - 1u)];
        sum += select(0.0, dy{ROWS} * (x{ROWS} * inv{ROWS}), row + {ROWS}u < end);
    }
    sums[(p.first + block) * p.cols + c] = sum;
}
