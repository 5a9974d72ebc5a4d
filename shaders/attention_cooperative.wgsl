// attention on matrix units: out = softmax(scale q k^T) v as in attention.wgsl; f16 products, f32 sums and statistics.
//   q, out (T, H, D)   k, v (T, K, D)   lse (T, H)   f32, D = DIM; the products round q, k, v and the weights to f16
//   forward  one workgroup per (block of ROWS query rows, head), SIDE rows for each subgroup, over tiles of COLUMNS keys;
//            scores through workgroup memory to the lanes that have their row, weights through it back to the
//            matrices. The weights of a row are relative to `largest`, its largest score when that was last set. Only
//            where a later score is 2^SLACK times heavier is it set again and the row's sums scaled: they stay in
//            matrices, whose rows cannot be reached without going through workgroup memory.
//   uses     common/grid.wgsl, common/attention_plan.wgsl, common/attention_matrices.wgsl
const ROWS: u32 = SUBGROUPS * SIDE;
// powers of two that a weight may exceed 1 by: far below the largest f16
const SLACK = 8.0;

@group(0) @binding(4) var<storage, read_write> out: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

// the block's queries, then tiles of keys and values
var<workgroup> tile: array<vec4<f16>, max(ROWS, 2u * COLUMNS) * PITCH>;
var<workgroup> weights: array<vec4<f16>, ROWS * WEIGHT_PITCH>;
// what a row's sums are to be multiplied by
var<workgroup> factors: array<f32, ROWS>;
// the first: 1 if some factor is not 1
var<workgroup> moved: array<atomic<u32>, 4>;

fn largest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

// Four scores of a row, as powers of two; those of keys that it does not see are LOWEST.
fn seen_scores(row: u32, first: u32, vector: u32, row_keys: u32) -> vec4<f32> {
    let x = p.scale * LOG2_E * four_scores(row * SCORE_PITCH + 4u * vector);
    let at = vec4(first + 4u * vector) + vec4(0u, 1u, 2u, 3u);
    return select(vec4(LOWEST), x, at < vec4(row_keys));
}

fn any_moved() -> bool {
    return atomicLoad(&moved[0]) != 0u;
}

// A subgroup's sums with its rows multiplied by their factors.
fn scaled(sums: Sums, subgroup: u32, lane: u32) -> Sums {
    let own = subgroup * SIDE * SCORE_PITCH;
    coopStoreT(sums, &scores[own], SCORE_PITCH);
    workgroupBarrier();
    for (var e = lane; e < SIDE * SIDE; e += SUBGROUP) {
        let row = e / SIDE;
        let at = own + row * SCORE_PITCH + e % SIDE;
        scores[at] = scores[at] * factors[subgroup * SIDE + row];
    }
    workgroupBarrier();
    let result = coopLoadT<Sums>(&scores[own], SCORE_PITCH);
    workgroupBarrier();
    return result;
}

// Columns `column` .. of the subgroup's rows, multiplied by their factors.
fn put(sums: Sums, column: u32, inside: bool, subgroup: u32, lane: u32) {
    let own = subgroup * SIDE * SCORE_PITCH;
    workgroupBarrier();
    coopStoreT(sums, &scores[own], SCORE_PITCH);
    workgroupBarrier();
    for (var e = lane; e < SIDE * SIDE / 4u; e += SUBGROUP) {
        let row = e / (SIDE / 4u);
        let c = e % (SIDE / 4u);
        let token = block.first + subgroup * SIDE + row;
        if (inside && token < block.end) {
            out[query_at(token, column / 4u + c)] =
                factors[subgroup * SIDE + row] * four_scores(own + row * SCORE_PITCH + 4u * c);
        }
    }
}

@compute @workgroup_size(GROUP)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
           @builtin(local_invocation_index) id: u32, @builtin(subgroup_id) subgroup: u32,
           @builtin(subgroup_invocation_id) lane: u32) {
    let index = group_index(group, groups);
    let inside = index < p.blocks * p.heads;
    open_block(select(0u, index / p.heads, inside), ROWS);
    block.head = index % p.heads;
    block.kv_head = block.head / (p.heads / p.kv_heads);
    let keys = select(0u, last_key() + 1u, inside);
    // keys that this lane's row sees; its part of their scores, and that of the lane beside it
    let row = subgroup * SIDE + lane / LANES;
    let row_keys = block.prefix_len + block.first - block.start + 1u + row;
    let part = lane % LANES * SHARE;
    let other = (LANES - 1u) * SHARE - part;

    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[tile_at(e)] = vec4<f16>(q[own_query(e)]);
    }
    workgroupBarrier();
    let q{PARTS} = coopLoadT<Left>(&tile[subgroup * SIDE * PITCH + {PARTS}u * SIDE / 4u], PITCH);
    workgroupBarrier();

    // the vectors of a tile that this invocation brings
    let j{LOADS} = (id + {LOADS}u * GROUP) / (DIM / 4u);
    let c{LOADS} = (id + {LOADS}u * GROUP) % (DIM / 4u);
    var next{LOADS} = k[key_at(key_token(j{LOADS}), c{LOADS})];
    tile[j{LOADS} * PITCH + c{LOADS}] = vec4<f16>(next{LOADS});
    var largest = LOWEST;
    var total = 0.0;
    // nothing, to begin sums with in a loop: there a variable of its own would be set by storing a null matrix
    var none = Sums();
    var o{PARTS} = Sums();
    let own = subgroup * SIDE * SCORE_PITCH;
    let to{ACROSS} = own + {ACROSS}u * SIDE;
    for (var first = 0u; first < keys; first += COLUMNS) {
        workgroupBarrier();
        if (id == 0u) { atomicStore(&moved[0], 0u); }
        next{LOADS} = v[key_at(key_token(first + j{LOADS}), c{LOADS})];
        var s{ACROSS} = none;
        s{ACROSS} = coopMultiplyAdd(q{PARTS}, coopLoad<Right>(&tile[{ACROSS}u * SIDE * PITCH + {PARTS}u * SIDE / 4u], PITCH), s{ACROSS});
        coopStoreT(s{ACROSS}, &scores[to{ACROSS}], SCORE_PITCH);
        tile[(COLUMNS + j{LOADS}) * PITCH + c{LOADS}] = vec4<f16>(next{LOADS});
        workgroupBarrier();
        next{LOADS} = k[key_at(key_token(first + COLUMNS + j{LOADS}), c{LOADS})];

        var x{SHARE} = seen_scores(row, first, part + {SHARE}u, row_keys);
        var here = LOWEST;
        here = max(here, largest_of(x{SHARE}));
        if (LANES > 1u) {
            here = max(here, largest_of(seen_scores(row, first, other + {SHARE}u, row_keys)));
        }
        let top = select(largest, here, here > largest + SLACK);
        // before the first score there is nothing to scale
        let keep = select(exp2(largest - top), 1.0, largest == LOWEST);
        largest = top;
        total *= keep;
        x{SHARE} = exp2(x{SHARE} - top);
        weights[row * WEIGHT_PITCH + part + {SHARE}u] = vec4<f16>(x{SHARE});
        total += dot(x{SHARE}, vec4(1.0));
        factors[row] = keep;
        if (keep < 1.0) { atomicStore(&moved[0], 1u); }
        workgroupBarrier();

        if (any_moved()) {
            o{PARTS} = scaled(o{PARTS}, subgroup, lane);
        }
        let w{ACROSS} = coopLoadT<Left>(&weights[subgroup * SIDE * WEIGHT_PITCH + {ACROSS}u * SIDE / 4u], WEIGHT_PITCH);
        o{PARTS} = coopMultiplyAdd(w{ACROSS}, coopLoadT<Right>(&tile[(COLUMNS + {ACROSS}u * SIDE) * PITCH + {PARTS}u * SIDE / 4u], PITCH), o{PARTS});
        tile[j{LOADS} * PITCH + c{LOADS}] = vec4<f16>(next{LOADS});
    }
    workgroupBarrier();
    scores[row * SCORE_PITCH + lane % LANES] = total;
    workgroupBarrier();
    if (LANES > 1u) { total = scores[row * SCORE_PITCH] + scores[row * SCORE_PITCH + 1u]; }
    factors[row] = select(0.0, 1.0 / total, total != 0.0);
    if (inside && lane % LANES == 0u && block.first + row < block.end) {
        lse[(block.first + row) * p.heads + block.head] = select(LOWEST, (largest + log2(total)) / LOG2_E, total != 0.0);
    }
    put(o{PARTS}, {PARTS}u * SIDE, inside, subgroup, lane);
}
