//! Weights of two bytes: what products and lookups make of them where they lie. They are read, never written, by kernels, and
//! sums are f32: half the memory of f32, and half the bytes to read.

use crate::buffer::{Buffer, Dtype};
use crate::device::Device;
use crate::error::{Error, Result};
use crate::product::{Pairs, Target, View, are_words, copied, dots, pitch};
use crate::real::{Real, simd};
use crate::vector::prefetch;
use half::{bf16, f16};
use std::ops::Range;

/// `widened(word)` of WGSL for two elements in a word.
pub(crate) const F16: &str = include_str!("../../shaders/common/f16.wgsl");
pub(crate) const BF16: &str = include_str!("../../shaders/common/bf16.wgsl");
/// `element(word, i)` and `opened(four)` of WGSL.
pub(crate) const STORED_F32: &str = include_str!("../../shaders/common/stored_f32.wgsl");
pub(crate) const STORED_F16: &str = include_str!("../../shaders/common/stored_f16.wgsl");

/// f32 values on `device` as `dtype`, rounded to the nearest, ties to even.
///
/// Errors: `Shape` naming the first finite value that f16 cannot hold.
pub fn narrowed(device: &Device, values: &[f32], dtype: Dtype) -> Result<Buffer> {
    const OP: &str = "narrow";
    match dtype {
        Dtype::F32 => Buffer::from_slice(device, values),
        Dtype::Bf16 => Buffer::from_slice(device, &values.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>()),
        Dtype::F16 => {
            let narrow: Vec<f16> = values.iter().map(|&x| f16::from_f32(x)).collect();
            match narrow.iter().zip(values).position(|(n, x)| n.is_infinite() && x.is_finite()) {
                Some(at) => Err(Error::shape(OP, format!("{} at {at} is past the largest f16, 65504", values[at]))),
                None => Buffer::from_slice(device, &narrow),
            }
        }
        Dtype::F64 | Dtype::U32 => {
            Err(Error::Dtype { op: OP, operand: "result", found: dtype, expected: "f32, f16 or bf16" })
        }
    }
}

/// A matrix in memory that products in `T` can have as an operand.
pub(crate) trait Stored<T: Real>: Copy + Sync {
    /// Elements that are opened at a time, at most.
    const AT_ONCE: usize;

    /// The matrix in `T`, in `room`, its rows kept apart.
    fn copied<'a>(view: View<'a, Self>, room: &'a mut Vec<T>) -> View<'a, T>;

    /// The matrix in `T`: itself, or widened into `room`.
    fn open<'a>(view: View<'a, Self>, room: &'a mut Vec<T>) -> View<'a, T> {
        Self::copied(view, room)
    }

    /// A few rows as [`Self::dots`] takes them, if it can read these matrices where they lie.
    fn pairs<'a>(_few: View<T>, _many: impl Iterator<Item = View<'a, Self>>) -> Option<Pairs>
    where
        Self: 'a,
    {
        None
    }

    /// [`dots`](crate::product::dots) with rows of one of those matrices.
    ///
    /// Safety: as of it.
    unsafe fn dots(_: Target<T>, _keep: bool, _few: &Pairs, _words: Range<usize>, _many: View<Self>) {
        unreachable!("invariant: only where there are pairs");
    }
}

impl<T: Real> Stored<T> for T {
    const AT_ONCE: usize = usize::MAX;

    fn copied<'a>(view: View<'a, T>, room: &'a mut Vec<T>) -> View<'a, T> {
        copied(view, room)
    }

    fn open<'a>(view: View<'a, T>, _: &'a mut Vec<T>) -> View<'a, T> {
        view
    }
}

/// What is widened stays in the first cache until it is multiplied, and is soon a few vectors to a row.
const ROOM: usize = 6 << 10;

impl Stored<f32> for f16 {
    const AT_ONCE: usize = ROOM;

    fn copied<'a>(view: View<'a, f16>, room: &'a mut Vec<f32>) -> View<'a, f32> {
        widen_rows(
            view,
            room,
            #[inline(always)]
            |x| {
                let bits = x.to_bits() as u32;
                // the exponent's bias grows by 112, which takes subnormals along; infinity and NaN have the largest exponent
                let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits((127 + 112) << 23);
                let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
                f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
            },
        )
    }
}

impl Stored<f32> for bf16 {
    const AT_ONCE: usize = ROOM;

    fn copied<'a>(view: View<'a, bf16>, room: &'a mut Vec<f32>) -> View<'a, f32> {
        widen_rows(
            view,
            room,
            #[inline(always)]
            |x| f32::from_bits((x.to_bits() as u32) << 16),
        )
    }

    fn pairs<'a>(few: View<f32>, mut many: impl Iterator<Item = View<'a, bf16>>) -> Option<Pairs> {
        (few.width().is_multiple_of(2) && many.all(are_words)).then(|| Pairs::new(few))
    }

    unsafe fn dots(y: Target<f32>, keep: bool, few: &Pairs, words: Range<usize>, many: View<bf16>) {
        // SAFETY: the caller vouches for it
        unsafe { dots(y, keep, few, words, many) }
    }
}

/// Elements of a cache line.
const LINE: usize = 32;

/// Widens rows, and asks the memory meanwhile for those that come as far after them as are opened at a time.
#[inline(always)]
fn widen_rows<'a, H: Copy>(view: View<'a, H>, room: &'a mut Vec<f32>, widen: impl Fn(H) -> f32) -> View<'a, f32> {
    let (rows, cols) = (view.height(), view.width());
    let pitch = pitch::<f32>(cols);
    if room.len() < rows * pitch {
        room.resize(rows * pitch, 0.0);
    }
    let ahead = rows.min(ROOM / cols.max(1)) * view.stride();
    simd(
        #[inline(always)]
        || {
            for (r, to) in room.chunks_exact_mut(pitch.max(1)).take(rows).enumerate() {
                let to = &mut to[..cols];
                let from = view.row(r);
                let lines = from.chunks_exact(LINE);
                let rest = to.len() - lines.remainder().len();
                to[rest..].iter_mut().zip(lines.remainder()).for_each(|(to, &x)| *to = widen(x));
                for (to, from) in to.chunks_exact_mut(LINE).zip(lines) {
                    prefetch(from.as_ptr().wrapping_add(ahead));
                    // loaded as a whole before anything is stored, or the compiler does not vectorise it
                    let mut wide = [0.0; LINE];
                    wide.iter_mut().zip(from).for_each(|(wide, &x)| *wide = widen(x));
                    to.copy_from_slice(&wide);
                }
            }
        },
    );
    View::new(room, rows, cols, pitch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_rounded_to_the_nearest_and_what_does_not_fit_is_named() {
        let values = [1.0f32, -0.1, 3.0e-7, 65_504.0, 1.0e30, f32::INFINITY];
        let of = |dtype, values: &[f32]| narrowed(&Device::Cpu, values, dtype);
        let bits = of(Dtype::Bf16, &values).unwrap().to_vec::<bf16>().unwrap();
        assert_eq!(bits, values.map(bf16::from_f32));
        assert_eq!(of(Dtype::F16, &values[..4]).unwrap().to_vec::<f16>().unwrap()[1], f16::from_f32(-0.1));
        let message = of(Dtype::F16, &values).unwrap_err().to_string();
        assert_eq!(message, "narrow: 1000000000000000000000000000000 at 4 is past the largest f16, 65504");
    }

    #[test]
    fn every_bit_pattern_is_widened_to_its_value() {
        let mut room = vec![];
        let all: Vec<u16> = (0..=u16::MAX).collect();
        let same = |a: f32, b: f32| a == b || (a.is_nan() && b.is_nan());
        let halves: Vec<f16> = all.iter().map(|&bits| f16::from_bits(bits)).collect();
        let wide = f16::open(View::new(&halves, 256, 256, 256), &mut room);
        assert!(halves.iter().enumerate().all(|(i, x)| same(wide.row(i / 256)[i % 256], x.to_f32())));
        let halves: Vec<bf16> = all.iter().map(|&bits| bf16::from_bits(bits)).collect();
        let wide = bf16::open(View::new(&halves, 256, 256, 256), &mut room);
        assert!(halves.iter().enumerate().all(|(i, x)| same(wide.row(i / 256)[i % 256], x.to_f32())));
    }
}
