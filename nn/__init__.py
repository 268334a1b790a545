"""Networks built from Values, their training, and the matrix reference that checks them."""

import autograd

if not hasattr(autograd, "Value"):
    raise ImportError(
        f"nn needs the autograd that comes with it, and Python finds {autograd!r}: another of that name, as"
        " the package index has one. Install this project in a fresh virtual environment, without the other"
    )

from autograd import __version__ as __version__

from . import data, init
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import History, accuracy, fit, predict
from .layers import MLP, Layer, Neuron
from .losses import binary_cross_entropy, hinge, squared_error
from .matrix import MatrixMLP, Parameter
from .module import Module
from .optim import SGD, Adam, Optimizer
from .trainers import MeanLoss

__all__ = [
    "MLP",
    "SGD",
    "Adam",
    "History",
    "Layer",
    "MatrixMLP",
    "MeanLoss",
    "Module",
    "Neuron",
    "Optimizer",
    "Parameter",
    "accuracy",
    "binary_cross_entropy",
    "data",
    "fit",
    "hinge",
    "init",
    "load_checkpoint",
    "predict",
    "save_checkpoint",
    "squared_error",
]
