//! Upkeep of a suffix cache: new tokens in, whole slots copied when beams move.

use super::{DecodeDims, slots_of, stored_as};
use crate::buffer::{Buffer, Dtype, Element};
use crate::device::{Access, Constant, Device, Gpu, Kernel, split_rows};
use crate::error::{Error, Result};
use crate::per_gpu::PerGpu;
use crate::profile;
use half::f16;

const fn kernel(name: &'static str, entry: &'static str) -> Kernel {
    Kernel {
        name,
        sources: &[include_str!("../../../shaders/common/grid.wgsl"), include_str!("../../../shaders/slots.wgsl")],
        entry,
        bindings: &[Access::Read, Access::Read, Access::Write, Access::Read, Access::Write],
        constants: &[Constant { name: "WG", wide: 64.0, small: 8.0 }],
        params: size_of::<Params>(),
    }
}

/// Copies.
pub(crate) static MOVE: Kernel = kernel("slots.move_tokens", "move_tokens");
/// From f32 to f16.
pub(crate) static NARROW: Kernel = kernel("slots.narrow_tokens", "narrow_tokens");

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    runs: u32,
    tokens: u32,
    width: u32,
    from_capacity: u32,
    to_capacity: u32,
    from_lo: u32,
    from_hi: u32,
    to_lo: u32,
    to_hi: u32,
}

/// Bytes of the copy through which slots are moved.
const COPY_BYTES: usize = 64 << 20;

/// Where new tokens go: a slot and a position in it for each. Made once a step and used by every layer: a GPU uploads
/// it once.
pub struct Places {
    list: Vec<(u32, u32)>,
    tables: PerGpu<Buffer>,
}

impl Places {
    /// Slot and position of each token.
    ///
    /// Errors: `Shape` if two tokens have the same place.
    pub fn new(list: Vec<(u32, u32)>) -> Result<Places> {
        let mut sorted = list.clone();
        sorted.sort_unstable();
        if let Some(twice) = sorted.windows(2).find(|w| w[0] == w[1]) {
            let (slot, position) = twice[0];
            return Err(Error::shape("write tokens", format!("two tokens for slot {slot}, position {position}")));
        }
        Ok(Places { list, tables: PerGpu::default() })
    }

    /// Slot and position of each token.
    pub fn list(&self) -> &[(u32, u32)] {
        &self.list
    }
}

/// `cache[slot_r, position_r] = new_r` for keys and values, in place; rounded to the nearest f16 where the cache is f16 and what
/// is new f32: nothing past 65,504 can be kept.
///
/// Shapes: `suffix` = keys and values (slots, capacity, K, D); `new` = keys and values (R, K, D).
/// Errors: `Shape` for sizes that disagree, a place outside the cache, or on a GPU an odd K·D of an f16 cache; `Dtype`, `DeviceMismatch`.
pub fn write_tokens(
    suffix: (&mut Buffer, &mut Buffer),
    new: (&Buffer, &Buffer),
    places: &Places,
    dims: DecodeDims,
) -> Result<()> {
    const OP: &str = "write tokens";
    let _span = profile::span(OP);
    let width = dims.heads.kv_width();
    let slots = slots_of(OP, (suffix.0, suffix.1), dims)?;
    for (name, cache, new) in [("k", &suffix.0, new.0), ("v", &suffix.1, new.1)] {
        cache.device().expect_all(OP, &[new])?;
        stored_as(OP, cache, new)?;
        new.expect_len(OP, name, places.list.len() * width)?;
    }
    let outside = |&(slot, position): &(u32, u32)| slot as usize >= slots || position as usize >= dims.capacity;
    if let Some((slot, position)) = places.list.iter().copied().find(outside) {
        let problem = format!("slot {slot}, position {position} of {slots} slots of {} tokens", dims.capacity);
        return Err(Error::shape(OP, problem));
    }
    let runs = places.list.iter().zip(0u32..).map(|(&(slot, position), r)| Run { from: (r, 0), to: (slot, position) });
    let moves = Moves { op: OP, tokens: 1, width, from_capacity: 1, to_capacity: dims.capacity };
    let (device, (from, to)) = (suffix.0.device().clone(), ([new.0, new.1], [suffix.0, suffix.1]));
    match device {
        Device::Cpu => moves.on_cpu(&runs.collect::<Vec<_>>(), from, to),
        Device::Gpu(ref gpu) => {
            let table = places.tables.get(gpu, || upload(&device, runs))?;
            moves.on_gpu(gpu, &table, from, to, gpu.max_binding())
        }
    }
}

/// `cache[to_i, ..len] = cache[from_i, ..len]` for keys and values, as if all at once: slots may be permuted and
/// copied several times, as beams are. Slots that are not in `to` keep what they hold.
///
/// Shapes: `suffix` = keys and values (slots, capacity, K, D); `from` and `to` of one length; `len` tokens are in use.
/// Dtypes: f32 or f16; f64 on the CPU.
/// Errors: `Dtype`; `Shape` for a slot outside the cache, two values for one slot, or a `len` past the capacity; `OutOfMemory`
/// for the copy of the moved slots (64 MiB at most, or one token of each).
pub fn copy_slots(
    suffix: (&mut Buffer, &mut Buffer),
    (from, to): (&[u32], &[u32]),
    len: usize,
    dims: DecodeDims,
) -> Result<()> {
    const OP: &str = "copy slots";
    let _span = profile::span(OP);
    if from.len() != to.len() || len > dims.capacity {
        let problem = format!("{} slots to {}, {len} tokens of {}", from.len(), to.len(), dims.capacity);
        return Err(Error::shape(OP, problem));
    }
    let mut targets = to.to_vec();
    targets.sort_unstable();
    if let Some(twice) = targets.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::shape(OP, format!("two values for slot {}", twice[0])));
    }
    let moved: Vec<(u32, u32)> = from.iter().copied().zip(to.iter().copied()).filter(|(from, to)| from != to).collect();
    let width = dims.heads.kv_width();
    let (k, v) = suffix;
    let slots = slots_of(OP, (k, v), dims)?;
    if let Some(outside) = from.iter().chain(to).find(|&&slot| slot as usize >= slots) {
        return Err(Error::shape(OP, format!("slot {outside} of {slots}")));
    }
    if moved.is_empty() || len * width == 0 {
        return Ok(());
    }
    let device = k.device().clone();
    let piece = (COPY_BYTES / 2 / (moved.len() * width * k.dtype().size())).clamp(1, len);
    for start in (0..len).step_by(piece) {
        let tokens = piece.min(len - start);
        let copy = || Buffer::uninit(&device, OP, k.dtype(), moved.len() * tokens * width);
        let (mut k_copy, mut v_copy) = (copy()?, copy()?);
        let out = moved.iter().zip(0u32..).map(|(m, i)| Run { from: (m.0, start as u32), to: (i, 0) });
        let back = moved.iter().zip(0u32..).map(|(m, i)| Run { from: (i, 0), to: (m.1, start as u32) });
        let there = Moves { op: OP, tokens, width, from_capacity: dims.capacity, to_capacity: tokens };
        let here = Moves { from_capacity: tokens, to_capacity: dims.capacity, ..there };
        match &device {
            Device::Cpu => {
                there.on_cpu(&out.collect::<Vec<_>>(), [k, v], [&mut k_copy, &mut v_copy])?;
                here.on_cpu(&back.collect::<Vec<_>>(), [&k_copy, &v_copy], [k, v])?;
            }
            Device::Gpu(gpu) => {
                let limit = gpu.max_binding();
                there.on_gpu(gpu, &upload(&device, out)?, [k, v], [&mut k_copy, &mut v_copy], limit)?;
                here.on_gpu(gpu, &upload(&device, back)?, [&k_copy, &v_copy], [k, v], limit)?;
            }
        }
    }
    Ok(())
}

/// Keys and values of the same slots with room for `capacity` tokens each, of which the first `len` are copied; the rest is zero.
///
/// Shapes: `suffix` = keys and values (slots, capacity of `dims`, K, D); the result is (slots, `capacity`, K, D).
/// Dtypes: f32 or f16; f64 on the CPU.
/// Errors: `Dtype`; `Shape` for a `len` past either capacity; `OutOfMemory`.
pub fn grown_slots(
    suffix: (&Buffer, &Buffer),
    len: usize,
    capacity: usize,
    dims: DecodeDims,
) -> Result<(Buffer, Buffer)> {
    const OP: &str = "kv cache";
    let _span = profile::span(OP);
    if len > dims.capacity.min(capacity) {
        return Err(Error::shape(OP, format!("{len} tokens of {}, into {capacity}", dims.capacity)));
    }
    let (k, v) = suffix;
    let (slots, width, device) = (slots_of(OP, suffix, dims)?, dims.heads.kv_width(), k.device());
    let slots = if k.is_empty() { 0 } else { slots };
    let elements = slots.checked_mul(capacity).and_then(|tokens| tokens.checked_mul(width));
    let zeros = || Buffer::zeros(device, OP, k.dtype(), elements.unwrap_or(usize::MAX));
    let (mut to_k, mut to_v) = (zeros()?, zeros()?);
    if slots * len * width > 0 {
        let moves = Moves { op: OP, tokens: len, width, from_capacity: dims.capacity, to_capacity: capacity };
        let runs = (0..slots as u32).map(|slot| Run { from: (slot, 0), to: (slot, 0) });
        let (from, to) = ([k, v], [&mut to_k, &mut to_v]);
        match device {
            Device::Cpu => moves.on_cpu(&runs.collect::<Vec<_>>(), from, to)?,
            Device::Gpu(gpu) => moves.on_gpu(gpu, &upload(device, runs)?, from, to, gpu.max_binding())?,
        }
    }
    Ok((to_k, to_v))
}

/// The first token of a run, as (slot, position), where it is and where it goes.
#[derive(Clone, Copy)]
struct Run {
    from: (u32, u32),
    to: (u32, u32),
}

fn upload(device: &Device, runs: impl Iterator<Item = Run>) -> Result<Buffer> {
    let table: Vec<u32> = runs.flat_map(|r| [r.from.0, r.from.1, r.to.0, r.to.1]).collect();
    Buffer::from_slice(device, &table)
}

/// Moves runs of `tokens` tokens of keys and values between buffers of slots.
#[derive(Clone, Copy)]
struct Moves {
    op: &'static str,
    tokens: usize,
    width: usize,
    from_capacity: usize,
    to_capacity: usize,
}

impl Moves {
    fn on_cpu(&self, runs: &[Run], from: [&Buffer; 2], to: [&mut Buffer; 2]) -> Result<()> {
        for (from, to) in from.into_iter().zip(to) {
            match (from.dtype(), to.dtype()) {
                (Dtype::F16, Dtype::F16) => self.copy(runs, from, to, |x: f16| x),
                (Dtype::F32, Dtype::F16) => self.copy(runs, from, to, f16::from_f32),
                (Dtype::F32, Dtype::F32) => self.copy(runs, from, to, |x: f32| x),
                (_, _) => self.copy(runs, from, to, |x: f64| x),
            }
        }
        Ok(())
    }

    fn copy<T: Element, C: Element>(&self, runs: &[Run], from: &Buffer, to: &mut Buffer, stored: impl Fn(T) -> C) {
        let (from, to) = (from.as_slice::<T>(), to.as_mut_slice::<C>());
        let span = |(slot, position): (u32, u32), capacity: usize| {
            let first = (slot as usize * capacity + position as usize) * self.width;
            first..first + self.tokens * self.width
        };
        for run in runs {
            let from = &from[span(run.from, self.from_capacity)];
            to[span(run.to, self.to_capacity)].iter_mut().zip(from).for_each(|(to, &x)| *to = stored(x));
        }
    }

    /// One dispatch for each pair of pieces of at most `limit` bytes.
    fn on_gpu(&self, gpu: &Gpu, table: &Buffer, from: [&Buffer; 2], to: [&mut Buffer; 2], limit: u64) -> Result<()> {
        let [to_k, to_v] = to;
        let size = to_k.dtype().size();
        let kernel = if from[0].dtype() == to_k.dtype() { &MOVE } else { &NARROW };
        if !(self.width * size).is_multiple_of(4) {
            return Err(Error::shape(
                self.op,
                format!("an f16 cache of tokens of {} elements, an odd number", self.width),
            ));
        }
        to_k.make_unique(self.op)?;
        to_v.make_unique(self.op)?;
        let pieces = |buffer: &Buffer| {
            split_rows(self.op, buffer.len() / self.width.max(1), &[self.width * buffer.dtype().size()], limit)
        };
        let runs = table.len() / 4;
        for here in pieces(from[0])? {
            for there in pieces(to_k)? {
                let params = Params {
                    runs: runs as u32,
                    tokens: self.tokens as u32,
                    width: (self.width * size / 4) as u32,
                    from_capacity: self.from_capacity as u32,
                    to_capacity: self.to_capacity as u32,
                    from_lo: here.start as u32,
                    from_hi: here.end as u32,
                    to_lo: there.start as u32,
                    to_hi: there.end as u32,
                };
                let [source, result] = [&here, &there].map(|piece| piece.start * self.width..piece.end * self.width);
                let [from_k, from_v] = from.map(|x| x.bind(source.clone()));
                let binds = [table.bind_all(), from_k, to_k.bind(result.clone()), from_v, to_v.bind(result)];
                gpu.run(kernel, &binds, &params, (runs * self.tokens) as u64)?;
            }
        }
        Ok(())
    }
}
