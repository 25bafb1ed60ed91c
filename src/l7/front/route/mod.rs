//! Routes: which one takes a request, and what is needed to do what it says.

mod condition;
mod table;

pub use condition::Asked;

use table::Table;

use crate::l7::spec::RouteSpec;

/// The routes of one site, compiled.
#[derive(Debug)]
pub struct Routes {
    table: Table,
    routes: Box<[Route]>,
}

/// One of them.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub(super) spec: RouteSpec,
}

impl Routes {
    /// Compiles them.
    pub fn new(routes: &[RouteSpec]) -> Self {
        let compiled = routes.iter().map(|spec| Route { spec: spec.clone() });
        Self { table: Table::new(routes), routes: compiled.collect() }
    }

    /// The route that takes a request.
    pub fn find(&self, asked: &Asked<'_>) -> Option<&Route> {
        self.routes.get(self.table.find(asked)?)
    }
}
