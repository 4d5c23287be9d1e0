"""What a built plan's layer list says about its precision, in the words of TensorRT 8.6, 10 and 11."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nddr_deploy.engines.trt_inspect import LayerPrecision, Realised, check_realised, read_inspector
from nddr_deploy.errors import ModelFileError, UnsupportedError

# 8.6, an inspector with an execution context: a sentence per tensor, regions as one layer.
PLAN_8 = r"""{"Layers": [{
  "Name": "Reformatting CopyNode for Input Tensor 0 to stem/Conv + stem/Relu",
  "LayerType": "Reformat",
  "Inputs": [{"Name": "images/Mul", "Location": "Device", "Dimensions": [1,3,48,64],
    "Format/Datatype": "Row major linear FP32"}],
  "Outputs": [{"Name": "Reformatted Input Tensor 0 to stem/Conv + stem/Relu", "Location": "Device",
    "Dimensions": [1,3,48,64], "Format/Datatype": "Channel major FP16 format where channel % 4 == 0"}],
  "ParameterType": "Reformat", "Origin": "REFORMAT", "TacticValue": "0x0000000000000000"
},{
  "Name": "stem/Conv + stem/Relu",
  "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "Reformatted Input Tensor 0 to stem/Conv + stem/Relu", "Location": "Device",
    "Dimensions": [1,3,48,64], "Format/Datatype": "Channel major FP16 format where channel % 4 == 0"}],
  "Outputs": [{"Name": "stem/Relu", "Location": "Device", "Dimensions": [1,16,24,32],
    "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
  "ParameterType": "Convolution", "Kernel": [3,3], "OutMaps": 16, "Groups": 1,
  "Weights": {"Type": "Half", "Count": 432}, "Bias": {"Type": "Half", "Count": 16},
  "TacticName": "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize64x32x64_stage4",
  "TacticValue": "0x1111111111111111",
  "Metadata": "[ONNX Layer: stem/Conv]\u001e[ONNX Layer: stem/Relu]"
},{
  "Name": "{ForeignNode[fuse/Conv...heads.depth/Gemm]}",
  "LayerType": "Myelin",
  "Inputs": [{"Name": "stem/Relu", "Location": "Device", "Dimensions": [1,16,24,32],
    "Format/Datatype": "Row major linear FP16 format"}],
  "Outputs": [{"Name": "depth", "Location": "Device", "Dimensions": [1,24,32],
    "Format/Datatype": "Row major linear FP32"}],
  "TacticValue": "0x0000000000000000",
  "Metadata": "[ONNX Layer: fuse/Conv]\u001e[ONNX Layer: fuse/Relu]\u001e[ONNX Layer: heads.depth/Gemm]"
}],
"Bindings": ["images", "depth"]}"""

# 10, an inspector without a context: one word per tensor, the kernels inside a region apart.
PLAN_10 = r"""{"Layers": [{
  "Name": "stem/Conv + stem/Relu",
  "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "images/Mul", "Location": "Device", "Dimensions": [1,3,48,64], "Format/Datatype": "Half"}],
  "Outputs": [{"Name": "stem/Relu", "Location": "Device", "Dimensions": [1,16,24,32], "Format/Datatype": "Half"}],
  "ParameterType": "Convolution", "Weights": {"Type": "Half", "Count": 432},
  "TacticName": "ampere_h16816cudnn_128x64_ldg8_relu_stages_64x4_small_nhwc_tn_v1", "StreamId": 0,
  "Metadata": "[ONNX Layer: stem/Conv]\u001f[ONNX Layer: stem/Relu]"
},{
  "Name": "__mye31", "LayerType": "wait", "Inputs": [], "Outputs": [], "TacticName": "", "StreamId": 1, "Metadata": ""
},{
  "Name": "__myl_MoveConc_myl0_1", "LayerType": "kgen",
  "Inputs": [{"Name": "stem/Relu", "Dimensions": [1,16,24,32], "Format/Datatype": "Half"}],
  "Outputs": [{"Name": "__my7", "Dimensions": [1,24,32,16], "Format/Datatype": "Float"}],
  "TacticName": "__myl_MoveConc_0x00bf16f2543c36ff", "StreamId": 0,
  "Metadata": "[ONNX Layer: fuse/Conv][ONNX Layer: fuse/Concat]"
},{
  "Name": "fuse/Conv_myl0_2", "LayerType": "correlation",
  "Inputs": [{"Name": "__my7", "Dimensions": [1,24,32,16], "Format/Datatype": "Float"}],
  "Outputs": [{"Name": "__my8", "Dimensions": [1,24,32,8], "Format/Datatype": "Float"}],
  "TacticName": "sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize64x64x16", "StreamId": 0,
  "Metadata": "[ONNX Layer: fuse/Conv]"
},{
  "Name": "__myl_Fc_myl0_3", "LayerType": "fusion",
  "Inputs": [{"Name": "__my8", "Dimensions": [1,8], "Format/Datatype": "Int8"},
    {"Name": "scale", "Dimensions": [1], "Format/Datatype": "Float"}],
  "Outputs": [{"Name": "__my9", "Dimensions": [1,40], "Format/Datatype": "Half"}],
  "TacticName": "sm80_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize32x32x64_by_fusion_tactic", "StreamId": 0,
  "Metadata": "[ONNX Layer: heads.age/Gemm][ONNX Layer: heads.age/Relu]"
}],
"Bindings": ["images", "age"]}"""

# 11: `Format` and `Datatype` apart, the inputs and outputs described, the verbosity told.
PLAN_11 = r"""{"Layers": [{
  "Name": "stem/Conv + stem/Relu", "LayerType": "CaskConvolution",
  "Inputs": [{"Name": "images/Mul", "Location": "Device", "Dimensions": [-1,3,48,64],
    "Format": "Channel major format where channel % 8 == 0", "Datatype": "Half"}],
  "Outputs": [{"Name": "stem/Relu", "Location": "Device", "Dimensions": [-1,16,24,32], "Format": "N/A",
    "Datatype": "Half"}],
  "ParameterType": "Convolution", "Weights": {"Type": "Half", "Count": 432}, "TacticName": "", "StreamId": 0,
  "Metadata": "[ONNX Layer: stem/Conv]\u001f[ONNX Layer: stem/Relu]"
},{
  "Name": "_gemm_mha_v2_myl0_4", "LayerType": "kgen",
  "Inputs": [{"Name": "q", "Dimensions": [-1,64,16], "Format": "Row major", "Datatype": "BFloat16"}],
  "Outputs": [{"Name": "o", "Dimensions": [-1,64,16], "Format": "Row major", "Datatype": "BFloat16"}],
  "TacticName": "_gemm_mha_v2_0x5f", "StreamId": 0, "Metadata": "[ONNX Layer: heads.age/MatMul]"
}],
"I/O Tensors": [{"Name": "images", "IOMode": "Input", "DataType": "UInt8", "Dimensions": [-1,48,64,3],
  "Location": "Device", "IsShapeInferenceIO": false}],
"ProfilingVerbosity": "DETAILED"}"""


def tensor(told: str, *dimensions: int) -> dict[str, Any]:
    return {"Name": "t", "Dimensions": list(dimensions or (1, 16, 24, 32)), "Format/Datatype": told}


def convolution(told: str, name: str = "stem/Conv", **fields: Any) -> dict[str, Any]:
    weights = {"FP32": "Float", "FP16": "Half"}.get(told, told)
    return {
        "Name": name,
        "LayerType": "CaskConvolution",
        "Inputs": [tensor(told)],
        "Outputs": [tensor(told)],
        "Weights": {"Type": weights, "Count": 432},
        "TacticName": "",
        **fields,
    }


def region(into: str, out: str, name: str = "{ForeignNode[fuse/Conv...heads/Conv]}", **fields: Any) -> dict[str, Any]:
    return {"Name": name, "LayerType": "Myelin", "Inputs": [tensor(into)], "Outputs": [tensor(out)], **fields}


def read(*layers: object) -> Realised:
    return read_inspector(json.dumps({"Layers": layers, "Bindings": []}))


def plan(**counts: int) -> Realised:
    """So many convolutions of each precision, `fp16_0`, `fp16_1`, ...; `opaque_fp32=1` is one fused region."""
    return Realised(
        tuple(
            LayerPrecision(f"{kind}_{number}", "CaskConvolution", kind.removeprefix("opaque_"), "opaque" in kind, True)
            for kind, count in counts.items()
            for number in range(count)
        )
    )


def refusal(realised: Realised, asked: str, *, graph_share: float = 1.0, least: float = 0.8) -> str:
    with pytest.raises(UnsupportedError) as error:
        check_realised(realised, asked=asked, graph_share=graph_share, least=least, source="model.onnx")
    return str(error.value)


def accept(realised: Realised, asked: str, *, graph_share: float = 1.0, least: float = 0.8) -> None:
    check_realised(realised, asked=asked, graph_share=graph_share, least=least, source="model.onnx")


# What each version writes


def test_a_plan_of_tensorrt_8_is_read_with_its_fused_region() -> None:
    reformat, stem, fused = read_inspector(PLAN_8).layers

    assert (reformat.precision, reformat.multiplies) == ("fp16", False)
    assert stem == LayerPrecision("stem/Conv + stem/Relu", "CaskConvolution", "fp16", False, True, nodes=1)
    assert (fused.type, fused.precision, fused.opaque, fused.nodes) == ("Myelin", "fp16", True, 2)  # a Conv and a Gemm


def test_a_plan_of_tensorrt_10_is_read_kernel_by_kernel() -> None:
    realised = read_inspector(PLAN_10)

    assert [(layer.type, layer.precision, layer.opaque) for layer in realised.multiplying] == [
        ("CaskConvolution", "fp16", False),
        ("correlation", "fp32", False),  # a TF32 kernel of FP32 tensors
        ("fusion", "int8", False),
    ]
    assert [layer.type for layer in realised.layers if not layer.multiplies] == ["wait", "kgen"]


def test_a_plan_of_tensorrt_11_is_read_from_its_own_fields() -> None:
    stem, attention = read_inspector(PLAN_11).layers

    assert (stem.precision, stem.opaque) == ("fp16", False)
    assert (attention.precision, attention.opaque, attention.multiplies) == ("bf16", True, True)


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        ("Row major linear FP32", "fp32"),
        ("Channel major FP32 format where channel % 4 == 0", "fp32"),
        ("Row major linear FP32 format (kLINEAR)", "fp32"),
        ("Float", "fp32"),
        ("Row major linear FP16 format", "fp16"),
        ("Two wide channel vectorized row major FP16 format", "fp16"),
        ("Half", "fp16"),
        ("Half(64,1:8,2,1)", "fp16"),
        ("Row major linear BFloat16 format", "bf16"),
        ("BFloat16", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format", "int8"),
        ("Channel major INT8 format where channel % 16 == 0", "int8"),
        ("Int8", "int8"),
        ("FP8", "fp8"),
        ("Unknown format", "unknown"),
        ("Half2", "unknown"),
        ("", "unknown"),
    ],
)
def test_every_spelling_of_a_type_is_known_or_unknown(told: str, precision: str) -> None:
    product = {"Name": "MatMul", "LayerType": "MatrixMultiply", "Inputs": [tensor(told)], "Outputs": []}

    assert read(product).layers[0].precision == precision


@pytest.mark.parametrize(
    "type_",
    [
        *("CaskConvolution", "CaskGemmConvolution", "CaskJitConv", "CaskConvActPool", "CudaDepthwiseConvolution"),
        *("CaskDeconvolutionV2", "CudnnDeconvolution", "MatrixMultiply", "FullyConnected", "CaskGemm"),
        *("correlation", "deconv", "conv_act_pool", "gemm"),
    ],
)
def test_layers_that_multiply_count(type_: str) -> None:
    (layer,) = read(convolution("Half", LayerType=type_)).layers

    assert (layer.multiplies, layer.opaque, layer.precision) == (True, False, "fp16")


@pytest.mark.parametrize(
    "type_", ["Reformat", "NoOp", "PointWiseV2", "CaskPooling", "Resize", "TopK", "SoftMax", "Convert", "Constant"]
)
def test_layers_that_do_not_multiply_do_not_count(type_: str) -> None:
    layer = {"Name": "Reformatting CopyNode for Output Tensor 0 to {ForeignNode[a/Conv...b/Conv]}", "LayerType": type_}

    assert read({**layer, "Inputs": [tensor("Half")], "Outputs": [tensor("Float")]}).multiplying == ()


def test_a_pictures_and_a_labels_integers_are_no_precision() -> None:
    cast = {"Name": "cast", "LayerType": "Cast", "Inputs": [tensor("UInt8")], "Outputs": [tensor("Int32")]}
    hidden = {"Name": "cast", "LayerType": "Cast", "Inputs": [tensor("UInt8")], "Outputs": [tensor("N/A")]}

    assert [layer.precision for layer in read(cast, hidden).layers] == ["integer", "unknown"]


# What a layer computes with


def test_open_shapes_hide_the_tensors_so_weights_and_kernel_tell() -> None:
    hidden = "N/A due to dynamic shapes"
    tensors = {"Inputs": [tensor(hidden, -1, 16, 24, 32)], "Outputs": [tensor(hidden, -1, 16, 24, 32)]}
    half = {"Type": "Half", "Count": 432}
    kernel = "sm80_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize128x128x32"

    by_weights = convolution("", Weights=half, **tensors)
    by_kernel = {"Name": "fc", "LayerType": "gemm", "TacticName": kernel, **tensors}
    by_nothing = {"Name": "fc", "LayerType": "gemm", "TacticName": "cublas", **tensors}

    assert [layer.precision for layer in read(by_weights, by_kernel, by_nothing).layers] == ["fp16", "fp16", "unknown"]


@pytest.mark.parametrize(
    ("kernel", "precision"),
    [
        ("sm80_xmma_fprop_implicit_gemm_f32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize256x64x32", "fp32"),
        ("sm50_xmma_fprop_implicit_gemm_f32f32_f32f32_f32_nchwkcrs_nchw_ffma", "fp32"),
        ("ampere_scudnn_winograd_128x128_ldg1_ldg4_relu_tile148t_nt_v1", "fp32"),
        ("sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_tilesize128x32x64", "fp16"),
        ("ampere_h16816gemm_256x128_ldg8_nn_v1", "fp16"),
        ("trt_turing_cutlass_image_network_first_layer_hmma_fprop_f16f16f32_nhwc_nhwc_k64r7s7c4", "fp16"),
        ("sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x64x64", "bf16"),
        ("ampere_bf16_s16816cudnn_bf16_128x64_ldg8_relu_exp_small_nhwc_tn_v1", "bf16"),
        ("sm75_xmma_fprop_implicit_gemm_interleaved_i8i8_i8i32_f32_nchw_vect_c_32kcrs_vect_c_32", "int8"),
        ("sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_nchw_vect_c_32", "int8"),
        ("turing_fp16_i8816cudnn_int8_128x128_ldg16_relu_small_nt_v1", "int8"),  # its result is FP16
        ("volta_int8x4_icudnn_int8x4_128x32_relu_xregs_medium_c32_nn_v1", "int8"),
        ("ampere_first_layer_filter3x3_imma_fwd", "int8"),
        ("sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n", "fp8"),
        ("sm50_xmma_cublas_gemvx_f16f16_f32_f32_tn_n_splitK", "unknown"),
        ("__myl_MulAdd_0x00bf16f2543c36ff", "unknown"),
    ],
)
def test_the_name_of_a_kernel_tells_what_it_multiplies(kernel: str, precision: str) -> None:
    product = {"Name": "fc", "LayerType": "gemm", "TacticName": kernel, "Inputs": [], "Outputs": []}

    assert read(product).layers[0].precision == precision


def test_the_kernel_decides_where_weights_and_input_differ() -> None:
    int8_weights = {"Type": "Int8", "Count": 432}
    half_kernel = "sm80_xmma_fprop_implicit_gemm_f16f16_f16f16_f16_nhwckrsc_nhwc"

    told, untold = read(
        convolution("Half", Weights=int8_weights, TacticName=half_kernel), convolution("Half", Weights=int8_weights)
    ).layers

    assert (told.precision, untold.precision) == ("fp16", "unknown")


def test_the_kernel_decides_where_only_the_input_is_told() -> None:
    kernel = "sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize64x64x64"
    product = {"Name": "fc", "LayerType": "gemm", "TacticName": kernel, "Inputs": [tensor("Float")], "Outputs": []}

    assert read(product).layers[0].precision == "fp16"


def test_an_index_before_the_input_does_not_tell() -> None:
    indexed = convolution("Half", Inputs=[tensor("Int32"), tensor("Half")])

    assert read(indexed).layers[0].precision == "fp16"


def test_a_residual_in_half_precision_leaves_an_int8_convolution_int8() -> None:
    residual = convolution("Int8", Inputs=[tensor("Int8"), tensor("Half")], Outputs=[tensor("Half")])

    assert read(residual).layers[0].precision == "int8"


def test_scalars_beside_a_product_do_not_tell_its_precision() -> None:
    alpha, beta = tensor("Float", 1), tensor("Float", 1, 1, 1, 1)
    product = {"Name": "fc", "LayerType": "gemm", "Inputs": [alpha, beta, tensor("Half")], "Outputs": [tensor("Half")]}

    assert read(product).layers[0].precision == "fp16"


def test_weights_that_are_not_there_do_not_tell() -> None:
    dynamic = convolution("Half", Weights={"Type": "Float", "Count": 0})

    assert read(dynamic).layers[0].precision == "fp16"


# Regions that TensorRT fused


@pytest.mark.parametrize(
    ("into", "out", "precision"),
    [
        ("Half", "Float", "fp16"),
        ("Float", "Half", "fp16"),
        ("Float", "Float", "fp32"),
        ("Int8", "Half", "int8"),
        ("Half", "Int8", "fp16"),  # its result is quantised, its arithmetic is not
        ("Float", "UInt8", "fp32"),
        ("UInt8", "Int32", "unknown"),
        ("Half", "N/A due to dynamic shapes", "unknown"),
    ],
)
def test_a_fused_region_is_judged_by_its_tensors(into: str, out: str, precision: str) -> None:
    (layer,) = read(region(into, out)).layers

    assert (layer.precision, layer.opaque, layer.multiplies) == (precision, True, True)


def test_a_small_tensor_does_not_make_a_region_narrow() -> None:
    fused = region("Float", "Float")
    fused["Inputs"] += [tensor("Half", 40), tensor("Half", 1, 1, 2, 2)]  # a vector, a handful of numbers

    assert read(fused).layers[0].precision == "fp32"


@pytest.mark.parametrize(
    ("name", "metadata", "multiplies"),
    [
        ("{ForeignNode[heads.depth/Softmax...heads.depth/Mul_2]}", None, True),  # what is between is not told
        ("{ForeignNode[heads.depth/Softmax...heads.depth/Mul_2]}", ["heads.depth/Softmax", "heads.depth/Mul_2"], False),
        ("{ForeignNode[heads.depth/Softmax + heads.depth/Mul_2]}", None, False),
        ("{ForeignNode[heads.depth/Softmax...y/Add]}", ["heads.depth/Softmax", "node_of_7"], True),
        ("{ForeignNode[fuse/Relu...fuse/Add]}", ["fuse/Relu", "fuse/Conv_2", "fuse/Add"], True),
        ("{ForeignNode[stage.conv1/Relu]}", ["stage.conv1/Relu"], False),  # named after a layer, but only its ReLU
    ],
)
def test_a_fused_region_counts_unless_its_nodes_say_that_it_does_not_multiply(
    name: str, metadata: list[str] | None, multiplies: bool
) -> None:
    told = {"Metadata": "\x1e".join(f"[ONNX Layer: {node}]" for node in metadata)} if metadata else {}

    assert read(region("Half", "Float", name, **told)).layers[0].multiplies is multiplies


def generated(nodes: str, kernel: str = "__myl_MoveConc_0x1") -> dict[str, Any]:
    tensors = {"Inputs": [tensor("Half")], "Outputs": [tensor("Half")]}
    return {"Name": "__myl_k", "LayerType": "kgen", "TacticName": kernel, "Metadata": nodes, **tensors}


def test_a_generated_kernel_counts_where_it_alone_stands_for_a_convolution() -> None:
    first, second = "[ONNX Layer: a/Conv]", "[ONNX Layer: b/Conv][ONNX Layer: b/Relu]"
    layers = read(generated(first), generated(second), convolution("Half", "a/Conv_myl0_1", Metadata=first)).layers

    assert [layer.multiplies for layer in layers] == [False, True, True]
    assert [layer.opaque for layer in layers] == [True, True, False]


def test_a_fusion_of_a_product_claims_its_nodes_too() -> None:
    nodes = "[ONNX Layer: fc/MatMul][ONNX Layer: fc/Erf]"
    fusion = {**generated(nodes, "sm80_xmma_gemm_f16f16_f16f16_f16_nn_n_by_fusion_tactic"), "LayerType": "fusion"}

    assert [layer.multiplies for layer in read(generated(nodes), fusion).layers] == [False, True]


@pytest.mark.parametrize(
    ("kernel", "multiplies"),
    [
        ("_gemm_mha_v2_0x5f", True),
        ("_fmha_v2_flash_attention_sm86", True),
        ("__myl_FcCastAddErf_0x1", True),
        ("sm90_xmma_fprop_implicit_gemm", True),
        ("sm80_xmma_dgrad_implicit", True),
        ("__myl_ConvAddRelu_0x1", True),
        ("__myl_ConvertConcAdd_0x1", False),
        ("__myl_MaxSubExpSumDivMul_0x1", False),
    ],
)
def test_the_name_of_a_generated_kernel_tells_whether_it_multiplies(kernel: str, multiplies: bool) -> None:
    assert read(generated("", kernel)).layers[0].multiplies is multiplies


def test_a_product_whose_nodes_are_not_named_after_operators_counts_once() -> None:
    assert read(convolution("Half", Metadata="[ONNX Layer: node_of_7]")).layers[0].nodes == 1


def test_a_node_that_is_named_twice_counts_once() -> None:
    assert read(convolution("Half", Metadata="[ONNX Layer: a/Conv]\x1f[ONNX Layer: a/Conv]")).layers[0].nodes == 1


def test_merged_convolutions_count_as_many_as_they_are() -> None:
    merged = convolution("Half", Metadata="[ONNX Layer: a/Conv]\x1e[ONNX Layer: b/Conv]\x1e[ONNX Layer: b/Relu]")
    named = convolution("Half", "a/Conv || b/Conv_2 + b/Relu")

    assert [layer.nodes for layer in read(merged, named).layers] == [2, 2]
    assert read(merged, convolution("Float")).share("fp16") == pytest.approx(2 / 3)


# What is refused


def test_the_silent_trap_of_tensorrt_11_is_refused() -> None:
    built = read(*(convolution("Float", f"stage{number}/Conv") for number in range(12)))

    message = refusal(built, "fp16")

    assert "model.onnx: asked for fp16" in message
    assert "12 in fp32; expected at least 10 in fp16" in message  # 0.8 of 12 is 9.6
    assert "stage9/Conv (fp32) and 2 more" in message
    assert "stage10" not in message
    assert "fused regions decide" not in message
    assert message.endswith(" Ask for --precision fp32.")  # no share would accept it


def test_a_share_is_enough() -> None:
    accept(plan(fp16=8, fp32=2), "fp16")
    assert "7 in fp16, 3 in fp32; expected at least 8" in refusal(plan(fp16=7, fp32=3), "fp16")


def test_the_share_that_a_refusal_offers_is_accepted() -> None:
    built = plan(fp16=5, fp32=3, bf16=1)

    assert refusal(built, "fp16", graph_share=7 / 9).endswith(" Accept this plan with --least-share 0.71.")  # of 7
    accept(built, "fp16", graph_share=7 / 9, least=0.71)
    assert refusal(built, "int8").endswith(" Ask for --precision fp16.")
    assert refusal(plan(fp16=3, int8=1), "int8").endswith(
        "--precision fp16 or accept this plan with --least-share 0.25."
    )


def test_what_the_graph_keeps_in_fp32_is_not_missed() -> None:
    accept(plan(fp16=7, fp32=3), "fp16", graph_share=0.7, least=1.0)
    refusal(plan(fp16=6, fp32=4), "fp16", graph_share=0.7, least=1.0)


def test_rounding_asks_for_no_layer_more() -> None:
    accept(plan(fp16=3, fp32=6), "fp16", graph_share=1 - 3 / 9, least=0.5)  # of 9: 3.0000000000000004


def test_a_graph_that_asks_for_nothing_is_given_nothing() -> None:
    accept(plan(fp32=3), "fp16", graph_share=0.0)


def test_an_unknown_precision_is_never_the_one_that_was_asked_for() -> None:
    for asked in ("fp16", "int8", "fp32"):
        message = refusal(plan(unknown=10), asked)
        assert "10 in unknown" in message
        assert "TensorRT does not tell what is unknown; of fixed shapes it tells more" in message
        assert message.endswith("Build with fixed shapes or another version of TensorRT.")
    assert "does not tell" not in refusal(plan(fp32=10), "fp16")


def test_int8_with_a_rest_in_half_precision_reports_both() -> None:
    built = plan(int8=16, fp16=3, fp32=1)

    accept(built, "int8")
    assert built.text().startswith("20 convolutions and matrix products: 16 in int8 (80%), 3 in fp16 (15%), 1 in fp32")
    assert "15 in int8, 5 in fp16; expected at least 16" in refusal(plan(int8=15, fp16=5), "int8")


def test_fused_regions_are_named_apart_where_they_decide() -> None:
    message = refusal(plan(fp16=7, fp32=1, opaque_fp32=2), "fp16")

    assert "Not in fp16: fp32_0 (fp32), opaque_fp32_0 (fp32), opaque_fp32_1 (fp32)." in message
    assert (
        "fused regions decide, which only the types of their tensors tell of: opaque_fp32_0 (fp32), opaque" in message
    )


def test_fused_regions_that_change_nothing_are_not_blamed() -> None:
    assert "fused regions" not in refusal(plan(fp16=4, fp32=5, opaque_fp32=1), "fp16")


def test_a_plan_of_one_fused_region_can_be_accepted_and_refused() -> None:
    accept(read(region("Half", "Float")), "fp16")
    assert "fused regions decide" in refusal(read(region("Float", "Float")), "fp16")


@pytest.mark.parametrize("precision", ["fp16", "bf16", "int8", "fp8"])
def test_fp32_has_nothing_narrower(precision: str) -> None:
    message = refusal(plan(fp32=99, **{precision: 1}), "fp32", least=0.5)

    assert f"built 1 of 100 layers narrower: {precision}_0 ({precision})" in message


def test_fp32_has_nothing_narrower_between_its_products_either() -> None:
    pointwise = {"Name": "relu", "LayerType": "PointWiseV2", "Inputs": [tensor("Half")], "Outputs": [tensor("Half")]}

    assert "1 of 2 layers narrower: relu (fp16)" in refusal(read(convolution("Float"), pointwise), "fp32")


def test_fp32_takes_pictures_and_gives_labels() -> None:
    cast = {"Name": "cast", "LayerType": "Cast", "Inputs": [tensor("UInt8")], "Outputs": [tensor("Float")]}

    accept(read(cast, convolution("Float")), "fp32")


def test_a_plan_in_which_nothing_is_known_to_multiply_is_refused() -> None:
    odd = {"Name": "stem", "LayerType": "Rune", "Inputs": [tensor("Half")], "Outputs": [tensor("Half")]}

    assert "none of TensorRT's 1 layers (Rune) is known to multiply" in refusal(read(odd), "fp16")


def test_long_names_are_cut_in_the_message_and_whole_in_the_manifest() -> None:
    name = "\x1e".join(f"stage{number}/Conv" for number in range(400))
    built = read(convolution("Float", name))

    message = refusal(built, "fp16")
    assert len(message) < 500
    assert message.isprintable()
    assert built.to_dict("fp16")["others"] == [{"name": name, "precision": "fp32"}]


# What cannot be read


@pytest.mark.parametrize("layers", [[], ["stem/Conv + stem/Relu", "heads/Conv"], [convolution("Half"), "heads/Conv"]])
def test_a_plan_without_details_is_refused(layers: list[object]) -> None:
    with pytest.raises(UnsupportedError, match=r"ProfilingVerbosity\.DETAILED"):
        read(*layers)


def test_a_plan_without_details_says_how_many_layers_have_none() -> None:
    with pytest.raises(UnsupportedError, match="no details of 2 of its 3 layers"):
        read("stem/Conv", {"Name": "heads/Conv"}, convolution("Half"))


@pytest.mark.parametrize("text", ["", PLAN_10[:-40], PLAN_10.replace("stem/Relu", 'stem"Relu')])
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError, match="damaged JSON"):
        read_inspector(text)


@pytest.mark.parametrize("text", ["{}", "null", "7", '{"Layers": {}}', '{"Layers": [7]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ModelFileError, match="no list `Layers`"):
        read_inspector(text)


def test_control_characters_that_are_not_escaped_are_read() -> None:
    text = PLAN_8.replace(r"\u001e", "\x1e")

    assert read_inspector(text) == read_inspector(PLAN_8)


def test_a_bare_list_of_layers_is_read() -> None:
    assert read_inspector(json.dumps([convolution("Half")])).main == "fp16"


# What is told


def test_the_manifest_has_counts_share_and_the_layers_that_differ() -> None:
    told = read_inspector(PLAN_8).to_dict("int8")

    assert json.loads(json.dumps(told)) == {
        "asked": "int8",
        "share": 0.0,
        "counts": {"fp16": 3},
        "others": [
            {"name": "stem/Conv + stem/Relu", "precision": "fp16"},
            {"name": "{ForeignNode[fuse/Conv...heads.depth/Gemm]}", "precision": "fp16"},
        ],
        "opaque": [{"name": "{ForeignNode[fuse/Conv...heads.depth/Gemm]}", "precision": "fp16"}],
    }
    assert plan(fp16=2, fp32=1).to_dict()["share"] == 0.6667  # of the main precision, four digits
    assert read(generated("", "__myl_AddRelu_0x1"), convolution("Half")).to_dict()["opaque"] == []


def test_the_text_for_people_lists_what_is_opaque() -> None:
    assert read_inspector(PLAN_8).text().splitlines() == [
        "3 convolutions and matrix products: 3 in fp16 (100%).",
        "Fused by TensorRT, so judged only by the types of their tensors: "
        "{ForeignNode[fuse/Conv...heads.depth/Gemm]} (fp16).",
        "How long each takes is not known from this.",
    ]
    assert "Fused" not in plan(fp16=1).text()


def test_a_plan_without_products_has_no_main_precision() -> None:
    empty = plan()

    assert (empty.main, empty.share("fp16"), empty.counts) == ("unknown", 0.0, {})
    assert empty.text().startswith("0 convolutions and matrix products: none is known.")
