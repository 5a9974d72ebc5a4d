// slots: moves runs of tokens between buffers of slots, (slots, capacity, width): keys and values alike.
//   source_k, result_k, source_v, result_v   f32     one workgroup per (run, token)
//   table  (runs, 4) u32: source slot and position, result slot and position of each run's first token
//   The bound spans are tokens [p.from_lo, p.from_hi) and [p.to_lo, p.to_hi) of their buffers; others are left.
//   uses   common/grid.wgsl
struct Params {
    runs: u32, tokens: u32, width: u32, from_capacity: u32,
    to_capacity: u32, from_lo: u32, from_hi: u32, to_lo: u32,
    to_hi: u32,
}
var<immediate> p: Params;

override WG: u32 = 64u;

@group(0) @binding(0) var<storage, read> table: array<u32>;
@group(0) @binding(1) var<storage, read> source_k: array<f32>;
@group(0) @binding(2) var<storage, read_write> result_k: array<f32>;
@group(0) @binding(3) var<storage, read> source_v: array<f32>;
@group(0) @binding(4) var<storage, read_write> result_v: array<f32>;

@compute @workgroup_size(WG)
fn move_tokens(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, groups);
    if (index >= p.runs * p.tokens) { return; }
    let run = index / p.tokens * 4u;
    let token = index % p.tokens;
    let source_token = table[run] * p.from_capacity + table[run + 1u] + token;
    let result_token = table[run + 2u] * p.to_capacity + table[run + 3u] + token;
    if (source_token < p.from_lo || source_token >= p.from_hi) { return; }
    if (result_token < p.to_lo || result_token >= p.to_hi) { return; }
    let a = (source_token - p.from_lo) * p.width;
    let b = (result_token - p.to_lo) * p.width;
    for (var c = lane; c < p.width; c += WG) {
        result_k[b + c] = source_k[a + c];
        result_v[b + c] = source_v[a + c];
    }
}
