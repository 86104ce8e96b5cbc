"""Where the configs of the suite lie."""

from pathlib import Path

import mvbench_plugins


def suite_configs() -> Path:
    """The folder with one folder of configs per plugin: of an installed package, or of the checkout it runs from."""
    package = Path(mvbench_plugins.__file__).parent
    installed = package / '.mim' / 'configs'
    return installed if installed.is_dir() else package.parent / 'configs'
