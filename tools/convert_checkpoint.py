"""Turn an officially released checkpoint into one that this suite's configs load strictly.

    python tools/convert_checkpoint.py PLUGIN SRC DST [--config CONFIG]

Only tensors and plain containers are built from SRC; objects of any other class are replaced by inert placeholders, and
named. With --config the result is compared with the config's model, and nothing is written unless it fits exactly.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

import mvbench_plugins  # noqa: E402
from mvbench_plugins.common.checkpoint import (  # noqa: E402
    convert_named,
    find_state_dict,
    load_blobs,
    strict_mismatches,
)
from mvbench_plugins.common.inert_unpickler import load_inert  # noqa: E402

PLUGINS = sorted(
    path.parent.name
    for path in Path(mvbench_plugins.__file__).parent.glob('*/checkpoint.py')
    if path.parent.name != 'common'
)


def convert(plugin: str, source: Path, destination: Path, config: Path | None = None) -> None:
    """Convert one file and report what was done.

    Args:
        plugin: name of the plugin package whose rules apply.
        source: official checkpoint.
        destination: file to write.
        config: config whose model must load the result strictly.

    Raises:
        FileNotFoundError: ``source`` or ``config`` does not exist.
        ValueError: the file holds no weights, or does not fit the config; nothing is written.
    """
    if config is not None and not config.is_file():
        raise FileNotFoundError(f'config {config} does not exist')
    replaced: dict[str, int] = {}
    if source.suffix == '.pkl':
        content = dict(model=load_blobs(source))
    else:
        content, replaced = load_inert(source)
    if not isinstance(content, dict):
        raise ValueError(f'{source} holds a {type(content).__name__}, expected a dict with the weights')
    try:
        weights = find_state_dict(content)
    except ValueError as error:
        raise ValueError(f'{source}: {error}') from None
    rules = importlib.import_module(f'mvbench_plugins.{plugin}.checkpoint')
    converted, dropped = convert_named(rules.convert_state_dict, weights, source)
    if hasattr(rules, 'convert_version'):
        # Conventions that the weights were trained with, and that only this entry beside them tells.
        try:
            converted = rules.convert_version(converted, content.get('version'))
        except (IndexError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f'{source}: {error}') from None
    print(f'{source}: {len(weights)} entries, {len(converted)} kept, {len(dropped)} without use here')
    for key in sorted(dropped):
        print(f'  left out   {key} {list(dropped[key].shape)}')
    for name, count in sorted(replaced.items()):
        print(f'  not built  {name} ({count}x)')
    if 'version' in content:
        print(f'  version    {content["version"]}')
    if config is not None:
        model, part = _build(config), ''
        if hasattr(rules, 'fit_model'):
            # What a file of an earlier stage lacks by design, and only the config tells.
            converted = rules.fit_model(converted, model)
        weights = converted
        backbone = getattr(rules, 'BACKBONE', 'backbone.')
        if all(key.startswith(backbone) for key in converted):
            # A pretrained backbone: what it lacks, such as a norm it was trained without, keeps its initial values.
            model, part = model.get_submodule(backbone.rstrip('.')), ' as its backbone'
            weights = {key.removeprefix(backbone): value for key, value in converted.items()}
        mismatches = strict_mismatches(model, weights)
        if part:
            missing = [line for line in mismatches if line.startswith('missing') and 'num_batches_tracked' not in line]
            mismatches = [line for line in mismatches if not line.startswith('missing')]
            print(''.join(f'  {line}, keeps its initial values\n' for line in missing), end='')
            if len(missing) * 2 > len(model.state_dict()):
                mismatches += missing
        if mismatches:
            listed = '\n  '.join(mismatches)
            raise ValueError(f'{source} does not fit {config}; nothing was written:\n  {listed}')
        print(f'  {"fits" if part else "loads strictly into"} {config}{part}')
    destination.parent.mkdir(parents=True, exist_ok=True)
    meta = dict(converted_from=source.name, plugin=plugin)
    dataset_meta = _plain(content.get('meta', {})).get('dataset_meta')
    if dataset_meta:
        meta['dataset_meta'] = dataset_meta
    unfinished = destination.with_name(destination.name + '.part')
    torch.save(dict(meta=meta, state_dict=converted), unfinished)
    unfinished.replace(destination)
    print(f'wrote {destination}')


def _build(config: Path) -> torch.nn.Module:
    cfg = Config.fromfile(config)
    init_default_scope(cfg.default_scope)
    return MODELS.build(cfg.model)


def _plain(value: object) -> dict:
    """The entries of a mapping that consist of plain values; what a placeholder took part in is left behind."""

    def plain(item: object) -> bool:
        if isinstance(item, dict):
            return all(map(plain, item.values()))
        if isinstance(item, (list, tuple)):
            return all(map(plain, item))
        return item is None or isinstance(item, (str, int, float))

    return {key: item for key, item in value.items() if plain(item)} if isinstance(value, dict) else {}


def main() -> int:
    """Command line entry; the exit status is 1 when nothing was written."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('plugin', choices=PLUGINS)
    parser.add_argument('source', type=Path, metavar='SRC')
    parser.add_argument('destination', type=Path, metavar='DST')
    parser.add_argument('--config', type=Path, help='config whose model the result must fit exactly')
    args = parser.parse_args()
    try:
        convert(args.plugin, args.source, args.destination, args.config)
    except (ValueError, FileNotFoundError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
