"""Checkpoints and their conversion, for all plugins: nothing is lost, and damaged files are refused by name."""

from __future__ import annotations

import importlib
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from garbage import answer, damaged_bytes, damaged_tree
from hypothesis import given, settings

from mvbench_plugins.common.checkpoint import load_blobs, load_local_checkpoint
from mvbench_plugins.common.inert_unpickler import load_inert

TOOL = Path(__file__).resolve().parents[2] / 'tools' / 'convert_checkpoint.py'
_ROI = 'roi_heads.action.feature_extractor.cycleacr_module.'
_BEV = 'pts_bbox_head.transformer.decoder.decoder_layer.'
#: A few official names and shapes of each kind of file.
OFFICIAL: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    'deqdet': (
        'deqdet',
        {
            'backbone.conv1.weight': (4, 3, 3, 3),
            'roi_head.bbox_head.0.attention.attn.in_proj_weight': (12, 4),
            'roi_head.bbox_head.0.sampling_n_mixing.sampling_offset_generator.0.weight': (6, 4),
            'roi_head.bbox_head.0.sampling_n_mixing.norm.weight': (4,),
            'roi_head.bbox_head.0.instance_interactive_conv.dynamic_layer.weight': (4, 4),
        },
    ),
    'stmixer': (
        'stmixer',
        {
            'module.backbone.s1.pathway0_stem.conv.weight': (4, 3, 1, 3, 3),
            'module.backbone.s2.pathway0_res0.branch2.a_bn.running_mean': (4,),
            'module.stm_head.init_spatial_queries.weight': (4, 8),
            'module.stm_head.decoder_stages.0.iof_tau': (4, 1),
            'module.stm_head.decoder_stages.0.fc_action.weight': (8, 4),
            'module.lateral_convs.0.weight': (4, 4, 1, 1, 1),
        },
    ),
    'cycleacr': (
        'cycleacr',
        {
            'backbone.slow.conv1.weight': (4, 3, 1, 7, 7),
            'backbone.slow.bn1.running_mean': (4,),
            'backbone.fast.Tconv1.conv.weight': (4, 4, 5, 1, 1),
            f'{_ROI}actor_dim_reduce.weight': (4, 8, 1, 1, 1),
            'roi_heads.action.predictor.cls_score.weight': (8, 4),
        },
    ),
    'evad': (
        'evad',
        {
            'backbone.patch_embed.proj.weight': (4, 3, 2, 4, 4),
            'backbone.blocks.0.norm1.weight': (4,),
            'fpn_lateral2.weight': (4, 4, 1, 1),
            'init_proposal_boxes.weight': (4, 4),
            'det_head.mask_token': (1, 1, 4),
            'det_head.s0_headseries.0.linear1.weight': (8, 4),
            'criterion.empty_weight': (2,),
        },
    ),
    'sparsebev': (
        'sparsebev',
        {
            'img_backbone.conv1.weight': (4, 3, 7, 7),
            'pts_bbox_head.init_query_bbox.weight': (4, 10),
            f'{_BEV}self_attn.attention.attn.in_proj_weight': (12, 4),
            f'{_BEV}sampling.sampling_offset.weight': (6, 4),
            f'{_BEV}sampling.sampling_offset.bias': (6,),
            f'{_BEV}reg_branch.4.weight': (10, 4),
            f'{_BEV}reg_branch.4.bias': (10,),
        },
    ),
    'link detection': (
        'link',
        {
            'backbone.conv_input.0.weight': (3, 3, 3, 5, 4),
            'neck.blocks.0.1.weight': (4, 4, 3, 3),
            'bbox_head.tasks.0.hm.3.weight': (1, 4, 3, 3),
            'bbox_head.tasks.0.dim.3.weight': (3, 4, 3, 3),
            'bbox_head.tasks.0.dim.3.bias': (3,),
            'bbox_head.tasks.0.rot.3.bias': (2,),
        },
    ),
    'link segmentation': (
        'link',
        {
            'stem.0.kernel': (27, 4, 4),
            'stage1.0.net.0.kernel': (27, 4, 4),
            'elk1.pos_weight.0.weight': (4, 3),
            'classifier.0.weight': (20, 4),
            'classifier.0.bias': (20,),
        },
    ),
    'jointformer': (
        'jointformer',
        {'convmae.blocks1.0.norm1.weight': (4,), 'decoder.pred.weight': (1, 4, 3, 3), 'convmae.norm.weight': (4,)},
    ),
    'convmae': (
        'jointformer',
        {
            'patch_embed1.proj.weight': (4, 3, 4, 4),
            'patch_embed4.weight': (4, 4),
            'blocks3.0.norm1.weight': (4,),
            'blocks3.1.norm1.weight': (4,),
            'pos_embed': (1, 4, 4),
        },
    ),
}
JUNK = (None, 'x', 7, [], {}, torch.zeros(()), torch.zeros(2), torch.zeros(7, 1), {0: torch.zeros(3)}, {'module.': 1})


def _weights(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture(scope='module')
def convert() -> Callable[..., None]:
    return runpy.run_path(str(TOOL))['convert']


def _save(path: Path, content: Any, new: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=new)
    return path


@pytest.mark.parametrize('plugin, shapes', OFFICIAL.values(), ids=OFFICIAL)
@settings(max_examples=15)
@given(data=st.data())
def test_any_part_of_a_file_converts_once_and_completely(convert, tmp_path, plugin, shapes, data):
    """Each entry is kept or named as left out; what was converted passes unchanged when it is converted again."""
    rules = importlib.import_module(f'mvbench_plugins.{plugin}.checkpoint')
    names = data.draw(st.sets(st.sampled_from(sorted(shapes)), min_size=1))
    if plugin == 'link' and 'classifier.0.weight' in shapes:
        names |= {'classifier.0.weight', 'classifier.0.bias'}  # files of LinK are told apart by these
    if 'blocks3.0.norm1.weight' in shapes:
        names |= {'blocks3.0.norm1.weight'}
    weights = {name: value for name, value in _weights(shapes).items() if name in names}
    converted, dropped = rules.convert_state_dict(weights)
    kept = {value.numel() for value in converted.values()}
    assert len(converted) + len(dropped) >= len(weights)
    assert all(value.numel() in kept for name, value in weights.items() if name not in dropped)
    again = rules.convert_state_dict(converted)
    assert again.state_dict.keys() == converted.keys() and not again.dropped
    assert all(torch.equal(again.state_dict[name].flatten(), value.flatten()) for name, value in converted.items())


@pytest.mark.parametrize('plugin, shapes', OFFICIAL.values(), ids=OFFICIAL)
def test_what_the_tool_writes_is_loaded(convert, tmp_path, plugin, shapes):
    source, written = _save(tmp_path / 'official.pth', {'state_dict': _weights(shapes)}), tmp_path / 'ours.pth'
    convert(plugin, source, written)
    expected = importlib.import_module(f'mvbench_plugins.{plugin}.checkpoint').convert_state_dict(_weights(shapes))
    loaded = load_local_checkpoint(str(written))['state_dict']
    assert loaded.keys() == expected.state_dict.keys()
    assert all(torch.equal(loaded[name], value) for name, value in expected.state_dict.items())


@pytest.mark.parametrize('plugin, shapes', OFFICIAL.values(), ids=OFFICIAL)
@settings(max_examples=50)
@given(data=st.data())
def test_damaged_files_are_converted_or_refused(convert, tmp_path, plugin, shapes, data):
    content = {'state_dict': _weights(shapes), 'meta': {'epoch': 3}, 'version': 'v0.17.1'}
    source, written = tmp_path / 'official.pth', tmp_path / 'ours.pth'
    written.unlink(missing_ok=True)
    _save(source, data.draw(damaged_tree(content, JUNK)))
    answer(lambda: convert(plugin, source, written), source)
    if written.exists():
        weights = load_local_checkpoint(str(written))['state_dict']
        assert weights and all(isinstance(value, torch.Tensor) for value in weights.values())
    loaded = answer(lambda: load_local_checkpoint(str(source)), source)
    assert loaded is None or all(isinstance(name, str) for name in loaded['state_dict'])


@pytest.mark.parametrize('new', [True, False], ids=['zip', 'legacy'])
@settings(max_examples=100)
@given(data=st.data())
def test_damaged_bytes_are_loaded_or_refused(tmp_path, new, data):
    path = _save(tmp_path / 'official.pth', {'state_dict': _weights(OFFICIAL['deqdet'][1])}, new)
    path.write_bytes(data.draw(damaged_bytes(path.read_bytes())))
    answer(lambda: load_local_checkpoint(str(path)), path)
    answer(lambda: load_inert(path), path)


BLOBS = {'blobs': {'conv1_w': np.zeros((2, 3), np.float32), 'res2_0_branch2a_bn_s': np.ones(4, '>f4'), 'lr': 0.1}}
BLOB_JUNK = (None, 'x', [], {}, np.array(['x']), np.array([None]), np.zeros(2, np.uint16), np.zeros((), 'c16'))


@given(st.one_of(damaged_tree(BLOBS, BLOB_JUNK).map(pickle.dumps), damaged_bytes(pickle.dumps(BLOBS))))
def test_damaged_blobs_are_loaded_or_refused(tmp_path, content):
    path = tmp_path / 'SLOWFAST.pkl'
    path.write_bytes(content)
    weights = answer(lambda: load_blobs(path), path)
    assert weights is None or all(isinstance(value, torch.Tensor) for value in weights.values())
