// attention: out = softmax(scale q k^T) v over packed causal segments, each with an optional shared prefix.
//   q, out (T, H, D)   k, v (T, K, D)   lse (T, H)   f32
//   forward  one workgroup per (block of query rows, head); online softmax over tiles of keys
//   uses     common/grid.wgsl, common/attention_plan.wgsl, common/attention.wgsl
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read_write> lse: array<f32>;

// The block's queries against 4 TX keys from the j0-th on: q k^T.
fn scores(j0: u32, tx: u32, ty: u32) -> mat4x4<f32> {
    var s = mat4x4<f32>();
    let lane = ty * TX + tx;
    for (var d0 = 0u; d0 < p.dim; d0 += DEPTH) {
        for (var e = lane; e < DEPTH * TY; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let row = block.first + e / DEPTH * 4u;
            row_tile[(e % DEPTH) * (TY + 1u) + e / DEPTH] =
                vec4(q_at(row, d), q_at(row + 1u, d), q_at(row + 2u, d), q_at(row + 3u, d));
        }
        for (var e = lane; e < DEPTH * TX; e += TX * TY) {
            let d = d0 + e % DEPTH;
            let key = key_tokens(j0 + e / DEPTH * 4u);
            col_tile[(e % DEPTH) * (TX + 1u) + e / DEPTH] =
                vec4(k_at(key.x, d), k_at(key.y, d), k_at(key.z, d), k_at(key.w, d));
        }
        workgroupBarrier();
        multiply(&s, tx, ty);
        workgroupBarrier();
    }
    return s;
}

// DEPTH keys from the j-th on: 4 TX columns of their values.
fn stage_values(j: u32, column: u32, lane: u32) {
    for (var e = lane; e < DEPTH * TX; e += TX * TY) {
        let key = key_token(j + e / TX);
        let c = column + e % TX * 4u;
        col_tile[e / TX * (TX + 1u) + e % TX] =
            vec4(v_at(key, c), v_at(key, c + 1u), v_at(key, c + 2u), v_at(key, c + 3u));
    }
}

fn largest_of(x: vec4<f32>) -> f32 {
    return max(max(x.x, x.y), max(x.z, x.w));
}

fn lse_before(row: u32) -> f32 {
    if (p.accumulate == 0u || row < p.query_lo || row >= p.query_hi) { return LOWEST; }
    return lse[(row - p.query_lo) * p.heads + block.head];
}

fn put(at: u32, column: u32, x: vec4<f32>, keep: f32) {
    for (var c = 0u; c < 4u; c++) {
        if (column + c < p.dim) {
            var y = x[c];
            if (p.accumulate != 0u) { y += keep * out[at * p.dim + column + c]; }
            out[at * p.dim + column + c] = y;
        }
    }
}

// Scales one row and merges it with what earlier pieces of the keys gave, whose log-sum-exp was `before`.
fn finish_row(row: u32, a: vec4<f32>, b: vec4<f32>, total: f32, largest: f32, before: f32, tx: u32) {
    if (row < p.query_lo || row >= p.query_hi || row >= block.end) { return; }
    let at = (row - p.query_lo) * p.heads + block.head;
    var sum = LOWEST;
    var scale = 0.0;
    if (total != 0.0) {
        sum = largest + log(total);
        scale = 1.0 / total;
    }
    var keep = 0.0;
    if (p.accumulate != 0u) {
        let top = max(sum, before);
        let old = exp(before - top);
        let fresh = exp(sum - top);
        keep = old / (old + fresh);
        scale *= fresh / (old + fresh);
        sum = top + log(old + fresh);
    }
    // columns go from the last dispatch to the first, so that every one of them finds the old sum
    if (tx == 0u && p.column == 0u) { lse[at] = sum; }
    put(at, p.column + 4u * tx, scale * a, keep);
    put(at, p.column + 4u * (TX + tx), scale * b, keep);
}

@compute @workgroup_size(TX, TY)
fn forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
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
    let before = vec4(lse_before(row.x), lse_before(row.y), lse_before(row.z), lse_before(row.w));
    let wide = p.column + 4u * TX < p.dim;

    var largest = vec4(LOWEST);
    var total = vec4<f32>();
    var a = mat4x4<f32>();
    var b = mat4x4<f32>();
    let keys = block.prefix_len + block.end - block.start;
    for (var j0 = 0u; j0 < keys; j0 += 4u * TX) {
        if (!keys_in_piece(j0, 4u * TX)) { continue; }
        var s = scores(j0, tx, ty);
        let key = key_tokens(j0 + 4u * tx);
        s[0] = select(vec4(LOWEST), p.scale * s[0], key <= vec4(row.x));
        s[1] = select(vec4(LOWEST), p.scale * s[1], key <= vec4(row.y));
        s[2] = select(vec4(LOWEST), p.scale * s[2], key <= vec4(row.z));
        s[3] = select(vec4(LOWEST), p.scale * s[3], key <= vec4(row.w));
        // row_tile is free between two products: here it holds the largest score of every invocation's rows
        row_tile[tx * TY + ty] = vec4(largest_of(s[0]), largest_of(s[1]), largest_of(s[2]), largest_of(s[3]));
        workgroupBarrier();
        var here = largest;
        for (var x = 0u; x < TX; x++) { here = max(here, row_tile[x * TY + ty]); }
        let rescale = exp(largest - here);
        largest = here;
        s[0] = select(vec4(0.0), exp(s[0] - here.x), key <= vec4(row.x));
        s[1] = select(vec4(0.0), exp(s[1] - here.y), key <= vec4(row.y));
        s[2] = select(vec4(0.0), exp(s[2] - here.z), key <= vec4(row.z));
        s[3] = select(vec4(0.0), exp(s[3] - here.w), key <= vec4(row.w));
        put_weights(s, tx, ty);
        total *= rescale;
        a = mat4x4(a[0] * rescale.x, a[1] * rescale.y, a[2] * rescale.z, a[3] * rescale.w);
        b = mat4x4(b[0] * rescale.x, b[1] * rescale.y, b[2] * rescale.z, b[3] * rescale.w);
        for (var j = 0u; j < 4u * TX && j0 + j < keys; j += DEPTH) {
            stage_values(j0 + j, p.column, lane);
            workgroupBarrier();
            total += gather(&a, j, tx, ty);
            workgroupBarrier();
            if (wide) {
                stage_values(j0 + j, p.column + 4u * TX, lane);
                workgroupBarrier();
                gather(&b, j, tx, ty);
                workgroupBarrier();
            }
        }
    }
    finish_row(row.x, a[0], b[0], total.x, largest.x, before.x, tx);
    finish_row(row.y, a[1], b[1], total.y, largest.y, before.y, tx);
    finish_row(row.z, a[2], b[2], total.z, largest.z, before.z, tx);
    finish_row(row.w, a[3], b[3], total.w, largest.w, before.w, tx);
}
