//! The reader that the binary is named after, on inputs that libFuzzer generates by coverage.
#![no_main]

use std::cell::RefCell;

use gr2_fuzz::Reader;

thread_local! {
    static READER: RefCell<Reader> = RefCell::new((gr2_fuzz::target(env!("CARGO_BIN_NAME")).expect("a reader").reader)());
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    READER.with_borrow_mut(|reader| {
        reader(input);
    });
});
