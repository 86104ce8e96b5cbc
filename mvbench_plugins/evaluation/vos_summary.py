"""From J and F of single frames to the figures that video object segmentation benchmarks publish."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mvbench_plugins.datasets.vos.layout import read_meta

RECALL_THR = 0.5
LAST_SHARE = 0.75  # of the frames, after which those of J_tr begin


@dataclass(frozen=True, eq=False)
class ObjectScores:
    """J and F of one object over the frames in which it is scored.

    Attributes:
        video: Name of the video.
        label: Label of the object in the annotations.
        values: ``(frames, 2)`` in order of time, at least one frame.
    """

    video: str
    label: int
    values: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Mean J and mean F, ``(2,)``."""
        return self.values.mean(axis=0)


def object_statistics(values: np.ndarray) -> tuple[float, float, float]:
    """Mean, recall and decay of a measure over the frames of an object, as the DAVIS toolkit defines them.

    Args:
        values: ``(frames,)``.

    Returns:
        The mean, the share of frames above 0.5, and the mean of the first quarter of the frames minus that of the last
        one (neighbouring quarters share a frame).
    """
    # The toolkit keeps these positions in 8 bits; ours do not wrap around in videos of more than 256 frames.
    edges = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    first, last = values[edges[0] : edges[1] + 1], values[edges[3] : edges[4] + 1]
    return float(values.mean()), float((values > RECALL_THR).mean()), float(first.mean() - last.mean())


def summarise(objects: Sequence[ObjectScores]) -> dict[str, float]:
    """Averages over objects, each of which counts alike.

    Args:
        objects: At least one.

    Returns:
        ``J&F``; ``J_mean``, ``J_recall``, ``J_decay`` and the same of F; ``J_tr``, the mean J over the last quarter of
        an object's frames (VOST); ``V``, the standard deviation of J over an object's frames (LVOS).
    """
    metrics = {'J&F': float(np.mean([one.means for one in objects]))}
    for column, name in enumerate('JF'):
        statistics = np.mean([object_statistics(one.values[:, column]) for one in objects], axis=0)
        metrics |= {f'{name}_{key}': float(value) for key, value in zip(('mean', 'recall', 'decay'), statistics)}
    regions = [one.values[:, 0] for one in objects]
    metrics['J_tr'] = float(np.mean([values[int(LAST_SHARE * len(values)) :].mean() for values in regions]))
    metrics['V'] = float(np.mean([values.std() for values in regions]))
    return metrics


def summarise_split(objects: Sequence[ObjectScores], seen: dict[tuple[str, int], bool]) -> dict[str, float]:
    """Averages over objects of seen and of unseen categories (YouTube-VOS).

    Args:
        objects: The objects.
        seen: For each ``(video, label)`` whether its category is one of the training set; objects are in it.

    Returns:
        ``Js``, ``Fs``, ``Ju``, ``Fu`` and their mean ``G``.

    Raises:
        ValueError: No object of either kind.
    """
    metrics: dict[str, float] = {}
    for suffix, kind in (('s', True), ('u', False)):
        means = [one.means for one in objects if seen[one.video, one.label] is kind]
        if not means:
            word = 'a seen' if kind else 'an unseen'
            raise ValueError(f'no scored object is of {word} category; check seen_classes, or leave out the split')
        metrics |= {f'J{suffix}': float(np.mean(means, axis=0)[0]), f'F{suffix}': float(np.mean(means, axis=0)[1])}
    return {'G': float(np.mean(list(metrics.values())))} | metrics


def check_categories(video: str, labels: Sequence[int], seen: dict[tuple[str, int], bool]) -> None:
    """Checks that the meta file has the objects of a video.

    Raises:
        ValueError: Names one that it lacks.
    """
    for label in labels:
        if (video, label) not in seen:
            raise ValueError(
                f'object {label} of video {video!r} has no category in the meta file; is meta_file the meta.json of '
                'these annotations?'
            )


def read_seen(meta_file: str | os.PathLike, seen_classes: Sequence[str]) -> dict[tuple[str, int], bool]:
    """Reads of which objects of YouTube-VOS the category is among the seen ones.

    Args:
        meta_file: ``meta.json`` with ``videos -> name -> objects -> label -> category``.
        seen_classes: Categories of the training set.

    Raises:
        FileNotFoundError: No such file.
        ValueError: A file of another layout, or none or all of its objects are of seen categories.
    """
    categories = {}
    for video, objects in read_meta(Path(meta_file)).items():
        for label, known in objects.items():
            if 'category' not in known:
                raise ValueError(
                    f"{meta_file}: object {label} of video {video!r} has no 'category'; expected the meta.json of "
                    'YouTube-VOS, or no meta_file and seen_classes for no split'
                )
            categories[video, label] = known['category']
    seen = {key: category in set(seen_classes) for key, category in categories.items()}
    if len(set(seen.values())) < 2:
        raise ValueError(
            f'{meta_file}: {sum(seen.values())} of {len(seen)} objects are of seen_classes, expected some, not all; '
            f'its categories are {sorted(set(categories.values()))}'
        )
    return seen
