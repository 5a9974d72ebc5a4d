//! Unrolled shaders: naga leaves every loop a loop, and arrays that a loop indexes do not stay in registers.

/// Repeats every line that has `{NAME}` in it for each number below the constant NAME of the same text
/// (`const NAME: u32 = 8u;`), with the number in its place. Lines with several names take every combination.
pub(super) fn unroll(text: &str) -> String {
    let constants: Vec<(String, usize)> = text.lines().filter_map(constant).collect();
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for (marker, count) in constants {
        let repeat = |line: String| match line.contains(&marker) && !line.starts_with("//") {
            true => (0..count).map(|i| line.replace(&marker, &i.to_string())).collect(),
            false => vec![line],
        };
        lines = lines.into_iter().flat_map(repeat).collect();
    }
    lines.join("\n") + "\n"
}

/// The marker of a constant and its value.
fn constant(line: &str) -> Option<(String, usize)> {
    let (name, value) = line.strip_prefix("const ")?.split_once(": u32 = ")?;
    Some((format!("{{{name}}}"), value.strip_suffix("u;")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_with_a_constant_in_braces_are_repeated() {
        let text =
            "// {N} is not repeated here\nconst N: u32 = 2u;\nconst M: u32 = 3u;\nlet x{N} = N;\ny{N}_{M} = x{N};\n}\n";
        let expected = "// {N} is not repeated here\nconst N: u32 = 2u;\nconst M: u32 = 3u;\nlet x0 = N;\nlet x1 = N;\n\
                        y0_0 = x0;\ny0_1 = x0;\ny0_2 = x0;\ny1_0 = x1;\ny1_1 = x1;\ny1_2 = x1;\n}\n";
        assert_eq!(unroll(text), expected);
    }
}
