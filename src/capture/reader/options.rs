//! The options at the end of a block.

use super::order::Order;

pub(super) const COMMENT: u16 = 1;
/// In a section's header: what wrote it.
pub(super) const APPLICATION: u16 = 4;
pub(super) const IF_NAME: u16 = 2;
pub(super) const IF_TSRESOL: u16 = 9;
pub(super) const IF_TSOFFSET: u16 = 14;
/// Of a packet.
pub(super) const FLAGS: u16 = 2;
/// Of a packet.
pub(super) const PACKET_ID: u16 = 5;

/// Options, each a code and a value. They end with a code of 0, or with the block, or with one that is not whole.
pub(super) struct Options<'a> {
    order: Order,
    bytes: &'a [u8],
}

impl<'a> Options<'a> {
    pub const fn new(order: Order, bytes: &'a [u8]) -> Self {
        Self { order, bytes }
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (header, rest) = self.bytes.split_at_checked(4)?;
        let code = self.order.u16_at(header, 0);
        let length = usize::from(self.order.u16_at(header, 2));
        if code == 0 {
            return None;
        }
        let value = rest.get(..length)?;
        self.bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((code, value))
    }
}
