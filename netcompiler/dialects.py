"""Which fork of Caffe a net is written for, where forks mean different things by one name.

A prototxt is read by field names, under one schema that has the fields of all forks. That leaves the cases where two
forks give one type or one default different meanings; there the dialect decides. It is detected from what the net says,
or told by the caller.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import schema
from .errors import NetError, nearest
from .text import Msg

PLAIN = "bvlc"


@dataclass(frozen=True, slots=True)
class Dialect:
    """A fork, or a family of forks that mean the same.

    forks: the repositories.  signs: what only its nets have, or nearly so: layer types; settings of layers, alone or as
    "type.field"; "field=VALUE" of an enum; "net.field" of the net itself; "type(n)", the number of a type's bottoms.
    """

    name: str
    forks: tuple[str, ...]
    signs: tuple[str, ...] = ()


def _d(name: str, forks: str, signs: str = "") -> Dialect:
    return Dialect(name, tuple(forks.split()), tuple(signs.split()))


DIALECTS = (
    _d(PLAIN, "BVLC/caffe"),
    _d(
        "nvcaffe",
        "NVIDIA/caffe",
        """forward_type backward_type forward_math backward_math cudnn_math_override DetectNetTransformation TRT scale_bias
        net.default_forward_type net.default_backward_type net.global_grad_scale conv_algos_override parser_threads
        Data.cache img_rand_resize_lower rand_resize_ratio_lower""",
    ),
    _d(
        "intel",
        "intel/caffe yeahkun/caffe-yolo",
        """EvalDetection BoxData quantization_param mn_activation_param multinode use_weight_bias stats_batch_size relu
        fusion_type conv_algorithm avg_include_pad engine=MKL2017 engine=MKLDNN net.engine net.bn_stats_batch_size
        net.compile_net_state net.multinode random_resize_param random_aspect_ratio_param kernel_size_3d pooled_size""",
    ),
    _d(
        "ssd",
        """weiliu89/caffe BestSonny/SSTD MhLiao/TextBoxes conner99/caffe runhang/caffe-ssd-windows sfzhang15/RefineDet
        chuanqi305/ssd""",
        "PriorBox DetectionOutput MultiBoxLoss AnnotatedData DetectionEvaluate norm_param",
    ),
    _d("fast-rcnn", "rbgirshick/caffe-fast-rcnn", "ROIPooling SmoothL1Loss.smooth_l1_loss_param scale_train"),
    _d(
        "rfcn",
        "daijifeng001/caffe-rfcn YuwenXiong/py-R-FCN",
        """PSROIPooling BoxAnnotatorOHEM SmoothL1LossOHEM SoftmaxWithLossOHEM normalization=PRE_FIXED
        pre_fixed_normalizer""",
    ),
    _d("mini-caffe", "luoyetx/mini-caffe", "Proposal"),
    _d(
        "mscnn",
        "zhaoweicai/mscnn gdlg/panoramic-object-detection",
        "BoxOutput ImageGtData DetectionLoss DetectionAccuracy ProposalTarget BboxAccuracy RingPad",
    ),
    _d(
        "cascade-rcnn",
        "zhaoweicai/cascade-rcnn",
        """BoxGroupOutput DecodeBBox ROIAlign ScaleRoute DetectionData DetectionGroupLoss DetectionGroupAccuracy EvalData
        FrcnnOutput HardMining""",
    ),
    _d(
        "segnet",
        "alexgkendall/caffe-segnet TimoSaemann/caffe-enet TimoSaemann/ENet",
        """DenseImageData Upsample(2) bn_mode upsample_h upsample_w scale_h scale_w pad_out_h pad_out_w
        weight_by_label_freqs class_weighting sample_weights_test""",
    ),
    _d("deconvnet", "HyeonwooNoh/caffe", "UnPooling EltwiseAccuracy WindowSegData unpooling_param"),
    _d(
        "jolibrain",
        "jolibrain/caffe",
        """CtcLoss LabelsequenceAccuracy SeLu SeLuDropout SparseData SparseInnerProduct ContinuationIndicator.axis
        Interp.mode geometry_param soft_nms""",
    ),
    _d(
        "pspnet",
        "hszhao/PSPNet yjxiong/caffe",
        """BN.slope_filler BN.frozen BN.momentum BN.eps SegData BatchReduction scale_ratios multi_scale fix_crop
        num_segments name_pattern modality operation=STOCHASTIC_SUM Interp""",
    ),
    _d(
        "deeplab",
        "cdmh/deeplab-public-ver2 xmyqsh/deeplab-v2 TheLegendAli/DeepLab-Context martinkersner/train-DeepLab",
        """SegAccuracy MatWrite MatRead DenseCRF ImageSegData BiasChannel Padding DominantChannel hole ImageSegData.label_type
        scale_factors strict_dim softmaxloss_param""",
    ),
    _d(
        "yolo",
        "eric612/MobileNet-YOLO hustzxd/z0 ChenYingpeng/caffe-yolov3 dog-qiuqiu/MobileNet-Yolo",
        """Yolov3DetectionOutput YoloDetectionOutput Yolov3 YoloSeg RegionLoss Reorg LaneData AssistedExcitation Upsample(1)
        SegmentationEvaluate yolo_data_type""",
    ),
    _d(
        "happynear",
        "happynear/caffe-windows happynear/NormFace happynear/AMSoftmax happynear/FaceVerification",
        """Insanity InnerDistance Flip ChannelScale LabelSpecificAdd LabelSpecificRescale GeneralContrastiveLoss
        GeneralTripletLoss GlobalLSEMargin MultiLabelImageData normalize_param disable_mean disable_variance min_is_better
        blob_filler normalize_type face_transform""",
    ),
    _d("ctpn", "tianzhi0549/CTPN", "Transpose Reverse var_eps BN.moving_average BN.decay"),
    _d("crnn", "yalecyu/crnn.caffe", "WarpCTCLoss ContinuationIndicator.batch_size"),
    _d("caffe-lstm", "junhyukoh/caffe-lstm", "Lstm"),
    _d("shufflenet", "farmingyard/ShuffleNet", "ShuffleChannel ConvolutionDepthwise"),
    _d("depthwise", "yonghenglh6/DepthwiseConvolution", "DepthwiseConvolution"),
    _d("senet", "hujie-frank/SENet hujie-frank/GENet", "Axpy CuDNNBatchNorm"),
    _d("sphereface", "wy1iu/sphereface", "MarginInnerProduct"),
    _d("caffe-face", "ydwen/caffe-face", "CenterLoss"),
    _d("spatial-transformer", "daerduoCarey/SpatialTransformerLayer", "SpatialTransformer PowerFile LocLoss STLoss"),
    _d(
        "iresnet",
        "leonzfa/iResNet lmb-freiburg/flownet2",
        """Correlation1D Correlation FlowWarp Resample NegReLU DataAugmentation Downsample FlowAugmentation CustomData
        GenerateAugmentationParameters RandomCrop PFMWriter""",
    ),
    _d(
        "c3d",
        "facebook/C3D",
        """Convolution3D Pooling3D Deconvolution3D VoxelSoftmax VoxelSoftmaxWithLoss VideoSegmentationData
        temporal_stride kernel_depth temporal_pad""",
    ),
    _d("video-caffe", "chuckcho/video-caffe", "NdConvolution NdPooling kernel_shape stride_shape"),
    _d("crfasrnn", "torrvision/caffe", "MultiStageMeanfield"),
    _d("greentea", "naibaf7/caffe", "MergeCrop Affinity MalisLoss ConnectedComponent Pooling.dilation fuse_type"),
    _d(
        "colorization",
        "tonyyangToBeNo1/colorization_flow_caffe",
        "ColorConv ImageDataModify SplitData SoftmaxCrossEntropyLoss",
    ),
    _d(
        "openvino",
        "openvinotoolkit/open_model_zoo w3sip/mo_problem soeaver/caffe-model",
        "PriorBoxClustered CTCGreedyDecoder ROIWarping Resample.factor masks use_blob_size",
    ),
    _d("caffe-hrt", "OAID/Caffe-HRT RiweiChen/DeepFace", "LOCAL"),
    _d("openpose", "ZheC/Realtime_Multi-Person_Pose_Estimation CMU-Perceptual-Computing-Lab/caffe_train", "CPMData"),
    _d("exp-caffe", "pl8787/exp_caffe", "ColinearConvolution"),
    _d("video-triplet", "xiaolonw/caffe-video_triplet", "RankHardLoss Norm"),
    _d("parsenet", "natanielruiz/net-archive", "ParseEvaluate ParseOutput ImageLabelmapData filter_stride bin_size"),
    _d("squeezedet", "opencv/opencv_contrib", "SqueezeDetLoss BboxData"),
    _d("waifu2x", "lltcggie/waifu2x-caffe", "CropCenter"),
    _d(
        "ternary",
        "GongCheng1919/Quantitative-and-ternary-caffe-for-network-compression",
        "weights_compress activations_compress compress",
    ),
    _d(
        "mycaffe",
        "MyCaffe/MyCaffe",
        """TransformerBlock MultiheadAttentionInterp TokenizedData GRN VarSelNet LayerNorm GateAddNorm ChannelEmbedding
        ReshapeTemporal DataTemporal QuantileLoss QuantileAccuracy Normalization2 Knn Debug Decode AccuracyDecode
        AccuracyEncoding DataSequence TripletLoss.triplet_loss_param SoftmaxCrossEntropy2Loss MemoryLoss
        enable_random_selection images_per_blob output_all_labels output_matches min_top_axes label_channels phase=RUN
        backend=IMAGEDB color_order use_imagedb_mean max_bottom_count freeze_learning mask_param label_mapping num_layers
        cudnn_enable_tensor_cores""",
    ),
)
NAMES = tuple(d.name for d in DIALECTS)
_BY_FORK = {fork: d.name for d in DIALECTS for fork in d.forks}


def checked(name: str) -> str:
    """The name of a dialect, as given or as that of a fork's repository.

    Raises: NetError for one that is not known.

    >>> checked("ssd"), checked("hszhao/PSPNet")
    ('ssd', 'pspnet')
    """
    if name in NAMES:
        return name
    if name in _BY_FORK:
        return _BY_FORK[name]
    near = nearest(name, NAMES)
    hint = f'did you mean "{near[0]}"?' if near else None
    expected = f"one of {', '.join(NAMES)}"
    raise NetError(f'unknown dialect "{name}"', at="--dialect", expected=expected, hint=hint)


def detect(net: Msg) -> tuple[str, str]:
    """The dialect that a net in today's form is most likely written in, and what says so; "bvlc" and "" without a sign.

    Of several, the one with the most different signs; of equals, the one that comes first above.
    """
    found: dict[str, str] = {}  # sign -> where
    for field, _ in net.raw.ListFields():
        found[f"net.{field.name}"] = f"{field.name} of the net"
    for layer in net.raw.layer:
        for sign in _signs(layer):
            found.setdefault(sign, f'{sign.split("(")[0]} in layer "{layer.name}"')
    told = {d.name: [s for s in d.signs if s in found] for d in DIALECTS}
    best = max(told, key=lambda name: len(told[name]))
    return (best, found[told[best][0]]) if told[best] else (PLAIN, "")


def _signs(layer: Any) -> Iterator[str]:
    """The type of a layer, alone and with its number of bottoms; the settings that it has, alone and with the type."""
    yield layer.type
    yield f"{layer.type}({len(layer.bottom)})"
    for field, value in layer.ListFields():
        yield field.name
        yield f"{layer.type}.{field.name}"
        if field.message_type is not None and (field.name.endswith("_param") or field.name in ("include", "exclude")):
            for part in value if schema.is_repeated(field) else (value,):
                for inner, held in part.ListFields():
                    yield inner.name
                    yield f"{layer.type}.{inner.name}"
                    if inner.enum_type is not None and not schema.is_repeated(inner):
                        yield f"{inner.name}={inner.enum_type.values_by_number[held].name}"
