//! Single values: a text in, a checked value or a `Wrong` out.
//!
//! Nothing here knows where the text stood, in a file or behind a flag; that is added by
//! whoever asked.

mod address;
mod duration;
mod field;
mod host;
mod number;
mod path;
mod rate;
mod size;
mod size_range;
mod word;

pub use address::{clients, endpoint, listen, prefix};
pub use duration::{duration, written};
pub use field::{
    answer_status, changed_field_name, cookie_name, field_name, field_value, method, redirect_status,
};
pub use host::{host_name, host_pattern, server_name, written_host};
pub use number::{in_range, port_range, weight};
pub use path::{file_name, url_path};
pub use rate::{MOST_REQUESTS, rate, written_rate};
pub use size::{size, written_size};
pub use size_range::size_in;
pub use word::{device_name, group_name, one_of, service_name, words};
