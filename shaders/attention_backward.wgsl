// attention backward: with p = exp(scale q k^T - lse) and ds = p (dout v^T - delta), delta = dout . out,
//   dq = scale ds k, dk = scale ds^T q, dv = p^T dout.
//   q, out, dout, dq (T, H, D)   k, v, dk, dv (T, K, D)   lse (T, H)   stats (T, H, 2): lse, delta   f32
//   stats    one invocation per (token, head)
//   dq       one workgroup per (block of query rows, head), over tiles of keys
//   dkv      one workgroup per (block of key rows, key/value head), over tiles of all queries that see the block, of
//            all query heads that share the key/value head
//   uses     common/grid.wgsl, common/attention_plan.wgsl, common/attention.wgsl
override WG: u32 = 64u;

@group(0) @binding(4) var<storage, read> dout: array<f32>;
@group(0) @binding(5) var<storage, read> stats: array<vec2<f32>>;

fn dout_at(token: u32, d: u32) -> f32 {
    if (token < p.query_lo || token >= p.query_hi || d >= p.dim) { return 0.0; }
    return dout[((token - p.query_lo) * p.heads + block.head) * p.dim + d];
}

fn stats_at(token: u32) -> vec2<f32> {
    if (token < p.query_lo || token >= p.query_hi) { return vec2(0.0); }
    return stats[(token - p.query_lo) * p.heads + block.head];
}

// The two products of the backward pass: q with k, or (gradient) dout with v.
fn query_at(token: u32, d: u32, gradient: bool) -> f32 {
    if (gradient) { return dout_at(token, d); }
    return q_at(token, d);
}

fn kv_at(token: u32, d: u32, gradient: bool) -> f32 {
    if (gradient) { return v_at(token, d); }
    return k_at(token, d);
}

// Four queries from t on, NONE from `end` on.
fn query_tokens(t: u32, end: u32) -> vec4<u32> {
    let token = vec4(t) + vec4(0u, 1u, 2u, 3u);
    return select(vec4(NONE), token, token < vec4(end));
}

// Queries of the block by 4 TX keys from the j0-th on.
fn queries_by_keys(j0: u32, gradient: bool, tx: u32, ty: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    let lane = ty * TX + tx;
    for (var d0 = 0u; d0 < p.dim; d0 += DEPTH) {
        for (var e = lane; e < DEPTH * TY; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let row = block.first + e / DEPTH * 4u;
            row_tile[(e % DEPTH) * (TY + 1u) + e / DEPTH] =
                vec4(query_at(row, d, gradient), query_at(row + 1u, d, gradient),
                     query_at(row + 2u, d, gradient), query_at(row + 3u, d, gradient));
        }
        for (var e = lane; e < DEPTH * TX; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let key = key_tokens(j0 + e / DEPTH * 4u);
            col_tile[(e % DEPTH) * (TX + 1u) + e / DEPTH] =
                vec4(kv_at(key.x, d, gradient), kv_at(key.y, d, gradient),
                     kv_at(key.z, d, gradient), kv_at(key.w, d, gradient));
        }
        workgroupBarrier();
        multiply(&s, tx, ty);
        workgroupBarrier();
    }
    return s;
}

// Keys of the block by 4 TX queries [t0, end).
fn keys_by_queries(t0: u32, end: u32, gradient: bool, tx: u32, ty: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    let lane = ty * TX + tx;
    for (var d0 = 0u; d0 < p.dim; d0 += DEPTH) {
        for (var e = lane; e < DEPTH * TY; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let row = block.first + e / DEPTH * 4u;
            row_tile[(e % DEPTH) * (TY + 1u) + e / DEPTH] =
                vec4(kv_at(row, d, gradient), kv_at(row + 1u, d, gradient),
                     kv_at(row + 2u, d, gradient), kv_at(row + 3u, d, gradient));
        }
        for (var e = lane; e < DEPTH * TX; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let token = query_tokens(t0 + e / DEPTH * 4u, end);
            col_tile[(e % DEPTH) * (TX + 1u) + e / DEPTH] =
                vec4(query_at(token.x, d, gradient), query_at(token.y, d, gradient),
                     query_at(token.z, d, gradient), query_at(token.w, d, gradient));
        }
        workgroupBarrier();
        multiply(&s, tx, ty);
        workgroupBarrier();
    }
    return s;
}

// DEPTH keys from the j-th on: 4 TX columns of them.
fn stage_keys(j: u32, column: u32, lane: u32) {
    for (var e = lane; e < DEPTH * TX; e += TX * TY) {
        let key = key_token(j + e / TX);
        let c = column + e % TX * 4u;
        col_tile[e / TX * (TX + 1u) + e % TX] =
            vec4(k_at(key, c), k_at(key, c + 1u), k_at(key, c + 2u), k_at(key, c + 3u));
    }
}

// DEPTH queries from t on: 4 TX columns of q or (gradient) dout.
fn stage_queries(t: u32, end: u32, gradient: bool, column: u32, lane: u32) {
    for (var e = lane; e < DEPTH * TX; e += TX * TY) {
        let token = select(NONE, t + e / TX, t + e / TX < end);
        let c = column + e % TX * 4u;
        col_tile[e / TX * (TX + 1u) + e % TX] =
            vec4(query_at(token, c, gradient), query_at(token, c + 1u, gradient),
                 query_at(token, c + 2u, gradient), query_at(token, c + 3u, gradient));
    }
}

@group(0) @binding(0) var<storage, read> stats_out: array<f32>;
@group(0) @binding(1) var<storage, read> stats_dout: array<f32>;
@group(0) @binding(2) var<storage, read> stats_lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> stats_result: array<vec2<f32>>;

@compute @workgroup_size(WG)
fn make_stats(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
              @builtin(local_invocation_index) lane: u32) {
    let at = group_index(group, groups) * WG + lane;
    if (at >= (p.query_hi - p.query_lo) * p.heads) { return; }
    var delta = 0.0;
    for (var d = at * p.dim; d < (at + 1u) * p.dim; d++) { delta = fma(stats_out[d], stats_dout[d], delta); }
    stats_result[at] = vec2(stats_lse[at], delta);
}

@group(0) @binding(6) var<storage, read_write> dq: array<f32>;

fn put_dq(row: u32, column: u32, x: vec4<f32>) {
    if (row < p.query_lo || row >= p.query_hi || row >= block.end) { return; }
    let at = ((row - p.query_lo) * p.heads + block.head) * p.dim;
    for (var c = column; c < min(column + 4u, p.dim); c++) {
        var y = p.scale * x[c - column];
        if (p.accumulate != 0u) { y += dq[at + c]; }
        dq[at + c] = y;
    }
}

@compute @workgroup_size(TX, TY)
fn backward_dq(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_id) id: vec3<u32>) {
    let index = group_index(group, groups);
    if (index >= p.blocks * p.heads) { return; }
    open_block(index / p.heads, 4u * TY);
    if (block.end <= p.query_lo || block.first >= p.query_hi) { return; }
    block.head = index % p.heads;
    block.kv_head = block.head / (p.heads / p.kv_heads);
    let tx = id.x;
    let ty = id.y;
    let lane = ty * TX + tx;
    let row = vec4(block.first + 4u * ty) + vec4(0u, 1u, 2u, 3u);
    let stat = array(stats_at(row.x), stats_at(row.y), stats_at(row.z), stats_at(row.w));
    let wide = p.column + 4u * TX < p.dim;

    var a = mat4x4<f32>();
    var b = mat4x4<f32>();
    let keys = block.prefix_len + block.end - block.start;
    for (var j0 = 0u; j0 < keys; j0 += 4u * TX) {
        if (!keys_in_piece(j0, 4u * TX)) { continue; }
        let s = queries_by_keys(j0, false, tx, ty);
        var ds = queries_by_keys(j0, true, tx, ty);
        let key = key_tokens(j0 + 4u * tx);
        ds[0] = select(vec4(0.0), exp(p.scale * s[0] - stat[0].x) * (ds[0] - stat[0].y), key <= vec4(row.x));
        ds[1] = select(vec4(0.0), exp(p.scale * s[1] - stat[1].x) * (ds[1] - stat[1].y), key <= vec4(row.y));
        ds[2] = select(vec4(0.0), exp(p.scale * s[2] - stat[2].x) * (ds[2] - stat[2].y), key <= vec4(row.z));
        ds[3] = select(vec4(0.0), exp(p.scale * s[3] - stat[3].x) * (ds[3] - stat[3].y), key <= vec4(row.w));
        put_weights(ds, tx, ty);
        for (var j = 0u; j < 4u * TX && j0 + j < keys; j += DEPTH) {
            stage_keys(j0 + j, p.column, lane);
            workgroupBarrier();
            gather(&a, j, tx, ty);
            workgroupBarrier();
            if (wide) {
                stage_keys(j0 + j, p.column + 4u * TX, lane);
                workgroupBarrier();
                gather(&b, j, tx, ty);
                workgroupBarrier();
            }
        }
    }
    let column = p.column + 4u * tx;
    put_dq(row.x, column, a[0]);
    put_dq(row.y, column, a[1]);
    put_dq(row.z, column, a[2]);
    put_dq(row.w, column, a[3]);
    put_dq(row.x, column + 4u * TX, b[0]);
    put_dq(row.y, column + 4u * TX, b[1]);
    put_dq(row.z, column + 4u * TX, b[2]);
    put_dq(row.w, column + 4u * TX, b[3]);
}

@group(0) @binding(6) var<storage, read_write> dk: array<f32>;
@group(0) @binding(7) var<storage, read_write> dv: array<f32>;

fn put_dkv(row: u32, column: u32, x: vec4<f32>, y: vec4<f32>) {
    if (row < p.key_lo || row >= p.key_hi || row >= block.end) { return; }
    let at = ((row - p.key_lo) * p.kv_heads + block.kv_head) * p.dim;
    for (var c = column; c < min(column + 4u, p.dim); c++) {
        var dk_c = p.scale * x[c - column];
        var dv_c = y[c - column];
        if (p.accumulate != 0u) {
            dk_c += dk[at + c];
            dv_c += dv[at + c];
        }
        dk[at + c] = dk_c;
        dv[at + c] = dv_c;
    }
}

// The queries [t0, end) weighted into columns p.column .. of the block's rows.
fn gather_queries(t0: u32, end: u32, gradient: bool, a: ptr<function, mat4x4<f32>>, b: ptr<function, mat4x4<f32>>,
                  tx: u32, ty: u32) {
    let lane = ty * TX + tx;
    for (var t = 0u; t < 4u * TX && t0 + t < end; t += DEPTH) {
        stage_queries(t0 + t, end, gradient, p.column, lane);
        workgroupBarrier();
        gather(a, t, tx, ty);
        workgroupBarrier();
        if (p.column + 4u * TX < p.dim) {
            stage_queries(t0 + t, end, gradient, p.column + 4u * TX, lane);
            workgroupBarrier();
            gather(b, t, tx, ty);
            workgroupBarrier();
        }
    }
}

@compute @workgroup_size(TX, TY)
fn backward_dkv(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                @builtin(local_invocation_id) id: vec3<u32>) {
    let index = group_index(group, groups);
    if (index >= p.blocks * p.kv_heads) { return; }
    open_block(index / p.kv_heads, 4u * TY);
    if (block.end <= p.key_lo || block.first >= p.key_hi) { return; }
    block.kv_head = index % p.kv_heads;
    let tx = id.x;
    let ty = id.y;
    let row = vec4(block.first + 4u * ty) + vec4(0u, 1u, 2u, 3u);
    let share = p.heads / p.kv_heads;

    var ka = mat4x4<f32>();
    var kb = mat4x4<f32>();
    var va = mat4x4<f32>();
    var vb = mat4x4<f32>();
    let ranges = plan[p.seen_at + block.segment + 1u];
    for (var r = plan[p.seen_at + block.segment]; r < ranges; r++) {
        let end = min(plan[p.seen_by + 2u * r + 1u], p.query_hi);
        for (var t0 = max(max(plan[p.seen_by + 2u * r], block.first), p.query_lo); t0 < end; t0 += 4u * TX) {
            for (var g = 0u; g < share; g++) {
                block.head = block.kv_head * share + g;
                let token = query_tokens(t0 + 4u * tx, end);
                let stat = array(stats_at(token.x), stats_at(token.y), stats_at(token.z), stats_at(token.w));
                let lse = vec4(stat[0].x, stat[1].x, stat[2].x, stat[3].x);
                let delta = vec4(stat[0].y, stat[1].y, stat[2].y, stat[3].y);
                let known = token != vec4(NONE);
                var s = keys_by_queries(t0, end, false, tx, ty);
                s[0] = select(vec4(0.0), exp(p.scale * s[0] - lse), known & (token >= vec4(row.x)));
                s[1] = select(vec4(0.0), exp(p.scale * s[1] - lse), known & (token >= vec4(row.y)));
                s[2] = select(vec4(0.0), exp(p.scale * s[2] - lse), known & (token >= vec4(row.z)));
                s[3] = select(vec4(0.0), exp(p.scale * s[3] - lse), known & (token >= vec4(row.w)));
                put_weights(s, tx, ty);
                gather_queries(t0, end, true, &va, &vb, tx, ty);
                let dp = keys_by_queries(t0, end, true, tx, ty);
                s = mat4x4(s[0] * (dp[0] - delta), s[1] * (dp[1] - delta),
                           s[2] * (dp[2] - delta), s[3] * (dp[3] - delta));
                put_weights(s, tx, ty);
                gather_queries(t0, end, false, &ka, &kb, tx, ty);
            }
        }
    }
    let column = p.column + 4u * tx;
    put_dkv(row.x, column, ka[0], va[0]);
    put_dkv(row.y, column, ka[1], va[1]);
    put_dkv(row.z, column, ka[2], va[2]);
    put_dkv(row.w, column, ka[3], va[3]);
    put_dkv(row.x, column + 4u * TX, kb[0], vb[0]);
    put_dkv(row.y, column + 4u * TX, kb[1], vb[1]);
    put_dkv(row.z, column + 4u * TX, kb[2], vb[2]);
    put_dkv(row.w, column + 4u * TX, kb[3], vb[3]);
}
