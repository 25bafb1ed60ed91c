//! Any bytes as a capture: no panic, no memory that the bytes do not pay for, nothing after the end, and no packet
//! longer than it says it was.

#![no_main]

use fourseven::capture::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut last = 0;
    while let Ok(Some(packet)) = reader.read() {
        assert!(packet.number > last && packet.bytes.len() <= packet.original_length as usize);
        last = packet.number;
        if let Ok(ip) = packet.ip() {
            assert!(!ip.bytes.is_empty() && ip.bytes.len() <= packet.bytes.len());
        }
    }
    assert!(matches!(reader.read(), Ok(None)));
});
