//! Every kernel's WGSL: naga validates it, its `Params` and bindings are what the launcher says, and it translates to
//! SPIR-V, MSL and HLSL; Khronos' `spirv-val` accepts the SPIR-V where it is installed (Debian: spirv-tools).

use gr2_kernels::device::{Access, Exchange, Kernel, Matrices};
use naga::back::{hlsl, msl, spv};
use std::io::Write;
use std::process::{Command, Stdio};

/// What `spirv-val` says against a module; none if it has nothing to say, or is too old or too new for what naga writes.
fn spirv_val(words: &[u32], environment: &str, of_naga: bool) -> Option<String> {
    let mut command = Command::new("spirv-val");
    command.args(["--target-env", environment, "-"]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    child.stdin.take().expect("is piped").write_all(&bytes).expect("reads its input");
    let output = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if said.contains("Invalid capability operand: 6022") {
        eprintln!("skipped: this spirv-val does not know SPV_KHR_cooperative_matrix");
        return None;
    }
    if of_naga && said.contains("StandaloneSpirv-None-10684") {
        eprintln!("skipped: this spirv-val refuses the strides that naga gives arrays in workgroup memory");
        return None;
    }
    (!output.status.success()).then_some(said)
}

fn check(
    kernel: &'static Kernel,
    small_simd: bool,
    exchange: Exchange,
    matrices: Option<Matrices>,
    spirv_val_is_here: bool,
) {
    let name = kernel.name;
    let (module, info) =
        kernel.module(exchange, matrices, small_simd).unwrap_or_else(|problem| panic!("{name}: {problem}"));
    let entry = module.entry_points.iter().position(|e| e.name == kernel.entry);
    let entry = entry.unwrap_or_else(|| panic!("{name}: no entry point {}", kernel.entry));

    let mut bound = vec![None; kernel.bindings.len()];
    for (handle, variable) in module.global_variables.iter() {
        if info.get_entry_point(entry)[handle].is_empty() {
            continue;
        }
        match variable.space {
            naga::AddressSpace::Immediate => {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                assert_eq!(size as usize, kernel.params, "{name}: Params in WGSL and Rust differ in size");
            }
            naga::AddressSpace::Storage { access } => {
                let binding = variable.binding.as_ref().expect("storage has a binding").binding as usize;
                assert!(binding < bound.len(), "{name}: binding {binding} is not in the launcher");
                let write = access.contains(naga::StorageAccess::STORE);
                bound[binding] = Some(if write { Access::Write } else { Access::Read });
            }
            // a matrix is loaded from multiples of 16 bytes, and a driver may put one array right behind another
            naga::AddressSpace::WorkGroup if kernel.cooperates() => {
                let size = module.types[variable.ty].inner.size(module.to_ctx());
                assert_eq!(size % 16, 0, "{name}: bytes of {:?} in workgroup memory", variable.name);
            }
            _ => {}
        }
    }
    for (i, (found, expected)) in bound.iter().zip(kernel.bindings).enumerate() {
        assert_eq!(*found, Some(*expected), "{name}: access of binding {i} in WGSL and in the launcher");
    }

    let words = spv::write_vec(&module, &info, &spv::Options { lang_version: (1, 3), ..Default::default() }, None)
        .unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"));
    let environment = if kernel.cooperates() { "vulkan1.3" } else { "vulkan1.1" };
    let mut modules = vec![(words, true)];
    if kernel.cooperates() {
        let own = |checked| kernel.spirv(exchange, matrices, small_simd, checked).map(|spirv| (spirv.words, false));
        modules.extend([false, true].map(|checked| own(checked).unwrap_or_else(|e| panic!("{name}: SPIR-V: {e}"))));
    }
    for (words, of_naga) in modules {
        if let Some(problem) = spirv_val_is_here.then(|| spirv_val(&words, environment, of_naga)).flatten() {
            panic!("{name}: spirv-val: {problem}");
        }
    }
    let options = msl::Options { fake_missing_bindings: true, lang_version: (2, 4), ..Default::default() };
    msl::write_string(&module, &info, &options, &msl::PipelineOptions::default())
        .unwrap_or_else(|e| panic!("{name}: MSL: {e}"));
    // HLSL knows no cooperative matrices: those kernels are never chosen there
    if kernel.cooperates() {
        return;
    }
    let mut text = String::new();
    let target = hlsl::BindTarget { space: 1, register: 0, ..Default::default() };
    let shader_model = if exchange == Exchange::Memory { hlsl::ShaderModel::V5_1 } else { hlsl::ShaderModel::V6_0 };
    let options = hlsl::Options { immediates_target: Some(target), shader_model, ..Default::default() };
    let pipeline = hlsl::PipelineOptions::default();
    let mut writer = hlsl::Writer::new(&mut text, &options, &pipeline);
    writer.write(&module, &info, None).unwrap_or_else(|e| panic!("{name}: HLSL: {e}"));
}

#[test]
fn every_shader_is_valid_matches_its_launcher_and_translates() {
    let kernels = gr2_kernels::kernels();
    assert!(!kernels.is_empty());
    let spirv_val_is_here = Command::new("spirv-val").arg("--version").output().is_ok();
    if !spirv_val_is_here {
        eprintln!("skipped: spirv-val is not installed (Debian: spirv-tools)");
    }
    for kernel in kernels {
        let exchanges = if kernel.exchanges() { &Exchange::ALL[..] } else { &[Exchange::Memory] };
        let of = |side, subgroup| Some(Matrices { side, subgroup });
        let matrices = if kernel.cooperates() { vec![of(16, 32), of(8, 32), of(8, 8)] } else { vec![None] };
        for &exchange in exchanges {
            for &matrices in &matrices {
                check(kernel, false, exchange, matrices, spirv_val_is_here);
                check(kernel, true, exchange, matrices, spirv_val_is_here);
            }
        }
    }
}
