//! Rows a power of two apart, or a multiple of one, meet in a few sets of the first cache, which then holds few of them: what goes
//! across such rows reads each line of them again and again.

use super::View;
use crate::real::Real;
use crate::vector::LINE;

/// Bytes from row to row at which that is so, or a multiple of them: 16 rows in two of the 64 sets of 8 lines.
const COLLISION: usize = 2048;

/// True if rows of `T` meet that are so many elements apart.
pub(crate) fn collide<T>(stride: usize) -> bool {
    stride > 0 && (stride * size_of::<T>()).is_multiple_of(COLLISION)
}

/// Elements from row to row that keep rows of `cols` apart, by a line if they have to be.
pub(crate) fn pitch<T>(cols: usize) -> usize {
    if collide::<T>(cols) { cols + LINE / size_of::<T>() } else { cols }
}

/// The rows of `view` in `room`, kept apart.
pub(crate) fn copied<'a, T: Real>(view: View<T>, room: &'a mut Vec<T>) -> View<'a, T> {
    let (rows, cols) = (view.height(), view.width());
    let pitch = pitch::<T>(cols);
    room.clear();
    for r in 0..rows {
        room.extend_from_slice(view.row(r));
        room.resize((r + 1) * pitch, T::zero());
    }
    View::new(room, rows, cols, pitch)
}

/// `view` itself, or its rows copied to `room` if they collide.
pub(crate) fn apart<'a, T: Real>(view: View<'a, T>, room: &'a mut Vec<T>) -> View<'a, T> {
    if collide::<T>(view.stride()) { copied(view, room) } else { view }
}
