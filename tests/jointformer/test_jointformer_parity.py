"""Numbers of the published implementation, at their recorded tolerance, and what other recorded cases may say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from adapters import jointformer
from cases import Case, load_case
from run import run_case

CASES = Path(__file__).resolve().parents[1] / 'parity' / 'cases' / 'jointformer'


@pytest.mark.parametrize('name', ['modules', 'infer_davis', 'infer_ytvos', 'train_main'])
def test_recorded_case(name):
    report, passed = run_case(load_case(CASES / name))
    assert passed and ' 0 left out' in report, report


def changed(name: str, options: Mapping, inputs: Mapping[str, np.ndarray]) -> Case:
    """A recorded case with other options and inputs; what was recorded of it does not belong to them any more."""
    case = load_case(CASES / name)
    case.meta['options'].update(options)
    for key, value in inputs.items():
        case.meta['inputs'][key] = dict(
            shape=list(value.shape), dtype=str(value.dtype), value=np.asarray(value).ravel().tolist()
        )
    if options.get('single_object'):
        case.meta['state_dict']['convmae.patch_embed1_memory.proj.weight']['shape'][1] = 4
    return case


def labels(frames: int, given: Mapping[int, Mapping[int, slice]], size: tuple[int, int]) -> np.ndarray:
    maps = np.zeros((frames, *size), np.uint8)
    for t, objects in given.items():
        for label, columns in objects.items():
            maps[t, 2:20, columns] = label
    return maps


def test_other_videos():
    """Another number of objects, a size that is no multiple of 16, objects that enter twice, other kinds of top-k."""
    given = {0: {4: slice(0, 10), 7: slice(12, 20)}, 2: {1: slice(25, 40)}, 3: {2: slice(42, 49)}}
    inputs = dict(
        frames=np.random.default_rng(0).standard_normal((5, 3, 23, 50)).astype(np.float32),
        labels=labels(5, given, (23, 50)),
        annotated=np.array(list(given)),
    )
    options = dict(topk_num=3, topk_range='every_frame', topk_block='half', topk_clstoken='Y', mem_every=1)
    outputs, left_out = jointformer.run(changed('infer_davis', options | dict(max_memory_frames=2), inputs))
    assert not left_out
    assert outputs['t4/object_logits'].shape == (4, 32, 64) and outputs['t4/prob'].shape == (5, 23, 50)
    assert [outputs[f't4/bank_object{k}'].tolist() for k in (1, 2, 3, 4)] == [[0, 3], [0, 3], [2, 3], [3]]
    assert outputs['t3/memory_input'].shape == (4, 5, 32, 64) and 't4/memory_input' not in outputs
    assert set(outputs['t4/index_mask'].unique().tolist()) <= {0, 4, 7, 1, 2}
    assert torch.equal(outputs['t0/index_mask'], torch.from_numpy(inputs['labels'][0]))


@pytest.mark.parametrize('stage', ['static', 'vost'])
def test_other_trainings(stage):
    """Stage 0 has one object and three frames; VOST ignores 255 and warms up earlier."""
    single = stage == 'static'
    frames, slots, size = (3, 1, (32, 48)) if single else (4, 3, (32, 48))
    given = {t: {1: slice(2 * t, 2 * t + 15)} if single else {1: slice(t, 12), 2: slice(20, 30)} for t in range(frames)}
    target = labels(frames, given, size)
    if not single:
        target[:, :, 40:] = 255
    first = np.stack([target[0] == slot for slot in range(1, slots + 1)])
    inputs = dict(
        rgb=np.random.default_rng(0).standard_normal((1, frames, 3, *size)).astype(np.float32),
        first_frame_gt=first[None, None].astype(np.uint8),
        cls_gt=target[None, :, None],
        selector=np.array([[1.0] if single else [1.0, 1.0, 0.0]], np.float32),
        num_objects=np.array([1 if single else 2]),
        token_update=np.array([1] * (frames - 2)),
        ref_frames=np.full((frames - 3, 1, 1), 1),
    )
    options = dict(num_frames=frames, single_object=single, vost_loss=not single)
    if not single:
        options.update(start_warm=4000, end_warm=13000, it=9000)
    outputs, _ = jointformer.run(changed('train_main', options, inputs))
    assert outputs[f'logits_{frames - 1}'].shape == (1, 1 + slots, *size)
    share = outputs['loss@45000/p']
    assert share == pytest.approx(0.575 if single else 0.15) and outputs['loss@0/p'] == 1.0
    losses = [value for key, value in outputs.items() if key.startswith('loss@0/') and 'loss_' in key]
    assert len(losses) == 2 * (frames - 1) and outputs['loss@0/total_loss'] == pytest.approx(float(sum(losses)))
    assert outputs['grad/convmae.patch_embed1_memory.proj.weight'].shape[1] == (4 if single else 5)
    assert np.isfinite(outputs['grad_norm']) and outputs['grad_norm'] > 0


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(include_last=False), 'include_last false, expected true'),
        (dict(flip_test=True), r"found \['flip_test'\], expected some of"),
    ],
)
def test_options_that_we_do_not_have(options, words):
    with pytest.raises(ValueError, match=f'infer_davis: "options": .*{words}'):
        jointformer.run(changed('infer_davis', options, {}))


def test_unknown_kind():
    case = load_case(CASES / 'infer_davis')
    case.meta['kind'] = 'data'
    with pytest.raises(ValueError, match="infer_davis: found kind 'data', expected one of"):
        jointformer.run(case)
