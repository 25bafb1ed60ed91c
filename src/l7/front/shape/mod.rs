//! Shaping: what is made of messages between the client and the group that its request goes to.

mod fields;

pub(super) use fields::change;
