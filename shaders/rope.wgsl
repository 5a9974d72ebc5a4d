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

// An access of each half of a head.
struct Pair { a: Elem, b: Elem }

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
    var n: Pair;
    var turn = 0u;
    loop {
        let i = min(turn + first, half - 1u);
        n = Pair(head_at(of_q, start + i), head_at(of_q, start + half + i));
        squares += select(0.0, sum_of(n.a * n.a + n.b * n.b), turn + first < half);
        if (turn + p.span >= half) { break; }
        turn += p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.half * 2u) + p.eps);
    if (row >= rows) { return; }
    loop {
        let i = turn + first;
        let at = min(i, half - 1u);
        let cosine = table[angles + at];
        let sine = table[angles + half + at];
        let a = n.a * (inv * weight_at(of_q, at));
        let b = n.b * (inv * weight_at(of_q, half + at));
        if (i < half) {
            store(of_q, start + i, a * cosine - b * sine);
            store(of_q, start + half + i, b * cosine + a * sine);
        }
        if (turn == 0u) { break; }
        turn -= p.span;
        n = Pair(head_at(of_q, start + turn + first), head_at(of_q, start + half + turn + first));
    }
}

@group(0) @binding(2) var<storage, read> x: array<Elem>;
@group(0) @binding(3) var<storage, read> w: array<Elem>;
@group(0) @binding(4) var<storage, read_write> dx: array<Elem>;
@group(0) @binding(5) var<storage, read> dy: array<Elem>;
@group(0) @binding(6) var<storage, read_write> inv_rms: array<f32>;

// The i-th pair of the head from `start` on.
fn x_pair(start: u32, half: u32, i: u32) -> Pair {
    return Pair(x[start + i], x[start + half + i]);
}

// The same of dy, turned back.
fn dn_pair(start: u32, half: u32, i: u32, angles: u32) -> Pair {
    let y = Pair(dy[start + i], dy[start + half + i]);
    let cosine = table[angles + i];
    let sine = table[angles + half + i];
    return Pair(y.a * cosine + y.b * sine, y.b * cosine - y.a * sine);
}

fn dn_w_pair(start: u32, half: u32, i: u32, angles: u32) -> Pair {
    let d = dn_pair(start, half, i, angles);
    return Pair(d.a * w[i], d.b * w[half + i]);
}

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
    var v: Pair;
    var d: Pair;
    var turn = 0u;
    loop {
        let i = min(turn + first, half - 1u);
        v = x_pair(start, half, i);
        d = dn_w_pair(start, half, i, angles);
        squares += select(0.0, sum_of(v.a * v.a + v.b * v.b), turn + first < half);
        along += select(0.0, sum_of(v.a * d.a + v.b * d.b), turn + first < half);
        if (turn + p.span >= half) { break; }
        turn += p.span;
    }
    let inv = 1.0 / sqrt(row_sum(lane, squares) / f32(p.half * 2u) + p.eps);
    let slope = row_sum(lane, along) * inv / f32(p.half * 2u) * inv;
    if (row >= rows) { return; }
    loop {
        let i = turn + first;
        if (i < half) {
            dx[start + i] = inv * (d.a - v.a * slope);
            dx[start + half + i] = inv * (d.b - v.b * slope);
        }
        if (turn == 0u) { break; }
        turn -= p.span;
        v = x_pair(start, half, turn + first);
        d = dn_w_pair(start, half, turn + first, angles);
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
    var sum = Pair();
    for (var head = start; head < end; head += HEADS) {
        let h{HEADS} = min(head + {HEADS}u, end - 1u);
        let inv{HEADS} = select(0.0, saved_inv[h{HEADS}], head + {HEADS}u < end);
        let v{HEADS} = x_pair(h{HEADS} * half * 2u, half, i);
        let d{HEADS} = dn_pair(h{HEADS} * half * 2u, half, i, turn_of(h{HEADS} / p.heads, half));
        sum.a += d{HEADS}.a * (v{HEADS}.a * inv{HEADS});
        sum.b += d{HEADS}.b * (v{HEADS}.b * inv{HEADS});
    }
    sums[(p.first + block) * half * 2u + i] = sum.a;
    sums[(p.first + block) * half * 2u + half + i] = sum.b;
}
