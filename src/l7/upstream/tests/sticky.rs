//! Clients that stay with a backend.

use super::world::{Door, World, group, settle, story};
use crate::datapath::BackendId;
use crate::l7::connect::Standing;

#[test]
fn a_client_stays_with_its_backend_while_that_is_up_and_goes_elsewhere_while_it_is_not() {
    story(async {
        let world = World::new(vec![group(3)], None);
        (0..3).for_each(|number| world.wires.server(number));
        let mut client = world.client(0);
        world.prefer.set(Some(BackendId(2)));
        for _ in 0..6 {
            assert_eq!(client.get("/").await.assert_ok().backend, 2);
        }
        assert_eq!(world.counts(2).opened(), 1, "the upstream is kept as for anybody");
        // It goes away: the first request that finds this out is retried elsewhere.
        world.wires.set(2, Door::Refused);
        world
            .wires
            .peers
            .borrow()
            .iter()
            .for_each(|peer| *peer.pretend.lock().unwrap() = [Standing::Closed].into());
        for nth in 0..8 {
            let told = client.get("/").await;
            assert_ne!(told.assert_ok().backend, 2, "request {nth}");
        }
        settle().await;
        world.assert_at_rest();
    });
}

#[test]
fn a_backend_that_nobody_knows_is_as_good_as_none() {
    story(async {
        let world = World::new(vec![group(2)], None);
        (0..2).for_each(|number| world.wires.server(number));
        world.prefer.set(Some(BackendId(7)));
        let mut client = world.client(0);
        let seen = [client.get("/").await.backend, client.get("/").await.backend];
        assert_eq!(seen.iter().sum::<u16>(), 1, "by turns: {seen:?}");
    });
}
