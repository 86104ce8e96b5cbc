"""What the config of an action detector tells of its clips."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

from mmaction.registry import DATASETS
from mmengine.config import Config, ConfigDict

from mvbench_plugins.datasets.action.second_clips import second_clip_indices

_SAMPLING = 'SampleKeyFrameClip'
_DECODING = ('LoadClipFrames', 'DecodeVideoClip', 'RawFrameDecode', 'DecordDecode')
_SECONDS = 'LoadSecondClips'  # samples and decodes, from files of one second
_SECONDS_FPS = 25.0


@dataclass(frozen=True)
class ClipSettings:
    """How a model wants its clips.

    Attributes:
        clip_len: frames of a clip.
        frame_interval: distance between two of them, at the rate ``fps``.
        offset: frames at that rate by which the key frame is off element ``clip_len // 2`` of the clip.
        fps: frame rate that the test dataset counts at; None where it takes the frames as they are stored.
        dataset: config of the test dataset.
        steps: configs of the transforms behind the decoding.
    """

    clip_len: int
    frame_interval: int
    offset: int
    fps: float | None
    dataset: ConfigDict
    steps: list[ConfigDict]


def read_clip_settings(cfg: Config) -> ClipSettings:
    """Finds the settings in ``test_dataloader``; wrappers around the dataset are looked through.

    Raises:
        ValueError: the test pipeline does not choose and decode the frames of key frames, or the dataset has no type.
    """
    dataset = (cfg.get('test_dataloader') or {}).get('dataset') or {}
    while 'pipeline' not in dataset and ('dataset' in dataset or 'datasets' in dataset):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    steps = dataset.get('pipeline') or []
    types = [_type_name(step) for step in steps]
    sampling = next((step for step, name in zip(steps, types) if name in (_SAMPLING, _SECONDS)), None)
    decoding = [number for number, name in enumerate(types) if name in (*_DECODING, _SECONDS)]
    if sampling is None or not decoding:
        raise ValueError(
            f'config {getattr(cfg, "filename", None) or "given"}: test_dataloader.dataset.pipeline must have a step '
            f'{_SAMPLING} and one of {", ".join(_DECODING)}, or {_SECONDS}, found {types}. Is it the config of an '
            'action detector?'
        )
    by_seconds = _SECONDS in types
    return ClipSettings(
        clip_len=sampling['clip_len'],
        frame_interval=sampling['frame_interval'],
        offset=_seconds_offset(sampling) if by_seconds else sampling.get('offset', 0),
        fps=_SECONDS_FPS if by_seconds else _dataset_fps(dataset),
        dataset=dataset,
        steps=steps[decoding[-1] + 1 :],
    )


def _seconds_offset(step: dict) -> int:
    """The offset of a clip that is cut from the middle of the seconds around its key frame."""
    length, interval, offset = step['clip_len'], step['frame_interval'], step.get('offset')
    start = second_clip_indices(2 * length * interval, length, interval, offset)[0] - length * interval
    return int(start) + length // 2 * interval


def _type_name(step: dict) -> str:
    """Name of a transform without its scope."""
    kind = step['type']
    return kind.rsplit('.', 1)[-1] if isinstance(kind, str) else kind.__name__


def _dataset_fps(dataset: ConfigDict) -> float | None:
    """``fps`` of a dataset: from its config, or else the default of its class."""
    if 'fps' in dataset:
        return dataset['fps']
    if 'type' not in dataset:
        raise ValueError(
            f'test_dataloader.dataset of the config has neither fps nor type, found {sorted(dataset)}: the rate of its '
            'frames is unknown. Set test_dataloader as for tools/test.py'
        )
    kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    parameter = inspect.signature(kind).parameters.get('fps') if kind is not None else None
    return None if parameter is None else parameter.default
