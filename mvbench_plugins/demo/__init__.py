"""A web page to try the suite on: ``python tools/demo_app.py``. Only :mod:`~mvbench_plugins.demo.page` needs Gradio.

Whoever can open the page can send files and spend this machine's time. What they send is data, never a program:
checkpoints are read as tensors only, and always with a config that stands on this machine, since configs are Python.
"""
