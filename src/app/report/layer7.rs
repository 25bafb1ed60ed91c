//! The layer-7 part of a report: connections, sites, upstreams.
//!
//! What is behind each figure counts for itself, in the cores; this is what becomes of it for people and programs.
//! Words are those of the closed enums that they come from.

use std::fmt;

use comfy_table::ContentArrangement;
use serde::Serialize;

use super::{number, plain, right, share};

/// What layer 7 did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Layer7 {
    /// The clients' connections.
    pub connections: Connections,
    /// Sites, in the order of the configuration.
    pub sites: Vec<SiteCounts>,
    /// Backends of groups, in the order of the configuration.
    pub upstreams: Vec<UpstreamCounts>,
    /// Groups, in the order of the configuration.
    pub groups: Vec<GroupCounts>,
    /// Where requests are logged.
    pub access_logs: Vec<LogCounts>,
}

/// One group of backends, as far as it is more than the sum of those.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct GroupCounts {
    /// What it is called.
    pub group: String,
    /// What became of its requests beside being answered; only what occurred.
    pub ends: Vec<WordCount>,
}

/// What became of the lines of one access log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogCounts {
    /// Where they went.
    pub target: String,
    /// Lines that were written.
    pub written: u64,
    /// Lines that were not, as they came too fast or could not be written.
    pub dropped: u64,
}

/// Clients' TCP connections, which end here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// Were opened.
    pub opened: u64,
    /// Ended, for all reasons together.
    pub ended: u64,
    /// Those of them that the client reset,
    pub reset: u64,
    /// that ended because nothing came for too long,
    pub timed_out: u64,
    /// and that were given up on this side.
    pub aborted: u64,
}

/// One site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SiteCounts {
    /// What it is called.
    pub name: String,
    /// Connections that it was given.
    pub sessions: u64,
    /// Requests that came whole.
    pub requests: u64,
    /// What was answered, and what else became of sessions and requests; only what occurred.
    pub ends: Vec<WordCount>,
    /// What its cache did, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheCounts>,
}

/// The cache of one site.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CacheCounts {
    /// Bytes that it holds.
    pub held: u64,
    /// Bytes that it may hold.
    pub most: u64,
    /// What it did with requests, in the words of its `Cache-Status`, and what else occurred; only what occurred.
    pub ends: Vec<WordCount>,
}

/// One backend of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct UpstreamCounts {
    /// What the group is called.
    pub group: String,
    /// Where the backend is.
    pub backend: String,
    /// Requests that were sent to it on an upstream that was opened for them,
    pub opened: u64,
    /// and on one that had served others before.
    pub reused: u64,
    /// Upstreams that are open.
    pub open: u64,
    /// Those of them that are idle.
    pub idle: u64,
    /// Why upstreams were dropped and requests failed; only what occurred.
    pub ends: Vec<WordCount>,
}

/// How often something with a word of its own occurred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WordCount {
    /// The word.
    pub word: &'static str,
    /// How often.
    pub count: u64,
}

/// As tables, each with an empty line before it.
impl fmt::Display for Layer7 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Connections { opened, ended, reset, timed_out, aborted } = self.connections;
        let live = opened.saturating_sub(ended);
        writeln!(
            f,
            "\nlayer 7  {} connections opened: {} ended, {} live",
            number(opened),
            number(ended),
            number(live)
        )?;
        for (count, what) in [
            (reset, "of the ended ones were reset by their clients"),
            (timed_out, "timed out"),
            (aborted, "were given up here"),
        ] {
            if count > 0 {
                writeln!(f, "         {} {what}", number(count))?;
            }
        }
        let mut sites = plain(&["site", "sessions", "requests"]);
        for site in &self.sites {
            sites.add_row([site.name.clone(), number(site.sessions), number(site.requests)]);
        }
        right(&mut sites, 1..3);
        let mut caches = plain(&["cache of", "hits", "requests", "share", "bytes held", "of"]);
        for (site, cache) in self.sites.iter().filter_map(|site| Some((site, site.cache.as_ref()?))) {
            let hits = cache.ends.iter().find(|end| end.word == "hit").map_or(0, |end| end.count);
            let share = share(hits, site.requests);
            let (requests, held, most) = (number(site.requests), number(cache.held), number(cache.most));
            caches.add_row([site.name.clone(), number(hits), requests, share, held, most]);
        }
        right(&mut caches, 1..6);
        let mut upstreams = plain(&[
            "group",
            "backend",
            "requests",
            "share",
            "on new ones",
            "on reused",
            "reuse",
            "open",
            "idle",
        ]);
        let mut group = None;
        for upstream in &self.upstreams {
            let requests = upstream.requests();
            let in_group = self.upstreams.iter().filter(|other| other.group == upstream.group);
            upstreams.add_row([
                if group.replace(&upstream.group) == Some(&upstream.group) {
                    String::new()
                } else {
                    upstream.group.clone()
                },
                upstream.backend.clone(),
                number(requests),
                share(requests, in_group.map(UpstreamCounts::requests).sum()),
                number(upstream.opened),
                number(upstream.reused),
                share(upstream.reused, requests),
                number(upstream.open),
                number(upstream.idle),
            ]);
        }
        right(&mut upstreams, 2..9);
        let mut ends = plain(&["of", "what", "times"]);
        let of_sites =
            self.sites.iter().flat_map(|site| site.ends.iter().map(|end| (site.name.clone(), end)));
        let of_upstreams = self.upstreams.iter().flat_map(|upstream| {
            upstream.ends.iter().map(|end| (format!("{} {}", upstream.group, upstream.backend), end))
        });
        let of_caches = self.sites.iter().filter_map(|site| Some((site, site.cache.as_ref()?)));
        let of_caches = of_caches
            .flat_map(|(site, cache)| cache.ends.iter().map(|end| (format!("{} cache", site.name), end)));
        let of_groups =
            self.groups.iter().flat_map(|group| group.ends.iter().map(|end| (group.group.clone(), end)));
        for (of, end) in of_sites.chain(of_caches).chain(of_groups).chain(of_upstreams) {
            ends.add_row([of, end.word.to_owned(), number(end.count)]);
        }
        right(&mut ends, 2..3);
        let mut logs = plain(&["access log", "lines", "dropped"]);
        for log in &self.access_logs {
            logs.add_row([log.target.clone(), number(log.written), number(log.dropped)]);
        }
        right(&mut logs, 1..3);
        for mut table in [sites, caches, upstreams, ends, logs] {
            table.set_content_arrangement(ContentArrangement::Disabled);
            if table.row_count() > 0 {
                writeln!(f, "\n{}", table.trim_fmt())?;
            }
        }
        Ok(())
    }
}

impl UpstreamCounts {
    fn requests(&self) -> u64 {
        self.opened.saturating_add(self.reused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Layer7 {
        let upstream = |backend: &str, opened, reused| UpstreamCounts {
            group: "api".into(),
            backend: backend.into(),
            opened,
            reused,
            open: 2,
            idle: 1,
            ends: vec![WordCount { word: "connect_failed", count: 3 }],
        };
        Layer7 {
            connections: Connections { opened: 1200, ended: 1000, reset: 4, timed_out: 0, aborted: 1 },
            sites: vec![SiteCounts {
                name: "site".into(),
                sessions: 1200,
                requests: 4000,
                ends: vec![WordCount { word: "2xx", count: 4000 }],
                cache: Some(CacheCounts {
                    held: 20_000,
                    most: 65_536,
                    ends: vec![
                        WordCount { word: "hit", count: 3000 },
                        WordCount { word: "uri-miss", count: 1000 },
                    ],
                }),
            }],
            upstreams: vec![upstream("10.47.2.4:8080", 10, 990), upstream("10.47.2.5:8080", 1000, 2000)],
            groups: vec![GroupCounts {
                group: "api".into(),
                ends: vec![WordCount { word: "retries", count: 7 }],
            }],
            access_logs: vec![LogCounts { target: "access.log".into(), written: 3990, dropped: 10 }],
        }
    }

    #[test]
    fn the_tables_say_how_often_upstreams_were_used_again() {
        let text = some().to_string();
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "1,200 connections opened: 1,000 ended, 200 live",
            "4 of the ended ones were reset by their clients",
            "site 1,200 4,000",
            "api 10.47.2.4:8080 1,000 25.0 % 10 990 99.0 % 2 1",
            "10.47.2.5:8080 3,000 75.0 % 1,000 2,000 66.7 % 2 1",
            "site 2xx 4,000",
            "site 3,000 4,000 75.0 % 20,000 65,536",
            "site cache uri-miss 1,000",
            "api 10.47.2.5:8080 connect_failed 3",
            "api retries 7",
            "access.log 3,990 10",
        ] {
            assert!(words.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("timed out"), "{text}");
    }

    #[test]
    fn json_is_as_documented() {
        let json = serde_json::to_value(some()).unwrap();
        assert_eq!(json["connections"]["opened"], 1200);
        assert_eq!(json["sites"][0]["ends"][0], serde_json::json!({ "word": "2xx", "count": 4000 }));
        assert_eq!(json["sites"][0]["cache"]["held"], 20_000);
        assert_eq!(json["upstreams"][1]["reused"], 2000);
    }
}
