//! Giving up the rights that are not needed any more.
//!
//! Making the device and setting up the host take `CAP_NET_ADMIN`, and so does taking that back at the end. All else
//! that root may do is of use only to whoever takes the program over.

use caps::{CapSet, Capability};
use nix::sys::prctl;

/// Keeps `CAP_NET_ADMIN` alone, where that is held, and lets nothing that is started have more. It holds for the calling
/// thread and for those that it starts from now on.
///
/// # Errors
/// What the kernel refused, in words.
pub fn keep_network_admin() -> Result<(), String> {
    let refused = |error: caps::errors::CapsError| error.to_string();
    let held = caps::read(None, CapSet::Permitted).map_err(refused)?;
    let kept = held.into_iter().filter(|&right| right == Capability::CAP_NET_ADMIN).collect();
    // What is inheritable or ambient must be permitted, so it goes first.
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set).map_err(refused)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &kept).map_err(refused)?;
    }
    prctl::set_no_new_privs().map_err(|errno| errno.desc().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gives_up_its_rights_has_one_at_most_and_its_children_too() {
        let held = std::thread::spawn(|| {
            keep_network_admin().unwrap();
            let held = || caps::read(None, CapSet::Permitted).unwrap();
            (held(), std::thread::spawn(held).join().unwrap())
        });
        let (mine, of_child) = held.join().unwrap();
        assert!(mine.iter().all(|&right| right == Capability::CAP_NET_ADMIN), "{mine:?}");
        assert_eq!(mine, of_child);
    }
}
