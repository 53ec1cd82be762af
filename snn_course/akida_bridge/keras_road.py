"""The road that BrainChip documents: a tf_keras model, quantizeml, cnn2snn.

TensorFlow takes six to ten seconds to import, and a gigabyte of memory; both functions import it late.
"""

import contextlib
import io
import re
import warnings
from typing import Any

from snn_course import UsageError
from snn_course.akida_bridge.chip import one_line, require_akida, to_frames

import torch

REFUSALS = (RuntimeError, ValueError, TypeError, NotImplementedError)
"""How quantizeml and cnn2snn say no."""

DROPPED = re.compile(r"^(\S+ \(\w+\))$", re.MULTILINE)
"""A layer in cnn2snn's warning about the end of a model: "softmax (Softmax)"."""


def quantise_keras(model: Any, x: torch.Tensor, weight_bits: int = 4, act_bits: int = 4) -> Any:
    """Quantise a float tf_keras model, with 8-bit weights in its first layer.

    The result is a tf_keras model as well: compile and fit it, and that is quantisation-aware training.

    Args:
        model: a tf_keras model with uint8 input.
        x: inputs [B, C, H, W] to calibrate with, whole numbers 0..255.
        weight_bits: 4, 2 or 1, of all layers but the first.
        act_bits: 4, 2 or 1.

    Raises:
        UsageError: other bits, or a model that does not fit the AKD1000; the message has BrainChip's words.
    """
    for name, bits in (("weight_bits", weight_bits), ("act_bits", act_bits)):
        if bits not in (1, 2, 4):
            raise UsageError(f"{name}: the AKD1000 takes 1, 2, 4, not {bits}")
    require_akida()
    import akida
    from cnn2snn import AkidaVersion, check_model_compatibility, set_akida_version
    from quantizeml.models import QuantizationParams, quantize

    params = QuantizationParams(
        activation_bits=act_bits,
        weight_bits=weight_bits,
        input_weight_bits=8,
        per_tensor_activations=True,
        input_dtype="uint8",
    )
    frames, batch = to_frames(x), min(len(x), 100)
    try:
        with set_akida_version(AkidaVersion.v1), contextlib.redirect_stdout(io.StringIO()):  # Keras' bars
            check_model_compatibility(model, device=akida.AKD1000())
            return quantize(model, qparams=params, samples=frames, num_samples=len(x), batch_size=batch)
    except REFUSALS as error:
        raise UsageError(f"the AKD1000 cannot take this Keras model: {one_line(error)}") from None


def convert_keras(model: Any) -> Any:
    """Convert a quantised tf_keras model into an akida.Model for Akida 1.0, all of it.

    cnn2snn drops layers that it does not know from the end of a model, with no more than a warning; here
    that is an error.

    Raises:
        UsageError: cnn2snn cannot convert the model, or would drop a part of it.
    """
    require_akida()
    from cnn2snn import AkidaVersion, convert, set_akida_version

    try:
        with warnings.catch_warnings(record=True) as said, set_akida_version(AkidaVersion.v1):
            warnings.simplefilter("always")
            converted = convert(model)
    except REFUSALS as error:
        raise UsageError(f"cnn2snn cannot convert this model: {one_line(error)}") from None
    _refuse_truncation(model, converted, [str(warning.message) for warning in said])
    return converted


def _refuse_truncation(model: Any, converted: Any, said: list[str]) -> None:
    """Raise UsageError when the converted model is shorter than its source."""
    dropped = [name for text in said if "is ignored" in text for name in DROPPED.findall(text)]
    kinds = ("QuantizedConv2D", "QuantizedDense", "QuantizedSeparableConv2D")
    wanted = [layer.name for layer in model.layers if type(layer).__name__ in kinds]
    found = [layer for layer in converted.layers if "weights" in layer.get_variable_names()]
    if dropped or len(found) != len(wanted):
        raise UsageError(
            f"cnn2snn converts {len(found)} layers with weights and would drop the end of the model "
            f"({', '.join(dropped) or 'not named'}): end it with a Dense layer without activation"
        )
