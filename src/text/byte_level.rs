//! The byte alphabet of byte-level BPE: every byte has one printable character that stands for it in a vocabulary.
//!
//! Source: `bytes_to_unicode` of GPT-2's encoder: printable Latin-1 stands for itself, the 68 others for U+0100 onwards.

use std::sync::LazyLock;

static CHARS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let code = if stands_for_itself(byte as u32) {
            byte as u32
        } else {
            next += 1;
            next - 1
        };
        char::from_u32(code).expect("invariant: codes below 0x200 are characters")
    })
});

static BYTES: LazyLock<[Option<u8>; 0x200]> = LazyLock::new(|| {
    let mut bytes = [None; 0x200];
    for byte in 0..=u8::MAX {
        bytes[byte_char(byte) as usize] = Some(byte);
    }
    bytes
});

/// The character that stands for `byte`.
pub(super) fn byte_char(byte: u8) -> char {
    CHARS[byte as usize]
}

/// Bytes a vocabulary entry stands for. An entry with a character outside the alphabet (an added token such as
/// `日本`) stands for its own UTF-8, as in the `ByteLevel` decoder of `tokenizers`.
pub(super) fn token_bytes(token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(|c| BYTES.get(c as usize).copied().flatten()).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}

fn stands_for_itself(byte: u32) -> bool {
    matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_its_own_character_and_comes_back() {
        let alphabet = tokenizers::pre_tokenizers::byte_level::ByteLevel::alphabet();
        for byte in 0..=u8::MAX {
            let c = byte_char(byte);
            assert!(alphabet.contains(&c), "byte {byte} is {c:?}");
            assert_eq!(token_bytes(&c.to_string()), [byte]);
        }
        assert_eq!((byte_char(b' '), byte_char(b'\n'), byte_char(0xad)), ('Ġ', 'Ċ', 'Ń'));
        assert_eq!(token_bytes("日Ġ"), "日Ġ".as_bytes());
    }
}
