"""Names of the actions that a model tells apart, from wherever they are known."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mvbench_plugins.datasets.action.ava_files import read_label_map

Names = Mapping[int, str] | Sequence[str]


def find_action_names(dataset_meta: Mapping[str, Any], dataset_cfg: Mapping[str, Any]) -> Names:
    """Looks for names in the checkpoint, then in the dataset of the config.

    Args:
        dataset_meta: ``dataset_meta`` of the checkpoint, may be empty.
        dataset_cfg: config of the dataset: ``metainfo.classes`` or, if that file is there, ``label_file``.

    Returns:
        Names by action id, or a plain list of names; empty, with a warning, where there are none.
    """
    for meta in (dataset_meta, dataset_cfg.get('metainfo') or {}):
        if meta.get('classes'):
            return meta['classes']
    label_file = dataset_cfg.get('label_file')
    path = Path(dataset_cfg.get('data_root') or '', label_file) if label_file else None
    if path is None or not path.is_file():
        warnings.warn('neither the checkpoint nor the config tells the names of the actions: numbers are shown')
        return {}
    names = read_label_map(path)
    chosen = dataset_cfg.get('custom_classes')
    return {column: names[label] for column, label in enumerate(chosen, 1)} if chosen else names


def column_names(names: Names, num_columns: int) -> list[str]:
    """The name of each column of a model's scores, ``'action 7'`` where none is known.

    Args:
        names: names by action id, which is the column; or a list that begins with id 0 (which is no action) or id 1.
        num_columns: columns of the scores.

    Raises:
        ValueError: a list of another length, or an id beyond the last column.
    """
    by_id = names if isinstance(names, Mapping) else dict(enumerate(names, num_columns - len(names)))
    if by_id and not {min(by_id), max(by_id)} <= set(range(num_columns)):
        raise ValueError(
            f'{len(by_id)} names of actions from id {min(by_id)} to {max(by_id)} do not fit the {num_columns - 1} '
            'actions of the model (ids from 1): give the label map that the model was trained with'
        )
    return [by_id.get(column, f'action {column}') for column in range(num_columns)]
