#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| underpass::fuzzing::kubernetes(input));
