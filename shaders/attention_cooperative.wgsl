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
var<workgroup> scores: array<vec4<f32>, ROWS * SCORE_PITCH>;
var<workgroup> weights: array<vec4<f16>, ROWS * WEIGHT_PITCH>;
// what a row's sums are to be multiplied by
var<workgroup> factors: array<f32, ROWS>;
// 1 if some factor is not 1
var<workgroup> moved: atomic<u32>;

fn largest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn any_moved() -> bool {
    return atomicLoad(&moved) != 0u;
}

// A subgroup's sums with its rows multiplied by their factors.
fn scaled(sums: Sums, subgroup: u32, lane: u32) -> Sums {
    let own = subgroup * SIDE * SCORE_PITCH;
    coopStoreT(sums, &scores[own], SCORE_PITCH);
    workgroupBarrier();
    for (var e = lane; e < SIDE * SIDE / 4u; e += SUBGROUP) {
        let row = e / (SIDE / 4u);
        scores[own + row * SCORE_PITCH + e % (SIDE / 4u)] *= factors[subgroup * SIDE + row];
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
                factors[subgroup * SIDE + row] * scores[own + row * SCORE_PITCH + c];
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
    // keys that every row of the block sees, and that this lane's row sees
    let common_keys = block.prefix_len + block.first - block.start + 1u;
    let row = subgroup * SIDE + lane / LANES;
    let row_keys = common_keys + row;
    let part = lane % LANES * SHARE;
    let factor = p.scale * LOG2_E;

    for (var e = id; e < ROWS * (DIM / 4u); e += GROUP) {
        tile[e / (DIM / 4u) * PITCH + e % (DIM / 4u)] = vec4<f16>(q[query_at(min(block.first + e / (DIM / 4u), block.end - 1u), e % (DIM / 4u))]);
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
    var o{PARTS} = Sums();
    let own = subgroup * SIDE * SCORE_PITCH;
    let to{ACROSS} = own + {ACROSS}u * SIDE / 4u;
    for (var first = 0u; first < keys; first += COLUMNS) {
        workgroupBarrier();
        if (id == 0u) { atomicStore(&moved, 0u); }
        next{LOADS} = v[key_at(key_token(first + j{LOADS}), c{LOADS})];
        var s{ACROSS} = Sums();
        s{ACROSS} = coopMultiplyAdd(q{PARTS}, coopLoad<Right>(&tile[{ACROSS}u * SIDE * PITCH + {PARTS}u * SIDE / 4u], PITCH), s{ACROSS});
        coopStoreT(s{ACROSS}, &scores[to{ACROSS}], SCORE_PITCH);
        tile[(COLUMNS + j{LOADS}) * PITCH + c{LOADS}] = vec4<f16>(next{LOADS});
        workgroupBarrier();
        next{LOADS} = k[key_at(key_token(first + COLUMNS + j{LOADS}), c{LOADS})];

        var x{SHARE} = factor * scores[row * SCORE_PITCH + part + {SHARE}u];
        if (first + COLUMNS > common_keys) {
            let at{SHARE} = vec4(first + 4u * (part + {SHARE}u)) + vec4(0u, 1u, 2u, 3u);
            x{SHARE} = select(vec4(LOWEST), x{SHARE}, at{SHARE} < vec4(row_keys));
        }
        var here = LOWEST;
        here = max(here, largest_of(x{SHARE}));
        if (LANES > 1u) { here = max(here, subgroupShuffleXor(here, 1u)); }
        let top = select(largest, here, here > largest + SLACK);
        // before the first score there is nothing to scale
        let keep = select(exp2(largest - top), 1.0, largest == LOWEST);
        largest = top;
        total *= keep;
        x{SHARE} = exp2(x{SHARE} - top);
        weights[row * WEIGHT_PITCH + part + {SHARE}u] = vec4<f16>(x{SHARE});
        total += dot(x{SHARE}, vec4(1.0));
        factors[row] = keep;
        let moves = subgroupAny(keep < 1.0);
        if (moves && lane == 0u) { atomicStore(&moved, 1u); }
        workgroupBarrier();

        if (any_moved()) {
            o{PARTS} = scaled(o{PARTS}, subgroup, lane);
        }
        let w{ACROSS} = coopLoadT<Left>(&weights[subgroup * SIDE * WEIGHT_PITCH + {ACROSS}u * SIDE / 4u], WEIGHT_PITCH);
        o{PARTS} = coopMultiplyAdd(w{ACROSS}, coopLoadT<Right>(&tile[(COLUMNS + {ACROSS}u * SIDE) * PITCH + {PARTS}u * SIDE / 4u], PITCH), o{PARTS});
        tile[j{LOADS} * PITCH + c{LOADS}] = vec4<f16>(next{LOADS});
    }
    if (LANES > 1u) { total += subgroupShuffleXor(total, 1u); }
    factors[row] = select(0.0, 1.0 / total, total != 0.0);
    if (inside && lane % LANES == 0u && block.first + row < block.end) {
        lse[(block.first + row) * p.heads + block.head] = select(LOWEST, (largest + log2(total)) / LOG2_E, total != 0.0);
    }
    put(o{PARTS}, {PARTS}u * SIDE, inside, subgroup, lane);
}
