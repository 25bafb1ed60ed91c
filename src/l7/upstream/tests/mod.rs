//! Upstreams against backends in memory, through a real hyper server in front: what a client sees, what the backends
//! saw, and what was counted.

mod answers;
mod caps;
mod chances;
mod pooling;
mod retries;
mod steady;
mod sticky;
mod streams;
mod tls;
mod trials;
mod waiting;
mod wire;
mod world;
