// attention backward on matrix units: the gradients of attention_backward.wgsl; f16 products, f32 sums.
//   q, dout, dq (T, H, D)   k, v, dk, dv (T, K, D)   stats (T, H, 2): lse, delta   f32, D = DIM; the products round q,
//   k, v, dout, the weights and their gradients to f16
//   backward_dq   one workgroup per (block of ROWS query rows, head), over tiles of keys
//   backward_dkv  one workgroup per (block of ROWS key rows, key/value head), over tiles of all queries that see the
//                 block, of all query heads that share the key/value head
//   subgroups     SIDE rows each, and one of ACROSS parts of the columns: SIDE columns of the scores, DIM / ACROSS
//                 columns of the result. The block's rows stay in matrices, tiles of the other side go through
//                 workgroup memory, and so do the scores, to the lanes that make weights and their gradients of them.
//   uses          common/grid.wgsl, common/attention_plan.wgsl, common/attention_matrices.wgsl
const ROWS: u32 = SUBGROUPS / ACROSS * SIDE;
// vectors of four of a row of scores that a lane has
const VECTORS: u32 = 2u;

@group(0) @binding(4) var<storage, read> dout: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> stats: array<vec2<f32>>;

// rows of the block, then a tile of k and v or of q and dout
var<workgroup> tile: array<vec4<f16>, max(ROWS, 2u * COLUMNS) * PITCH>;
// dout v^T of the block's rows, as `scores` has q k^T; then the weights and their gradients
var<workgroup> slopes: array<f32, ROWS * SCORE_PITCH>;
var<workgroup> weights: array<vec4<f16>, ROWS * WEIGHT_PITCH>;
var<workgroup> gradients: array<vec4<f16>, ROWS * WEIGHT_PITCH>;
// statistics of a tile's queries
var<workgroup> lses: array<f32, COLUMNS>;
var<workgroup> deltas: array<f32, COLUMNS>;

fn four_slopes(at: u32) -> vec4<f32> {
    return vec4(slopes[at], slopes[at + 1u], slopes[at + 2u], slopes[at + 3u]);
}

fn four_lses(at: u32) -> vec4<f32> {
    return vec4(lses[at], lses[at + 1u], lses[at + 2u], lses[at + 3u]);
}

fn four_deltas(at: u32) -> vec4<f32> {
    return vec4(deltas[at], deltas[at + 1u], deltas[at + 2u], deltas[at + 3u]);
}

// lse, as a power of two, and delta of a query.
fn stats_at(token: u32) -> vec2<f32> {
    return stats[token * p.heads + block.head] * vec2(LOG2_E, 1.0);
}

// As own_query, for a block of keys.
fn own_key(e: u32) -> u32 {
    return key_at(min(block.first + e / (DIM / 4u), block.end - 1u), e % (DIM / 4u));
}

// A matrix of sums to `scores`, from `at` on.
fn spill(sums: Sums, at: u32) {
    workgroupBarrier();
    coopStoreT(sums, &scores[at], SCORE_PITCH);
    workgroupBarrier();
}

@group(0) @binding(6) var<storage, read_write> dq: array<vec4<f32>>;

fn put_dq(sums: Sums, row: u32, column: u32, at: u32, lane: u32, inside: bool) {
    spill(sums, at);
    for (var e = lane; e < SIDE * SIDE / 4u; e += SUBGROUP) {
        let token = block.first + row + e / (SIDE / 4u);
        let c = e % (SIDE / 4u);
        if (inside && token < block.end) {
            dq[query_at(token, column + c)] = p.scale * four_scores(at + e / (SIDE / 4u) * SCORE_PITCH + 4u * c);
        }
    }
}

@compute @workgroup_size(GROUP)
fn backward_dq(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) id: u32, @builtin(subgroup_id) subgroup: u32,
               @builtin(subgroup_invocation_id) lane: u32) {
    let index = group_index(group, groups);
    let inside = index < p.blocks * p.heads;
    open_block(select(0u, index / p.heads, inside), ROWS);
    block.head = index % p.heads;
    block.kv_head = block.head / (p.heads / p.kv_heads);
    let keys = select(0u, last_key() + 1u, inside);
    // the subgroup's rows and its part of the columns, then the lane's row and its first vector
    let down = subgroup / ACROSS * SIDE;
    let part = subgroup % ACROSS;
    let row = down + lane / LANES;
    let column = part * (SIDE / 4u) + lane % LANES * VECTORS;
    let row_keys = block.prefix_len + block.first - block.start + 1u + row;
    let stat = stats_at(min(block.first + row, block.end - 1u));
    let factor = p.scale * LOG2_E;

    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[tile_at(e)] = vec4<f16>(q[own_query(e)]);
    }
    workgroupBarrier();
    let a{PARTS} = coopLoadT<Left>(&tile[down * PITCH + {PARTS}u * SIDE / 4u], PITCH);
    workgroupBarrier();
    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[tile_at(e)] = vec4<f16>(dout[own_query(e)]);
    }
    workgroupBarrier();
    let b{PARTS} = coopLoadT<Left>(&tile[down * PITCH + {PARTS}u * SIDE / 4u], PITCH);

    // the vectors of a tile that this invocation brings
    let j{LOADS} = (id + {LOADS}u * GROUP) / (DIM / 4u);
    let c{LOADS} = (id + {LOADS}u * GROUP) % (DIM / 4u);
    let own = down * SCORE_PITCH + part * SIDE;
    var none = Sums();
    var sums{HALF} = Sums();
    for (var first = 0u; first < keys; first += COLUMNS) {
        workgroupBarrier();
        let k{LOADS} = k[key_at(key_token(first + j{LOADS}), c{LOADS})];
        tile[j{LOADS} * PITCH + c{LOADS}] = vec4<f16>(k{LOADS});
        let v{LOADS} = v[key_at(key_token(first + j{LOADS}), c{LOADS})];
        tile[(COLUMNS + j{LOADS}) * PITCH + c{LOADS}] = vec4<f16>(v{LOADS});
        workgroupBarrier();
        var s = none;
        s = coopMultiplyAdd(a{PARTS}, coopLoad<Right>(&tile[part * SIDE * PITCH + {PARTS}u * SIDE / 4u], PITCH), s);
        coopStoreT(s, &scores[own], SCORE_PITCH);
        var t = none;
        t = coopMultiplyAdd(b{PARTS}, coopLoad<Right>(&tile[(COLUMNS + part * SIDE) * PITCH + {PARTS}u * SIDE / 4u], PITCH), t);
        coopStoreT(t, &slopes[own], SCORE_PITCH);
        workgroupBarrier();
        let x{VECTORS} = four_scores(row * SCORE_PITCH + 4u * (column + {VECTORS}u));
        let y{VECTORS} = four_slopes(row * SCORE_PITCH + 4u * (column + {VECTORS}u));
        let at{VECTORS} = vec4(first + 4u * (column + {VECTORS}u)) + vec4(0u, 1u, 2u, 3u);
        let w{VECTORS} = select(vec4(0.0), exp2(factor * x{VECTORS} - stat.x), at{VECTORS} < vec4(row_keys));
        gradients[row * WEIGHT_PITCH + column + {VECTORS}u] = vec4<f16>(w{VECTORS} * (y{VECTORS} - stat.y));
        workgroupBarrier();
        let g{ACROSS} = coopLoadT<Left>(&gradients[down * WEIGHT_PITCH + {ACROSS}u * SIDE / 4u], WEIGHT_PITCH);
        sums{HALF} = coopMultiplyAdd(g{ACROSS}, coopLoadT<Right>(&tile[{ACROSS}u * SIDE * PITCH + (part * HALF + {HALF}u) * SIDE / 4u], PITCH), sums{HALF});
    }
    put_dq(sums{HALF}, down, (part * HALF + {HALF}u) * SIDE / 4u, own, lane, inside);
}

@group(0) @binding(6) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> dv: array<vec4<f32>>;

fn put_dk(sums: Sums, row: u32, column: u32, at: u32, lane: u32, inside: bool) {
    spill(sums, at);
    for (var e = lane; e < SIDE * SIDE / 4u; e += SUBGROUP) {
        let token = block.first + row + e / (SIDE / 4u);
        let c = e % (SIDE / 4u);
        if (inside && token < block.end) {
            dk[key_at(token, column + c)] = p.scale * four_scores(at + e / (SIDE / 4u) * SCORE_PITCH + 4u * c);
        }
    }
}

fn put_dv(sums: Sums, row: u32, column: u32, at: u32, lane: u32, inside: bool) {
    spill(sums, at);
    for (var e = lane; e < SIDE * SIDE / 4u; e += SUBGROUP) {
        let token = block.first + row + e / (SIDE / 4u);
        let c = e % (SIDE / 4u);
        if (inside && token < block.end) {
            dv[key_at(token, column + c)] = four_scores(at + e / (SIDE / 4u) * SCORE_PITCH + 4u * c);
        }
    }
}

@compute @workgroup_size(GROUP)
fn backward_dkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_index) id: u32, @builtin(subgroup_id) subgroup: u32,
                @builtin(subgroup_invocation_id) lane: u32) {
    let index = group_index(group, groups);
    let inside = index < p.blocks * p.kv_heads;
    // the first blocks are seen by the most queries: they go first
    open_block(p.blocks - 1u - select(0u, index / p.kv_heads, inside), ROWS);
    block.kv_head = index % p.kv_heads;
    let share = p.heads / p.kv_heads;
    let down = subgroup / ACROSS * SIDE;
    let part = subgroup % ACROSS;
    let row = down + lane / LANES;
    let column = part * (SIDE / 4u) + lane % LANES * VECTORS;
    let key = select(NONE, block.first + row, block.first + row < block.end);
    let factor = p.scale * LOG2_E;

    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[tile_at(e)] = vec4<f16>(k[own_key(e)]);
    }
    workgroupBarrier();
    let a{PARTS} = coopLoadT<Left>(&tile[down * PITCH + {PARTS}u * SIDE / 4u], PITCH);
    workgroupBarrier();
    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[tile_at(e)] = vec4<f16>(v[own_key(e)]);
    }
    workgroupBarrier();
    let b{PARTS} = coopLoadT<Left>(&tile[down * PITCH + {PARTS}u * SIDE / 4u], PITCH);

    let j{LOADS} = (id + {LOADS}u * GROUP) / (DIM / 4u);
    let c{LOADS} = (id + {LOADS}u * GROUP) % (DIM / 4u);
    let own = down * SCORE_PITCH + part * SIDE;
    var none = Sums();
    var of_k{HALF} = Sums();
    var of_v{HALF} = Sums();
    let ranges = select(0u, plan[p.seen_at + block.segment + 1u], inside);
    for (var r = plan[p.seen_at + block.segment]; r < ranges; r++) {
        let end = plan[p.seen_by + 2u * r + 1u];
        for (var first = max(plan[p.seen_by + 2u * r], block.first); first < end; first += COLUMNS) {
            for (var h = 0u; h < share; h++) {
                block.head = block.kv_head * share + h;
                workgroupBarrier();
                let q{LOADS} = q[query_at(min(first + j{LOADS}, end - 1u), c{LOADS})];
                tile[j{LOADS} * PITCH + c{LOADS}] = vec4<f16>(q{LOADS});
                let d{LOADS} = dout[query_at(min(first + j{LOADS}, end - 1u), c{LOADS})];
                tile[(COLUMNS + j{LOADS}) * PITCH + c{LOADS}] = vec4<f16>(d{LOADS});
                if (id < COLUMNS) {
                    let stat = stats_at(min(first + id, end - 1u));
                    lses[id] = stat.x;
                    deltas[id] = stat.y;
                }
                workgroupBarrier();
                var s = none;
                s = coopMultiplyAdd(a{PARTS}, coopLoad<Right>(&tile[part * SIDE * PITCH + {PARTS}u * SIDE / 4u], PITCH), s);
                coopStoreT(s, &scores[own], SCORE_PITCH);
                var t = none;
                t = coopMultiplyAdd(b{PARTS}, coopLoad<Right>(&tile[(COLUMNS + part * SIDE) * PITCH + {PARTS}u * SIDE / 4u], PITCH), t);
                coopStoreT(t, &slopes[own], SCORE_PITCH);
                workgroupBarrier();
                let x{VECTORS} = factor * four_scores(row * SCORE_PITCH + 4u * (column + {VECTORS}u)) - four_lses(4u * (column + {VECTORS}u));
                let y{VECTORS} = four_slopes(row * SCORE_PITCH + 4u * (column + {VECTORS}u)) - four_deltas(4u * (column + {VECTORS}u));
                let at{VECTORS} = vec4(first + 4u * (column + {VECTORS}u)) + vec4(0u, 1u, 2u, 3u);
                let w{VECTORS} = select(vec4(0.0), exp2(x{VECTORS}), (at{VECTORS} >= vec4(key)) & (at{VECTORS} < vec4(end)));
                weights[row * WEIGHT_PITCH + column + {VECTORS}u] = vec4<f16>(w{VECTORS});
                gradients[row * WEIGHT_PITCH + column + {VECTORS}u] = vec4<f16>(w{VECTORS} * y{VECTORS});
                workgroupBarrier();
                let p{ACROSS} = coopLoadT<Left>(&weights[down * WEIGHT_PITCH + {ACROSS}u * SIDE / 4u], WEIGHT_PITCH);
                of_v{HALF} = coopMultiplyAdd(p{ACROSS}, coopLoadT<Right>(&tile[(COLUMNS + {ACROSS}u * SIDE) * PITCH + (part * HALF + {HALF}u) * SIDE / 4u], PITCH), of_v{HALF});
                let g{ACROSS} = coopLoadT<Left>(&gradients[down * WEIGHT_PITCH + {ACROSS}u * SIDE / 4u], WEIGHT_PITCH);
                of_k{HALF} = coopMultiplyAdd(g{ACROSS}, coopLoadT<Right>(&tile[{ACROSS}u * SIDE * PITCH + (part * HALF + {HALF}u) * SIDE / 4u], PITCH), of_k{HALF});
            }
        }
    }
    put_dk(of_k{HALF}, down, (part * HALF + {HALF}u) * SIDE / 4u, own, lane, inside);
    put_dv(of_v{HALF}, down, (part * HALF + {HALF}u) * SIDE / 4u, own, lane, inside);
}
