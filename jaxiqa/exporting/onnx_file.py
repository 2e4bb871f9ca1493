"""ONNX files: made from a checkpoint, in a precision, and run by ONNX Runtime."""

import logging
import os
import tempfile
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxiqa.errors import ConfigError
from jaxiqa.exporting.crop_scores import INPUT, CropScores, Run, describe, real_crops
from jaxiqa.exporting.onnx_graph import to_model
from jaxiqa.scoring.scorer import Scorer

if TYPE_CHECKING:
    import onnx

_CALIBRATED = 32  # crops that tell the range of each tensor for int8; as many again with noise, and blurred


def make(scorer: Scorer, precision: str) -> bytes:
    """The ONNX file of a checkpoint.

    Args:
      scorer: the loaded checkpoint.
      precision: "fp32"; "fp16", in which the model computes as it would in bf16: what it keeps in fp32 stays so; or
        "int8", in which convolutions and matrix products have weights and inputs of 8 bits, whose ranges come from
        crops of photographs.

    Raises:
      ConfigError: the model has an operation that is not translated, or keeps everything in fp32.
    """
    import onnx

    function = CropScores(scorer, jnp.float16 if precision == "fp16" else jnp.float32)
    with np.errstate(over="ignore"):  # a weight that fp16 cannot hold becomes infinite, which the check finds
        model = to_model(function, function.sides, INPUT, function.outputs)
    half = onnx.TensorProto.FLOAT16
    if precision == "fp16" and not any(array.data_type == half for array in model.graph.initializer):
        raise ConfigError(
            f"{scorer.card.model['name']} computes everything in fp32, so --precision fp16 would change nothing; leave "
            "it out",
            code="conflict",
            key="--precision",
        )
    if precision == "int8":
        model = _quantised(model, _of_all_qualities(real_crops(scorer, _CALIBRATED)))
    onnx.helper.set_model_props(model, describe(scorer, precision))
    onnx.checker.check_model(model)
    return model.SerializeToString()


def runner(file: bytes) -> Run:
    """Returns a function of crops that ONNX Runtime computes on the CPU.

    Raises:
      ConfigError: ONNX Runtime does not accept the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda crops: dict(zip(names, session.run(names, {INPUT: crops}), strict=True))


def _of_all_qualities(crops: np.ndarray) -> np.ndarray:
    """The crops as they are, with strong noise, and strongly blurred: tensors have other ranges there."""
    noise = np.random.default_rng(0).normal(0.0, 40.0, crops.shape)
    noisy = np.clip(crops + noise, 0, 255).astype(np.uint8)
    height, width = crops.shape[1:3]
    small = [Image.fromarray(crop).resize((width // 6, height // 6), Image.Resampling.BOX) for crop in crops]
    blurred = [np.asarray(image.resize((width, height), Image.Resampling.BICUBIC)) for image in small]
    return np.concatenate([crops, noisy, np.stack(blurred)])


class _Crops:
    """What the calibration reads: one batch after the other, then None."""

    def __init__(self, crops: np.ndarray):
        self._batches = iter(np.array_split(crops, max(1, len(crops) // 16)))

    def get_next(self):
        batch = next(self._batches, None)
        return None if batch is None else {INPUT: batch}


def _quantised(model: "onnx.ModelProto", crops: np.ndarray) -> "onnx.ModelProto":
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    CalibrationDataReader.register(_Crops)
    with tempfile.TemporaryDirectory() as folder:
        before, after = os.path.join(folder, "fp32.onnx"), os.path.join(folder, "int8.onnx")
        onnx.save(model, before)
        logging.disable(logging.WARNING)  # it advises a simplification of graphs that have not been folded
        try:
            quantize_static(
                before,
                after,
                _Crops(crops),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv", "MatMul"],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        return onnx.load(after)
