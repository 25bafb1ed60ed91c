//! Clients that stay with a backend, by a cookie.
//!
//! The cookie holds a number that stands for a backend of a group: a keyed hash of both, so that nobody learns addresses from it,
//! and so that it means the same to all workers and, with the same seed, after a restart. A number that stands for nobody
//! that the route leads to is as good as no cookie. Of a client that has one the group is that of its backend,
//! whatever the weights say.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use siphasher::sip::SipHasher24;

use super::super::headers::Security;
use super::condition::cookies;
use crate::datapath::BackendId;
use crate::l7::spec::{GroupId, GroupSpec, Share, StickySpec};
use crate::packet::Endpoint;

/// A backend of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::l7::front) struct Place {
    pub group: GroupId,
    pub backend: BackendId,
}

/// What the cookies of one route mean.
#[derive(Debug)]
pub(super) struct Sticky {
    spec: StickySpec,
    places: HashMap<u64, Place, FixedState>,
    numbers: HashMap<(usize, Endpoint), u64, FixedState>,
}

impl Sticky {
    /// For the backends of these groups.
    pub(super) fn new(spec: &StickySpec, shares: &[Share], groups: &[GroupSpec], seed: u64) -> Self {
        let mut sticky = Self { spec: spec.clone(), places: HashMap::default(), numbers: HashMap::default() };
        for group in shares.iter().map(|share| share.group) {
            let Some(spec) = groups.get(group.0) else { continue };
            for (backend, member) in (0..).map(BackendId).zip(&spec.members) {
                let number = number(seed, &spec.name, member.endpoint);
                sticky.places.insert(number, Place { group, backend });
                sticky.numbers.insert((group.0, member.endpoint), number);
            }
        }
        sticky
    }

    /// The backend that a client is to stay with.
    pub(super) fn place(&self, headers: &HeaderMap) -> Option<Place> {
        let mut own = cookies(headers).filter(|(name, _)| *name == self.spec.cookie.as_bytes());
        own.find_map(|(_, value)| {
            let digits = std::str::from_utf8(value).ok().filter(|digits| digits.len() == 16)?;
            self.places.get(&u64::from_str_radix(digits, 16).ok()?).copied()
        })
    }

    /// Takes the cookie out of a request: it is between the client and us.
    pub(super) fn take_out(&self, headers: &mut HeaderMap) {
        if !cookies(headers).any(|(name, _)| name == self.spec.cookie.as_bytes()) {
            return;
        }
        let others = |line: &HeaderValue| {
            let pairs = line.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let name = |pair: &[u8]| {
                pair.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii().to_owned()
            };
            let other = |pair: &&[u8]| !pair.is_empty() && name(pair) != self.spec.cookie.as_bytes();
            pairs.filter(other).collect::<Vec<_>>().join(&b"; "[..])
        };
        let lines: Vec<Vec<u8>> = headers.get_all(COOKIE).iter().map(others).collect();
        headers.remove(COOKIE);
        for line in lines.iter().filter(|line| !line.is_empty()) {
            if let Ok(line) = HeaderValue::from_bytes(line) {
                headers.append(COOKIE, line);
            }
        }
    }

    /// Whether that backend is at this endpoint.
    pub(super) fn is_at(&self, group: GroupId, backend: BackendId, endpoint: Endpoint) -> bool {
        let place = self.numbers.get(&(group.0, endpoint)).and_then(|number| self.places.get(number));
        place == Some(&Place { group, backend })
    }

    /// The `Set-Cookie` for a client that is to stay with this backend.
    pub(super) fn cookie(
        &self,
        group: GroupId,
        backend: Endpoint,
        security: Security,
    ) -> Option<HeaderValue> {
        let number = self.numbers.get(&(group.0, backend))?;
        let age = self.spec.max_age.map(|age| format!("; Max-Age={}", age.as_secs().max(1)));
        let secure = match security {
            Security::Clear => "",
            Security::Tls => "; Secure",
        };
        let (name, age) = (&self.spec.cookie, age.unwrap_or_default());
        HeaderValue::try_from(format!("{name}={number:016x}; Path=/; HttpOnly; SameSite=Lax{secure}{age}"))
            .ok()
    }
}

/// What stands for a backend.
fn number(seed: u64, group: &str, backend: Endpoint) -> u64 {
    SipHasher24::new_with_keys(seed, !seed).hash(format!("{group} {backend}").as_bytes())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::{BackendSpec, SchedulerKind, Weight};
    use crate::l7::spec::{ProxyProtocol, UpstreamLimits, UpstreamProtocol};

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<std::net::SocketAddr>().unwrap().into()
    }

    fn group(name: &str, members: &[&str]) -> GroupSpec {
        let member =
            |text: &&str| BackendSpec { endpoint: endpoint(text), weight: Weight::ONE, drain: false };
        GroupSpec {
            name: name.to_owned(),
            scheduler: SchedulerKind::Rr,
            members: members.iter().map(member).collect(),
            protocol: UpstreamProtocol::Http1,
            tls: None,
            proxy_protocol: ProxyProtocol::None,
            limits: UpstreamLimits::default(),
        }
    }

    fn sticky(seed: u64) -> Sticky {
        let groups = [
            group("a", &["10.0.0.1:80", "10.0.0.2:80"]),
            group("b", &["10.0.0.1:80"]),
            group("c", &["10.0.0.3:80"]),
        ];
        let share = |group| Share { group: GroupId(group), weight: 1 };
        let spec = StickySpec { cookie: "s".to_owned(), max_age: Some(Duration::from_mins(1)) };
        Sticky::new(&spec, &[share(0), share(1)], &groups, seed)
    }

    fn headers(lines: &[&str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, line.parse().unwrap())).collect()
    }

    #[test]
    fn a_cookie_brings_a_client_back_to_its_backend() {
        let sticky = sticky(7);
        let mut seen = std::collections::HashSet::new();
        for (group, backend, address) in [(0, 0, "10.0.0.1:80"), (0, 1, "10.0.0.2:80"), (1, 0, "10.0.0.1:80")]
        {
            let set = sticky.cookie(GroupId(group), endpoint(address), Security::Tls).unwrap();
            let (pair, rest) = set.to_str().unwrap().split_once(';').unwrap();
            assert_eq!(rest, " Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=60");
            assert!(seen.insert(pair.to_owned()) && !pair.contains('.'), "{pair}");
            let place = Place { group: GroupId(group), backend: BackendId(backend) };
            assert_eq!(sticky.place(&headers(&["x=y", &format!("a=b; {pair}")])), Some(place));
            assert_eq!(super::tests::sticky(8).place(&headers(&[pair])), None, "another seed");
        }
        assert_eq!(sticky.cookie(GroupId(2), endpoint("10.0.0.3:80"), Security::Clear), None);
        let clear = sticky.cookie(GroupId(0), endpoint("10.0.0.1:80"), Security::Clear).unwrap();
        assert!(!clear.to_str().unwrap().contains("Secure"));
        for odd in ["", "s=", "s=0", "s=+123456789abcdef", "s=ffffffffffffffff", "s=é", "t=0123456789abcdef"]
        {
            let line = HeaderValue::from_bytes(odd.as_bytes()).unwrap();
            assert_eq!(sticky.place(&[(COOKIE, line)].into_iter().collect()), None, "{odd}");
        }
    }

    #[test]
    fn backends_do_not_see_the_cookie() {
        let sticky = sticky(7);
        for (before, after) in [
            (&["a=1; s=2; b=3"][..], &["a=1; b=3"][..]),
            (&["s=2"], &[]),
            (&["s = 2", "a=1;s=3 ; b"], &["a=1; b"]),
            (&["a=1;b=2"], &["a=1;b=2"]),
            (&["ss=2; xs=1"], &["ss=2; xs=1"]),
        ] {
            let mut headers = headers(before);
            sticky.take_out(&mut headers);
            assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), after, "{before:?}");
        }
    }
}
