"""From a PyTorch or Keras network to BrainChip's AKD1000, or to its simulator where there is no card.

Two roads lead to one ``akida.Model``. The first needs no TensorFlow:

    net = QuantNet([InputConv(32, stride=2), Conv(64, stride=2), Dense(10, act_bits=None)], (1, 28, 28))
    ...train; net.calibrate(images); train on...
    model = to_akida(net)                          # output potentials equal net.integers(images), exactly

The second is the one that BrainChip documents:

    model = convert_keras(quantise_keras(keras_model, images, weight_bits=4, act_bits=4))

From here on they are the same:

    found = report(model, images)                  # maps on a card, else on the virtual AKD1000
    print(found.text())
    save(model, path); model = load(path)

Inputs are whole numbers [B, C, H, W]. ``backend()`` says once what runs: "hardware", "simulator" or "absent".
akida and TensorFlow are imported by the functions that need them, not with this package.
"""

from snn_course.akida_bridge.chip import (
    Mapping,
    load,
    map_model,
    potentials,
    predict,
    save,
    to_akida,
)
from snn_course.akida_bridge.drawing import draw_mesh
from snn_course.akida_bridge.from_ann import to_quant_net
from snn_course.akida_bridge.integers import IntLayer, IntNet, akida_activation, if_count
from snn_course.akida_bridge.keras_road import convert_keras, quantise_keras
from snn_course.akida_bridge.measure import (
    PUBLISHED,
    Energy,
    Latency,
    LayerEvents,
    Report,
    energy,
    events_per_layer,
    latency,
    report,
    unmeasured,
)
from snn_course.akida_bridge.modules import connections
from snn_course.akida_bridge.network import QuantNet
from snn_course.akida_bridge.specs import Conv, Dense, InputConv, InputData, Spec, macs
from snn_course.akida_bridge.trial import NOT_MEASURED, backend, card, check
from snn_course.networks.quantisers import clip_floor

__all__ = [
    "NOT_MEASURED",
    "PUBLISHED",
    "Conv",
    "Dense",
    "Energy",
    "InputConv",
    "InputData",
    "IntLayer",
    "IntNet",
    "Latency",
    "LayerEvents",
    "Mapping",
    "QuantNet",
    "Report",
    "Spec",
    "akida_activation",
    "backend",
    "card",
    "check",
    "clip_floor",
    "connections",
    "convert_keras",
    "draw_mesh",
    "energy",
    "events_per_layer",
    "if_count",
    "latency",
    "load",
    "macs",
    "map_model",
    "potentials",
    "predict",
    "quantise_keras",
    "report",
    "save",
    "to_akida",
    "to_quant_net",
    "unmeasured",
]
