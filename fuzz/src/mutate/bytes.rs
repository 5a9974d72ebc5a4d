//! Changes of bytes, whatever they mean.

use rand::RngExt;
use rand::seq::IndexedRandom;

use super::Material;

/// Bytes that readers look for, or do not expect.
const TELLING: &[u8] = b"\0\x01\x7f\x80\xff\n\r\t \"'\\{}[](),:;<>&=-+.#/%|_0129aAzZ";

/// Texts in the encoding's corners: BOM, separators that are line ends to some, the largest character, overlong and cut
/// sequences, half a surrogate pair, characters of several parts.
const CORNERS: &[&[u8]] = &[
    b"\xef\xbb\xbf",
    b"\xe2\x80\xa8",
    b"\xf4\x8f\xbf\xbf",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xe6\x97",
    "e\u{301}".as_bytes(),
    "\u{1f468}\u{200d}\u{1f469}".as_bytes(),
    "İ".as_bytes(),
    b"\r\n",
    b"\\u0000",
    b"\\ud800",
    b"\\udc00\\ud800",
];

/// Changes `input` once.
pub(super) fn change(input: &mut Vec<u8>, material: &mut Material) {
    let length = input.len();
    let at = material.below(length + 1);
    let (start, end) = material.range(length);
    match material.below(12) {
        0 if length > 0 => {
            let bit = material.below(8);
            input[at.min(length - 1)] ^= 1 << bit;
        }
        1 if length > 0 => input[at.min(length - 1)] = *TELLING.choose(&mut material.rng).expect("some"),
        2 => input.insert(at, *TELLING.choose(&mut material.rng).expect("some")),
        3 => {
            input.drain(start..end);
        }
        4 => {
            let piece = input[start..end].to_vec();
            splice(input, at, 0, &piece);
        }
        5 => input.truncate(at),
        6 => {
            let word = material.word();
            let covered = if material.rng.random_bool(0.5) { word.len() } else { 0 };
            splice(input, at, covered, word.as_bytes());
        }
        7 => {
            let corner = CORNERS.choose(&mut material.rng).expect("some");
            splice(input, at, 0, corner);
        }
        8 => binary_number(input, at, material),
        9 => {
            let other = material.pool.choose(&mut material.rng).expect("there are seeds");
            let from = material.rng.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        10 => {
            let other = material.pool.choose(&mut material.rng).expect("there are seeds");
            let (start, end) = material.range(other.len());
            splice(input, at, 0, &other[start..end]);
        }
        _ => {
            let piece: Vec<u8> = (0..1 + material.below(8)).map(|_| material.rng.random()).collect();
            splice(input, at, piece.len(), &piece);
        }
    }
}

/// Puts `piece` in place of `covered` bytes.
pub(super) fn splice(input: &mut Vec<u8>, at: usize, covered: usize, piece: &[u8]) {
    let end = (at + covered).min(input.len());
    input.splice(at..end, piece.iter().copied());
}

/// A number as binary formats hold it, at one of its ends or near what was there.
fn binary_number(input: &mut [u8], at: usize, material: &mut Material) {
    let width = [1, 2, 4, 8][material.below(4)];
    // headers are at the beginning
    let at = if material.rng.random_bool(0.3) { material.below(16) } else { at };
    let Some(place) = input.get_mut(at..at + width) else { return };
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(place);
    let now = u64::from_le_bytes(bytes);
    let most = u64::MAX >> (64 - 8 * width);
    let value = match material.below(6) {
        0 => 0,
        1 => most,
        2 => most / 2 + 1,
        3 => now.wrapping_add(1),
        4 => now.wrapping_sub(1),
        _ => 1 << material.below(8 * width),
    };
    place.copy_from_slice(&value.to_le_bytes()[..width]);
}
