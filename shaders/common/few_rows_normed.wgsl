// Rows of a normalised as they are read: y = x / sqrt(mean(x²) + eps) norm. The root is a factor of the whole sum, so that the
// squares are added up beside the products.
//   uses    of the kernel's own text: p.k, p.eps, and norm: array<Pack> (k); what few_rows.wgsl is made for
fn weighed(x: Pack, l: u32) -> Pack { return x * norm[l / PACK]; }
fn with_square(squares: f32, x: Pack) -> f32 { return added(squares, x, x); }

// lanes that add up the squares of one row, and after that their sums
const PARTS: u32 = min(8u, LANES / ROWS);
var<workgroup> squares: array<f32, ROWS * PITCH>;
var<workgroup> joined: array<f32, ROWS * PARTS>;

fn keep_squares(row: u32, lane: u32, own: f32) { squares[row * PITCH + lane] = own; }

fn join_squares(lane: u32) {
    if (lane < ROWS * PARTS) {
        var s = 0.0;
        for (var e = lane % PARTS; e < LANES; e += PARTS) { s += squares[lane / PARTS * PITCH + e]; }
        joined[lane] = s;
    }
}

fn factor_of(row: u32) -> f32 {
    var s = 0.0;
    for (var e = 0u; e < PARTS; e++) { s += joined[row * PARTS + e]; }
    return inverseSqrt(s / f32(p.k) + p.eps);
}
