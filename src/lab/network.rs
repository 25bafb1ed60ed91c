//! What the story needs of a network, whether it is made of namespaces or of memory.

use super::attempt::{Attempt, Try};
use super::error::LabError;
use super::report::Report;
use super::visit::{Visit, Visited};

/// A client, a balancer and backends.
pub trait Network {
    /// Lets the client try something.
    ///
    /// # Errors
    ///
    /// Of the lab. What the network does is in the [`Attempt`].
    fn attempt(&mut self, what: Try) -> Result<Attempt, LabError>;

    /// Ends a backend's server and leaves its host, whose kernel then refuses in its name.
    ///
    /// # Errors
    ///
    /// Of the lab.
    fn stop_server(&mut self, backend: u8) -> Result<(), LabError>;

    /// Ends a backend with all it has, its link too.
    ///
    /// # Errors
    ///
    /// Of the lab.
    fn cut(&mut self, backend: u8) -> Result<(), LabError>;

    /// The same network for layer 7, where it has that.
    fn layer7(&mut self) -> Option<&mut dyn Layer7>;

    /// Ends the balancer, and gives what it counted. Nothing can be tried after that.
    ///
    /// # Errors
    ///
    /// The balancer gave no account.
    fn finish(&mut self) -> Result<Report, LabError>;
}

/// A network whose backends speak TLS, and whose balancer works at layer 7 as well.
pub trait Layer7: Network {
    /// Lets the client make a visit.
    ///
    /// # Errors
    ///
    /// Of the lab. What the network does is in what comes of the visit.
    fn visit(&mut self, what: Visit) -> Result<Visited, LabError>;

    /// What the balancer has counted up to now.
    ///
    /// # Errors
    ///
    /// It does not say so.
    fn account(&mut self) -> Result<Report, LabError>;

    /// Starts a backend's server again.
    ///
    /// # Errors
    ///
    /// It cannot be.
    fn start_server(&mut self, backend: u8) -> Result<(), LabError>;
}
