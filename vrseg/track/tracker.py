"""Boxes of one frame after the other become objects with identities.

The way of association is that of Zhang et al., "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"
(2022): boxes with high scores first, then those with low scores for objects that are still without one. What differs:
all times are seconds, not frames, so that it holds at any frame rate and over dropped frames; and no score is too low
to begin an object, it only takes more sightings, since what counts as seen is the model's threshold to say.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from vrseg.track.association import best_pairs, overlap
from vrseg.track.motion import Motion, at_rest, centres_and_sizes, corrected, joined, predicted

if TYPE_CHECKING:
    import numpy.typing as npt

    from vrseg.frame import I64, Detections
    from vrseg.track.motion import F64

    Bools = npt.NDArray[np.bool_]

LOST_S = 2.0
"""An object that is not seen for longer is given up; as long as somebody walks behind a pillar."""
_HIGH_SCORE = 0.5
# An object has an identity once its scores add up to more: two good sightings, or three that are so-so.
_SURE = 1.0
# What is not sure yet, and who may take a box of a low score, must have been seen within this time.
_JUST_NOW_S = 0.3
# Overlap that pairs must have: with a high score; with a low one, which is often half an object; to become sure.
_LEAST_HIGH = 0.2
_LEAST_LOW = 0.4
_LEAST_UNSURE = 0.25
# Margin around boxes, in standard deviations of where an object may be; and at most, in shares of its size.
_MARGIN_DEVIATIONS = 1.0
_LARGEST_MARGIN = 0.5


def _no_ids() -> I64:
    return np.zeros(0, np.int64)


def _no_numbers() -> F64:
    return np.zeros(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tracks:
    """The objects of one stream that are held at a moment, seen or lost, and the next identity. N objects."""

    ids: I64 = field(default_factory=_no_ids)
    """(N,): from 1; 0 while it is not sure that there is something."""
    class_ids: I64 = field(default_factory=_no_ids)
    """(N,): an object never changes its class."""
    motion: Motion = field(default_factory=lambda: at_rest(np.zeros((0, 4))))
    evidence: F64 = field(default_factory=_no_numbers, repr=False)
    """(N,): sum of the scores with which it was seen."""
    seen_s: F64 = field(default_factory=_no_numbers)
    """(N,): when it was last seen, on the clock of `time_s`."""
    next_id: int = 1
    time_s: float = -np.inf
    """Presentation time of the last frame."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def held(self) -> frozenset[int]:
        """Identities that are not given up."""
        return frozenset(self.ids[self.ids > 0].tolist())


def track(tracks: Tracks, found: Detections, time_s: float) -> tuple[Tracks, Detections]:
    """Tell who the boxes of a frame are.

    The order of the boxes does not matter. Where time goes back, as when a file starts again, all objects are given up.

    Args:
        tracks: what the frame before left; `Tracks()` for the first.
        found: boxes of the frame.
        time_s: its presentation time.

    Returns:
        What the next frame needs, and the boxes with `track_ids`.
    """
    order = np.lexsort((*found.boxes_xyxy.T, found.class_ids, -found.scores))
    boxes, scores = centres_and_sizes(found.boxes_xyxy[order]), found.scores[order].astype(np.float64)
    class_ids = found.class_ids[order]
    tracks = _at(tracks, time_s)
    track_of = _associated(tracks, boxes, scores, class_ids)
    tracks = _seen(tracks, track_of, boxes, scores)
    tracks = _begun(tracks, boxes, scores, class_ids, track_of < 0)
    # New objects are the last ones, in the order of their boxes.
    track_of[track_of < 0] = np.arange(len(tracks) - np.count_nonzero(track_of < 0), len(tracks))
    ids = np.zeros_like(class_ids)
    ids[order] = tracks.ids[track_of]
    return _without_ghosts(tracks), replace(found, track_ids=ids)


def forget(tracks: Tracks) -> Tracks:
    """Give all objects up; identities go on where they were."""
    return Tracks(next_id=tracks.next_id)


def _at(tracks: Tracks, time_s: float) -> Tracks:
    """Let time pass: objects move on, and those that were lost for too long are gone."""
    if time_s < tracks.time_s:
        tracks = forget(tracks)
    held = _chosen(tracks, time_s - tracks.seen_s <= LOST_S)
    passed_s = time_s - tracks.time_s if len(held) else 0.0
    return replace(held, motion=predicted(held.motion, passed_s), time_s=time_s)


def _associated(tracks: Tracks, boxes: F64, scores: F64, class_ids: I64) -> I64:
    """Find the object of each box (M,); -1 where there is none."""
    track_of = np.full(len(boxes), -1, np.int64)
    if not len(tracks) or not len(boxes):
        return track_of
    gap_s = tracks.time_s - tracks.seen_s
    places, same_class = tracks.motion.position, tracks.class_ids[:, None] == class_ids
    doubt = np.sqrt(tracks.motion.position_variance[:, :2]) / places[:, 2:]
    as_they_are = np.zeros_like(doubt)
    with_margin = np.minimum(_MARGIN_DEVIATIONS * doubt, _LARGEST_MARGIN)
    sure, high, recent = tracks.ids > 0, scores >= _HIGH_SCORE, gap_s <= _JUST_NOW_S
    free = np.ones(len(tracks), bool)
    anybody = np.ones(len(boxes), bool)
    for objects, sightings, margin, least in (
        (sure, high, as_they_are, _LEAST_HIGH),
        (sure & recent, ~high, as_they_are, _LEAST_LOW),
        (~sure, anybody, as_they_are, _LEAST_UNSURE),
        (sure, high, with_margin, _LEAST_HIGH),
        (~sure, anybody, with_margin, _LEAST_UNSURE),
    ):
        which = np.flatnonzero(objects & free)
        where = np.flatnonzero(sightings & (track_of < 0))
        if not (len(which) and len(where)):
            continue
        likeness = overlap(places[which], boxes[where], margin[which]) * same_class[np.ix_(which, where)]
        rows, columns = best_pairs(likeness, least)
        rows, columns = which[rows], where[columns]
        track_of[columns] = rows
        free[rows] = False
    return track_of


def _seen(tracks: Tracks, track_of: I64, boxes: F64, scores: F64) -> Tracks:
    """Move objects to the boxes that are theirs; who was seen often enough gets an identity."""
    which = np.flatnonzero(track_of >= 0)
    rows = track_of[which]
    evidence, seen_s, ids = tracks.evidence.copy(), tracks.seen_s.copy(), tracks.ids.copy()
    evidence[rows] += scores[which]
    seen_s[rows] = tracks.time_s
    sure = rows[(ids[rows] == 0) & (evidence[rows] > _SURE)]
    ids[sure] = tracks.next_id + np.arange(len(sure))
    return replace(
        tracks,
        ids=ids,
        motion=corrected(tracks.motion, rows, boxes[which]),
        evidence=evidence,
        seen_s=seen_s,
        next_id=tracks.next_id + len(sure),
    )


def _begun(tracks: Tracks, boxes: F64, scores: F64, class_ids: I64, new: Bools) -> Tracks:
    count = int(np.count_nonzero(new))
    return replace(
        tracks,
        ids=np.concatenate((tracks.ids, np.zeros(count, np.int64))),
        class_ids=np.concatenate((tracks.class_ids, class_ids[new])),
        motion=joined(tracks.motion, at_rest(boxes[new])),
        evidence=np.concatenate((tracks.evidence, scores[new])),
        seen_s=np.concatenate((tracks.seen_s, np.full(count, tracks.time_s))),
    )


def _without_ghosts(tracks: Tracks) -> Tracks:
    """Let go of what never became sure."""
    return _chosen(tracks, (tracks.ids > 0) | (tracks.time_s - tracks.seen_s <= _JUST_NOW_S))


def _chosen(tracks: Tracks, rows: Bools) -> Tracks:
    return replace(
        tracks,
        ids=tracks.ids[rows],
        class_ids=tracks.class_ids[rows],
        motion=tracks.motion[rows],
        evidence=tracks.evidence[rows],
        seen_s=tracks.seen_s[rows],
    )
