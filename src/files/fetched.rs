//! What a download left in place of a file.

/// What to do about a file that [`not_fetched`] knows.
pub const FETCH: &str = "fetch the file itself: `git lfs pull`, or `hf download REPOSITORY`";

/// What `bytes` are where a download left something else than the file: a pointer of Git LFS, a web page, nothing.
pub fn not_fetched(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let page = [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|tag| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag)));
    match start {
        [] => Some("empty"),
        _ if start.starts_with(b"version https://git-lfs") => Some("a Git LFS pointer"),
        _ if page => Some("an HTML page"),
        _ => None,
    }
}
