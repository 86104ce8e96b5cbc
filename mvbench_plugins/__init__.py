"""OpenMMLab plugins. Importing the suite costs nothing; import the plugin that you use."""

__version__ = '0.1.0'
