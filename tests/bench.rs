//! What the benchmark takes for granted about flowgen; it is a package of its own that does not link it.

use std::{fs, path::Path};

#[test]
fn the_event_of_the_floor_is_as_large_as_an_event_of_flowgen() {
    let floor = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/src/floor.rs");
    let text = fs::read_to_string(floor).unwrap();
    let bytes =
        text.lines().find_map(|line| line.strip_prefix("const EVENT_BYTES: usize = ")?.strip_suffix(';'));
    assert_eq!(bytes.map(str::parse), Some(Ok(size_of::<::flowgen::event::Event>())));
}
