// rope: heads of queries and keys, normalised by their root mean square and rotated by the angle of their token's position.
//   n = x / sqrt(mean(x²) + eps) * w
//   y[i] = n[i] cos - n[i + D/2] sin,   y[i + D/2] = n[i + D/2] cos + n[i] sin,   i < D/2
//   q, q_out, k, k_out   (T, H, D), (T, K, D)  f32    `span` lanes per head, which take pairs of accesses
//   q_weight, k_weight   (D)     f32
//   table                (P, D)  f32    D/2 cosines, then D/2 sines, of each position
//   positions            (T)     u32    rows of the table
//   backward             of queries or of keys: dn = dy turned back, dx = inv (dn w - x̂ mean(dn w x̂)), x̂ = x inv, and
//                        inv = 1 / sqrt(mean(x²) + eps) of each head for the next
//   weight_partials      (blocks, D): sums of dn x̂ over blocks of heads, one invocation per block and pair of columns;
//                        reduce.columns adds them up to dw
//   uses                 common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/reduce.wgsl, common/rows.wgsl
struct Params {
    tokens: u32,
    heads: u32,
    kv_heads: u32,
    half: u32,
    positions: u32,
    span: u32,
    eps: f32,
    block: u32,
    first: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> table: array<Elem>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> q: array<Elem>;
@group(0) @binding(3) var<storage, read> q_weight: array<Elem>;
@group(0) @binding(4) var<storage, read_write> q_out: array<Elem>;
@group(0) @binding(5) var<storage, read> k: array<Elem>;
@group(0) @binding(6) var<storage, read> k_weight: array<Elem>;
@group(0) @binding(7) var<storage, read_write> k_out: array<Elem>;

fn head_at(of_q: bool, i: u32) -> Elem {
    if (of_q) { return q[i]; }
    return k[i];
}

fn weight_at(of_q: bool, i: u32) -> Elem {
    if (of_q) { return q_weight[i]; }
    return k_weight[i];
}

fn store(of_q: bool, i: u32, y: Elem) {
    if (of_q) { q_out[i] = y; } else { k_out[i] = y; }
}

// The first access of a token's cosines.
fn turn_of(token: u32, half: u32) -> u32 {
    return min(positions[token], p.positions - 1u) * half * 2u;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let rows = p.tokens * (p.heads + p.kv_heads);
    let at_row = min(row, rows - 1u);
    let of_q = at_row < p.tokens * p.heads;
    let head = select(at_row - p.tokens * p.heads, at_row, of_q);
    let half = p.half / WIDTH;
    let start = head * half * 2u;
    let angles = turn_of(head / select(p.kv_heads, p.heads, of_q), half);
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    var a{BATCH}: Elem;
    var b{BATCH}: Elem;
    var turn = 0u;
    loop {
        a{BATCH} = head_at(of_q, start + min(turn + first + {BATCH}u * p.span, half - 1u));
        b{BATCH} = head_at(of_q, start + half + min(turn + first + {BATCH}u * p.span, half - 1u));
        squares += select(0.0, sum_of(a{BATCH} * a{BATCH} + b{BATCH} * b{BATCH}), turn + first + {BATCH}u * p.span < half);
        if (turn + BATCH * p.span >= half) { break; }
        turn += BATCH * p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.half * 2u) + p.eps);
    if (row >= rows) { return; }
    loop {
        let i{BATCH} = turn + first + {BATCH}u * p.span;
        let c{BATCH} = table[angles + min(i{BATCH}, half - 1u)];
        let s{BATCH} = table[angles + half + min(i{BATCH}, half - 1u)];
        a{BATCH} *= inv * weight_at(of_q, min(i{BATCH}, half - 1u));
        b{BATCH} *= inv * weight_at(of_q, half + min(i{BATCH}, half - 1u));
        if (i{BATCH} < half) { store(of_q, start + i{BATCH}, a{BATCH} * c{BATCH} - b{BATCH} * s{BATCH}); }
        if (i{BATCH} < half) { store(of_q, start + half + i{BATCH}, b{BATCH} * c{BATCH} + a{BATCH} * s{BATCH}); }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        a{BATCH} = head_at(of_q, start + turn + first + {BATCH}u * p.span);
        b{BATCH} = head_at(of_q, start + half + turn + first + {BATCH}u * p.span);
    }
}

@group(0) @binding(2) var<storage, read> x: array<Elem>;
@group(0) @binding(3) var<storage, read> w: array<Elem>;
@group(0) @binding(4) var<storage, read_write> dx: array<Elem>;
@group(0) @binding(5) var<storage, read> dy: array<Elem>;
@group(0) @binding(6) var<storage, read_write> inv_rms: array<f32>;

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
            @builtin(local_invocation_index) lane: u32) {
    let row = row_of(group_index(group, groups), lane);
    let rows = p.tokens * p.heads;
    let head = min(row, rows - 1u);
    let half = p.half / WIDTH;
    let start = head * half * 2u;
    let angles = turn_of(head / p.heads, half);
    let first = lane & (p.span - 1u);
    var squares = 0.0;
    var along = 0.0;
    // x, and dn w
    var a{BATCH}: Elem;
    var b{BATCH}: Elem;
    var da{BATCH}: Elem;
    var db{BATCH}: Elem;
    var turn = 0u;
    loop {
        let i{BATCH} = min(turn + first + {BATCH}u * p.span, half - 1u);
        a{BATCH} = x[start + i{BATCH}];
        b{BATCH} = x[start + half + i{BATCH}];
        let ya{BATCH} = dy[start + i{BATCH}];
        let yb{BATCH} = dy[start + half + i{BATCH}];
        let c{BATCH} = table[angles + i{BATCH}];
        let s{BATCH} = table[angles + half + i{BATCH}];
        da{BATCH} = (ya{BATCH} * c{BATCH} + yb{BATCH} * s{BATCH}) * w[i{BATCH}];
        db{BATCH} = (yb{BATCH} * c{BATCH} - ya{BATCH} * s{BATCH}) * w[half + i{BATCH}];
        let inside{BATCH} = turn + first + {BATCH}u * p.span < half;
        squares += select(0.0, sum_of(a{BATCH} * a{BATCH} + b{BATCH} * b{BATCH}), inside{BATCH});
        along += select(0.0, sum_of(a{BATCH} * da{BATCH} + b{BATCH} * db{BATCH}), inside{BATCH});
        if (turn + BATCH * p.span >= half) { break; }
        turn += BATCH * p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.half * 2u) + p.eps);
    let slope = row_sum(lane, along) * inv / f32(p.half * 2u) * inv;
    if (row >= rows) { return; }
    loop {
        let at = start + turn + first;
        let inside{BATCH} = turn + first + {BATCH}u * p.span < half;
        if (inside{BATCH}) { dx[at + {BATCH}u * p.span] = inv * (da{BATCH} - a{BATCH} * slope); }
        if (inside{BATCH}) { dx[at + half + {BATCH}u * p.span] = inv * (db{BATCH} - b{BATCH} * slope); }
        if (turn == 0u) { break; }
        turn -= BATCH * p.span;
        let i{BATCH} = turn + first + {BATCH}u * p.span;
        a{BATCH} = x[start + i{BATCH}];
        b{BATCH} = x[start + half + i{BATCH}];
        let ya{BATCH} = dy[start + i{BATCH}];
        let yb{BATCH} = dy[start + half + i{BATCH}];
        let c{BATCH} = table[angles + i{BATCH}];
        let s{BATCH} = table[angles + half + i{BATCH}];
        da{BATCH} = (ya{BATCH} * c{BATCH} + yb{BATCH} * s{BATCH}) * w[i{BATCH}];
        db{BATCH} = (yb{BATCH} * c{BATCH} - ya{BATCH} * s{BATCH}) * w[half + i{BATCH}];
    }
    if (first == 0u) { inv_rms[head] = inv; }
}

@group(0) @binding(3) var<storage, read_write> sums: array<Elem>;
@group(0) @binding(4) var<storage, read> saved_inv: array<f32>;

// heads of one turn: all their loads come first
const HEADS: u32 = 4u;

@compute @workgroup_size(WG)
fn weight_partials(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                   @builtin(local_invocation_index) lane: u32) {
    let half = p.half / WIDTH;
    let place = group_index(group, groups) * WG + lane;
    let block = place / half;
    let i = place % half;
    let start = block * p.block;
    let rows = p.tokens * p.heads;
    if (start >= rows) { return; }
    let end = min(start + p.block, rows);
    var sum_a = Elem();
    var sum_b = Elem();
    for (var head = start; head < end; head += HEADS) {
        let h{HEADS} = min(head + {HEADS}u, end - 1u);
        let t{HEADS} = turn_of(h{HEADS} / p.heads, half) + i;
        let x{HEADS} = h{HEADS} * half * 2u + i;
        let inv{HEADS} = select(0.0, saved_inv[h{HEADS}], head + {HEADS}u < end);
        let a{HEADS} = x[x{HEADS}] * inv{HEADS};
        let b{HEADS} = x[x{HEADS} + half] * inv{HEADS};
        let ya{HEADS} = dy[x{HEADS}];
        let yb{HEADS} = dy[x{HEADS} + half];
        let c{HEADS} = table[t{HEADS}];
        let s{HEADS} = table[t{HEADS} + half];
        sum_a += (ya{HEADS} * c{HEADS} + yb{HEADS} * s{HEADS}) * a{HEADS};
        sum_b += (yb{HEADS} * c{HEADS} - ya{HEADS} * s{HEADS}) * b{HEADS};
    }
    sums[(p.first + block) * half * 2u + i] = sum_a;
    sums[(p.first + block) * half * 2u + half + i] = sum_b;
}
