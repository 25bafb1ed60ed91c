//! The room as a whole, tried from outside: each file one promise.

mod answering;
mod any_bytes;
mod quoting;
mod reading;
mod support;
mod translating;
