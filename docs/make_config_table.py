"""Writes docs/configs.md, and the summary of all configs in README.md, from the metafiles.

    python docs/make_config_table.py            writes both
    python docs/make_config_table.py --check    only says whether they are what the metafiles say (exit status 1 if not)

It reads no model and runs no config: what stands in the tables stands in ``configs/*/metafile.yml``. A column for which
no metafile has a value is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGE = 'docs/configs.md'
README = 'README.md'
BEGIN = '<!-- begin: written by docs/make_config_table.py -->'
END = '<!-- end: written by docs/make_config_table.py -->'

INTRODUCTION = f"""# All configs

Written by `python docs/{Path(__file__).name}` from the metafiles (`configs/*/metafile.yml`): change those, then run it.
Results are the published ones of the official weights; nothing here was trained anew. Parameters are counted from the
models. FLOPs are multiply-adds of one sample of the size below them, of large models counted on tensors without values;
latency is how long one thread of a server CPU worked for it, once, batch 1, float32, with random weights; days apart it
differs by a tenth. LiDAR models were given a made-up scan. A dash: not published, not measured or not there. The
command for both, here for an input of 256x320:

```bash
python tools/benchmark.py CONFIG --shape 256 320 --threads 1 --processor-time --warmup 1 --iters 1
```

More of how fast the models are, and what bounds them: [benchmarks.md](benchmarks.md).

The last column turns an official file into one that the config loads strictly: entries of no use here are named and
left out, and nothing is written unless the rest fits exactly. `OFFICIAL_FILE` is the file as downloaded. Most files
also load as they are; the plugin's README says which. What their licences allow: [licences.md](licences.md).
"""


@dataclass(frozen=True)
class Entry:
    """One model of a metafile.

    ``results`` holds (data set, ((metric, value), ...)); the metrics are empty where nothing was published.
    """

    plugin: str
    collection: str
    name: str
    task: str
    results: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    metadata: dict[str, Any]
    weights: str

    @property
    def has_official_file(self) -> bool:
        """Whether an official file of its own exists, not that of another config."""
        return not self.weights.startswith(('no ', 'take those of '))

    @property
    def official_file(self) -> str:
        """Name of the official file, or a word that stands for it."""
        return PurePosixPath(self.weights).name if '://' in self.weights.split()[0] else 'OFFICIAL_FILE'


def read_entries(root: Path) -> list[Entry]:
    """Reads all metafiles that model-index.yml imports, in its order.

    Raises:
        ValueError: a file cannot be parsed, lacks a field, or does not go with the configs beside it.
    """
    index = root / 'model-index.yml'
    listed = _mapping(index).get('Import', [])
    found = {str(path.relative_to(root)) for path in root.glob('configs/*/metafile.yml')}
    if set(listed) != found:
        raise ValueError(
            f'{index}: Import differs from the metafiles in configs/: {sorted(set(listed) ^ found)}. '
            'List every metafile, and no other file'
        )
    return [entry for metafile in listed for entry in _read_metafile(root, root / metafile)]


def further_configs(root: Path, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """Configs without an entry, and the first sentence of the comment that each begins with: what it is for.

    Raises:
        ValueError: such a config does not begin with a comment.
    """
    known = {f'configs/{entry.plugin}/{entry.name}.py' for entry in entries}
    others = []
    for path in sorted(root.glob('configs/*/*.py')):
        name = str(path.relative_to(root))
        if name in known:
            continue
        lines = path.read_text(encoding='utf-8').splitlines()
        comment = ' '.join(line.removeprefix('# ') for line in takewhile(lambda line: line.startswith('# '), lines))
        if not comment:
            raise ValueError(
                f'{path}: no entry in {path.parent.name}/metafile.yml, and line 1 is {"".join(lines[:1])!r}. Expected '
                'an entry, or a comment in line 1 that says what the config is for'
            )
        others.append((name, comment.partition('. ')[0].rstrip('.')))
    return others


def make_page(root: Path) -> str:
    """The text of docs/configs.md."""
    entries = read_entries(root)
    columns: list[tuple[str, Callable[[Entry], str]]] = [
        ('config', lambda entry: f'[{entry.name}](../configs/{entry.plugin}/{entry.name}.py)'),
        ('task', lambda entry: entry.task),
        ('data set', lambda entry: '<br>'.join(dataset for dataset, _ in entry.results)),
        ('published', lambda entry: '<br>'.join(_metrics(metrics) for _, metrics in entry.results)),
        ('parameters', lambda entry: _scaled(entry.metadata.get('Parameters'), 1e6, 'M')),
        ('FLOPs', lambda entry: _flops(entry.metadata)),
        ('latency', lambda entry: _latency(entry.metadata.get('inference time (ms/im)', []))),
        ('official checkpoint', _checkpoint),
        ('conversion', lambda entry: f'`{_command(entry)}`' if entry.has_official_file else ''),
    ]
    rows = [[cell(entry) for _, cell in columns] for entry in entries]
    used = [index for index in range(len(columns)) if any(row[index] for row in rows)]
    table = _table([columns[index][0] for index in used], [[row[index] or '-' for index in used] for row in rows])

    others = [[f'[{Path(name).stem}](../{name})', text] for name, text in further_configs(root, entries)]
    further = '\n## Further configs\n\n' + _table(['config', 'what it is for'], others) if others else ''
    return f'{INTRODUCTION}\n{table}{further}'


def make_summary(root: Path) -> str:
    """The part of README.md between the two marks: one row per plugin."""
    entries = read_entries(root)
    rows = []
    for plugin in dict.fromkeys(entry.plugin for entry in entries):
        own = [entry for entry in entries if entry.plugin == plugin]
        best: dict[str, tuple[str, float]] = {}
        for dataset, metrics in (result for entry in own for result in entry.results):
            if metrics and (dataset not in best or metrics[0][1] > best[dataset][1]):
                best[dataset] = metrics[0]
        rows.append(
            [
                f'[{own[0].collection}](configs/{plugin}/README.md)',
                str(len(own)),
                str(sum(entry.has_official_file for entry in own)),
                '; '.join(f'{dataset}: {_metrics([metric])}' for dataset, metric in best.items()) or 'none',
            ]
        )
    head = ['plugin', 'configs', 'with an official checkpoint', 'best published result per data set']
    return _table(head, rows)


def replaced_summary(readme: Path, summary: str) -> str:
    """The text of README.md with ``summary`` between the two marks.

    Raises:
        ValueError: the marks are not there exactly once, in order.
    """
    text = readme.read_text(encoding='utf-8')
    before, begin, rest = text.partition(BEGIN)
    between, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f'{readme}: expected the lines {BEGIN!r} and {END!r} once each, in this order')
    return f'{before}{BEGIN}\n{summary}{END}{after}'


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from None
    if not isinstance(content, dict):
        raise ValueError(f'{path} holds a {type(content).__name__}, expected a mapping')
    return content


def _read_metafile(root: Path, path: Path) -> list[Entry]:
    content = _mapping(path)
    collections = {one['Name']: one for one in content.get('Collections', [])}
    models = content.get('Models', [])
    tasks: dict[str, set[str]] = {}
    for model in models:
        tasks.setdefault(model.get('In Collection'), set()).update(one['Task'] for one in model.get('Results', []))
    entries: list[Entry] = []
    for number, model in enumerate(models, 1):
        place = f'{path}: model {number} ({model.get("Name", "without a name")})'
        missing = [field for field in ('Name', 'In Collection', 'Config', 'Weights') if not model.get(field)]
        if missing:
            raise ValueError(f'{place} lacks {", ".join(missing)}')
        collection = collections.get(model['In Collection'])
        if collection is None:
            raise ValueError(f'{place}: In Collection is {model["In Collection"]!r}, expected one of {[*collections]}')
        expected = f'configs/{path.parent.name}/{model["Name"]}.py'
        if model['Config'] != expected or not (root / expected).is_file():
            raise ValueError(f'{place}: Config is {model["Config"]!r}, expected the file {expected}')
        if any(entry.name == model['Name'] for entry in entries):
            raise ValueError(f'{place} is listed twice')
        metadata = {**collection.get('Metadata', {}), **model.get('Metadata', {})}
        if ('FLOPs' in metadata) != ('FLOPs Input' in metadata):
            raise ValueError(f'{place}: expected FLOPs with FLOPs Input, the size they were counted for, or neither')
        task = metadata.get('Task') or ' / '.join(dict.fromkeys(one['Task'] for one in model.get('Results', [])))
        if not task and len(tasks[model['In Collection']]) == 1:
            (task,) = tasks[model['In Collection']]
        if not task:
            raise ValueError(
                f'{place} names no task. Add Results, or `Task` in Metadata of the model or its collection'
            )
        results = tuple(_result(place, one) for one in model.get('Results', []))
        if not results:
            trained = metadata.get('Training Data')
            if not isinstance(trained, (str, list)):
                raise ValueError(f'{place} names no data set. Add Results, or `Training Data` in Metadata')
            results = ((trained if isinstance(trained, str) else ', '.join(trained), ()),)
        entries.append(
            Entry(path.parent.name, model['In Collection'], model['Name'], task, results, metadata, model['Weights'])
        )
    return entries


def _result(place: str, result: dict[str, Any]) -> tuple[str, tuple[tuple[str, float], ...]]:
    dataset, metrics = result.get('Dataset'), result.get('Metrics')
    if not dataset or not isinstance(metrics, dict) or not all(isinstance(v, (int, float)) for v in metrics.values()):
        raise ValueError(f'{place}: expected Results with Dataset and Metrics (name: number), found {result}')
    return dataset, tuple(metrics.items())


def _metrics(metrics: Sequence[tuple[str, float]]) -> str:
    return ', '.join(f'{name} {value}' for name, value in metrics)


def _scaled(value: float | None, unit: float, letter: str) -> str:
    return '' if value is None else f'{value / unit:.1f} {letter}'


def _flops(metadata: dict[str, Any]) -> str:
    return _scaled(metadata.get('FLOPs'), 1e9, 'G') + (f'<br>{metadata["FLOPs Input"]}' if 'FLOPs' in metadata else '')


def _latency(times: Sequence[dict[str, Any]]) -> str:
    return '<br>'.join(f'{time["value"]} ms ({time["hardware"]})' for time in times)


def _checkpoint(entry: Entry) -> str:
    if '://' in entry.weights.split()[0]:
        return f'[{entry.official_file}]({entry.weights})'
    return entry.weights.partition(';')[0]  # what follows is advice for the error message of `mim download`


def _command(entry: Entry) -> str:
    return (
        f'python tools/convert_checkpoint.py {entry.plugin} {entry.official_file} checkpoints/{entry.name}.pth '
        f'--config configs/{entry.plugin}/{entry.name}.py'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return ''.join('| ' + ' | '.join(cells) + ' |\n' for cells in lines)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Command line entry; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--check', action='store_true', help='write nothing; exit status 1 if something would change')
    args = parser.parse_args(arguments)
    try:
        texts = {PAGE: make_page(root), README: replaced_summary(root / README, make_summary(root))}
    except (OSError, ValueError) as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    status = 0
    for name, text in texts.items():
        path = root / name
        if path.is_file() and path.read_text(encoding='utf-8') == text:
            continue
        if args.check:
            print(
                f'error: {path} is not what the metafiles say. Run: python docs/make_config_table.py', file=sys.stderr
            )
            status = 1
        else:
            path.write_text(text, encoding='utf-8')
            print(f'wrote {path}')
    return status


if __name__ == '__main__':
    sys.exit(main())
