//! Single values: a text in, a checked value or a `Wrong` out.
//!
//! Nothing here knows where the text stood, in a file or behind a flag; that is added by
//! whoever asked.

mod address;
mod duration;
mod number;
mod word;

pub use address::{endpoint, listen, prefix};
pub use duration::{duration, written};
pub use number::{in_range, port_range, weight};
pub use word::{device_name, one_of, service_name};
