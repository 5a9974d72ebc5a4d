// What every attention kernel shares: parameters, and the plan of the segments.
//   plan   u32: blocks of rows (segment, first token), then segments (start, length, prefix start, prefix length),
//          then for each segment the first of its ranges, then ranges (first, end) of tokens that see its keys
//   pieces bound spans may be pieces of the T axis, queries [query_lo, query_hi) and keys [key_lo, key_hi); with
//          p.accumulate a dispatch adds to what the dispatches before it left.
struct Params {
    heads: u32, kv_heads: u32, dim: u32, blocks: u32,
    segments: u32, seen_at: u32, seen_by: u32, column: u32,
    query_lo: u32, query_hi: u32, key_lo: u32, key_hi: u32,
    accumulate: u32, scale: f32,
}
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read> plan: array<u32>;

// no token
const NONE = 0xffffffffu;
// below every score
const LOWEST = -3.0e38;

// The workgroup's block: tokens [first, end) of a segment that starts at `start`, and the heads it works on.
struct Block {
    segment: u32, first: u32, end: u32,
    start: u32, prefix_start: u32, prefix_len: u32,
    head: u32, kv_head: u32,
}
var<private> block: Block;

// Opens the `index`-th block, of at most `rows` rows.
fn open_block(index: u32, rows: u32) {
    block.segment = plan[2u * index];
    block.first = plan[2u * index + 1u];
    let at = p.segments + 4u * block.segment;
    block.start = plan[at];
    block.end = min(block.first + rows, block.start + plan[at + 1u]);
    block.prefix_start = plan[at + 2u];
    block.prefix_len = plan[at + 3u];
}
