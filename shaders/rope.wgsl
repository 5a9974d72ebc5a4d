// rope: rotates the pair (x[i], x[i + D/2]) of every head by the angle of its token's position.
//   y[i] = x[i] cos - x[i + D/2] sin,   y[i + D/2] = x[i + D/2] cos + x[i] sin,   i < D/2
//   x, y        (T, H, D)  f32    one invocation per pair of accesses
//   positions   (T)        u32    rows of the table
//   table       (P, D)     f32    D/2 cosines, then D/2 sines, of each position
//   backward    the same with sign = -1: the inverse rotation
//   uses        common/grid.wgsl, common/ones.wgsl or common/fours.wgsl
override WG: u32 = 256u;
struct Params { tokens: u32, heads: u32, half: u32, positions: u32, sign: f32 }
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<Elem>;
@group(0) @binding(1) var<storage, read> positions: array<u32>;
@group(0) @binding(2) var<storage, read> table: array<Elem>;
@group(0) @binding(3) var<storage, read_write> y: array<Elem>;

@compute @workgroup_size(WG)
fn rotate(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let pair = group_index(group, groups) * WG + lane;
    let half = p.half / WIDTH;
    let head = pair / half;
    let token = head / p.heads;
    if (token >= p.tokens) { return; }
    let i = pair % half;
    let row = min(positions[token], p.positions - 1u) * half * 2u;
    let cosine = table[row + i];
    let sine = table[row + half + i] * p.sign;
    let first = head * half * 2u + i;
    let a = x[first];
    let b = x[first + half];
    y[first] = a * cosine - b * sine;
    y[first + half] = b * cosine + a * sine;
}
