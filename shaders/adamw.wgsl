// adamw: one step of Adam with decoupled weight decay, in place.
//   param, grad, m, v   (n)  f32
//   g = grad_scale grad, m += (1 - beta1) (g - m), v = beta2 v + (1 - beta2) g^2
//   param = decay param - step_size m / (sqrt(v) inverse_correction + eps)
//   uses       common/grid.wgsl, common/ones.wgsl or common/fours.wgsl, common/elements.wgsl
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

@group(0) @binding(0) var<storage, read_write> param: array<Elem>;
@group(0) @binding(1) var<storage, read> grad: array<Elem>;
@group(0) @binding(2) var<storage, read_write> m: array<Elem>;
@group(0) @binding(3) var<storage, read_write> v: array<Elem>;

fn first_moment(old: Elem, g: Elem) -> Elem {
    return old + p.one_minus_beta1 * (p.grad_scale * g - old);
}

fn second_moment(old: Elem, g: Elem) -> Elem {
    return p.beta2 * old + p.one_minus_beta2 * (p.grad_scale * g) * (p.grad_scale * g);
}

fn stepped(old: Elem, m: Elem, v: Elem) -> Elem {
    return p.decay * old - p.step_size * m / (sqrt(v) * p.inverse_correction + p.eps);
}

@compute @workgroup_size(WG)
fn update(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
          @builtin(local_invocation_index) lane: u32) {
    let first = first_element(group, groups, lane);
    let n = p.n / WIDTH;
    let i{ELEMENTS} = first + {ELEMENTS}u * WG;
    let g{ELEMENTS} = grad[min(i{ELEMENTS}, n - 1u)];
    let a{ELEMENTS} = m[min(i{ELEMENTS}, n - 1u)];
    let b{ELEMENTS} = v[min(i{ELEMENTS}, n - 1u)];
    let x{ELEMENTS} = param[min(i{ELEMENTS}, n - 1u)];
    let m{ELEMENTS} = first_moment(a{ELEMENTS}, g{ELEMENTS});
    let v{ELEMENTS} = second_moment(b{ELEMENTS}, g{ELEMENTS});
    let y{ELEMENTS} = stepped(x{ELEMENTS}, m{ELEMENTS}, v{ELEMENTS});
    if (whole_group(first, lane, n)) {
        m[i{ELEMENTS}] = m{ELEMENTS};
        v[i{ELEMENTS}] = v{ELEMENTS};
        param[i{ELEMENTS}] = y{ELEMENTS};
    } else {
        if (i{ELEMENTS} < n) { m[i{ELEMENTS}] = m{ELEMENTS}; }
        if (i{ELEMENTS} < n) { v[i{ELEMENTS}] = v{ELEMENTS}; }
        if (i{ELEMENTS} < n) { param[i{ELEMENTS}] = y{ELEMENTS}; }
    }
}
