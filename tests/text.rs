//! Text to ids and back, on tokenizers that `tokenizers` (Python) trained and encoded with.

mod support;

use gr2::text::{ChatTemplate, Message, SidShape, SidTokens, Tokenizer};
use std::path::Path;
use support::{FIXTURES, fixture};

#[derive(serde::Deserialize)]
struct Encoded {
    text: String,
    ids: Vec<u32>,
}

fn tokenized(dir: &Path) -> Vec<Encoded> {
    let cases: Vec<Encoded> = serde_json::from_slice(&std::fs::read(dir.join("tokenized.json")).unwrap()).unwrap();
    assert!(!cases.is_empty());
    cases
}

#[test]
fn ids_are_those_of_the_reference() {
    for dir in FIXTURES.map(fixture) {
        let tokenizer = Tokenizer::load(&dir).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.eos_ids()), (512, &[2][..]));
        for Encoded { text, ids } in tokenized(&dir) {
            assert_eq!(tokenizer.encode(&text).unwrap(), ids, "{text}");
            assert_eq!(tokenizer.decode(&ids, false).unwrap(), text);
            let mut stream = tokenizer.stream(false);
            let streamed: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
            assert_eq!(streamed, text);
            assert_eq!(stream.finish().unwrap(), "");
        }
    }
}

#[test]
fn semantic_ids_change_nothing_else_and_survive_saving() {
    let source = &fixture("qwen3-tied");
    let mut tokenizer = Tokenizer::load(source).unwrap();
    let sids = SidTokens::add(&mut tokenizer, SidShape::new(4, 256).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let again = Tokenizer::load(dir.path()).unwrap();
    assert_eq!((again.vocab_size(), again.eos_ids(), again.pad_id()), (512 + 2 + 4 * 256, &[2][..], Some(0)));
    assert_eq!(SidTokens::find(&again).unwrap().as_ref(), Some(&sids));

    let sid = sids.text(&[57, 7, 23, 255]).unwrap();
    for Encoded { text, ids } in tokenized(source) {
        assert_eq!(again.encode(&text).unwrap(), ids, "{text}");
        let mixed = again.encode(&format!("{text}{sid}{text}")).unwrap();
        assert_eq!(mixed, [ids.clone(), sids.ids(&[57, 7, 23, 255]).unwrap(), ids].concat(), "{text}");
    }
}

#[test]
fn a_chat_is_masked_by_tokens() {
    let mut tokenizer = Tokenizer::load(fixture("qwen3-untied")).unwrap();
    let sids = SidTokens::add(&mut tokenizer, SidShape::new(4, 256).unwrap()).unwrap();
    let template = ChatTemplate::of(&tokenizer).unwrap();
    let answer = sids.ids(&[1, 2, 3, 4]).unwrap();
    let chat = [
        Message::system("Rank these."),
        Message::user(format!("{}\n\n\tnaïve 🖊️", sids.text(&[9, 9, 9, 9]).unwrap())),
        Message::assistant(sids.text(&[1, 2, 3, 4]).unwrap()),
    ];
    let encoded = template.encode_chat(&tokenizer, &chat, false).unwrap();
    let [span] = &encoded.spans[..] else { panic!("one answer, found {:?}", encoded.spans) };
    assert_eq!(encoded.ids[span.content.clone()], answer);
    assert_eq!(encoded.ids[span.learnt()], [answer, vec![2]].concat());
    assert_eq!(encoded.ids[..span.content.start], template.encode_prompt(&tokenizer, &chat[..2], false).unwrap());
}
