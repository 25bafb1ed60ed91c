//! Which ends of a flow's packets are rewritten.

use std::fmt;
use std::str::FromStr;

/// What is rewritten in a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nat {
    /// Both ends: the backend sees one of the balancer's local addresses, and answers to that.
    #[default]
    Full,
    /// The destination only: the backend sees the client, and its replies must be routed back this way.
    Dnat,
}

/// A way of translating that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no NAT mode `{word}` (there are full, dnat)")]
pub struct UnknownNat {
    /// What was given.
    pub word: String,
}

impl fmt::Display for Nat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Full => "full",
            Self::Dnat => "dnat",
        })
    }
}

impl FromStr for Nat {
    type Err = UnknownNat;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "full" => Ok(Self::Full),
            "dnat" => Ok(Self::Dnat),
            _ => Err(UnknownNat { word: text.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_they_are_written_and_others_do_not() {
        for nat in [Nat::Full, Nat::Dnat] {
            assert_eq!(nat.to_string().parse(), Ok(nat));
        }
        assert_eq!("snat".parse::<Nat>(), Err(UnknownNat { word: "snat".to_owned() }));
    }
}
