//! The README keeps up with the code.

use fourseven::datapath::Reason;

#[test]
fn readme_lists_every_reason_in_the_order_of_reports() {
    let readme = include_str!("../README.md");
    let rows = readme.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let words: Vec<&str> = rows.map(|(word, _)| word).collect();
    let mut from = 0;
    for reason in Reason::ALL {
        let place = words.iter().skip(from).position(|word| *word == reason.word());
        let place = place
            .unwrap_or_else(|| panic!("missing, or out of order: | `{reason}` | {} |", reason.explanation()));
        from += place + 1;
    }
}
