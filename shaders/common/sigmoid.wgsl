// 1 / (1 + exp(-x)) of an Elem. exp is cut off where 1 / exp is zero to f32's precision beside any x, so that nothing becomes
// infinite.
fn sigmoid(x: Elem) -> Elem {
    return 1.0 / (1.0 + exp(min(-x, Elem(80.0))));
}
