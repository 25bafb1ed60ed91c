//! What can be wrong with services as somebody configured them.

use crate::packet::{Endpoint, Family};

use super::service::Listen;

/// Why services cannot be balanced as they were given, in the words of whoever gave them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BalanceError {
    /// A listen that cannot be read.
    #[error("`{text}` is not a listen: {why}")]
    BadListen {
        /// What was given.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A scheduler that does not exist.
    #[error("there is no scheduler `{word}` (there are rr, wrr, lc, wlc, sh, mh, p2c)")]
    UnknownScheduler {
        /// What was given.
        word: String,
    },
    /// A service that listens nowhere.
    #[error("service `{service}` listens nowhere (give it `listen = [\"tcp/ADDRESS:PORT\"]`)")]
    NoListen {
        /// Its name.
        service: String,
    },
    /// A service without backends.
    #[error("service `{service}` has no backend")]
    NoBackend {
        /// Its name.
        service: String,
    },
    /// A listen that no backend could ever serve: a flow stays in the family of its VIP.
    #[error("service `{service}` listens on {listen}, but none of its backends is {}", family_name(*.family))]
    NoBackendOfFamily {
        /// The service's name.
        service: String,
        /// The listen.
        listen: Listen,
        /// The family that is missing.
        family: Family,
    },
    /// The same protocol, address and port twice, in one service or in two.
    #[error("{listen} is listened on twice: by service `{first}` and by service `{second}`")]
    DuplicateListen {
        /// The listen.
        listen: Listen,
        /// The service that has it first.
        first: String,
        /// The service that has it again.
        second: String,
    },
    /// The same backend twice in one service.
    #[error("service `{service}` has backend {backend} twice (to give it more flows, give it a weight)")]
    DuplicateBackend {
        /// The service's name.
        service: String,
        /// The backend.
        backend: Endpoint,
    },
    /// A listen on port 0.
    #[error("service `{service}` listens on {listen}, and port 0 is no port")]
    ListenPortZero {
        /// The service's name.
        service: String,
        /// The listen.
        listen: Listen,
    },
    /// A backend at port 0.
    #[error("service `{service}` has backend {backend}, and port 0 is no port")]
    BackendPortZero {
        /// The service's name.
        service: String,
        /// The backend.
        backend: Endpoint,
    },
    /// More services than ids.
    #[error("more than {most} services")]
    TooManyServices {
        /// How many there may be.
        most: usize,
    },
    /// More listens than ids.
    #[error("service `{service}` brings the listens of all services to more than {most}")]
    TooManyVips {
        /// The name of the service that goes past the end.
        service: String,
        /// How many there may be, over all services.
        most: usize,
    },
    /// More backends in one service than a Maglev table can name.
    #[error("service `{service}` has more than {most} backends")]
    TooManyBackends {
        /// The service's name.
        service: String,
        /// How many it may have.
        most: usize,
    },
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
