// slots: moves runs of tokens between buffers of slots, (slots, capacity, width): keys and values alike.
//   source_k, result_k, source_v, result_v   words: move_tokens copies p.width of them a token, narrow_tokens makes p.width words
//          of two f16 of twice as many f32     one workgroup per (run, token)
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
@group(0) @binding(1) var<storage, read> source_k: array<u32>;
@group(0) @binding(2) var<storage, read_write> result_k: array<u32>;
@group(0) @binding(3) var<storage, read> source_v: array<u32>;
@group(0) @binding(4) var<storage, read_write> result_v: array<u32>;

struct Places { source: u32, result: u32, are_bound: bool }

// tokens of the bound spans, where there is a token of that number
fn places_of(index: u32) -> Places {
    if (index >= p.runs * p.tokens) { return Places(0u, 0u, false); }
    let run = index / p.tokens * 4u;
    let token = index % p.tokens;
    let source = table[run] * p.from_capacity + table[run + 1u] + token;
    let result = table[run + 2u] * p.to_capacity + table[run + 3u] + token;
    let are_bound = source >= p.from_lo && source < p.from_hi && result >= p.to_lo && result < p.to_hi;
    return Places(source - p.from_lo, result - p.to_lo, are_bound);
}

@compute @workgroup_size(WG)
fn move_tokens(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
               @builtin(local_invocation_index) lane: u32) {
    let places = places_of(group_index(group, groups));
    if (!places.are_bound) { return; }
    for (var c = lane; c < p.width; c += WG) {
        let a = places.source * p.width + c;
        let b = places.result * p.width + c;
        result_k[b] = source_k[a];
        result_v[b] = source_v[a];
    }
}

@compute @workgroup_size(WG)
fn narrow_tokens(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
                 @builtin(local_invocation_index) lane: u32) {
    let places = places_of(group_index(group, groups));
    if (!places.are_bound) { return; }
    for (var c = lane; c < p.width; c += WG) {
        let a = (places.source * p.width + c) * 2u;
        let b = places.result * p.width + c;
        result_k[b] = pack2x16float(bitcast<vec2<f32>>(vec2(source_k[a], source_k[a + 1u])));
        result_v[b] = pack2x16float(bitcast<vec2<f32>>(vec2(source_v[a], source_v[a + 1u])));
    }
}
