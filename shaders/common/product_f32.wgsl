// Operands and result of a product in f32, one element at a time; elements outside of them are zero.
//   uses    common/product.wgsl, and for b common/operand_f32.wgsl or common/operand_half.wgsl
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> c: array<f32>;

fn load_a(at: Place, i: u32, l: u32) -> f32 {
    var x = 0.0;
    if (i < p.m && l < at.k) { x = a[a_index(at, i, l)]; }
    return x;
}

fn load_b(at: Place, l: u32, j: u32) -> f32 {
    var x = 0.0;
    if (j < p.n && l < at.k) { x = b_at(b_index(at, l, j)); }
    return x;
}

fn store(start: u32, i: u32, j: u32, x: f32) {
    // without &&, which is a branch: adapters with small vectors go both ways
    if ((i < p.m) & (j < p.n)) {
        let at = start + i * p.ldc + j;
        if (ACCUMULATE) { c[at] = c[at] + x; } else { c[at] = x; }
    }
}

fn store4(start: u32, i: u32, j: u32, x: vec4<f32>) {
    store(start, i, j, x.x);
    store(start, i, j + 1u, x.y);
    store(start, i, j + 2u, x.z);
    store(start, i, j + 3u, x.w);
}
