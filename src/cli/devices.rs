//! `gr2 devices`: what a run can use.

use crate::console::out;
use crate::error::Result;
use gr2_kernels::device::adapters;

#[derive(Debug, clap::Args)]
pub(super) struct DevicesArgs {
    /// Prints one JSON array.
    #[arg(long)]
    json: bool,
}

impl DevicesArgs {
    pub(super) fn run(self) -> Result<()> {
        let found = adapters();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
        if self.json {
            let mut list = vec![serde_json::json!({ "device": "cpu", "threads": threads })];
            for (i, (a, _)) in found.iter().enumerate() {
                list.push(serde_json::json!({
                    "device": format!("gpu:{i}"), "name": a.name, "backend": a.backend, "driver": a.driver,
                    "kind": a.kind, "hardware": a.hardware, "max_binding": a.max_binding, "max_buffer": a.max_buffer,
                    "f16": a.f16, "subgroups": a.subgroups, "matrix_side": a.matrices.map(|m| m.side),
                }));
            }
            return out!("{}", serde_json::Value::Array(list));
        }
        out!("cpu     {threads} threads")?;
        for (i, (a, _)) in found.iter().enumerate() {
            out!("gpu:{i}   {} ({}, {}, {})", a.name, a.backend, a.kind, a.driver)?;
            let mib = |bytes: u64| bytes >> 20;
            out!(
                "        binds {} MiB, buffers to {} MiB, f16 {}, subgroups {}, matrix units {}",
                mib(a.max_binding),
                mib(a.max_buffer),
                a.f16,
                a.subgroups,
                a.matrices.map_or("none".into(), |m| format!("{0} x {0}", m.side))
            )?;
        }
        let hardware = found.iter().position(|(a, _)| a.hardware);
        out!("auto    {}", hardware.map_or("cpu".to_string(), |i| format!("gpu:{i}")))
    }
}
