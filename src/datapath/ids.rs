//! The names that core and driver share for what the configuration lists.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $inner);

        impl $name {
            /// The place in a table that is laid out by this id.
            #[inline]
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A virtual service, by its place in the configuration.
    ServiceId(u16)
);
id!(
    /// A protocol, address and port that a virtual service listens on, counted over all services.
    VipId(u16)
);
id!(
    /// A backend of one service, counted over all services.
    BackendId(u32)
);
id!(
    /// A worker: one thread, one TUN queue, one core. At most [`WorkerId::MAX`] of them.
    WorkerId(u8)
);

impl WorkerId {
    /// How many workers there can be: the number fits six bits of an index slot.
    pub const MAX: usize = 64;
}
