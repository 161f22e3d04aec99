"""Keeps libraries from reporting to their makers: textgen sends nothing.

A library reads the environment when it is imported, so whatever imports one of these first turns its reports off.
"""

from __future__ import annotations

import os

ONNX_RUNTIME = "ORT_DISABLE_TELEMETRY"  # else its import sends events and keeps a device id in the home folder
HUGGING_FACE = "HF_HUB_DISABLE_TELEMETRY"  # else requests name the versions of other libraries of this machine
VARIABLES = {"onnxruntime": ONNX_RUNTIME, "huggingface_hub": HUGGING_FACE}  # by the name of the module


def turn_off(variable: str) -> None:
    """Turns off the reports of a library, in this process and its children, unless the user has decided about them.

    Has no effect once the library is imported.

    Args:
        variable: The environment variable of the library.
    """
    if not os.environ.get(variable):
        os.environ[variable] = "1"
