//! Why a client's connection is ended from here, though there may be more to say.

use crate::l7::words::words;

words! {
    /// Why a client's connection is ended from here. Each is a counter of the same name, and what the log says of the requests
    /// that end with it.
    Cut {
        /// There are as many connections as may be.
        TooManyConnections = "too_many_connections",
        /// This source has as many as one may have.
        TooManyFromSource = "too_many_from_source",
        /// The client has had nothing to ask for long.
        KeepAlive = "keep_alive",
        /// The client takes no more of what it has asked for.
        SendTimeout = "send_timeout",
        /// More PING frames than there is use for.
        PingFlood = "ping_flood",
        /// More SETTINGS frames.
        SettingsFlood = "settings_flood",
        /// More streams that were opened and reset.
        ResetFlood = "reset_flood",
        /// More `WINDOW_UPDATE` frames.
        WindowFlood = "window_flood",
        /// More DATA frames with nothing in them.
        EmptyFlood = "empty_flood",
        /// More PRIORITY frames.
        PriorityFlood = "priority_flood",
        /// More CONTINUATION frames.
        ContinuationFlood = "continuation_flood",
        /// More frames of unknown kinds.
        UnknownFlood = "unknown_flood",
        /// HTTP/2 found something more than it bears: streams that were reset before they were looked at, errors, small
        /// frames.
        Excess = "excess",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::l7::exchange::Failure;
    use crate::l7::front::Refusal;

    #[test]
    fn no_word_has_two_meanings() {
        let words = Cut::ALL.iter().map(|cut| cut.word());
        let words = words.chain(Failure::ALL.iter().map(|failure| failure.word()));
        let words: Vec<_> = words.chain(Refusal::ALL.iter().map(|refusal| refusal.word())).collect();
        assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len(), "{words:?}");
    }
}
