//! Kernels whose text leaves open how many elements an access takes: wide accesses keep more bytes in flight, but need rows
//! that are whole multiples of them.

use super::pipeline::Kernel;

/// One element an access.
pub(crate) const ONES: &str = include_str!("../../../shaders/common/ones.wgsl");
/// Four elements an access.
pub(crate) const FOURS: &str = include_str!("../../../shaders/common/fours.wgsl");

/// A kernel with its texts for [`ONES`] and for [`FOURS`].
#[derive(Debug)]
pub(crate) struct Widths([Kernel; 2]);

impl Widths {
    /// `kernel`, but for its sources.
    pub(crate) const fn new<const N: usize>(kernel: Kernel, sources: &'static [[&'static str; N]; 2]) -> Widths {
        Widths([Kernel { sources: &sources[0], ..kernel }, Kernel { sources: &sources[1], ..kernel }])
    }

    /// The kernel for rows of `cols` elements that start at whole rows, and how many elements its accesses take.
    pub(crate) fn of(&'static self, cols: usize) -> (&'static Kernel, usize) {
        if cols.is_multiple_of(4) { (&self.0[1], 4) } else { (&self.0[0], 1) }
    }

    /// Both, for the tests of shaders.
    pub(crate) fn all(&'static self) -> &'static [Kernel] {
        &self.0
    }
}
