//! Shaping: what is made of messages between the client and the group that its request goes to.

mod accept;
mod compress;
mod encoder;
mod fields;
mod mirror;

use bytes::Bytes;
use http_body_util::Either;
use hyper::Response;
use hyper::body::Body;

pub(super) use compress::Offer;
pub(super) use encoder::Compressed;
pub(super) use fields::change;
pub(super) use mirror::Mirror;

use super::counters::FrontCounters;
use super::slots::{Slot, Slots};
use crate::l7::spec::Coding;
use crate::l7::words::words;

/// How many bodies are compressed at once, over all workers; any other one is passed on as it is. Each takes about a megabyte.
pub(super) const COMPRESSED: usize = 512;

words! {
    /// What was made of a request or its answer, beside passing it on.
    Shaped {
        /// Its client was sent elsewhere.
        Redirected = "redirected",
        /// It was answered out of the configuration.
        Responded = "responded",
        /// Its client stayed with its backend.
        StickyKept = "sticky_kept",
        /// Its client was given a backend to stay with.
        StickyNew = "sticky_new",
        /// Its client's backend could not answer; it stays with another one.
        StickyMoved = "sticky_moved",
        /// The answer was compressed by gzip.
        Gzip = "compressed_gzip",
        /// The answer was compressed by Brotli.
        Br = "compressed_br",
        /// The answer was compressed by Zstandard.
        Zstd = "compressed_zstd",
        /// The answer was not compressed, because as many were as may be.
        CompressFull = "compress_full",
        /// A copy went to the mirror's group and was answered.
        Mirrored = "mirrored",
        /// No copy was made, because as many were under way as may be.
        MirrorFull = "mirror_full",
        /// No copy was sent, because its body is too large.
        MirrorTooLarge = "mirror_too_large",
        /// No copy was sent, because the request's body broke off or was not wanted.
        MirrorCutOff = "mirror_cut_off",
        /// A copy was sent, and not answered to the end.
        MirrorFailed = "mirror_failed",
    }
}

/// The body of an answer: compressed where the client takes that and the answer allows it.
pub(super) fn compressed<B>(
    mut response: Response<Option<B>>,
    offer: Option<Offer<'_>>,
    slots: &Slots,
    counters: &FrontCounters,
) -> Response<Option<Either<B, Compressed<B, Slot>>>>
where
    B: Body<Data = Bytes>,
{
    let empty = response.body().as_ref().is_none_or(Body::is_end_stream);
    // Of an answer to HEAD only the head is there, and that is as it would be for GET.
    let offer = offer.filter(|offer| offer.head || !empty);
    let room = || {
        let slot = slots.take();
        if slot.is_none() {
            counters.count_shaped(Shaped::CompressFull);
        }
        slot
    };
    let status = response.status();
    let taken = offer.and_then(|offer| offer.take(status, response.headers_mut(), room));
    response.map(|body| match (body, taken) {
        (Some(body), Some((coding, slot))) if !empty => {
            counters.count_shaped(match coding {
                Coding::Gzip => Shaped::Gzip,
                Coding::Br => Shaped::Br,
                Coding::Zstd => Shaped::Zstd,
            });
            Some(Either::Right(Compressed::new(body, coding, slot)))
        }
        (body, _) => body.map(Either::Left),
    })
}
