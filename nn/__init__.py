"""Networks built from Values, their training, and the matrix reference that checks them."""

import autograd

if not hasattr(autograd, "Value"):
    raise ImportError(
        f"nn needs the autograd that comes with it, and Python finds {autograd!r}: another of that name, as"
        " the package index has one. Install this project in a fresh virtual environment, without the other"
    )

from autograd import __version__ as __version__
from autograd import logsumexp

from . import data, init, picture, plot
from .accuracy import accuracy
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import Epoch, History, Training, fit
from .functions import softmax
from .layers import MLP, Layer, LayerNorm, Neuron
from .losses import binary_cross_entropy, cross_entropy, hinge, huber, squared_error
from .matrix import MatrixMLP, Parameter
from .module import Module
from .optim import SGD, Adam, Optimizer
from .predict import predict
from .steppers import MeanLoss
from .weights import load_safetensors, save_safetensors, to_torch

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "Epoch",
    "History",
    "Layer",
    "LayerNorm",
    "MatrixMLP",
    "MeanLoss",
    "Module",
    "Neuron",
    "Optimizer",
    "Parameter",
    "Training",
    "accuracy",
    "binary_cross_entropy",
    "cross_entropy",
    "data",
    "fit",
    "hinge",
    "huber",
    "init",
    "load_checkpoint",
    "load_safetensors",
    "logsumexp",
    "picture",
    "plot",
    "predict",
    "save_checkpoint",
    "save_safetensors",
    "softmax",
    "squared_error",
    "to_torch",
]
