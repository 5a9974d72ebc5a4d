// adamw: one step of Adam with decoupled weight decay, in place.
//   param, grad, m, v   (n)  f32
//   g = grad_scale grad, m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2
//   param = decay param - step_size m / (sqrt(v) inverse_correction + eps)
//   uses       common/grid.wgsl, common/elements.wgsl
struct Params {
    n: u32,
    grad_scale: f32,
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    step_size: f32,
    inverse_correction: f32,
    eps: f32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> param: array<f32>;
@group(0) @binding(1) var<storage, read> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;

@compute @workgroup_size(WG)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    for (var e = 0u; e < ELEMENTS; e++) {
        let i = first + e * WG;
        if (i < p.n) {
            let g = p.grad_scale * grad[i];
            let first_moment = m[i] + p.one_minus_beta1 * (g - m[i]);
            let second_moment = p.beta2 * v[i] + p.one_minus_beta2 * g * g;
            m[i] = first_moment;
            v[i] = second_moment;
            let root = sqrt(second_moment) * p.inverse_correction;
            param[i] = p.decay * param[i] - p.step_size * first_moment / (root + p.eps);
        }
    }
}
