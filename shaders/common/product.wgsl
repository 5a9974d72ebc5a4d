// What the products share: c = a b, or c += a b if ACCUMULATE, per matrix of a batch.
//   a   (m, k), or (k, m) if A_ROWS_ARE_K     f32    a(i, l)
//   b   (k, n), or (n, k) if B_ROWS_ARE_N     f32    b(l, j)
//   c   (m, n)                                f32    rows ldc apart, so that c may be a block of columns
//   math    f32; a batch may also be slices of one sum of sum_k products, k to a slice, the last one shorter
//   uses    common/grid.wgsl
struct Params {
    m: u32, n: u32, k: u32, batch: u32,
    lda: u32, ldb: u32, ldc: u32,
    a_start: u32, b_start: u32, c_start: u32,
    a_stride: u32, b_stride: u32, c_stride: u32,
    sum_k: u32,
}
var<immediate> p: Params;

override A_ROWS_ARE_K: bool = false;
override B_ROWS_ARE_N: bool = false;
override ACCUMULATE: bool = false;

// Where a(i, l) and b(l, j) lie.
fn a_index(at: Place, i: u32, l: u32) -> u32 {
    if (A_ROWS_ARE_K) { return at.a + l * p.lda + i; }
    return at.a + i * p.lda + l;
}

fn b_index(at: Place, l: u32, j: u32) -> u32 {
    if (B_ROWS_ARE_N) { return at.b + j * p.ldb + l; }
    return at.b + l * p.ldb + j;
}

// Which tile of which matrix a workgroup computes; rows vary fastest, so that neighbours share columns of b.
struct Place { a: u32, b: u32, c: u32, i: u32, j: u32, k: u32, inside: bool }

fn place(group: u32, rows: u32, cols: u32) -> Place {
    let across = (p.m + rows - 1u) / rows;
    let down = (p.n + cols - 1u) / cols;
    let matrix = group / (across * down);
    let tile = group % (across * down);
    var at: Place;
    at.a = p.a_start + matrix * p.a_stride;
    at.b = p.b_start + matrix * p.b_stride;
    at.c = p.c_start + matrix * p.c_stride;
    at.i = tile % across * rows;
    at.j = tile / across * cols;
    at.inside = matrix < p.batch;
    if (at.inside) { at.k = min(p.k, p.sum_k - matrix * p.k); }
    return at;
}
