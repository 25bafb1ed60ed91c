//! What a client says of codings: `Accept-Encoding` (RFC 9110 §12.5.3).

use http::HeaderMap;
use http::header::ACCEPT_ENCODING;

use crate::l7::spec::Coding;

/// The coding that a client likes best of these, which stand in our own order; `None` where it likes the plain body better, or
/// has not asked.
pub(super) fn choose(codings: &[Coding], headers: &HeaderMap) -> Option<Coding> {
    let mut any = None;
    let mut plain = None;
    let mut said: [Option<u16>; Coding::COUNT] = [None; Coding::COUNT];
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    for element in lines.flat_map(|line| line.split(',')) {
        let (name, parameters) = element.split_once(';').unwrap_or((element, ""));
        let (name, quality) = (name.trim(), quality(parameters));
        // RFC 9110 §8.4.1.3: x-gzip is gzip.
        let name = if name.eq_ignore_ascii_case("x-gzip") { "gzip" } else { name };
        let coding = Coding::ALL.iter().find(|coding| name.eq_ignore_ascii_case(coding.word()));
        match coding {
            Some(coding) => said[*coding as usize] = Some(quality),
            None if name == "*" => any = Some(quality),
            None if name.eq_ignore_ascii_case("identity") => plain = Some(quality),
            None => {}
        }
    }
    let liking = |coding: &Coding| said[*coding as usize].or(any).unwrap_or(0);
    // Of equals, the first: `max_by_key` would give the last.
    let best = codings.iter().copied().rev().max_by_key(liking)?;
    let quality = liking(&best);
    (quality > 0 && plain.is_none_or(|plain| plain <= quality)).then_some(best)
}

/// The weight in thousandths; 0 where it is not one (RFC 9110 §12.4.2).
fn quality(parameters: &str) -> u16 {
    if parameters.trim().is_empty() {
        return 1000;
    }
    let weight = parameters.trim().split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
    let Some((_, weight)) = weight else { return 0 };
    let (whole, part) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    let digits = part.bytes().all(|byte| byte.is_ascii_digit()) && part.len() <= 3;
    let thousandths = format!("{part:0<3}").parse::<u16>().ok().filter(|_| digits);
    match (whole, thousandths) {
        ("0", Some(thousandths)) => thousandths,
        ("1", Some(0)) => 1000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_liked_coding_is_taken_and_of_equals_the_first_of_ours() {
        use Coding::{Br, Gzip, Zstd};
        let all = [Zstd, Br, Gzip];
        let cases = [
            (&[][..], None),
            (&["gzip"], Some(Gzip)),
            (&["gzip, deflate, br"], Some(Br)),
            (&["gzip, deflate, br, zstd"], Some(Zstd)),
            (&["gzip", "br;q=0.5"], Some(Gzip)),
            (&["gzip;q=0.8, br;q=0.9"], Some(Br)),
            (&["GZIP;Q=0.8"], Some(Gzip)),
            (&["x-gzip"], Some(Gzip)),
            (&["*"], Some(Zstd)),
            (&["*;q=0.1, gzip"], Some(Gzip)),
            (&["zstd;q=0, *"], Some(Br)),
            (&["*;q=0"], None),
            (&["gzip;q=0"], None),
            (&["gzip;q=0.000"], None),
            (&["gzip;q=0.001"], Some(Gzip)),
            (&["gzip;q=1.000"], Some(Gzip)),
            (&["gzip;q=1.1"], None),
            (&["gzip;q=0.0001"], None),
            (&["gzip;q=x"], None),
            (&["gzip;q="], None),
            (&["gzip;level=9"], None),
            (&["identity, gzip;q=0.5"], None),
            (&["identity;q=0.5, gzip"], Some(Gzip)),
            (&["identity"], None),
            (&["deflate, , ;, compress"], None),
            (&[""], None),
        ];
        for (lines, want) in cases {
            let headers: HeaderMap =
                lines.iter().map(|line| (ACCEPT_ENCODING, line.parse().unwrap())).collect();
            assert_eq!(choose(&all, &headers), want, "{lines:?}");
        }
        let both: HeaderMap = [(ACCEPT_ENCODING, "gzip, br".parse().unwrap())].into_iter().collect();
        assert_eq!(choose(&[Gzip, Br], &both), Some(Gzip));
        assert_eq!(choose(&[Zstd], &both), None);
    }
}
