"""Imports kafka-python, which reads its schemas by a deprecated function, before warnings are errors."""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "(read|open)_text is deprecated", DeprecationWarning)
    import kafka  # noqa: F401
