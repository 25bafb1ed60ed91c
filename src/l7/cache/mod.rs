//! The cache: answers that are kept, and given again as far as RFC 9111 allows a shared cache to.

mod status;

pub use status::{CacheStatus, Detail, Handling};
