// Values that every lane of a workgroup of LANES, eight at most, needs, one from each of LANES rows of an array `a`:
//   own(i)         what a lane contributes of its own row, the one with its number; i is where that lies
//   of_row_E(x, i) the value of row E for all lanes, from what each of them contributed; i is where it lies
// Every lane must call them, in uniform control flow. Adapters with small vectors load one lane at a time, also where all lanes
// load the same: they are in row_values_passed_on.wgsl where a workgroup is one subgroup, else in row_values_read.wgsl.
