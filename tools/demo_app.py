"""Opens a web page to try the models on: pictures, videos, LiDAR sweeps, six cameras of a vehicle.

Needs Gradio: pip install -r requirements/demo.txt (extra "demo"). Offered are the checkpoints in --work-dirs with the
configs beside them, and the released configs for checkpoints that are uploaded. Uploads and results are deleted when
their visitor leaves, and all of them when this program ends (Ctrl-C or SIGTERM).

The page listens on this machine only (127.0.0.1), without passwords. --host 0.0.0.0 opens it to everyone who can reach
this machine.

Examples:
    python tools/demo_app.py
    python tools/demo_app.py --work-dirs runs --device cuda:1 --port 8000 --max-upload-mb 500
"""

import argparse
import importlib.util
import logging
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if (ROOT / 'mvbench_plugins').is_dir():
    # the tools of a checkout run the checkout's own package, installed or not, and never another installed copy
    sys.path.insert(0, str(ROOT))

from mvbench_plugins.demo.sessions import Sessions  # noqa: E402


def parse_args() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--work-dirs', type=Path, default=Path('work_dirs'), help='folder of runs (default: work_dirs)')
    parser.add_argument('--device', help='cpu, cuda or cuda:N; default: cuda if there is one')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen on (default: %(default)s)')
    parser.add_argument('--port', type=int, default=7860, help='port to listen on (default: %(default)s)')
    parser.add_argument(
        '--max-upload-mb', type=int, default=200, help='largest upload in megabytes (default: %(default)s)'
    )
    args = parser.parse_args()
    if args.max_upload_mb < 1:
        parser.error(f'--max-upload-mb: found {args.max_upload_mb}, expected 1 or more')
    if not args.work_dirs.is_dir():
        print(f'warning: --work-dirs: {args.work_dirs} does not exist yet; only uploaded checkpoints can be used')
    return args


def main() -> None:
    """Serves the page until it is interrupted."""
    args = parse_args()
    if importlib.util.find_spec('gradio') is None:
        raise SystemExit(
            'error: the page needs Gradio, which is not installed. Run: pip install -r requirements/demo.txt'
        )
    logging.basicConfig(level=logging.WARNING)
    # torch and Gradio take seconds to import: not before the command line is known to be right
    from mvbench_plugins.demo.catalogue import Catalogue
    from mvbench_plugins.demo.service import DemoService

    # As Ctrl-C: the temporary files are deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with Sessions() as sessions:
            # One place to clean up. Gradio makes folders as soon as it is imported.
            os.environ['GRADIO_TEMP_DIR'] = str(sessions.root)
            from mvbench_plugins.demo.page import serve

            service = DemoService(sessions, Catalogue(args.work_dirs), args.device, args.max_upload_mb * 10**6)
            serve(service, args.host, args.port)
    except (ValueError, OSError) as error:
        raise SystemExit(f'error: {error}') from None
    except KeyboardInterrupt:
        pass


if __name__ == '__main__':
    main()
