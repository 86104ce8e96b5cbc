"""What mmdet3d's LiDAR inferencers lack to save pictures and to take several inputs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from pathlib import Path
from typing import Any

from mmdet3d.apis import LidarDet3DInferencer, LidarSeg3DInferencer
from mmdet3d.structures import Det3DDataSample
from rich.progress import track


def let_inferencers_save_pictures() -> None:
    """Repairs ``LidarDet3DInferencer`` and ``LidarSeg3DInferencer`` of mmdet3d 1.4.0; may be called again.

    Cures three things. Pictures are not written to ``out_dir`` unless ``show`` opens a window, since the visualizer is
    not told the folder: here one that has ``pictures_in`` is. With several inputs, every batch gives (and draws) the
    results of all earlier ones once more: here each batch is a call of its own. Arrays with an ``out_dir`` end in
    ``AttributeError: ... has no attribute 'num_visualized_imgs'``: here they are numbered.
    Upstream: no issues found. Unnecessary with a release of mmdet3d after 1.4.0 (none announced).
    """
    for cls in (LidarDet3DInferencer, LidarSeg3DInferencer):
        if cls.__call__.__module__ != __name__:
            cls.__call__ = _batch_by_batch(cls.__call__)
            cls.pred2dict = _numbered(cls.pred2dict)


def _batch_by_batch(call: Callable[..., dict]) -> Callable[..., dict]:
    @wraps(call)
    def call_batches(self, inputs: Any, batch_size: int = 1, **kwargs: Any) -> dict:
        inputs = self._inputs_to_list(inputs)
        batches = [inputs[start : start + batch_size] for start in range(0, len(inputs), batch_size)]
        results: dict[str, list] = dict(predictions=[], visualization=[])
        out_dir = kwargs.get('out_dir')
        folder = Path(out_dir, 'vis_lidar') if out_dir and not kwargs.get('no_save_vis') else None
        tell = getattr(self.visualizer, 'pictures_in', nullcontext)
        show_progress, self.show_progress = self.show_progress, False
        try:
            with tell(folder):
                for batch in track(batches, description='Inference') if show_progress else batches:
                    for name, values in call(self, batch, batch_size=len(batch), **kwargs).items():
                        results[name].extend(values)
        finally:
            self.show_progress = show_progress
        return results

    call_batches.__module__ = __name__
    return call_batches


def _numbered(pred2dict: Callable[..., dict]) -> Callable[..., dict]:
    @wraps(pred2dict)
    def pred2dict_numbered(self, data_sample: Det3DDataSample, pred_out_dir: str = '') -> dict:
        self.num_visualized_imgs = self.num_predicted_frames
        self.num_predicted_frames += 1
        return pred2dict(self, data_sample, pred_out_dir)

    return pred2dict_numbered
