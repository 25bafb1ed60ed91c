//! From words to a filter.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::{Ends, Filter, Node, Test, Version, What};

/// Parentheses and `not`s within each other: as deep as an expression may be.
const DEEPEST: usize = 64;

const TCP: u8 = 6;
const UDP: u8 = 17;
/// libpcap's ports are these three's.
const WITH_PORTS: [u8; 3] = [TCP, UDP, 132];

/// Why words are no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("filter: {why}{}", place(.word.as_deref()))]
pub struct FilterError {
    /// What is wrong.
    pub why: &'static str,
    /// The word where it is; `None` at the end.
    pub word: Option<String>,
}

fn place(word: Option<&str>) -> String {
    word.map_or_else(|| ", at its end".into(), |word| format!(", at `{word}`"))
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let mut parser = Parser { words: words(text), at: 0, depth: 0, last: None };
        if parser.words.is_empty() {
            return Ok(Self { root: None });
        }
        let root = parser.expression()?;
        match parser.peek() {
            None => Ok(Self { root: Some(root) }),
            Some(")") => Err(parser.error("a `)` that nothing opens")),
            Some(_) => Err(parser.error("`and` or `or` is missing")),
        }
    }
}

/// Words, with parentheses, `!`, `&&` and `||` as words of their own wherever they stand.
fn words(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '(' | ')' | '!' => spaced.extend([' ', c, ' ']),
            _ => spaced.push(c),
        }
    }
    let spaced = spaced.replace("&&", " && ").replace("||", " || ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// What the words before a value say of it.
#[derive(Clone, Debug, Default)]
struct Qualifiers {
    family: Option<Version>,
    protocols: Vec<u8>,
    ends: Ends,
    kind: Option<Kind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Host,
    Net,
    Port,
    PortRange,
    Proto,
}

struct Parser {
    words: Vec<String>,
    at: usize,
    depth: usize,
    /// What the last value was, for a bare one after it.
    last: Option<Qualifiers>,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn takes(&mut self, any: &[&str]) -> bool {
        let found = self.peek().is_some_and(|word| any.contains(&word));
        self.at += usize::from(found);
        found
    }

    fn error(&self, why: &'static str) -> FilterError {
        FilterError { why, word: self.peek().map(str::to_owned) }
    }

    /// `and` and `or` bind alike: what is left of one is taken together.
    fn expression(&mut self) -> Result<Node, FilterError> {
        let mut node = self.factor()?;
        loop {
            if self.takes(&["and", "&&"]) {
                let next = self.factor()?;
                match &mut node {
                    Node::All(list) => list.push(next),
                    _ => node = Node::All(vec![node, next]),
                }
            } else if self.takes(&["or", "||"]) {
                let next = self.factor()?;
                match &mut node {
                    Node::Any(list) => list.push(next),
                    _ => node = Node::Any(vec![node, next]),
                }
            } else {
                return Ok(node);
            }
        }
    }

    fn factor(&mut self) -> Result<Node, FilterError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(self.error("too deep"));
        }
        let node = if self.takes(&["not", "!"]) {
            Node::Not(Box::new(self.factor()?))
        } else if self.takes(&["("]) {
            let inner = self.expression()?;
            if !self.takes(&[")"]) {
                return Err(self.error("a `)` is missing"));
            }
            inner
        } else {
            self.primitive()?
        };
        self.depth -= 1;
        Ok(node)
    }

    fn primitive(&mut self) -> Result<Node, FilterError> {
        let start = self.at;
        let mut said = Qualifiers::default();
        self.protocol(&mut said)?;
        self.ends(&mut said)?;
        self.kind(&mut said);
        let has_value = self.peek().is_some_and(|word| !is_keyword(word));
        if self.at == start {
            // A bare value is like the last one; the first of all is a host.
            if !has_value {
                return Err(self.error(match self.peek() {
                    Some("and" | "&&" | "or" | "||" | ")") | None => "something to ask for is missing",
                    Some(_) => "this word is not known",
                }));
            }
            let like = self.last.clone().unwrap_or_default();
            return self.value(like);
        }
        if said.kind.is_some() || said.ends != Ends::Either || has_value {
            return self.value(said);
        }
        Ok(Node::Test(said.test(What::Packet)))
    }

    fn protocol(&mut self, said: &mut Qualifiers) -> Result<(), FilterError> {
        let Some(word) = self.peek() else { return Ok(()) };
        (said.family, said.protocols) = match word {
            "ip" => (Some(Version::V4), vec![]),
            "ip6" => (Some(Version::V6), vec![]),
            "tcp" => (None, vec![TCP]),
            "udp" => (None, vec![UDP]),
            "icmp" => (Some(Version::V4), vec![1]),
            "icmp6" => (Some(Version::V6), vec![58]),
            _ if word.contains('[') => return Err(self.error("bytes of packets cannot be asked for")),
            "ether" | "arp" | "rarp" | "vlan" | "mpls" | "pppoes" | "geneve" | "less" | "greater" | "len"
            | "gateway" | "broadcast" | "multicast" | "sctp" | "inbound" | "outbound" | "ifname" => {
                return Err(self.error("this part of tcpdump's language is not known here"));
            }
            _ => return Ok(()),
        };
        self.at += 1;
        Ok(())
    }

    fn ends(&mut self, said: &mut Qualifiers) -> Result<(), FilterError> {
        let first = match self.peek() {
            Some("src") => Ends::Source,
            Some("dst") => Ends::Destination,
            _ => return Ok(()),
        };
        self.at += 1;
        said.ends = first;
        let [joint, other] = [0, 1].map(|ahead| self.words.get(self.at + ahead).map(String::as_str));
        let second = match other {
            Some("src") => Ends::Source,
            Some("dst") => Ends::Destination,
            _ => return Ok(()),
        };
        // `src 10.0.0.1 or dst …` has a value between; `src or dst …` has none.
        said.ends = match joint {
            Some("or" | "||") => Ends::Either,
            Some("and" | "&&") => Ends::Both,
            _ => return Ok(()),
        };
        if first == second {
            return Err(self.error("the same end twice"));
        }
        self.at += 2;
        Ok(())
    }

    fn kind(&mut self, said: &mut Qualifiers) {
        said.kind = match self.peek() {
            Some("host") => Some(Kind::Host),
            Some("net") => Some(Kind::Net),
            Some("port") => Some(Kind::Port),
            Some("portrange") => Some(Kind::PortRange),
            Some("proto") => Some(Kind::Proto),
            _ => return,
        };
        self.at += 1;
    }

    fn value(&mut self, mut said: Qualifiers) -> Result<Node, FilterError> {
        let Some(word) = self.peek().filter(|word| !is_keyword(word)).map(str::to_owned) else {
            return Err(self.error("a value is missing"));
        };
        let bad = |why| FilterError { why, word: Some(word.clone()) };
        // tcpdump's parser takes a bare network for one.
        let is_net = word.contains('/') || (word.contains('.') && word.parse::<IpAddr>().is_err());
        let kind = said.kind.unwrap_or(if is_net { Kind::Net } else { Kind::Host });
        said.kind = Some(kind);
        self.at += 1;
        let what = match kind {
            Kind::Host => What::Net(word.parse::<IpAddr>().map_err(|_| bad("not an address"))?.into()),
            Kind::Net => What::Net(self.net(&word)?),
            Kind::Port => {
                let port = word.parse().map_err(|_| bad("not a port number"))?;
                What::Ports(port, port)
            }
            Kind::PortRange => {
                let (first, last) = word.split_once('-').unwrap_or((&word, &word));
                let [first, last] = [first, last].map(str::parse::<u16>);
                let (Ok(first), Ok(last)) = (first, last) else { return Err(bad("not a range of ports")) };
                What::Ports(first.min(last), first.max(last))
            }
            Kind::Proto => {
                if !said.protocols.is_empty() || said.ends != Ends::Either {
                    return Err(bad("`proto` goes with `ip` and `ip6` only"));
                }
                said.protocols = vec![protocol(&word).ok_or_else(|| bad("not a protocol"))?];
                self.last = Some(Qualifiers { protocols: vec![], ..said.clone() });
                return Ok(Node::Test(said.test(What::Packet)));
            }
        };
        self.last = Some(said.clone());
        match what {
            What::Ports(..) if said.protocols.is_empty() => said.protocols = WITH_PORTS.to_vec(),
            What::Ports(..) if !said.protocols.iter().all(|protocol| WITH_PORTS.contains(protocol)) => {
                return Err(bad("what has no ports"));
            }
            What::Net(_) if !said.protocols.is_empty() => {
                return Err(bad("a transport has no addresses: join `tcp` and `host …` by `and`"));
            }
            What::Net(net) => {
                let family = if net.addr().is_ipv4() { Version::V4 } else { Version::V6 };
                if said.family.is_some_and(|said| said != family) {
                    return Err(bad("an address of the other family"));
                }
                said.family = Some(family);
            }
            What::Packet | What::Ports(..) => {}
        }
        Ok(Node::Test(said.test(what)))
    }

    /// A network: with a prefix length, with a mask behind, or as the first bytes of one.
    fn net(&mut self, word: &str) -> Result<IpNet, FilterError> {
        let bad = |why| FilterError { why, word: Some(word.to_owned()) };
        let (address, length) = match word.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (word, None),
        };
        let (address, given) = match address.parse::<IpAddr>() {
            Ok(address @ IpAddr::V4(_)) => (address, 32),
            Ok(address @ IpAddr::V6(_)) => (address, 128),
            Err(_) => {
                let parts: Option<Vec<u8>> = address.split('.').map(|part| part.parse().ok()).collect();
                let parts = parts.filter(|parts| parts.len() < 4).ok_or_else(|| bad("not a network"))?;
                let mut octets = [0; 4];
                octets.iter_mut().zip(&parts).for_each(|(octet, part)| *octet = *part);
                (Ipv4Addr::from(octets).into(), u8::try_from(parts.len() * 8).unwrap_or(32))
            }
        };
        let net = if let Some(length) = length {
            let length = length.parse().map_err(|_| bad("not a prefix length"))?;
            IpNet::new(address, length).map_err(|_| bad("not a prefix length"))?
        } else if self.takes(&["mask"]) {
            let IpAddr::V4(v4) = address else { return Err(bad("a mask is of IPv4")) };
            let mask = self.peek().and_then(|mask| mask.parse::<Ipv4Addr>().ok());
            let mask = mask.ok_or_else(|| self.error("not a mask"))?;
            self.at += 1;
            Ipv4Net::with_netmask(v4, mask).map_err(|_| bad("a mask with holes"))?.into()
        } else {
            IpNet::new(address, given).map_err(|_| bad("not a network"))?
        };
        if net.trunc() != net {
            return Err(bad("bits beyond the prefix are set"));
        }
        Ok(net)
    }
}

impl Qualifiers {
    fn test(self, what: What) -> Test {
        Test { family: self.family, protocols: self.protocols, ends: self.ends, what }
    }
}

fn protocol(word: &str) -> Option<u8> {
    Some(match word.trim_start_matches('\\') {
        "icmp" => 1,
        "igmp" => 2,
        "tcp" => TCP,
        "udp" => UDP,
        "icmp6" => 58,
        "esp" => 50,
        "ah" => 51,
        "sctp" => 132,
        number => return number.parse().ok(),
    })
}

/// Words that are no values.
fn is_keyword(word: &str) -> bool {
    const KEYWORDS: &[&str] = &[
        "and",
        "&&",
        "or",
        "||",
        "not",
        "!",
        "(",
        ")",
        "ip",
        "ip6",
        "tcp",
        "udp",
        "icmp",
        "icmp6",
        "src",
        "dst",
        "host",
        "net",
        "port",
        "portrange",
        "proto",
        "mask",
        "ether",
        "arp",
        "rarp",
        "vlan",
        "mpls",
        "pppoes",
        "geneve",
        "less",
        "greater",
        "len",
        "gateway",
        "broadcast",
        "multicast",
        "sctp",
        "inbound",
        "outbound",
        "ifname",
    ];
    KEYWORDS.contains(&word) || word.contains('[')
}
