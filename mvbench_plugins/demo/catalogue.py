"""Which configs and checkpoints the page offers: those of the suite, and those of the runs on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from mvbench_plugins.common.suite_configs import suite_configs
from mvbench_plugins.demo.tasks import Task

_PLUGIN = re.compile(r"['\"]mvbench_plugins\.(\w+)['\"]")


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights of a run on this machine.

    Attributes:
        path: the file.
        config: name of the config that the runner has left beside it, None without.
    """

    path: Path
    config: str | None


class Catalogue:
    """Names that visitors choose from; whatever is not in it cannot be chosen.

    Args:
        work_dirs: folder with the folders of runs; it is read anew at each question, as trainings go on meanwhile.
    """

    def __init__(self, work_dirs: Path) -> None:
        self.work_dirs = work_dirs

    def configs(self, task: Task) -> dict[str, Path]:
        """Configs for a task by name: those of runs first, newest first, then those of the suite."""
        runs = self._run_configs()
        found = {str(path.relative_to(self.work_dirs)): path for path in runs if _suits(_text(path), task)}
        for plugin in task.plugins:
            paths = sorted((suite_configs() / plugin).glob('*.py'))
            found |= {path.stem: path for path in paths if re.match(task.names, path.stem)}
        return found

    def checkpoints(self, task: Task) -> dict[str, Checkpoint]:
        """Checkpoints for a task by name, newest first; those without a config beside them come last, for all tasks."""
        found: dict[str, Checkpoint] = {}
        for path in _newest_first(self.work_dirs.rglob('*.pth')):
            texts = {config: _text(config) for config in sorted(path.parent.glob('*.py'))}
            beside = [config for config, text in texts.items() if _plugins(text)]
            suitable = [config for config in beside if _suits(texts[config], task)]
            if suitable or not beside:
                config = str(suitable[0].relative_to(self.work_dirs)) if suitable else None
                found[str(path.relative_to(self.work_dirs))] = Checkpoint(path, config)
        return dict(sorted(found.items(), key=lambda item: item[1].config is None))

    def _run_configs(self) -> list[Path]:
        folders = {path.parent for path in self.work_dirs.rglob('*.pth')}
        return _newest_first(config for folder in folders for config in folder.glob('*.py'))


def _text(config: Path) -> str:
    return config.read_text(encoding='utf-8', errors='replace')


def _plugins(text: str) -> set[str]:
    """The plugins that a config as runners dump it imports; it is read, not run."""
    return set(_PLUGIN.findall(text))


def _suits(text: str, task: Task) -> bool:
    return bool(_plugins(text) & set(task.plugins)) and re.search(task.models, text) is not None


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    found = [(-time, path) for path in paths if (time := _modified(path)) is not None]
    return [path for _, path in sorted(found)]


def _modified(path: Path) -> float | None:
    """When a file was written; None for a folder, and for a checkpoint that its training has just deleted."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_mtime if S_ISREG(status.st_mode) else None
