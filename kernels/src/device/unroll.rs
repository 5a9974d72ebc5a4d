//! Unrolled shaders: naga leaves every loop a loop, and arrays that a loop indexes do not stay in registers.

use std::collections::HashMap;

/// Repeats every line that has `{NAME}` in it for each number below the constant NAME of the same text
/// (`const NAME: u32 = 8u;`, or products and quotients of such), with the number in its place. Lines with several names
/// take every combination.
pub(super) fn unroll(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    for (name, count) in constants(text) {
        let marker = format!("{{{name}}}");
        let repeat = |line: String| match line.contains(&marker) && !line.starts_with("//") {
            true => (0..count).map(|i| line.replace(&marker, &i.to_string())).collect(),
            false => vec![line],
        };
        lines = lines.into_iter().flat_map(repeat).collect();
    }
    lines.join("\n") + "\n"
}

/// The constants of a text with their values, in its order.
fn constants(text: &str) -> Vec<(&str, usize)> {
    let (mut found, mut values) = (vec![], HashMap::new());
    for line in text.lines() {
        let Some((name, expression)) = line.strip_prefix("const ").and_then(|line| line.split_once(": u32 = ")) else {
            continue;
        };
        if let Some(value) = expression.strip_suffix(';').and_then(|e| value(e, &values)) {
            values.insert(name, value);
            found.push((name, value));
        }
    }
    found
}

/// `8u`, a known constant, or several of them with `*` and `/` between, taken from left to right.
fn value(expression: &str, known: &HashMap<&str, usize>) -> Option<usize> {
    let mut words = expression.split(' ');
    let mut operand = || {
        let word = words.next()?;
        let literal = || word.strip_suffix('u')?.parse().ok();
        Some((known.get(word).copied().or_else(literal)?, words.next()))
    };
    let (mut value, mut operator) = operand()?;
    while let Some(sign) = operator {
        let (right, next) = operand()?;
        value = match sign {
            "*" => value * right,
            "/" => value.checked_div(right)?,
            _ => return None,
        };
        operator = next;
    }
    Some(value)
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

    #[test]
    fn constants_may_be_products_and_quotients() {
        let text = "const A: u32 = 6u;\nconst B: u32 = A * 4u / 8u;\nconst C: u32 = B + 1u;\nconst D: u32 = 2u * E;\n";
        assert_eq!(constants(text), [("A", 6), ("B", 3)]);
    }
}
