//! Logs of JSON lines, and lines of plain or compressed files.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use gr2::data::lines::Lines;
use gr2::files;
use serde_json::{Value, json};

use crate::{SLOW, Scratch, Target, Verdict};

/// `bytes` compressed.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}

/// What a resumed run does with its log: reads it, keeps a part, goes on.
pub const JSONL: Target = Target {
    name: "jsonl_log",
    seeds: || {
        let log = b"{\"step\":1,\"loss\":2.5,\"lr\":1e-3}\n\n{\"step\":2,\"loss\":null}\n{\"step\":3";
        vec![log.to_vec(), log[..32].to_vec(), b"[1,2]\n\"x\"\n3\n".to_vec(), vec![]]
    },
    slow: SLOW,
    words: &["step", "loss", "null", "\n", "{\"step\":4}\n"],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let path = folder.put("metrics.jsonl", input);
            let read = files::read_jsonl::<Value>(&path);
            let kept = files::retain_jsonl(&path, |record| record["step"].as_u64().is_some_and(|step| step < 3));
            assert_eq!(read.is_ok(), kept.is_ok(), "one reader of logs refuses what another accepts");
            if let (Ok(read), Ok(removed)) = (&read, kept) {
                let added = json!({"step": 3, "loss": 0.5});
                files::append_jsonl(&path, &added).expect("appends");
                let again = files::read_jsonl::<Value>(&path).expect("what was kept is read");
                assert_eq!(again.len(), read.len() - removed + 1, "lines were lost");
                assert_eq!(again.last(), Some(&added));
            }
            Verdict::of(read, |records| records.len())
        })
    },
};

/// Lines, of a gzip file or a plain one.
pub const GZIP_LINES: Target = Target {
    name: "gzip_lines",
    seeds: || {
        let text = b"\xef\xbb\xbfone\r\n\n  \ntwo {\"a\": 1}\nlast";
        let long: Vec<u8> =
            (0..400u32).flat_map(|i| format!("{}\n", i.wrapping_mul(2_654_435_761)).into_bytes()).collect();
        let several = [gzip(&text[..9]), gzip(&text[9..])].concat();
        vec![gzip(text), several, gzip(&long), gzip(b""), text.to_vec(), gzip(&vec![b'a'; 1 << 20])]
    },
    slow: SLOW,
    words: &["\x1f", "\r\n", "\n", "\u{feff}", "\0"],
    reader: || {
        let folder = Scratch::new();
        Box::new(move |input| {
            let path = folder.put("lines.json.gz", input);
            let read = || {
                let mut lines = Lines::open(&path)?;
                let mut count = 0;
                while let Some(line) = lines.next_line()? {
                    assert!(
                        !line.text.trim_ascii().is_empty() && !line.text.contains('\n'),
                        "no line: {:?}",
                        line.text
                    );
                    count += 1;
                }
                Ok::<usize, gr2::Error>(count)
            };
            Verdict::of(read(), |lines| lines)
        })
    },
};
