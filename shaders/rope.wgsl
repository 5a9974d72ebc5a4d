// rope: rotates the pair (x[i], x[i + D/2]) of every head by the angle of its token's position.
//   y[i] = x[i] cos - x[i + D/2] sin,   y[i + D/2] = x[i + D/2] cos + x[i] sin,   i < D/2
//   x, y        (T, H, D)  f32    one invocation per pair
//   positions   (T)        u32    rows of the table
//   table       (P, D)     f32    D/2 cosines, then D/2 sines, of each position
//   backward    the same with sign = -1: the inverse rotation
//   uses        common/grid.wgsl
override WG: u32 = 256u;
struct Params { tokens: u32, heads: u32, half: u32, positions: u32, sign: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(WG)
fn rotate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let pair = group_index(group, groups) * WG + lane;
    let head = pair / p.half;
    let token = head / p.heads;
    if (token >= p.tokens) { return; }
    let i = pair % p.half;
    let row = min(positions[token], p.positions - 1u) * p.half * 2u;
    let cosine = table[row + i];
    let sine = table[row + p.half + i] * p.sign;
    let first = head * p.half * 2u + i;
    let a = x[first];
    let b = x[first + p.half];
    y[first] = a * cosine - b * sine;
    y[first + p.half] = b * cosine + a * sine;
}
