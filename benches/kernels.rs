//! The kernels' table under criterion: `cargo bench`, or `cargo bench -- softmax`. `GR2_DEVICE` picks the device (`cpu`).
//!
//! Cases that take longer than a tenth of a second at the device's ceiling, or a gibibyte, are left to `gr2 bench kernels`.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use gr2_kernels::bench::{Work, cases, ceilings};
use gr2_kernels::{Device, GpuOptions};

const LONGEST_SECONDS: f64 = 0.1;
const LARGEST_BYTES: u64 = 1 << 30;

fn kernels(criterion: &mut Criterion) {
    let name = std::env::var("GR2_DEVICE").unwrap_or_else(|_| "cpu".to_string());
    let device = Device::open(&name, GpuOptions::default()).unwrap_or_else(|e| panic!("GR2_DEVICE: {e}"));
    let ceilings = ceilings(&device).expect("ceilings");
    let mut group = criterion.benchmark_group(device.to_string());
    for case in cases() {
        if case.work.floor(&ceilings) > LONGEST_SECONDS || case.memory > LARGEST_BYTES {
            continue;
        }
        group.throughput(match case.work {
            Work::Flops(flops) => Throughput::Elements(flops as u64),
            Work::Bytes(bytes) => Throughput::Bytes(bytes as u64),
        });
        // inputs are made when criterion comes to a case, so that a filter makes those of its cases only
        group.bench_function(&case.name, |bencher| {
            let mut opened = (case.open)(&device).expect("inputs");
            let results = (opened.run)().expect("runs");
            let agreement = (opened.check)(&results).expect("results");
            assert!(agreement.holds(), "{}: {agreement:?}", case.name);
            bencher.iter(|| {
                (opened.run)().expect("runs");
                device.synchronize().expect("finishes");
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = kernels
}
criterion_main!(benches);
