"""Image captioning in two nets: a CNN whose features describe the image, and an LSTM that says them in words.

Source: Donahue, Hendricks, Guadarrama, Rohrbach, Venugopalan, Saenko, Darrell, "Long-term Recurrent Convolutional
Networks for Visual Recognition and Description", CVPR 2015 (arXiv 1411.4389): section 4.2, the factored decoder of
two layers (LRCN-2f). Names and sizes are those of the authors' models for Caffe (branch `recurrent` of
github.com/jeffdonahue/caffe, examples/coco_caption): 8,801 words with the one that ends a sentence, 1,000 hidden
units, and CaffeNet's fc8 for features.
"""

from __future__ import annotations

from ..errors import NetError
from ..spec import Top
from ..text import Msg
from .alexnet import CROP, CaffeNet
from .parts import Net, solving

WORDS, UNITS, FEATURES, STEPS, SENTENCES = 8801, 1000, 1000, 20, 100
_UNIFORM = {"type": "uniform", "min": -0.08, "max": 0.08}


def cnn(features: int = FEATURES) -> Msg:
    """data 1 x 3 x 227 x 227 (B, G, R, mean subtracted) to fc8, 1 x features: CaffeNet without its Softmax."""
    net = CaffeNet("CaffeNet", train=False, name="Captioning-CNN")
    net.scores(net.image(3, CROP), features)
    return net.message()


def deploy(words: int = WORDS, units: int = UNITS, features: int = FEATURES) -> Msg:
    """One step of the decoder: a word each of 1 sentence, cont_sentence (0 begins one) and image_features to probs
    over words.

    The LSTMs keep their state from call to call in Caffe; here a whole sentence goes in at once: reshape the inputs
    to T x 1.
    """
    net = _Net("Captioning-LSTM", train=False)
    sizes = {"cont_sentence": [1, 1], "input_sentence": [1, 1], "image_features": [1, features]}
    cont, given, seen = (net.Input(name=name, top=name, shape={"dim": dims}) for name, dims in sizes.items())
    net.Softmax(net.words(cont, given, seen, words, units), name="probs", axis=2)
    return net.message()


def train_val(
    words: int = WORDS,
    units: int = UNITS,
    *,
    sentences: int = SENTENCES,
    train_source: str = "coco_train.txt",
    val_source: str = "coco_val.txt",
    train_features: str = "coco_train_features.txt",
    val_features: str = "coco_val_features.txt",
) -> Msg:
    """The decoder that trains, on 20 steps of 100 sentences side by side, from features that the CNN has made before.

    Sources and features are lists of HDF5 files. Of a source: the datasets cont_sentence, input_sentence and
    target_sentence, a row for each step and a column for each sentence (target_sentence is -1 behind the end). Of
    features: image_features, a row for each sentence, in the order of the columns. How wide all these are, only the
    files tell. sentences: as many as there are columns. (The authors' net holds the CNN, too, and reads pictures.)
    """
    net = _Net("Captioning-LSTM", train=True)
    names = ("cont_sentence", "input_sentence", "target_sentence")
    for phase, source, features in (("TRAIN", train_source, train_features), ("TEST", val_source, val_features)):
        read = {"source": source, "batch_size": STEPS}
        cont, given, target = net.HDF5Data(name="data", top=names, include={"phase": phase}, hdf5_data_param=read)
        read = {"source": features, "batch_size": sentences}
        seen = net.HDF5Data(name="features", top="image_features", include={"phase": phase}, hdf5_data_param=read)
    predicted = net.words(cont, given, seen, words, units)
    net.SoftmaxWithLoss(
        predicted, target, name="cross_entropy_loss", loss_weight=20, loss_param={"ignore_label": -1}, axis=2
    )
    net.Accuracy(predicted, target, name="accuracy", axis=2, ignore_label=-1, include={"phase": "TEST"})
    return net.message()


def solver(*, net: str = "") -> Msg:
    """The authors': SGD, rate 0.01 halved each 20,000 of 110,000 steps, gradients clipped at a norm of 10."""
    return solving(
        "Captioning-LSTM",
        net,
        test_iter=25,
        test_interval=1000,
        base_lr=0.01,
        lr_policy="step",
        gamma=0.5,
        stepsize=20_000,
        max_iter=110_000,
        weight_decay=0.0,
        clip_gradients=10.0,
    )


class _Net(Net):
    filler = _UNIFORM
    bias_value = 0

    def words(self, cont: Top, given: Top, features: Top, words: int, units: int) -> Top:
        """Scores for the next word of each step: T x N x words."""
        if min(words, units) < 1:
            raise NetError(
                "no such decoder", expected="at least 1 word and 1 unit", got=f"{words} words, {units} units"
            )
        filler = self.filler if self.train else None
        table = {"input_dim": words, "num_output": units, "bias_term": False, "weight_filler": filler}
        x = self.Embed(given, name="embedding", top="embedded_input_sentence", embed_param=table)
        bias = {"type": "constant", "value": 0} if self.train else None
        settings = {"num_output": units, "weight_filler": filler, "bias_filler": bias}
        x = self.LSTM(x, cont, name="lstm1", recurrent_param=settings)
        x = self.LSTM(x, cont, features, name="lstm2", recurrent_param=settings)
        return self.fc(x, "predict", words, axis=2)
