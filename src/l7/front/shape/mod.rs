//! Shaping: what is made of messages between the client and the group that its request goes to.

mod fields;

pub(super) use fields::change;

use crate::l7::words::words;

words! {
    /// What was made of a request or its answer, beside passing it on.
    Shaped {
        /// Its client was sent elsewhere.
        Redirected = "redirected",
        /// It was answered out of the configuration.
        Responded = "responded",
        /// Its client stayed with its backend.
        StickyKept = "sticky_kept",
        /// Its client was given a backend to stay with.
        StickyNew = "sticky_new",
        /// Its client's backend could not answer; it stays with another one.
        StickyMoved = "sticky_moved",
    }
}
