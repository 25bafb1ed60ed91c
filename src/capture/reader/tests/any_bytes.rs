//! Any bytes at all, and files with any of their bytes changed.

use proptest::prelude::*;

use super::{File, read_all, rich};

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..4) {
        let head = match kind {
            0 => Vec::new(),
            1 => File::new(false).pcap(0xa1b2_c3d4, 1).bytes,
            2 => File::new(true).section().interface(1, 0, |options| options).bytes,
            _ => vec![0x1f, 0x8b, 8, 0],
        };
        let _ = read_all(&[head, bytes].concat());
    }

    #[test]
    fn a_file_with_changed_bytes_is_read_without_a_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = rich();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let _ = read_all(&bytes);
    }
}
