//! SPIR-V of kernels on matrix units, as the Vulkan memory model wants it.
//!
//! naga declares that model for modules with cooperative matrices, but nothing of what it asks for then (gfx-rs/wgpu issue 8805):
//! an access that does not say otherwise is private to its invocation, and no barrier orders it. Here naga translates, and then
//! every access to workgroup memory and to buffers is declared to be shared, and every barrier makes what was written before
//! available and visible. Types of what is no buffer also lose the offsets and strides that naga decorates them with.
//!
//! Source: SPIR-V specification, memory operands and memory semantics; Vulkan specification, appendix "Memory Model" and
//! VUID-StandaloneSpirv-None-10684.

use super::Matrices;
use super::exchange::Exchange;
use super::pipeline::Kernel;
use naga::back::{pipeline_constants, spv};
use naga::valid::{Capabilities, ModuleInfo, ShaderStages, SubgroupOperationSet, ValidationFlags, Validator};
use naga::{Module, ShaderStage};
use std::collections::{HashMap, HashSet};

/// A translated entry point.
pub struct Spirv {
    /// The module.
    pub words: Vec<u32>,
    /// Invocations of a workgroup along each axis.
    pub workgroup: [u32; 3],
}

impl Kernel {
    /// Its module, validated, with its constants in it.
    ///
    /// Errors: what naga says against the text.
    pub fn module(
        &self,
        exchange: Exchange,
        matrices: Option<Matrices>,
        small_simd: bool,
    ) -> Result<(Module, ModuleInfo), String> {
        let text = self.source(exchange, matrices);
        let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
        let capabilities = Capabilities::IMMEDIATES
            | Capabilities::SUBGROUP
            | Capabilities::SHADER_FLOAT16
            | Capabilities::SHADER_FLOAT16_IN_FLOAT32
            | Capabilities::COOPERATIVE_MATRIX;
        let info = Validator::new(ValidationFlags::all(), capabilities)
            .subgroup_stages(ShaderStages::COMPUTE)
            .subgroup_operations(SubgroupOperationSet::all())
            .validate(&module)
            .map_err(|e| e.emit_to_string(&text))?;
        let constants = self.constants(small_simd).into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        let stage = Some((ShaderStage::Compute, self.entry));
        let (module, info) = pipeline_constants::process_overrides(&module, &info, stage, &constants)
            .map_err(|e| format!("overrides: {e}"))?;
        Ok((module.into_owned(), info.into_owned()))
    }

    /// Its SPIR-V for an adapter with these matrix units; `checked` as [`GpuOptions::checked`](super::GpuOptions::checked).
    ///
    /// Errors: what naga says against the text.
    pub fn spirv(
        &self,
        exchange: Exchange,
        matrices: Option<Matrices>,
        small_simd: bool,
        checked: bool,
    ) -> Result<Spirv, String> {
        let (module, info) = self.module(exchange, matrices, small_simd)?;
        let mut options = spv::Options {
            lang_version: (1, 5),
            zero_initialize_workgroup_memory: spv::ZeroInitializeWorkgroupMemoryMode::None,
            force_loop_bounding: checked,
            emit_int_div_checks: checked,
            ..Default::default()
        };
        if checked {
            let restrict = naga::proc::BoundsCheckPolicy::Restrict;
            options.bounds_check_policies =
                naga::proc::BoundsCheckPolicies { index: restrict, buffer: restrict, ..Default::default() };
            // wgpu enables it wherever the driver has it, as every driver of Vulkan 1.3 does
            options.zero_initialize_workgroup_memory = spv::ZeroInitializeWorkgroupMemoryMode::Native;
        }
        let pipeline = spv::PipelineOptions { shader_stage: ShaderStage::Compute, entry_point: self.entry.to_string() };
        let words = spv::write_vec(&module, &info, &options, Some(&pipeline)).map_err(|e| e.to_string())?;
        let entry = module.entry_points.iter().find(|entry| entry.name == self.entry);
        let workgroup = entry.ok_or_else(|| format!("no entry point {}", self.entry))?.workgroup_size;
        Ok(Spirv { words: with_shared_memory(&words), workgroup })
    }
}

// opcodes
const TYPE_INT: u32 = 21;
const TYPE_ARRAY: u32 = 28;
const TYPE_RUNTIME_ARRAY: u32 = 29;
const TYPE_STRUCT: u32 = 30;
const TYPE_POINTER: u32 = 32;
const CONSTANT: u32 = 43;
const FUNCTION: u32 = 54;
const FUNCTION_PARAMETER: u32 = 55;
const VARIABLE: u32 = 59;
const LOAD: u32 = 61;
const STORE: u32 = 62;
const ACCESS_CHAIN: u32 = 65;
const IN_BOUNDS_ACCESS_CHAIN: u32 = 66;
const DECORATE: u32 = 71;
const MEMBER_DECORATE: u32 = 72;
const CONTROL_BARRIER: u32 = 224;
const MEMORY_BARRIER: u32 = 225;
const MATRIX_LOAD: u32 = 4457;
const MATRIX_STORE: u32 = 4458;
// storage classes
const WORKGROUP: u32 = 4;
const PUSH_CONSTANT: u32 = 9;
const STORAGE_BUFFER: u32 = 12;
// decorations of a layout
const ARRAY_STRIDE: u32 = 6;
const OFFSET: u32 = 35;
/// Memory operand: other invocations access the same memory.
const NON_PRIVATE_POINTER: u32 = 0x20;
/// Memory semantics: MakeAvailable and MakeVisible.
const AVAILABLE_AND_VISIBLE: u32 = 0x2000 | 0x4000;
/// Words before the first instruction; the fourth is one more than the largest id.
const HEADER: usize = 5;
const BOUND: usize = 3;

/// The opcode of every instruction with its words, the opcode's own first.
fn instructions(words: &[u32]) -> impl Iterator<Item = (u32, &[u32])> {
    let mut rest = &words[HEADER.min(words.len())..];
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let (instruction, after) = rest.split_at_checked((first >> 16).max(1) as usize)?;
        rest = after;
        Some((first & 0xffff, instruction))
    })
}

/// The module with accesses to shared memory declared as such, and layouts in buffers only.
fn with_shared_memory(words: &[u32]) -> Vec<u32> {
    // what is shared, by the ids of pointer types and of pointers; values of integer constants; the type of u32
    let (mut shared_types, mut shared) = (HashMap::new(), HashMap::new());
    let (mut values, mut unsigned) = (HashMap::new(), None);
    // types that have a layout, and what arrays and structs are made of
    let (mut laid_out, mut parts) = (vec![], HashMap::new());
    // barriers' semantics, and the constants that take their place
    let (mut semantics, mut bound) = (HashMap::new(), words[BOUND]);
    for (opcode, i) in instructions(words) {
        match opcode {
            TYPE_INT if i[2..] == [32, 0] => unsigned = Some(i[1]),
            CONSTANT if i.len() == 4 => drop(values.insert(i[2], i[3])),
            TYPE_ARRAY | TYPE_RUNTIME_ARRAY => drop(parts.insert(i[1], &i[2..3])),
            TYPE_STRUCT => drop(parts.insert(i[1], &i[2..])),
            TYPE_POINTER => {
                shared_types.insert(i[1], [WORKGROUP, STORAGE_BUFFER].contains(&i[2]));
                if [PUSH_CONSTANT, STORAGE_BUFFER].contains(&i[2]) {
                    laid_out.push(i[3]);
                }
            }
            VARIABLE | FUNCTION_PARAMETER | ACCESS_CHAIN | IN_BOUNDS_ACCESS_CHAIN => {
                shared.insert(i[2], shared_types.get(&i[1]).copied().unwrap_or(false));
            }
            CONTROL_BARRIER | MEMORY_BARRIER => {
                let id = i[i.len() - 1];
                if let Some(value) = values.get(&id) {
                    semantics.entry(id).or_insert_with(|| {
                        bound += 1;
                        (bound - 1, value | AVAILABLE_AND_VISIBLE)
                    });
                }
            }
            _ => {}
        }
    }

    let mut with_layout = HashSet::new();
    while let Some(kind) = laid_out.pop() {
        if with_layout.insert(kind) {
            laid_out.extend(parts.get(&kind).copied().unwrap_or_default());
        }
    }

    let mut out = words[..HEADER].to_vec();
    out[BOUND] = bound;
    let mut constants_are_out = false;
    for (opcode, i) in instructions(words) {
        if opcode == FUNCTION && !constants_are_out {
            constants_are_out = true;
            for &(id, value) in semantics.values() {
                out.extend([4 << 16 | CONSTANT, unsigned.expect("invariant: semantics are of type u32"), id, value]);
            }
        }
        let layout = match opcode {
            DECORATE => i[2] == ARRAY_STRIDE,
            MEMBER_DECORATE => i[3] == OFFSET,
            _ => false,
        };
        if layout && !with_layout.contains(&i[1]) {
            continue;
        }
        let start = out.len();
        out.extend(i);
        // the pointer, and the place of the memory operands
        let access = match opcode {
            LOAD => Some((i[3], 4)),
            STORE => Some((i[1], 3)),
            MATRIX_LOAD => Some((i[3], 6)),
            MATRIX_STORE => Some((i[1], 5)),
            _ => None,
        };
        if let Some((pointer, operands)) = access
            && shared.get(&pointer) == Some(&true)
        {
            match out.get_mut(start + operands) {
                Some(found) => *found |= NON_PRIVATE_POINTER,
                None => {
                    out.push(NON_PRIVATE_POINTER);
                    out[start] += 1 << 16;
                }
            }
        }
        if let (CONTROL_BARRIER | MEMORY_BARRIER, Some(last)) = (opcode, out.last_mut())
            && let Some(&(id, _)) = semantics.get(last)
        {
            *last = id;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every access to shared memory says so, every barrier has the new semantics, and nothing else has changed.
    #[test]
    fn accesses_to_shared_memory_are_declared() {
        let kernels = crate::kernels();
        let matrices = Some(Matrices { side: 16, subgroup: 32 });
        let mut cooperating = 0;
        for kernel in kernels.into_iter().filter(|kernel| kernel.cooperates()) {
            cooperating += 1;
            let Spirv { words, workgroup } = kernel.spirv(Exchange::Memory, matrices, false, false).unwrap();
            assert!(workgroup[0] >= 64 && workgroup[1..] == [1, 1], "{}: {workgroup:?}", kernel.name);
            let all: Vec<(u32, &[u32])> = instructions(&words).collect();
            let constant = |id: u32| all.iter().find(|(op, i)| *op == CONSTANT && i[2] == id).map(|(_, i)| i[3]);
            let class = |pointer: u32| {
                let made = [VARIABLE, FUNCTION_PARAMETER, ACCESS_CHAIN, IN_BOUNDS_ACCESS_CHAIN];
                let (_, maker) = all.iter().find(|(op, i)| made.contains(op) && i[2] == pointer).expect("a pointer");
                all.iter().find(|(op, i)| *op == TYPE_POINTER && i[1] == maker[1]).map(|(_, i)| i[2])
            };
            let mut seen = [0; 3];
            for (op, i) in &all {
                let (pointer, operands) = match *op {
                    LOAD => (i[3], &i[4..]),
                    STORE => (i[1], &i[3..]),
                    MATRIX_LOAD => (i[3], &i[6..]),
                    MATRIX_STORE => (i[1], &i[5..]),
                    CONTROL_BARRIER => {
                        // acquire and release of workgroup memory
                        assert_eq!(constant(i[3]), Some(0x8 | 0x100 | AVAILABLE_AND_VISIBLE), "{}", kernel.name);
                        seen[2] += 1;
                        continue;
                    }
                    _ => continue,
                };
                let shared = [Some(WORKGROUP), Some(STORAGE_BUFFER)].contains(&class(pointer));
                assert_eq!(operands, if shared { &[NON_PRIVATE_POINTER][..] } else { &[] }, "{}", kernel.name);
                seen[if shared { 0 } else { 1 }] += 1;
            }
            assert!(seen.iter().all(|&n| n > 0), "{}: {seen:?}", kernel.name);
            assert!(all.iter().all(|(op, i)| *op != CONSTANT || i[2] < words[BOUND]));
            let end: usize = all.iter().map(|(_, i)| i.len()).sum();
            assert_eq!(HEADER + end, words.len());
        }
        assert!(cooperating > 0);
    }
}
