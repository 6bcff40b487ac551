"""Put the resizing of images into an ONNX graph, with the sizes and the interpolation of the toolboxes."""

from __future__ import annotations

from typing import Any

from ..extras import needed_for
from ..inference import ResizeRule


def add_resizing(model: Any, rule: ResizeRule, dtype: str) -> None:
    """Let a graph resize its images by a rule and return boxes in pixels of the images given.

    Pixels are rounded after interpolation, as by Pillow and OpenCV; results differ from theirs by one unit at most on
    few pixels.

    Args:
        model: ``ModelProto`` with the input ``images`` and the output ``boxes``; it is changed.
        rule: rule to resize by.
        dtype: type of the pixels, ``"float32"`` or ``"uint8"``.

    Raises:
        ValueError: a rule with padding, or one that keeps sizes.
    """
    with needed_for("ONNX files"):
        from onnx import TensorProto, helper

    if rule.padding is not None or (rule.short is None and rule.exact is None):
        raise ValueError(f"images {rule}: a graph resizes by shorter and longer side only; leave resizing outside")
    graph = model.graph
    _rename(graph, "images", "resized_images")
    _rename(graph, "boxes", "resized_boxes")
    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    shape = graph.input[0].type.tensor_type.shape
    batch = shape.dim[0].dim_value or shape.dim[0].dim_param or "batch"
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info("images", kind, [batch, 3, "height", "width"]))
    before, after = _nodes(rule, kind)
    found = list(graph.node)
    del graph.node[:]
    graph.node.extend([*before, *found, *after])
    for output in graph.output:
        if output.name == "resized_boxes":
            output.name = "boxes"
    for name, value in _constants(rule).items():
        graph.initializer.append(helper.make_tensor(name, *value))


def _rename(graph: Any, name: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            for index, found in enumerate(names):
                if found == name:
                    names[index] = new
    for output in graph.output:
        if output.name == name:
            output.name = new


def _constants(rule: ResizeRule) -> dict[str, tuple[Any, ...]]:
    """Return type, shape and values of the numbers that the nodes read."""
    with needed_for("ONNX files"):
        from onnx import TensorProto

    double, integer, single = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.FLOAT
    constants: dict[str, tuple[Any, ...]] = {
        "resize_black": (single, [], [0.0]),
        "resize_white": (single, [], [255.0]),
        "resize_reversed": (integer, [4], [1, 0, 1, 0]),
    }
    if rule.exact is not None:
        return {**constants, "resize_side": (integer, [2], list(rule.exact))}
    assert rule.short is not None
    return {
        **constants,
        "resize_half": (double, [1], [0.5]),
        "resize_least": (integer, [1], [1]),
        "resize_short": (double, [1], [float(rule.short)]),
        "resize_long": (double, [1], [float(rule.long)]),
    }


def _nodes(rule: ResizeRule, kind: int) -> tuple[list[Any], list[Any]]:
    """Return the nodes before the detector and those after it."""
    with needed_for("ONNX files"):
        from onnx import TensorProto, helper

    make = helper.make_node
    before = [make("Shape", ["images"], ["resize_given"], start=2)]
    if rule.exact is None:  # in double precision, as in Python, so that the sizes are the same
        before += [
            make("Cast", ["resize_given"], ["resize_sides"], to=TensorProto.DOUBLE),
            make("ReduceMin", ["resize_sides"], ["resize_shorter"], keepdims=1),
            make("ReduceMax", ["resize_sides"], ["resize_longer"], keepdims=1),
            # OpenVINO 2026.4 inverts a constant divided by a side
            make("Div", ["resize_shorter", "resize_short"], ["resize_by_shorter"]),
            make("Div", ["resize_longer", "resize_long"], ["resize_by_longer"]),
            make("Max", ["resize_by_shorter", "resize_by_longer"], ["resize_scale"]),
            make("Div", ["resize_sides", "resize_scale"], ["resize_exact"]),
            make("Add", ["resize_exact", "resize_half"], ["resize_raised"]),
            make("Cast", ["resize_raised"], ["resize_rounded"], to=TensorProto.INT64),
            make("Max", ["resize_rounded", "resize_least"], ["resize_side"]),
        ]
    antialias: dict[str, Any] = {"antialias": 1} if rule.library == "pillow" else {}
    before += [
        make("Shape", ["images"], ["resize_rest"], start=0, end=2),
        make("Concat", ["resize_rest", "resize_side"], ["resize_target"], axis=0),
        make("Cast", ["images"], ["resize_pixels"], to=TensorProto.FLOAT),
        make("Resize", ["resize_pixels", "", "", "resize_target"], ["resize_interpolated"], mode="linear", **antialias),
        make("Round", ["resize_interpolated"], ["resize_whole"]),
        make("Clip", ["resize_whole", "resize_black", "resize_white"], ["resize_clipped"]),
        make("Cast", ["resize_clipped"], ["resized_images"], to=kind),
    ]
    after = [
        make("Cast", ["resize_side"], ["resize_side_float"], to=TensorProto.FLOAT),
        make("Cast", ["resize_given"], ["resize_given_float"], to=TensorProto.FLOAT),
        make("Div", ["resize_given_float", "resize_side_float"], ["resize_back"]),  # of height and width
        make("Gather", ["resize_back", "resize_reversed"], ["resize_corners"]),
        make("Mul", ["resized_boxes", "resize_corners"], ["boxes"]),
    ]
    return before, after
