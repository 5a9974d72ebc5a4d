// Matrix units: subgroups of SUBGROUP invocations hold matrices of SIDE x SIDE together, Left (f16) times Right (f16) plus
// Sums (f32). kernels/src/device/matrices.rs writes their definitions for each adapter. Every subgroup of a workgroup must
// take part in their loads, stores and products, in uniform control flow.
// Matrices are loaded from and stored to multiples of 16 bytes. Drivers put arrays into workgroup memory side by side, so each
// has such a number, whatever its elements are.
