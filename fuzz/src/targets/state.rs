//! Training states: what a resumed run reads.

use gr2::model::Qwen3;
use gr2::optim::{AdamWConfig, Optimizer};
use gr2::train::{Cursor, Snapshot, restore, save};
use gr2_kernels::Device;

use super::{answers, checkpoint, tensors};
use crate::{SLOW, Scratch, Target, Verdict, join, parts};

fn model() -> Qwen3 {
    Qwen3::random(checkpoint::config(), &Device::Cpu, 1).expect("a small model")
}

fn optimizer(model: &Qwen3) -> Optimizer {
    Optimizer::new(AdamWConfig::default(), &model.params()).expect("moments of zeros")
}

/// Writes a checkpoint into `folder`.
fn write(folder: &Scratch) {
    let (model, tokenizer) = (model(), answers::tokenizer());
    let optimizer = optimizer(&model);
    let cursor = Cursor { epoch: 1, position: 3, step: 7, extra: serde_json::json!({"best": 0.5}) };
    let snapshot = Snapshot { model: &model, tokenizer: &tokenizer, optimizer: Some(&optimizer), cursor: &cursor };
    save(&snapshot, &folder.path().join("checkpoint")).expect("writes");
}

/// `train_state.safetensors`, and the `config.json` beside it.
pub const TRAIN_STATE: Target = Target {
    name: "train_state",
    seeds: || {
        let folder = Scratch::new();
        write(&folder);
        let read = |name: &str| std::fs::read(folder.path().join("checkpoint").join(name)).expect("was written");
        let (config, state) = (read("config.json"), read("train_state.safetensors"));
        vec![join(&[&config, &tensors::input(&state)]), join(&[&config, &tensors::raw(&state)])]
    },
    slow: SLOW,
    words: &[
        "progress",
        "cursor",
        "epoch",
        "position",
        "step",
        "extra",
        "updates",
        "loss_scale",
        "__metadata__",
        "m.",
        "v.",
        "model.norm.weight",
        "dtype",
        "shape",
        "data_offsets",
        "F32",
        "F16",
        "U8",
        "F64",
        "[4]",
        "[0,16]",
        "scale",
        "clean",
    ],
    reader: || {
        let folder = Scratch::new();
        write(&folder);
        let mut model = model();
        Box::new(move |input| {
            let [config, state] = parts(input);
            folder.put("checkpoint/config.json", config);
            folder.put("checkpoint/train_state.safetensors", &tensors::file(state));
            let mut optimizer = optimizer(&model);
            let read = restore(&folder.path().join("checkpoint"), &mut model, &mut optimizer);
            if let Ok(Some(_)) = &read {
                for (param, (m, v)) in model.params().iter().zip(optimizer.moments()) {
                    assert_eq!(param.value.shape(), m.shape());
                    assert_eq!(param.value.shape(), v.shape());
                }
            }
            Verdict::of(read, |cursor| cursor.map_or(0, |cursor| cursor.step as usize))
        })
    },
};
